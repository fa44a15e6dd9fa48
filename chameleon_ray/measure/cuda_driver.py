"""One GPU through the CUDA driver API: memory, kernels, clocks.

Its context is this process's: an error that a kernel causes there makes it useless, and whoever
called has to go on in a new process.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from chameleon_ray.errors import MachineError
from chameleon_ray.measure.backend import SpoiledError
from chameleon_ray.templates.gpu import STATIC_SHARED_BYTES

Array = npt.NDArray[np.float32]

_INSTALL = "pip install 'chameleon-ray[cuda]'"
_TAKEN = ("CUDA_ERROR_DEVICE_UNAVAILABLE", "CUDA_ERROR_OUT_OF_MEMORY")
_PAUSES = (0.5, 1.0, 2.0, 4.0)  # seconds between tries to have a GPU
_SWEEP = 2  # of the L2 cache, written to push out what is in it
_SWEPT_PER_SECOND = 5e12  # bytes, at most: no L2 is written faster
_MOST_SWEEPS = 400  # of a launch queue's thousand entries


_STICKY = frozenset(
    f"CUDA_ERROR_{name}"
    for name in (
        *("ILLEGAL_ADDRESS", "LAUNCH_TIMEOUT", "LAUNCH_FAILED", "ASSERT", "HARDWARE_STACK_ERROR"),
        *("ILLEGAL_INSTRUCTION", "MISALIGNED_ADDRESS", "INVALID_ADDRESS_SPACE", "INVALID_PC"),
        *("ECC_UNCORRECTABLE", "NVLINK_UNCORRECTABLE", "CONTAINED", "DEVICE_UNAVAILABLE"),
        *("CONTEXT_IS_DESTROYED", "UNKNOWN"),
    )
)  # after one of these, every call of the process fails


class GpuError(Exception):
    """What the driver says of a call.

    Attributes:
        code: The driver's name of it, such as `CUDA_ERROR_ILLEGAL_ADDRESS`.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code


class ContextLostError(GpuError, SpoiledError):
    """One that every further call of this process will get."""


class CudaGpu:
    """The GPU of this process: the first that `CUDA_VISIBLE_DEVICES` allows.

    Attributes:
        name: As the driver says it.
        arch: Such as `sm_90`.
        bus: Its PCI bus id; that of the whole GPU, if it is a part (MIG).
        unit: What tells it from all others, parts of the same GPU too.
        sms: How many streaming multiprocessors it has.
        driver: Version of CUDA that the driver is for, such as `13.0`.

    Raises:
        MachineError: No driver, no GPU, or it is taken.
    """

    def __init__(self) -> None:
        self._api = _driver()
        try:
            device = self._opened()
        except GpuError as error:
            raise MachineError(
                f"no GPU can be used here: {error}. Check `nvidia-smi` (is it there, is it in "
                "exclusive mode and taken?) and CUDA_VISIBLE_DEVICES; `chameleon-ray doctor` tells "
                "what works."
            ) from error
        name = bytes(self._check(self._api.cuDeviceGetName(128, device)))
        self.name = name.split(b"\0")[0].decode()
        bus = bytes(self._check(self._api.cuDeviceGetPCIBusId(32, device)))
        self.bus = bus.split(b"\0")[0].decode()
        self.unit = bytes(self._check(self._api.cuDeviceGetUuid(device)).bytes).hex()
        major, minor = (self._attribute(device, f"COMPUTE_CAPABILITY_{part}") for part in _PARTS)
        self.arch = f"sm_{major}{minor}"
        self.sms = self._attribute(device, "MULTIPROCESSOR_COUNT")
        number = self._check(self._api.cuDriverGetVersion())
        self.driver = f"{number // 1000}.{number % 1000 // 10}"
        self._sweep_bytes = _SWEEP * max(self._attribute(device, "L2_CACHE_SIZE"), 2**20)
        self._sweep = self.empty(self._sweep_bytes)
        self._sweep_seconds = self._sweep_bytes / _SWEPT_PER_SECOND

    def _opened(self) -> Any:
        """The device, its context made; one that a killed process still holds is waited for."""
        self._check(self._api.cuInit(0))
        device = self._check(self._api.cuDeviceGet(0))
        pauses = list(_PAUSES)
        while True:
            try:
                context = self._check(self._api.cuDevicePrimaryCtxRetain(device))
            except GpuError as error:
                if error.code not in _TAKEN or not pauses:
                    raise
                time.sleep(pauses.pop(0))
            else:
                self._check(self._api.cuCtxSetCurrent(context))
                return device

    def empty(self, size: int) -> int:
        """The address of so many bytes."""
        return int(self._check(self._api.cuMemAlloc(size)))

    def free(self, address: int) -> None:
        """Give memory back."""
        self._check(self._api.cuMemFree(address))

    def upload(self, array: Array) -> int:
        """The address of a copy of an array."""
        array = np.ascontiguousarray(array)
        address = self.empty(array.nbytes)
        self._check(self._api.cuMemcpyHtoD(address, array.ctypes.data, array.nbytes))
        return address

    def download(self, address: int, shape: Sequence[int]) -> Array:
        """A copy of what is there."""
        array = np.empty(shape, dtype=np.float32)
        self._check(self._api.cuMemcpyDtoH(array.ctypes.data, address, array.nbytes))
        return array

    def poison(self, address: int, size: int) -> None:
        """Fill so many bytes with NaNs."""
        self._check(self._api.cuMemsetD32(address, 0xFFFFFFFF, size // 4))

    def load(self, cubin: bytes, kernel: str) -> tuple[Any, Any]:
        """A kernel of a cubin, ready to launch, and what `unload` takes."""
        library = self._check(self._api.cuLibraryLoadData(cubin, [], [], 0, [], [], 0))
        found = self._check(self._api.cuLibraryGetKernel(library, kernel.encode()))
        return self._check(self._api.cuKernelGetFunction(found)), library

    def unload(self, library: Any) -> None:
        """Forget a cubin."""
        self._check(self._api.cuLibraryUnload(library))

    def allow_shared(self, function: Any, size: int) -> None:
        """Let blocks of a kernel have so much shared memory, which by default is 48 KiB."""
        if size > STATIC_SHARED_BYTES:
            attribute = self._api.CUfunction_attribute
            most = attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
            self._check(self._api.cuFuncSetAttribute(function, most, size))

    def launcher(
        self,
        function: Any,
        grid: Sequence[int],
        block: Sequence[int],
        shared_bytes: int,
        addresses: Sequence[int],
    ) -> Callable[[], None]:
        """What starts a kernel and returns at once; all that can be made ready is."""
        values = np.array(addresses, dtype=np.uint64)
        pointers = np.array([values[i:].ctypes.data for i in range(len(values))], dtype=np.uint64)
        held = values, pointers  # as long as what points there

        def launch() -> None:
            parameters = held[1].ctypes.data
            shape = *grid, *block, shared_bytes
            self._check(self._api.cuLaunchKernel(function, *shape, 0, parameters, 0))

        return launch

    def wait(self) -> None:
        """Until all that was started has ended.

        Raises:
            GpuError: It ended badly.
        """
        self._check(self._api.cuCtxSynchronize())

    def timed(self, work: Callable[[], object], calls: int) -> list[float]:
        """Seconds of each of so many executions of what `work` starts, with a cold L2 cache.

        One more comes first, and is not counted: it tells how long the host takes to start one.
        The GPU is given so many sweeps that it is always behind, and never waits for the host
        between two events: torch takes longer to start a kernel than a small kernel takes.
        """
        begun = time.perf_counter()
        first = self._between_events(work)
        host_seconds = calls * (time.perf_counter() - begun)
        sweeps = min(_MOST_SWEEPS, math.ceil(2 * host_seconds / self._sweep_seconds))
        for _ in range(sweeps):
            self._swept()
        pairs = [first, *(self._between_events(work) for _ in range(calls))]
        self.wait()
        seconds = [self._check(self._api.cuEventElapsedTime(*pair)) / 1e3 for pair in pairs]
        for event in (event for pair in pairs for event in pair):
            self._check(self._api.cuEventDestroy(event))
        return seconds[1:]

    def _between_events(self, work: Callable[[], object]) -> tuple[Any, Any]:
        """Start a sweep and then `work`; the events before and after that."""
        begin, end = (self._check(self._api.cuEventCreate(0)) for _ in range(2))
        self._swept()
        self._check(self._api.cuEventRecord(begin, 0))
        work()
        self._check(self._api.cuEventRecord(end, 0))
        return begin, end

    def _swept(self) -> None:
        self._check(self._api.cuMemsetD32Async(self._sweep, 0, self._sweep_bytes // 4, 0))

    def _attribute(self, device: Any, name: str) -> int:
        attribute = getattr(self._api.CUdevice_attribute, f"CU_DEVICE_ATTRIBUTE_{name}")
        return int(self._check(self._api.cuDeviceGetAttribute(attribute, device)))

    def _check(self, answer: tuple[Any, ...]) -> Any:
        """The value of an answer of the driver's: a status, and perhaps a value."""
        status, *values = answer
        if int(status):
            _, name = self._api.cuGetErrorName(status)
            _, text = self._api.cuGetErrorString(status)
            code, message = (name or b"?").decode(), (text or b"?").decode()
            raise (ContextLostError if code in _STICKY else GpuError)(code, message)
        return values[0] if values else None


_PARTS = ("MAJOR", "MINOR")


def _driver() -> Any:
    try:
        from cuda.bindings import driver

        driver.cuDriverGetVersion()  # finds the library
    except ImportError as error:
        raise MachineError(f"{error}. A GPU takes {_INSTALL}.") from error
    except RuntimeError as error:
        raise MachineError(
            f"there is no NVIDIA driver here ({error}). Install the driver of your GPU; in a "
            "container, start it with --gpus all."
        ) from error
    return driver
