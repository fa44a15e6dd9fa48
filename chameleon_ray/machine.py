"""What this machine is: its vector registers and the cores that this process may use."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from chameleon_ray.errors import SettingsError

_FLOAT32_LANES = (("avx512f", 16), ("avx2", 8), ("avx", 8), ("asimd", 4), ("neon", 4), ("sse2", 4))
_CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cpu:
    """The processor.

    Attributes:
        vendor: As the processor says it.
        model: The name of its microarchitecture in archspec.
        isa: Its widest vector instructions, `avx512f`, `avx2`, `neon`, ...; empty if unknown.
        lanes: float32 lanes of one vector register.
    """

    vendor: str
    model: str
    isa: str
    lanes: int


def cpu() -> Cpu:
    """The processor that this process runs on."""
    import archspec.cpu

    host = archspec.cpu.host()
    isa, lanes = next(((isa, n) for isa, n in _FLOAT32_LANES if isa in host.features), ("", 4))
    return Cpu(vendor=str(host.vendor), model=str(host.name), isa=isa, lanes=lanes)


def cpu_brand() -> str:
    """What the processor calls itself, such as `AMD EPYC 9554`; empty if it does not say."""
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        return ""
    return next((x.partition(":")[2].strip() for x in lines if x.startswith("model name")), "")


def usable_cores() -> int:
    """Cores that this process may use: its affinity, and its control group's whole cores."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, int(min(allowed or 1, core_quota())))


def check_cores(option: str, asked: int, what: str) -> None:
    """Whether so many processes that compute have a core each.

    Raises:
        SettingsError: They have not.
    """
    if asked > (cores := usable_cores()):
        raise SettingsError(
            f"{option}: {asked} {what} on {cores} cores would only slow each other; give at most "
            f"{cores}."
        )


def core_quota() -> float:
    """How many cores' time the control group may use; infinite if it says nothing."""
    try:
        text = (_CGROUP / "cpu.max").read_text()  # version 2
        quota, period = text.split()
    except (OSError, ValueError):
        try:
            quota = (_CGROUP / "cpu" / "cpu.cfs_quota_us").read_text().strip()  # version 1
            period = (_CGROUP / "cpu" / "cpu.cfs_period_us").read_text().strip()
        except OSError:
            return math.inf
    return math.inf if quota in {"max", "-1"} else float(quota) / float(period)


def free_memory() -> int:
    """Bytes that new processes can have without swapping."""
    import psutil

    return int(psutil.virtual_memory().available)


@contextmanager
def environment(values: Mapping[str, str]) -> Iterator[None]:
    """This process's environment with other values for a while; what is started then has them."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
