"""What of this machine works for tuning, and how to mend the rest.

Whatever may crash or hang (the compiler, Ray) is tried in a process of its own: then it is a line.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

import numpy as np
import psutil

from chameleon_ray.attempts import ChildError, in_child
from chameleon_ray.machine import core_quota, cpu, usable_cores

Status = Literal["ok", "warn", "bad"]

_GIB = 2**30
_LEAST_PYTHON = (3, 11)


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One line.

    Attributes:
        status: `bad` if tuning on the CPU would not work, `warn` if it would work badly.
        found: What is there.
        remedy: What to do about it; empty if there is nothing to do.
    """

    name: str
    status: Status = "ok"
    found: str
    remedy: str = ""

    def text(self) -> str:
        """The line as printed."""
        tail = f"  -> {self.remedy}" if self.remedy else ""
        return f"{self.status:<5}{self.name:<10}{self.found}{tail}"

    def to_json(self) -> dict[str, str]:
        """The line as plain values."""
        return {name: str(value) for name, value in asdict(self).items()}


def examine() -> Iterator[Check]:
    """Every check, as it is done; about 15 s in all."""
    checks: Sequence[Callable[[], Check]] = (
        check_python,
        check_packages,
        check_isa,
        check_compiler,
        check_cores,
        check_clock,
        check_memory,
        check_disk,
        check_gpus,
        check_cuda,
        check_ray,
    )
    for check in checks:
        yield check()


def usable(checks: Sequence[Check]) -> bool:
    """Whether tuning on the CPU would work."""
    return all(check.status != "bad" for check in checks)


def check_python() -> Check:
    """The version that pyproject.toml asks for."""
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info[:2] >= _LEAST_PYTHON:
        return Check(name="python", found=f"{version}, {sys.executable}")
    wanted = ".".join(map(str, _LEAST_PYTHON))
    remedy = f"install Python {wanted} or newer"
    return Check(name="python", status="bad", found=version, remedy=remedy)


def check_packages() -> Check:
    """Everything that the installed chameleon-ray requires, in the versions it requires."""
    from packaging.requirements import Requirement

    wanted, wrong = [], []
    for line in metadata.requires("chameleon-ray") or ():
        requirement = Requirement(line)
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            wrong.append(f"{requirement.name} is missing")
            continue
        wanted.append(f"{requirement.name} {version}")
        if not requirement.specifier.contains(version, prereleases=True):
            wrong.append(f"{requirement.name} {version} is not {requirement.specifier}")
    if wrong:
        remedy = "pip install --upgrade chameleon-ray, in an environment of its own"
        return Check(name="packages", status="bad", found="; ".join(wrong), remedy=remedy)
    return Check(name="packages", found=", ".join(wanted))


def check_isa() -> Check:
    """The widest vector instructions."""
    host = cpu()
    found = f"{host.vendor} {host.model}: {host.isa or 'unknown'}, {host.lanes} float32 lanes"
    if host.isa in {"", "sse2"}:
        remedy = "kernels will be slow; if this is a virtual machine, pass the host's CPU through"
        return Check(name="isa", status="warn", found=found, remedy=remedy)
    return Check(name="isa", found=found)


def check_compiler() -> Check:
    """TVM builds a small kernel for this CPU, and the kernel computes the right thing."""
    try:
        answer = in_child("try_compiler")
    except ChildError as error:
        remedy = "pip install --force-reinstall --no-deps apache-tvm and apache-tvm-ffi as pinned"
        return Check(name="compiler", status="bad", found=str(error), remedy=remedy)
    if not answer["known"]:
        remedy = "set `model` in an env file to an LLVM name of an older CPU of this family"
        found = f"LLVM {answer['llvm']} does not know this CPU, {answer['model']}"
        return Check(name="compiler", status="bad", found=found, remedy=remedy)
    built = f"a kernel built in {answer['seconds']:.2f} s and computed the right thing"
    return Check(name="compiler", found=f"LLVM {answer['llvm']} for {answer['model']}: {built}")


def check_cores() -> Check:
    """The cores that may be used, and whether others use them."""
    cores, there = usable_cores(), os.cpu_count() or 1
    load = os.getloadavg()[0]
    found = f"{cores} usable of {there}, load {load:.1f}"
    if core_quota() < there:
        found += f", control group's share {core_quota():.1f}"
    if load > 0.5 * cores:
        remedy = "noisy times: end what else is running, or wait"
        return Check(name="cores", status="warn", found=found, remedy=remedy)
    return Check(name="cores", found=found)


def check_clock(seconds: float = 1.0) -> Check:
    """How much the time of a fixed computation varies."""
    numbers = np.arange(1, 100_001, dtype=np.int64)
    times: list[float] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times) < 10:
        start = time.perf_counter()
        for _ in range(20):
            int((numbers * numbers % 97).sum())
        times.append(time.perf_counter() - start)
    variation = statistics.stdev(times) / statistics.fmean(times)
    slowest = max(times) / min(times) - 1
    found = f"the same work varies by {variation:.1%} ({slowest:.0%} at most) in {len(times)} runs"
    if variation > 0.05:
        remedy = "noisy times: end other work; try cpupower frequency-set -g performance"
        return Check(name="clock", status="warn", found=found, remedy=remedy)
    return Check(name="clock", found=found)


def check_memory() -> Check:
    """What is free: Ray, the compilers and torch need about 4 GiB."""
    free = psutil.virtual_memory().available / _GIB
    found = f"{free:.1f} GiB free"
    if free >= 4:
        return Check(name="memory", found=found)
    status: Status = "warn" if free >= 2 else "bad"
    remedy = "4 GiB are needed: end other work, or set `runners: 1` in an env file"
    return Check(name="memory", status=status, found=found, remedy=remedy)


def check_disk() -> Check:
    """Whether run folders can be written where the user stands."""
    folder = Path("runs") if Path("runs").is_dir() else Path.cwd()
    free = shutil.disk_usage(folder).free / _GIB
    found = f"{free:.1f} GiB free for run folders in {folder.resolve()}"
    if not os.access(folder, os.W_OK):
        remedy = "go to a folder you may write in, or give one: --run DIR"
        return Check(name="disk", status="bad", found=f"may not write in {folder}", remedy=remedy)
    if free < 0.5:
        remedy = "free some space, or give a folder on another disk: --run DIR"
        return Check(name="disk", status="warn", found=found, remedy=remedy)
    return Check(name="disk", found=found)


def check_gpus() -> Check:
    """Which there are; none are needed."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return Check(name="gpus", found="none; CPU tuning works without")
    query = [tool, "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return _broken_gpu(str(error))
    if answer.returncode:
        return _broken_gpu((answer.stdout + answer.stderr).strip().partition("\n")[0])
    return Check(name="gpus", found="; ".join(answer.stdout.split("\n")).strip("; "))


def _broken_gpu(message: str) -> Check:
    remedy = "reload or reinstall the NVIDIA driver; CPU tuning works without"
    return Check(name="gpus", status="warn", found=f"nvidia-smi fails: {message}", remedy=remedy)


def check_cuda() -> Check:
    """Whether kernels for GPUs can be compiled and run; where there is no GPU, nobody asks."""
    if shutil.which("nvidia-smi") is None:
        return Check(name="cuda", found="no GPU to ask for; `--env cuda` takes one")
    remedy = "docs/gpu.md tells what --env cuda needs; CPU tuning works without"
    try:
        answer = in_child("try_cuda")
    except ChildError as error:
        return Check(name="cuda", status="warn", found=str(error), remedy=remedy)
    found = "; ".join(
        [answer[x] for x in ("compiler", "gpu", "clock") if x in answer] + answer["wrong"]
    )
    if answer["wrong"]:
        return Check(name="cuda", status="warn", found=found, remedy=remedy)
    return Check(name="cuda", found=found)


def check_ray() -> Check:
    """A Ray of one core starts and runs a task."""
    try:
        answer = in_child("try_ray")
    except ChildError as error:
        remedy = (
            "see the newest files in /tmp/ray/session_latest/logs; often memory or disk is short"
        )
        return Check(name="ray", status="bad", found=str(error), remedy=remedy)
    found = f"{answer['version']} started and ran a task in {answer['seconds']:.1f} s"
    return Check(name="ray", found=found)
