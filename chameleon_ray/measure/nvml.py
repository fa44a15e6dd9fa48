"""What NVIDIA's management library says of a GPU: its clock, how hot it is, who else uses it.

Without the library nothing is said, and nothing depends on it.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from chameleon_ray.measure.backend import State


class GpuMonitor:
    """One GPU, watched.

    Args:
        bus: Its PCI bus id, such as `0000:17:00.0`; where it is on this machine.
    """

    def __init__(self, bus: str) -> None:
        self._nvml, self._gpu = _opened(bus)

    def state(self) -> State | None:
        """As it is now; None if nobody can tell."""
        if self._nvml is None:
            return None
        try:
            return State(
                clock_mhz=int(
                    self._nvml.nvmlDeviceGetClockInfo(self._gpu, self._nvml.NVML_CLOCK_SM)
                ),
                celsius=int(
                    self._nvml.nvmlDeviceGetTemperature(self._gpu, self._nvml.NVML_TEMPERATURE_GPU)
                ),
                others=self.others(),
            )
        except self._nvml.NVMLError:  # a partition of a GPU has neither
            return None

    def most_mhz(self) -> int | None:
        """The clock that it can have at most: two GPUs of one name may differ."""
        if self._nvml is None:
            return None
        try:
            return int(self._nvml.nvmlDeviceGetMaxClockInfo(self._gpu, self._nvml.NVML_CLOCK_SM))
        except self._nvml.NVMLError:
            return None

    def persistent(self) -> bool | None:
        """Whether its driver stays loaded while nobody uses it; None if nobody can tell."""
        if self._nvml is None:
            return None
        try:
            return bool(self._nvml.nvmlDeviceGetPersistenceMode(self._gpu))
        except self._nvml.NVMLError:
            return None

    def others(self) -> int:
        """How many other processes compute on it; this one does.

        Only counted: in a container they have other numbers than they have here. The server that
        shares a GPU among processes (MPS) computes nothing itself.
        """
        return max(0, sum(not _is_server(name) for name in self._names()) - 1)

    def is_shared(self) -> bool:
        """Whether MPS shares it among processes."""
        return any(_is_server(name) for name in self._names())

    def _names(self) -> list[str]:
        """Of the processes that compute on it; of one in another container, no name is known."""
        if self._nvml is None:
            return []
        found: set[int] = set()
        for listed in (
            self._nvml.nvmlDeviceGetComputeRunningProcesses,
            self._nvml.nvmlDeviceGetMPSComputeRunningProcesses,
        ):
            with suppress(self._nvml.NVMLError):
                found.update(process.pid for process in listed(self._gpu))
        return [self._name(pid) for pid in found]

    def _name(self, pid: int) -> str:
        try:
            name = self._nvml.nvmlSystemGetProcessName(pid)
        except self._nvml.NVMLError:
            return ""
        return name.decode(errors="replace") if isinstance(name, bytes) else str(name)


def _is_server(name: str) -> bool:
    return "nvidia-cuda-mps-server" in name


def _opened(bus: str) -> tuple[Any, Any]:
    """The library, and its handle of the GPU; None and None without it."""
    try:
        import pynvml

        pynvml.nvmlInit()
        return pynvml, pynvml.nvmlDeviceGetHandleByPciBusId(bus.encode())
    except ImportError:
        return None, None
    except pynvml.NVMLError:
        return None, None
