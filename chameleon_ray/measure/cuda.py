"""Builds, checks and times configs of `cuda_conv2d` on an NVIDIA GPU. Runs in children only."""

from __future__ import annotations

import tvm

from chameleon_ray.env_settings import Env
from chameleon_ray.measure.backend import Backend, Part
from chameleon_ray.measure.cuda_kernel import CudaProgram
from chameleon_ray.measure.cuda_parts import backend_of
from chameleon_ray.measure.cuda_source import generate
from chameleon_ray.measure.nvrtc import compile_cubin, version
from chameleon_ray.space import KnobValues
from chameleon_ray.tasks import Conv2d, Target


def backend(env: Env, target: Target, seed: int, part: Part = "whole") -> Backend:
    """Real kernels on the GPU of this process; to build alone takes none.

    Raises:
        MachineError: No GPU, no driver, no compiler, or another architecture than the env's.
        UnsupportedError: Its architecture is not known.
    """
    compiler = f"tvm {tvm.__version__}, nvrtc {version()}"
    return backend_of(CudaBuilder, env, target, seed, part, compiler=compiler)


class CudaBuilder:
    """Compiles configs of `cuda_conv2d` for one architecture; needs no GPU."""

    def __init__(self, target: Target) -> None:
        self._target = target

    def build(self, task: Conv2d, config: KnobValues) -> CudaProgram:
        """The machine code of one config."""
        source = generate(task, self._target, config)
        cubin = compile_cubin(source.text, self._target.model)
        return CudaProgram(cubin=cubin, source=source, task=task)
