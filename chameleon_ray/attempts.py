"""What may crash or hang (the compiler, Ray), tried in a process of its own for `doctor`."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from typing import Any

import numpy as np

from chameleon_ray.errors import MachineError
from chameleon_ray.ray_access import import_ray, start_ray

SECONDS = 90.0  # after which an attempt counts as hung


class ChildError(Exception):
    """A child crashed, hung or raised; the message says which."""


def in_child(function: str, *, timeout_seconds: float = SECONDS) -> dict[str, Any]:
    """What a function of this module answers, run in a process group of its own.

    Raises:
        ChildError: It crashed, hung or raised.
    """
    code = f"from chameleon_ray import attempts; attempts.{function}()"
    child = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        out, err = child.communicate(timeout=timeout_seconds)
    except subprocess.TimeoutExpired:
        raise ChildError(f"hung: gave no answer in {timeout_seconds:.0f} s") from None
    finally:
        _end_group(child)
    if child.returncode < 0:
        raise ChildError(f"crashed: {signal.Signals(-child.returncode).name}")
    try:
        return dict(json.loads(out.strip().rpartition("\n")[2]))
    except ValueError:
        lines = [line for line in re.split(r"\n+", err) if line.strip()] or ["no output"]
        raise ChildError(f"failed: {lines[-1].strip()}") from None


def _end_group(child: subprocess.Popen[str]) -> None:
    """No process of a child outlives its line."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def try_compiler() -> None:
    """In a child: build and run a kernel, and say for which CPU.

    Raises:
        ArithmeticError: The kernel computed the wrong thing.
    """
    import tvm
    from tvm import te
    from tvm.target import codegen

    model = codegen.llvm_get_system_cpu()
    known = bool(codegen.llvm_is_valid_cpu(model, codegen.llvm_get_system_triple()))
    start = time.perf_counter()
    numbers = np.arange(64, dtype=np.float32)
    given = te.placeholder((64,), "float32", name="given")
    doubled = te.compute((64,), lambda i: given[i] * 2.0, name="doubled")
    target = tvm.target.Target({"kind": "llvm", "mcpu": model} if known else {"kind": "llvm"})
    kernel = tvm.compile(te.create_prim_func([given, doubled]), target=target)
    output = tvm.runtime.tensor(np.zeros(64, dtype=np.float32))
    kernel(tvm.runtime.tensor(numbers), output)
    if not np.array_equal(output.numpy(), 2 * numbers):
        raise ArithmeticError("the kernel computed the wrong thing")
    seconds = time.perf_counter() - start
    llvm = int(codegen.llvm_version_major())
    _answer({"model": str(model), "known": known, "llvm": llvm, "seconds": seconds})


def try_ray() -> None:
    """In a child: start a Ray of one core, run a task, end it."""
    ray = import_ray()
    start = time.perf_counter()
    start_ray(cpus=1)
    task = ray.remote(_one)
    ray.get(task.remote(), timeout=SECONDS)
    seconds = time.perf_counter() - start
    ray.shutdown()
    _answer({"version": ray.__version__, "seconds": seconds})


def try_cuda() -> None:
    """In a child: find the compiler for GPUs, open the first GPU, look who else uses it."""
    from chameleon_ray.measure.cuda_driver import CudaGpu
    from chameleon_ray.measure.nvml import GpuMonitor
    from chameleon_ray.measure.nvrtc import supported, version

    found: dict[str, object] = {"wrong": []}
    try:
        found["compiler"], known = f"NVRTC {version()}", supported()
        gpu = CudaGpu()
    except MachineError as error:
        _answer({**found, "wrong": [str(error)]})
        return
    monitor, wrong = GpuMonitor(gpu.bus), []
    if others := monitor.others():
        wrong.append(f"{others} other processes compute there: times will be disturbed")
    if monitor.persistent() is False:
        wrong.append("its driver is unloaded when idle: `sudo nvidia-smi -pm 1` keeps it")
    if gpu.arch not in known:
        wrong.append(f"{found['compiler']} does not compile for {gpu.arch}")
    found["gpu"] = f"{gpu.name}, {gpu.arch}, {gpu.sms} SMs, driver for CUDA {gpu.driver}"
    if (state := monitor.state()) is not None:
        found["clock"] = f"{state.clock_mhz} of {monitor.most_mhz()} MHz, {state.celsius} C"
    _answer({**found, "wrong": wrong})


def _one() -> int:
    return 1


def _answer(value: dict[str, object]) -> None:
    sys.stdout.write(f"\n{json.dumps(value)}\n")
