"""Kernels for a GPU, from source to times. Imports neither TVM nor what reads settings.

So a machine with a GPU that has only NVIDIA's compiler and driver, numpy and torch can run what
another one has generated.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

from chameleon_ray.measure.cuda_driver import ContextLostError, CudaGpu
from chameleon_ray.measure.reference import (
    Array,
    expected,
    inputs,
    relative_error,
)
from chameleon_ray.measure.timing import calls_of, take_repeats
from chameleon_ray.tasks import ROUNDING, Conv2d, GpuTemplate

if TYPE_CHECKING:
    from chameleon_ray.env_settings import RepeatSettings

KERNEL = "main_kernel"
TORCH_DEVICE = "cuda"  # its context and stream are the ones that everything here is in

Extents = tuple[int, int, int]

_TASKS = 32  # whose arrays are kept on the GPU: layers are measured in turns
_TRIED = 5  # executions of each form of torch's
_MOST_CALLS = 200  # of a repeat; each sweeps the cache, which takes longer than a small kernel


@dataclass(frozen=True, slots=True, kw_only=True)
class CudaSource:
    """One kernel.

    Attributes:
        text: Its source.
        grid: Blocks along x, y and z.
        block: Threads of each, likewise.
        arguments: Names of the arrays that it takes, in their order.
        shared_bytes: Shared memory of a block, besides what the kernel itself declares.
    """

    text: str
    grid: Extents
    block: Extents
    arguments: tuple[str, ...]
    shared_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class CudaProgram:
    """What is built: machine code, and what it is for."""

    cubin: bytes
    source: CudaSource
    task: Conv2d


@dataclass(frozen=True, slots=True, kw_only=True)
class TorchProgram:
    """Stands for torch's own kernel of a task."""

    task: Conv2d


Program = CudaProgram | TorchProgram


@dataclass(frozen=True, slots=True, kw_only=True)
class OnGpu:
    """The arrays of a task on the GPU.

    Attributes:
        addresses: By name, as in the template.
        right: What the output has to be.
    """

    addresses: dict[str, int]
    right: npt.NDArray[np.float32]


class Arrays:
    """The inputs and outputs of the tasks that were measured last; all kernels of one share them.

    Args:
        gpu: Where they are.
        seed: Of the inputs.
    """

    def __init__(self, gpu: CudaGpu, seed: int) -> None:
        self.gpu, self._seed = gpu, seed
        self._kept: dict[Conv2d, OnGpu] = {}

    def of(self, task: Conv2d) -> OnGpu:
        """Those of a task."""
        found = self._kept.pop(task, None) or self._made(task)
        self._kept[task] = found  # the last used is the last
        return found

    def inputs(self, task: Conv2d) -> tuple[Array, Array]:
        """What is convolved, and with what."""
        return inputs(task, self._seed)

    def _made(self, task: Conv2d) -> OnGpu:
        if len(self._kept) >= _TASKS:
            oldest = self._kept.pop(next(iter(self._kept)))
            for address in oldest.addresses.values():
                self.gpu.free(address)
        data, weight = self.inputs(task)
        right = expected(task, self._seed)
        addresses = {
            "data": self.gpu.upload(data),
            "weight": self.gpu.upload(weight),
            "conv": self.gpu.empty(right.nbytes),
        }
        return OnGpu(addresses=addresses, right=right)


class CudaKernel:
    """A program on the GPU, with its arrays."""

    def __init__(self, program: CudaProgram, arrays: Arrays) -> None:
        source = program.source
        self._source, self._task, self._gpu = source, program.task, arrays.gpu
        self._on_gpu = arrays.of(program.task)  # they stay: kernels at a time are of one task
        function, self._library = self._gpu.load(program.cubin, KERNEL)
        addresses = [self._on_gpu.addresses[name] for name in source.arguments]
        self._gpu.allow_shared(function, source.shared_bytes)
        shape = source.grid, source.block, source.shared_bytes
        self._launch = self._gpu.launcher(function, *shape, addresses)

    def time(self, calls: int) -> float:
        """Seconds of one execution, the mean over `calls`, each with a cold cache."""
        return _mean_seconds(self._gpu, self._launch, calls)

    def error(self) -> float:
        """max|a-b| / max|b| of an execution into an output of NaNs, against torch."""
        gpu, on_gpu = self._gpu, self._on_gpu
        self._launch()  # the second one is looked at: a kernel may leave something behind
        gpu.poison(on_gpu.addresses["conv"], on_gpu.right.nbytes)
        self._launch()
        gpu.wait()
        found = gpu.download(on_gpu.addresses["conv"], self._task.output_shape)
        return relative_error(found, on_gpu.right)

    def close(self) -> None:
        """Take it off the GPU; with the context, it is gone."""
        with suppress(ContextLostError):
            self._gpu.unload(self._library)


class TorchKernel:
    """torch's own convolution (cuDNN, the fastest of its algorithms) on the same inputs.

    In the memory format, and where products may be rounded, in the type, in which it is fastest;
    what brings the inputs there does not count.

    Args:
        task: What it computes.
        arrays: Whose GPU and inputs.
        template: What ours may do.
    """

    def __init__(self, task: Conv2d, arrays: Arrays, template: GpuTemplate) -> None:
        self._gpu, self._right = arrays.gpu, arrays.of(task).right
        torch.backends.cudnn.benchmark, torch.backends.cudnn.benchmark_limit = True, 0
        torch.backends.cudnn.allow_tf32 = template in ROUNDING
        types = [torch.float32, *([torch.float16] if template == "gemm_float16" else [])]
        forms = [
            self._form(task, arrays, kind, memory)
            for kind in types
            for memory in (torch.contiguous_format, torch.channels_last)
        ]
        for form in forms:
            form()  # it looks for the fastest algorithm now
        self._convolve = min(forms, key=lambda form: sum(self._gpu.timed(form, _TRIED)))

    @staticmethod
    def _form(
        task: Conv2d, arrays: Arrays, kind: torch.dtype, memory: torch.memory_format
    ) -> Callable[[], torch.Tensor]:
        data, weight = (
            torch.tensor(x, device=TORCH_DEVICE).to(kind, memory_format=memory)
            for x in arrays.inputs(task)
        )
        return partial(
            torch.nn.functional.conv2d, data, weight, stride=task.stride, padding=task.padding
        )

    def time(self, calls: int) -> float:
        """Seconds of one execution, the mean over `calls`, each with a cold cache."""
        return _mean_seconds(self._gpu, self._convolve, calls)

    def error(self) -> float:
        """max|a-b| / max|b| against torch on the CPU."""
        return relative_error(self._convolve().float().cpu().numpy(), self._right)

    def close(self) -> None:
        """Its memory goes with it."""


def _mean_seconds(gpu: CudaGpu, work: Callable[[], object], calls: int) -> float:
    return statistics.fmean(gpu.timed(work, min(calls, _MOST_CALLS)))


class CudaRunner:
    """Times programs until the interval is narrow or one is clearly too slow.

    Args:
        arrays: What they are run on.
        settings: How long one is timed.
        final_repeats: Rounds of finalists.
        template: Of what ours may do, torch's kernel may.
    """

    def __init__(
        self,
        arrays: Arrays,
        settings: RepeatSettings,
        final_repeats: int,
        template: GpuTemplate,
    ) -> None:
        self._arrays, self._settings, self._final_repeats = arrays, settings, final_repeats
        self._template = template

    def run(self, kernel: Program, best_seconds: float | None) -> tuple[float, tuple[float, ...]]:
        """Relative error of the first execution, and seconds of each repeat."""
        with self._loaded([kernel]) as (loaded,):
            error, once = loaded.error(), loaded.time(1)
            repeats = take_repeats(
                loaded.time, self._settings, once=once, best_seconds=best_seconds
            )
        return error, tuple(repeats)

    def compare(self, kernels: Sequence[Program]) -> list[tuple[float, ...]]:
        """Seconds of each repeat for each program, taken in turns."""
        with self._loaded(kernels) as loaded:
            calls = [calls_of(kernel.time(1), self._settings) for kernel in loaded]
            rounds = [
                [kernel.time(n) for kernel, n in zip(loaded, calls, strict=True)]
                for _ in range(self._final_repeats)
            ]
        return [tuple(times) for times in zip(*rounds, strict=True)]

    @contextmanager
    def _loaded(self, programs: Sequence[Program]) -> Iterator[list[CudaKernel | TorchKernel]]:
        with ExitStack() as stack:
            kernels: list[CudaKernel | TorchKernel] = []
            for program in programs:
                if isinstance(program, TorchProgram):
                    kernels.append(TorchKernel(program.task, self._arrays, self._template))
                else:
                    kernels.append(CudaKernel(program, self._arrays))
                stack.callback(kernels[-1].close)
            yield kernels


def torch_convolves() -> bool:
    """Whether torch has a convolution for this GPU; the first one loads cuDNN, which takes time."""
    if not torch.cuda.is_available():
        return False
    try:
        ones = torch.ones(1, 8, 8, 8, device=TORCH_DEVICE)
        torch.nn.functional.conv2d(ones, ones).cpu()
    except RuntimeError:  # built for other architectures, or without cuDNN
        return False
    return True
