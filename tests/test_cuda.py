"""The CUDA backend on a driver that is not there (`fake_cuda.py`): kernels are interpreted."""

import numpy as np
import pytest
import torch
from fake_cuda import FakeDriver

from chameleon_ray.env_settings import Env
from chameleon_ray.errors import MachineError, UnsupportedError
from chameleon_ray.measure import cuda, cuda_driver, cuda_kernel, nvrtc
from chameleon_ray.measure.cuda_driver import ContextLostError, GpuError
from chameleon_ray.tasks import Conv2d, Target
from chameleon_ray.templates import default_config, design_space

TASK = Conv2d(
    in_channels=4, out_channels=8, height=6, width=6, kernel_height=3, kernel_width=3, padding=1
)
NATIVE = Target(kind="cuda", model="native", lanes=32)


@pytest.fixture
def driver(monkeypatch):
    """A GPU of 4 multiprocessors whose kernels take a millisecond each."""
    fake = FakeDriver()
    monkeypatch.setattr(cuda_driver, "_driver", lambda: fake)
    monkeypatch.setattr(cuda, "compile_cubin", lambda source, arch: source.encode())
    return fake


@pytest.fixture
def opened(driver):
    """The backend on it."""
    return cuda.backend(Env(), NATIVE, seed=0)


def kernel(opened, row=None):
    """A config of the task, built: the default, or of that many random ones."""
    space = design_space(TASK, opened.target)
    config = default_config(TASK, opened.target)
    if row is not None:
        config = space.random(row + 1, np.random.default_rng(0))[row]
    return opened.builder.build(TASK, space.describe(config))


def test_the_target_is_what_the_gpu_says(opened):
    """Architecture and multiprocessors; the compiler's name has its version and the driver's."""
    assert opened.target == Target(kind="cuda", model="sm_90", lanes=32, cores=4)
    assert "nvrtc 13." in opened.compiler
    assert opened.compiler.endswith("driver 13.0")


@pytest.mark.parametrize("row", [None, 0, 1, 2])
def test_a_kernel_computes_and_is_timed(opened, driver, row):
    """Its output is torch's; times are the events'; it is taken off the GPU afterwards."""
    error, repeats = opened.runner.run(kernel(opened, row), None)
    assert error < 1e-5
    assert np.allclose(repeats, driver.seconds)
    assert len(repeats) >= 3
    assert driver.loaded == 0


def test_one_that_is_clearly_slower_is_timed_less(opened, driver):
    """A single repeat is enough."""
    _, repeats = opened.runner.run(kernel(opened), driver.seconds / 2)
    assert len(repeats) == 1


def test_finalists_are_timed_in_turns(opened, driver):
    """As many repeats of each as the env says."""
    found = opened.runner.compare([kernel(opened), kernel(opened, 1)])
    assert [len(times) for times in found] == [Env().final_repeats] * 2
    assert driver.loaded == 0


def test_a_driver_older_than_the_compiler_is_refused(driver, monkeypatch):
    """Before anything is built; the message says what to update."""
    monkeypatch.setattr(driver, "cuDriverGetVersion", lambda: (0, 12040), raising=False)
    with pytest.raises(MachineError, match=r"for CUDA 12\.4, and NVRTC 13.*580 or newer"):
        cuda.backend(Env(), NATIVE, seed=0)


def test_torch_is_timed_beside_the_finalists(driver, monkeypatch):
    """cuDNN's kernel, by the same clock and on the same inputs; here it computes on the CPU."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr(cuda_kernel, "TORCH_DEVICE", "cpu")
    computes = torch.nn.functional.conv2d

    def on_gpu(*arguments, **settings):
        driver.clock += driver.seconds
        return computes(*arguments, **settings)

    monkeypatch.setattr(torch.nn.functional, "conv2d", on_gpu)
    opened = cuda.backend(Env(), NATIVE, seed=0)
    assert opened.device.has_torch
    own = opened.builder.build(TASK, {})
    error, repeats = opened.runner.run(own, None)
    assert error < 1e-5
    assert np.allclose(repeats, driver.seconds)
    found = opened.runner.compare([kernel(opened), own])
    assert [len(times) for times in found] == [Env().final_repeats] * 2


def test_wrong_code_is_seen(opened, driver, monkeypatch):
    """An output that nothing was written to is no number, and infinitely wrong."""
    monkeypatch.setattr(driver, "launches", 2)  # the fake interprets two launches only
    error, _ = opened.runner.run(kernel(opened), None)
    assert error == float("inf")


def test_arrays_of_few_tasks_are_kept(opened, driver):
    """The GPU's memory does not fill up, however many layers there are."""
    arrays = cuda_kernel.Arrays(cuda_driver.CudaGpu(), 0)
    before = len(driver.memory)
    for channels in range(1, 40):
        arrays.of(Conv2d(in_channels=channels, out_channels=2, height=4, width=4,
                         kernel_height=1, kernel_width=1))  # fmt: skip
    assert len(driver.memory) == before + 3 * cuda_kernel._TASKS


def test_an_illegal_address_is_named_and_breaks_the_context(opened, driver):
    """Whatever comes after it in this process fails, too: the child has to go."""
    built, other = kernel(opened), kernel(opened, 1)
    driver.fails["cuCtxSynchronize"] = 700
    with pytest.raises(ContextLostError, match="ILLEGAL_ADDRESS") as caught:
        opened.runner.run(built, None)
    assert caught.value.code == "CUDA_ERROR_ILLEGAL_ADDRESS"
    driver.fails.clear()
    with pytest.raises(ContextLostError, match="ILLEGAL_ADDRESS"):
        opened.runner.run(other, None)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        ("cuInit", 100, r"NO_DEVICE.*nvidia-smi"),
        ("cuDevicePrimaryCtxRetain", 46, r"DEVICE_UNAVAILABLE.*exclusive"),
        ("cuDevicePrimaryCtxRetain", 2, r"OUT_OF_MEMORY"),
    ],
)
def test_a_gpu_that_cannot_be_used(driver, monkeypatch, call, error, message):
    """None there, in exclusive mode and taken, or full: said with the remedy."""
    driver.fails[call] = error
    monkeypatch.setattr(cuda_driver, "_PAUSES", (0.0,))
    with pytest.raises(MachineError, match=message):
        cuda.backend(Env(), NATIVE, seed=0)


def test_a_gpu_that_a_killed_process_still_holds_is_waited_for(driver, monkeypatch):
    """The driver takes a moment to notice."""
    monkeypatch.setattr(cuda_driver, "_PAUSES", (0.0,))
    answers = iter([(46, None), (0, "context")])
    driver.cuDevicePrimaryCtxRetain = lambda _device: next(answers)
    assert cuda_driver.CudaGpu().sms == 4


def test_an_error_that_is_not_sticky_leaves_nothing_on_the_gpu(opened, driver):
    """The process lives on, and so would what it had loaded."""
    programs = [kernel(opened), kernel(opened, 1)]
    driver.fails["cuLaunchKernel"] = 1
    with pytest.raises(GpuError, match="INVALID_VALUE"):
        opened.runner.compare(programs)
    assert driver.loaded == 0
    driver.fails.clear()
    assert opened.runner.run(programs[0], None)[0] < 1e-5


def test_another_architecture_than_the_env_s_is_refused(driver):
    """The message names both."""
    with pytest.raises(MachineError, match=r"sm_80.*NVIDIA Fake.*sm_90"):
        cuda.backend(Env(), Target(kind="cuda", model="sm_80"), seed=0)


def test_an_architecture_that_nobody_knows_is_refused(driver):
    """A GPU of tomorrow."""
    driver.CUdevice_attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR = 99
    try:
        with pytest.raises(UnsupportedError, match="sm_990"):
            cuda.backend(Env(), NATIVE, seed=0)
    finally:
        driver.CUdevice_attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR = 9


def test_without_a_driver_the_message_says_what_to_install():
    """As on this machine."""
    with pytest.raises(MachineError, match=r"no NVIDIA driver.*--gpus all"):
        cuda_driver.CudaGpu()


def test_what_the_compiler_says_is_kept_whole():
    """Every error of the log, with its line."""
    with pytest.raises(nvrtc.CompileError, match=r"kernel\.cu\(1\): error"):
        nvrtc.compile_cubin("this is no C++", "sm_90")


def test_an_architecture_that_the_compiler_does_not_know_is_refused():
    """The message lists what it knows, and what to install instead."""
    with pytest.raises(UnsupportedError, match=r"sm_90.*not for sm_35.*nvrtc-cu12"):
        nvrtc.compile_cubin("", "sm_35")
