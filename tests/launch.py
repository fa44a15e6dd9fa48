"""An interpreter of CUDA launches: blocks of a kernel, on this CPU (`launch.cpp`)."""

import ctypes
import re
import subprocess
import tempfile
from pathlib import Path

import numpy as np


class Interpreter:
    """A kernel in CUDA C++, compiled for this CPU.

    Args:
        text: Its source; the kernel is called `main_kernel` and takes three arrays.
    """

    def __init__(self, text):
        # an attribute of a declaration comes first in C++
        text = re.sub(r"__shared__ (alignas\(\d+\))", r"\1 __shared__", text)
        with tempfile.TemporaryDirectory() as folder:
            kernel, library = Path(folder) / "kernel.cu", Path(folder) / "kernel.so"
            kernel.write_text(text)
            here = Path(__file__).with_name("launch.cpp")
            command = ["g++", "-std=c++17", "-O1", "-w", "-shared", "-fPIC"]
            command += [f'-DKERNEL="{kernel}"', str(here), "-o", str(library)]
            subprocess.run(command, check=True)
            self._library = ctypes.CDLL(str(library))

    def launch(self, block, blocks, addresses, *, seed=0):
        """Run some blocks.

        Args:
            block: Threads along x, y and z.
            blocks: Which of the grid, `(n, 3)` as x, y, z.
            addresses: Of the arrays.
            seed: Of the order in which threads run between barriers.

        Returns:
            How many barriers a block passes.
        """
        indices = np.ascontiguousarray(blocks, dtype=np.uint32)
        threads = np.array(block, dtype=np.uint32)
        passed = self._library.launch(
            *map(ctypes.c_void_p, addresses),
            threads.ctypes.data_as(ctypes.c_void_p),
            indices.ctypes.data_as(ctypes.c_void_p),
            len(indices),
            seed,
        )
        assert passed >= 0, "some threads of a block pass more barriers than others"
        return passed


def every_block(grid):
    """All blocks of a grid, `(n, 3)`."""
    x, y, z = np.meshgrid(*map(np.arange, grid), indexing="ij")
    return np.stack([x.ravel(), y.ravel(), z.ravel()], axis=1)
