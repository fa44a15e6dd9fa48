"""What NVIDIA's management library says, by a library that is not there."""

import os
import sys
from types import SimpleNamespace

import pytest

from chameleon_ray.measure.backend import State
from chameleon_ray.measure.nvml import GpuMonitor


class NvmlError(Exception):
    """As the library raises."""


@pytest.fixture
def nvml(monkeypatch):
    """The calls that we make, of a GPU at a bus id."""

    def handle(bus):
        if bus != b"0000:17:00.0":
            raise NvmlError("not found")
        return "gpu"

    library = SimpleNamespace(
        NVMLError=NvmlError,
        NVML_CLOCK_SM=1,
        NVML_TEMPERATURE_GPU=0,
        nvmlInit=lambda: None,
        nvmlDeviceGetHandleByPciBusId=handle,
        nvmlDeviceGetClockInfo=lambda _gpu, _kind: 1755,
        nvmlDeviceGetTemperature=lambda _gpu, _kind: 61,
        nvmlDeviceGetMaxClockInfo=lambda _gpu, _kind: 1980,
        nvmlDeviceGetPersistenceMode=lambda _gpu: 1,
        nvmlDeviceGetComputeRunningProcesses=lambda _gpu: [
            SimpleNamespace(pid=pid) for pid in (os.getpid(), 7, 5)
        ],
        nvmlDeviceGetMPSComputeRunningProcesses=lambda _gpu: [],
        nvmlSystemGetProcessName=lambda pid: f"/usr/bin/tool{pid}",
    )
    monkeypatch.setitem(sys.modules, "pynvml", library)
    return library


def test_a_gpu_is_seen_as_it_is(nvml):
    """Clock, temperature, and who else computes there."""
    monitor = GpuMonitor("0000:17:00.0")
    assert monitor.state() == State(clock_mhz=1755, celsius=61, others=2)
    assert monitor.most_mhz() == 1980
    assert monitor.others() == 2
    assert monitor.persistent() is True
    assert not monitor.is_shared()


def test_the_server_of_mps_is_no_other_process(nvml):
    """Its clients are, each once, though two lists have them; who cannot be named counts."""
    nvml.nvmlDeviceGetMPSComputeRunningProcesses = lambda _gpu: [
        SimpleNamespace(pid=os.getpid()),
        SimpleNamespace(pid=7),
    ]

    def name(pid):
        if pid == 7:
            raise NvmlError("not found")
        return "/usr/bin/nvidia-cuda-mps-server" if pid == 5 else "python"

    nvml.nvmlSystemGetProcessName = name
    monitor = GpuMonitor("0000:17:00.0")
    assert monitor.is_shared()
    assert monitor.others() == 1


@pytest.mark.parametrize("bus", ["0000:17:00.0", "elsewhere"])
def test_what_the_library_cannot_tell_is_not_told(nvml, bus):
    """A partition of a GPU has no clock; a GPU may not be known by that id."""

    def refuse(*_):
        raise NvmlError("not supported")

    nvml.nvmlDeviceGetClockInfo = nvml.nvmlDeviceGetMaxClockInfo = refuse
    nvml.nvmlDeviceGetComputeRunningProcesses = nvml.nvmlDeviceGetPersistenceMode = refuse
    nvml.nvmlDeviceGetMPSComputeRunningProcesses = refuse
    monitor = GpuMonitor(bus)
    assert (monitor.state(), monitor.most_mhz(), monitor.others()) == (None, None, 0)
    assert monitor.persistent() is None


def test_without_the_library_nothing_is_told(monkeypatch):
    """It is optional."""
    monkeypatch.setitem(sys.modules, "pynvml", None)
    monitor = GpuMonitor("0000:17:00.0")
    assert (monitor.state(), monitor.most_mhz(), monitor.others()) == (None, None, 0)
