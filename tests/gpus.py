"""GPUs that are not there, as a backend of one's own: the real one, on a fake driver.

Nothing is compiled or run, and every output is taken to be right; kernels take as long as their
blocks are wide. A kernel whose blocks are CHAMELEON_SPOILS threads deep writes where it must not;
one whose blocks are CHAMELEON_HANGS threads deep never ends.
"""

import os
import time
from pathlib import Path

from fake_cuda import FakeDriver

from chameleon_ray.errors import MachineError
from chameleon_ray.measure import cuda, cuda_driver, cuda_kernel


class Kernel(cuda_kernel.CudaKernel):
    """One whose output nobody looks at."""

    def error(self):
        """None; but its launch may break the context."""
        driver, (width, _, depth) = self._gpu._api, self._source.block
        if str(depth) == os.environ.get("CHAMELEON_SPOILS"):
            driver.sticky = 700
        if str(depth) == os.environ.get("CHAMELEON_HANGS"):
            driver.cuCtxSynchronize = lambda: time.sleep(3600)
        driver.seconds = 1e-6 * width
        self._launch()
        self._gpu.wait()
        return 0.0


def pretend():
    """From now on this process has a GPU."""
    driver = FakeDriver()
    driver.launches = 2  # it interprets the first two only
    driver.cuLibraryLoadData = lambda *_: (0, "library")
    cuda_driver._driver = lambda: driver
    cuda_kernel.CudaKernel = Kernel


def _is_there():
    """Whether the GPU still is: with CHAMELEON_LEAVES, a file, it can be opened once.

    Raises:
        MachineError: It was opened before.
    """
    leaves = os.environ.get("CHAMELEON_LEAVES")
    if leaves:
        try:
            Path(leaves).touch(exist_ok=False)
        except FileExistsError:
            raise MachineError("it fell off the bus") from None


def backend(env, target, seed, part="whole"):
    """As `cuda.backend`."""
    if part == "run":
        _is_there()
    pretend()
    cuda.compile_cubin, cuda.version = lambda source, _arch: source.encode(), lambda: "13.0"
    return cuda.backend(env, target, seed, part)
