"""Builds, checks and times configs on an NVIDIA GPU. Runs in children only."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from chameleon_ray.env_settings import Env
from chameleon_ray.errors import UnsupportedError
from chameleon_ray.measure import cubin_cache
from chameleon_ray.measure.backend import Backend, Part
from chameleon_ray.measure.cuda_kernel import CudaProgram, CudaSource, Program, TorchProgram
from chameleon_ray.measure.cuda_parts import backend_of
from chameleon_ray.measure.nvrtc import OPTIONS, compile_cubin, version
from chameleon_ray.space import KnobValues
from chameleon_ray.tasks import Conv2d, LayerTask, Target

Generate = Callable[[Conv2d, Target, KnobValues], CudaSource]


def backend(env: Env, target: Target, seed: int, part: Part = "whole") -> Backend:
    """Real kernels on the GPU of this process; to build alone takes none.

    Raises:
        MachineError: No GPU, no driver, no compiler, or another architecture than the env's.
        UnsupportedError: Its architecture is not known.
    """
    generate, name = generator(target)
    compiler = f"{name}nvrtc {version()}"
    return backend_of(
        partial(CudaBuilder, generate, caches=env.cache), env, target, seed, part, compiler=compiler
    )


def generator(target: Target) -> tuple[Generate, str]:
    """What makes the source of a template, and its name: TVM makes Table 1's, none the others."""
    if target.template == "direct":
        import tvm

        from chameleon_ray.measure.cuda_source import generate

        return generate, f"tvm {tvm.__version__}, "
    from chameleon_ray.measure.cuda_gemm_source import generate as of_gemm

    return of_gemm, ""


class CudaBuilder:
    """Compiles configs of a template for one architecture; needs no GPU.

    Args:
        generate: Makes the source.
        target: What for.
        caches: Whether what was compiled before is not compiled again.
    """

    def __init__(self, generate: Generate, target: Target, *, caches: bool) -> None:
        self._generate, self._caches, self._target = generate, caches, target
        if caches:
            cubin_cache.prune()

    def build(self, task: LayerTask, config: KnobValues) -> Program:
        """The machine code of one config."""
        if not isinstance(task, Conv2d):
            raise UnsupportedError(f"{task.key}: a GPU has templates of convolutions only.")
        if not config:
            return TorchProgram(task=task)
        source = self._generate(task, self._target, config)
        arch = self._target.model
        compile_source = partial(compile_cubin, source.text, arch)
        made_by = f"nvrtc {version()} {OPTIONS} for {arch}"
        cached = partial(cubin_cache.compiled, source.text, made_by, compile_source)
        cubin = cached() if self._caches else compile_source()
        return CudaProgram(cubin=cubin, source=source, task=task)
