"""A CUDA driver that is not there: the calls of `cuda.bindings.driver` that we make, on this CPU.

Memory is the host's, cubins are sources, and kernels are interpreted (`launch.py`). Time goes by
as `seconds` says. What `fails` names answers with an error, once or for ever.
"""

# ruff: noqa: N802 - the names are CUDA's

import ctypes
from types import SimpleNamespace

import numpy as np
from launch import Interpreter, every_block

ERRORS = {
    1: b"CUDA_ERROR_INVALID_VALUE",
    2: b"CUDA_ERROR_OUT_OF_MEMORY",
    100: b"CUDA_ERROR_NO_DEVICE",
    700: b"CUDA_ERROR_ILLEGAL_ADDRESS",
    719: b"CUDA_ERROR_LAUNCH_FAILED",
    46: b"CUDA_ERROR_DEVICE_UNAVAILABLE",
}


class FakeDriver:
    """As the module; one GPU."""

    CUdevice_attribute = SimpleNamespace(
        CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR=9,
        CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR=0,
        CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT=4,
        CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE=1 << 16,
    )

    CUfunction_attribute = SimpleNamespace(CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES=8)

    def __init__(self, seconds=1e-3):
        self.seconds = seconds
        self.fails = {}  # name of a call -> number of the error
        self.sticky = 0
        self.memory, self.launches, self.loaded = {}, 0, 0
        self.clock, self.allowed = 0.0, 48 << 10

    def __getattribute__(self, name):
        """Every call may fail, and does once the context is broken."""
        found = object.__getattribute__(self, name)
        if not name.startswith("cu") or name.startswith("cuGetError"):
            return found
        error = self.fails.get(name) or self.sticky
        if error >= 700:
            self.sticky = error
        return (lambda *_: (error, None)) if error else found

    def cuInit(self, _flags):
        return (0,)

    def cuDriverGetVersion(self):
        return 0, 13000

    def cuDeviceGet(self, index):
        return 0, index

    def cuDevicePrimaryCtxRetain(self, _device):
        return 0, "context"

    def cuCtxSetCurrent(self, _context):
        return (0,)

    def cuCtxSynchronize(self):
        return (0,)

    def cuDeviceGetName(self, length, _device):
        return 0, b"NVIDIA Fake\0".ljust(length, b"\0")

    def cuDeviceGetPCIBusId(self, length, _device):
        return 0, b"0000:17:00.0\0".ljust(length, b"\0")

    def cuDeviceGetUuid(self, device):
        return 0, SimpleNamespace(bytes=bytes([device] * 16))

    def cuDeviceGetAttribute(self, attribute, _device):
        return 0, attribute

    def cuGetErrorName(self, status):
        return 0, ERRORS[int(status)]

    def cuGetErrorString(self, _status):
        return 0, b"as the test says"

    def cuMemAlloc(self, size):
        buffer = ctypes.create_string_buffer(size)
        self.memory[ctypes.addressof(buffer)] = buffer
        return 0, ctypes.addressof(buffer)

    def cuMemFree(self, address):
        del self.memory[address]
        return (0,)

    def cuMemcpyHtoD(self, to, source, size):
        ctypes.memmove(to, source, size)
        return (0,)

    def cuMemcpyDtoH(self, to, source, size):
        ctypes.memmove(to, source, size)
        return (0,)

    def cuMemsetD32(self, address, word, count):
        words = (ctypes.c_uint32 * count).from_address(address)
        np.frombuffer(words, dtype=np.uint32)[:] = word
        return (0,)

    def cuMemsetD32Async(self, address, word, count, _stream):
        return self.cuMemsetD32(address, word, count)

    def cuLibraryLoadData(self, cubin, *_options):
        self.loaded += 1
        return 0, Interpreter(cubin.decode())

    def cuLibraryUnload(self, _library):
        self.loaded -= 1
        return (0,)

    def cuLibraryGetKernel(self, library, _name):
        return 0, library

    def cuKernelGetFunction(self, kernel):
        return 0, kernel

    def cuFuncSetAttribute(self, _function, _attribute, size):
        self.allowed = size
        return (0,)

    def cuLaunchKernel(self, function, *rest):
        grid, block, (shared, _, parameters, _) = rest[:3], rest[3:6], rest[6:]
        if shared > self.allowed:
            return (1,)
        pointers = (ctypes.c_uint64 * 3).from_address(parameters)
        addresses = [ctypes.c_uint64.from_address(pointer).value for pointer in pointers]
        if any(address not in self.memory for address in addresses):
            self.sticky = 700
            return (0,)
        if self.launches < 2:  # the one that is looked at is the second
            function.launch(block, every_block(grid), addresses)
        self.launches += 1
        self.clock += self.seconds
        return (0,)

    def cuEventCreate(self, _flags):
        return 0, SimpleNamespace(at=0.0)

    def cuEventRecord(self, event, _stream):
        event.at = self.clock
        return (0,)

    def cuEventElapsedTime(self, begin, end):
        return 0, (end.at - begin.at) * 1e3

    def cuEventDestroy(self, _event):
        return (0,)
