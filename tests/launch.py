"""An interpreter of CUDA launches: blocks of a kernel, on this CPU (`launch.cpp`)."""

import ctypes
import re
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from chameleon_ray.measure.reference import inputs


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


class Launched:
    """A kernel of a task, and its inputs.

    Args:
        source: Its source and how it is launched.
        task: What it computes.
    """

    def __init__(self, source, task):
        self._source, self._task = source, task
        self._interpreter = Interpreter(source.text)

    def output(self, blocks, *, seed=0):
        """What some blocks of the grid `(n, 3)` write; NaN where they write nothing."""
        data, weight = inputs(self._task, 0)
        conv = np.full(self._task.output_shape, np.nan, dtype=np.float32)
        arrays = {"data": data, "weight": weight, "conv": conv}
        addresses = [arrays[name].ctypes.data for name in self._source.arguments]
        self._interpreter.launch(self._source.block, blocks, addresses, seed=seed)
        return conv


def every_block(grid):
    """All blocks of a grid, `(n, 3)`."""
    x, y, z = np.meshgrid(*map(np.arange, grid), indexing="ij")
    return np.stack([x.ravel(), y.ravel(), z.ravel()], axis=1)
