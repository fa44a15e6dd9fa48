"""Builds, checks and times real kernels with TVM. Runs in the measuring child only."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import tvm
from tvm.target import codegen

from chameleon_ray.env_settings import Env, RepeatSettings
from chameleon_ray.errors import MachineError
from chameleon_ray.measure import Kernel, weights
from chameleon_ray.measure.backend import Backend
from chameleon_ray.measure.pinning import main_thread_apart, waited_seconds
from chameleon_ray.measure.reference import (
    after_epilogue,
    blocked,
    by_torch,
    epilogue_inputs,
    expected,
    inputs,
    relative_error,
    unblocked,
)
from chameleon_ray.measure.timing import calls_of, take_repeats
from chameleon_ray.space import KnobValues
from chameleon_ray.tasks import Conv2d, LayerTask, Matmul, Target
from chameleon_ray.templates import filters_of, schedule
from chameleon_ray.templates.activations import output_shape

_VECTOR_FEATURES = ("sse", "avx", "amx", "fma", "f16c", "bmi", "neon", "sve")
_LANES = (("avx512f", 16), ("avx", 8), ("", 4))
_ATTEMPTS = 4
_MOST_WAITED = 0.05  # share of a repeat that its threads may have waited for a core
_TASKS = 8  # whose arrays are kept: layers are measured in turns
_QUIET_SECONDS = 0.01  # for OpenMP's and TVM's idle threads to stop spinning


def resolve_target(target: Target) -> Target:
    """The target with `native` replaced by LLVM's name of this CPU, and the lanes of the model.

    Raises:
        MachineError: LLVM does not know the model, or it has vector instructions that this CPU
            lacks.
    """
    host = codegen.llvm_get_system_cpu()
    model = host if target.model == "native" else target.model
    if not codegen.llvm_is_valid_cpu(model, codegen.llvm_get_system_triple()):
        raise MachineError(
            f"LLVM knows no CPU {model!r}; in the env file set model: native, or an LLVM name "
            f"such as {host}."
        )
    missing = sorted(_vector_features(model) - _vector_features(host))
    if missing:
        raise MachineError(
            f"CPU model {model!r} has {', '.join(missing)}, which this machine ({host}) lacks: its "
            "kernels would die with SIGILL. In the env file set model: native."
        )
    lanes = min(
        target.lanes, next(n for name, n in _LANES if not name or name in _vector_features(model))
    )
    return Target(kind=target.kind, model=model, lanes=lanes, cores=target.cores)


def tvm_target(target: Target) -> Any:
    """A resolved target, as TVM has it."""
    return tvm.target.Target({"kind": target.kind, "mcpu": target.model, "num-cores": target.cores})


def _vector_features(model: str) -> set[str]:
    """The instruction sets that LLVM may use for loops over floats."""
    features = codegen.llvm_get_cpu_features(tvm.target.Target({"kind": "llvm", "mcpu": model}))
    return {str(f) for f in features if str(f).startswith(_VECTOR_FEATURES)}


def backend(env: Env, target: Target, seed: int) -> Backend:
    """Real kernels on this CPU.

    Raises:
        MachineError: The target does not fit this machine.
    """
    resolved = resolve_target(target)
    torch.set_num_threads(resolved.cores)
    return Backend(
        builder=TvmBuilder(resolved, seed, cold=env.cold_weights),
        runner=TimedRunner(env.repeats, env.final_repeats),
        target=resolved,
        compiler=f"tvm {tvm.__version__}, llvm {codegen.llvm_version_major()}",
        has_torch=True,
    )


class TvmKernel:
    """A compiled function; all kernels of a task in a process have the same inputs and output.

    Memory makes a difference of its own: kernels are compared on the same.

    Args:
        function: What was compiled.
        task: What it computes.
        lanes: Of the target's vectors.
        seed: Of the inputs.
        cold: Whether each execution has filters that come from memory.
    """

    def __init__(
        self, function: Callable[..., Any], task: LayerTask, lanes: int, seed: int, *, cold: bool
    ) -> None:
        self._function = function
        self._task, self._seed = task, seed
        self._inputs, self._out = _inputs(task, lanes, seed), _output(task)
        filters = self._inputs[1]
        self._filters = _cold_filters(filters.shape) if cold else itertools.repeat(filters)

    def time(self, calls: int) -> float:
        """Seconds of one execution, the mean over `calls` in a row."""
        function, filters = self._function, self._filters
        data, _, *others = (*self._inputs, self._out)
        start = time.perf_counter()
        for weight in itertools.islice(filters, calls):
            function(data, weight, *others)
        return (time.perf_counter() - start) / calls

    def error(self) -> float:
        """max|a-b| / max|b| of one execution into an output of NaNs, against torch."""
        self._out.copyfrom(np.full(self._out.shape, np.nan, dtype=self._task.dtype))
        self._function(*self._inputs, self._out)
        return relative_error(unblocked(self._out.numpy()), _expected(self._task, self._seed))


class TorchKernel:
    """torch's own layer (oneDNN, MKL) and epilogue on the same inputs and as many threads."""

    def __init__(self, task: LayerTask, seed: int, *, cold: bool) -> None:
        data, weight = inputs(task, seed)
        self._data, *self._others = map(torch.tensor, (data, *epilogue_inputs(task, seed)))
        dense = isinstance(task, Matmul) and task.constant
        weight = np.ascontiguousarray(weight.T) if dense else weight  # as torch.nn.Linear has it
        copies = map(torch.from_numpy, weights.cold(weight.shape) if cold else [weight])
        self._filters = itertools.cycle([copy.mT if dense else copy for copy in copies])
        self._task, first = task, task.epilogue[:1]
        self._bias = self._others.pop(0).flatten() if first == ("bias",) else None
        self._rest = replace(task, epilogue=task.epilogue[1:]) if first == ("bias",) else task
        self.time(1)  # starts torch's threads before anything is bound

    def time(self, calls: int) -> float:
        """Seconds of one execution, the mean over `calls` in a row."""
        with torch.inference_mode():
            start = time.perf_counter()
            for weight in itertools.islice(self._filters, calls):
                computed = by_torch(self._task, self._data, weight, self._bias)
                after_epilogue(computed, self._rest, self._others)
            return (time.perf_counter() - start) / calls

    def error(self) -> float:
        """Zero: torch is the reference."""
        return 0.0


@lru_cache(maxsize=_TASKS)
def _inputs(task: LayerTask, lanes: int, seed: int) -> tuple[Any, ...]:
    """Input, packed filters, and what the epilogue takes, in blocks as the task has them."""
    data, weight = inputs(task, seed)
    others = (blocked(array, task.out_block) for array in epilogue_inputs(task, seed))
    filters = filters_of(weight, task, Target(lanes=lanes))
    return tuple(map(tvm.runtime.tensor, (blocked(data, task.in_block), filters, *others)))


@lru_cache(maxsize=_TASKS)
def _cold_filters(shape: tuple[int, ...]) -> Iterator[Any]:
    """One after the other, for ever; those of a shape share them, and so where they are."""
    return itertools.cycle([*map(tvm.runtime.from_dlpack, weights.cold(shape))])


@lru_cache(maxsize=_TASKS)
def _output(task: LayerTask) -> Any:
    return tvm.runtime.empty(output_shape(task), task.dtype)


@lru_cache(maxsize=_TASKS)
def _expected(task: LayerTask, seed: int) -> npt.NDArray[np.float32]:
    result = expected(task, seed)
    time.sleep(_QUIET_SECONDS)
    return result


class TvmBuilder:
    """Compiles configs of the templates for one target, in this process."""

    def __init__(self, target: Target, seed: int, *, cold: bool = True) -> None:
        self.target, self._seed, self._cold = target, seed, cold
        self._tvm_target = tvm_target(target)

    def build(self, task: LayerTask, config: KnobValues) -> Kernel:
        """The kernel of one config, or torch's if the config is empty."""
        cold = self._cold and (isinstance(task, Conv2d) or task.constant)
        if not config:
            return TorchKernel(task, self._seed, cold=cold)
        module = schedule(task, self.target, config)
        executable = tvm.compile(module, target=self._tvm_target)
        return TvmKernel(executable["main"], task, self.target.lanes, self._seed, cold=cold)


class TimedRunner:
    """Times kernels until the interval is narrow or the kernel is clearly too slow."""

    def __init__(self, settings: RepeatSettings, final_repeats: int) -> None:
        self._settings, self._final_repeats = settings, final_repeats

    def run(self, kernel: Kernel, best_seconds: float | None) -> tuple[float, tuple[float, ...]]:
        """Relative error of the first execution, and seconds of each repeat."""
        error = kernel.error()
        with main_thread_apart():
            once = kernel.time(1)
            time_calls = partial(_undisturbed, kernel)
            return error, tuple(
                take_repeats(time_calls, self._settings, once=once, best_seconds=best_seconds)
            )

    def compare(self, kernels: Sequence[Kernel]) -> list[tuple[float, ...]]:
        """Seconds of each repeat for each kernel, taken in turns.

        torch's threads spin for a while after their work, so its turn stands apart.
        """
        calls = [calls_of(kernel.time(1), self._settings) for kernel in kernels]
        repeats: list[list[float]] = [[] for _ in kernels]
        time.sleep(_QUIET_SECONDS)
        with main_thread_apart():
            for _ in range(self._final_repeats):
                for kernel, times, n in zip(kernels, repeats, calls, strict=True):
                    quiet_seconds = _QUIET_SECONDS if isinstance(kernel, TorchKernel) else 0.0
                    time.sleep(quiet_seconds)
                    kernel.time(1)
                    times.append(kernel.time(n))
                    time.sleep(quiet_seconds)
        return [tuple(times) for times in repeats]


def _undisturbed(kernel: Kernel, calls: int) -> float:
    """Seconds of one execution while the kernel's threads did not wait for others.

    If that cannot be had, the shortest time of some attempts.
    """
    shortest = math.inf
    for _ in range(_ATTEMPTS):
        waited = waited_seconds()
        seconds = kernel.time(calls)
        waited = waited_seconds() - waited
        shortest = min(shortest, seconds)
        if waited <= _MOST_WAITED * seconds * calls:
            return seconds
    return shortest
