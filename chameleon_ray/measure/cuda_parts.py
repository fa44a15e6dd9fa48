"""A backend for a GPU in its parts: who builds has no GPU, and who runs has it alone.

What builds is given, so that kernels may come from a template or from elsewhere. Imports neither
TVM nor what reads settings.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from chameleon_ray.errors import MachineError
from chameleon_ray.measure.backend import Backend, Part
from chameleon_ray.measure.cuda_driver import CudaGpu
from chameleon_ray.measure.cuda_kernel import Arrays, CudaRunner, torch_convolves
from chameleon_ray.measure.nvml import GpuMonitor
from chameleon_ray.measure.nvrtc import version
from chameleon_ray.tasks import LayerTask, Target
from chameleon_ray.templates.gpu import WARP, architecture

if TYPE_CHECKING:
    from chameleon_ray.env_settings import Env
    from chameleon_ray.measure import Builder
    from chameleon_ray.space import KnobValues


def backend_of(
    builder: Callable[[Target], Builder],
    env: Env,
    target: Target,
    seed: int,
    part: Part,
    *,
    compiler: str,
) -> Backend:
    """A part of a backend for the GPU of this process; to build alone takes none.

    Args:
        builder: Makes programs for a target whose architecture is known.
        env: Repeats.
        target: What to measure for; of part `build`, resolved.
        seed: Of inputs.
        part: What is needed of it.
        compiler: Name and version of what makes the code.

    Raises:
        MachineError: No GPU, no driver, or another architecture than the target's.
        UnsupportedError: Its architecture is not known.
    """
    if part == "build":
        return Backend(
            builder=builder(target),
            runner=Nothing(),
            target=target,
            compiler=compiler,
            has_torch=False,
        )
    gpu = CudaGpu()
    if target.model not in ("native", gpu.arch):
        raise MachineError(
            f"the env is for {target.model}, and this GPU ({gpu.name}) is an {gpu.arch}; set "
            "model: native in the env file, or measure on another machine (tune --device)."
        )
    architecture(gpu.arch)
    _check_driver(gpu.driver, version())
    monitor = GpuMonitor(gpu.bus)
    resolved = replace(target, model=gpu.arch, lanes=WARP, cores=gpu.sms)
    return Backend(
        builder=builder(resolved) if part == "whole" else Nothing(),
        runner=CudaRunner(Arrays(gpu, seed), env.repeats, env.final_repeats, target.template),
        target=resolved,
        compiler=f"{compiler}, driver {gpu.driver}",
        has_torch=torch_convolves(),
        machine=_machine(gpu, monitor),
        unit=gpu.unit,
        monitor=monitor,
    )


def _check_driver(driver: str, nvrtc: str) -> None:
    """Whether the driver takes what the compiler makes: code of its own CUDA or of an older one.

    Raises:
        MachineError: It is older.
    """
    if int(driver.partition(".")[0]) < int(nvrtc.partition(".")[0]):
        raise MachineError(
            f"the driver is for CUDA {driver}, and NVRTC {nvrtc} makes code for newer ones. Update "
            "NVIDIA's driver (580 or newer for CUDA 13), or take the compiler of its CUDA: pip "
            "install 'cuda-bindings<13' nvidia-cuda-nvrtc-cu12."
        )


def _machine(gpu: CudaGpu, monitor: GpuMonitor) -> str:
    """What times depend on; the name of a partition (MIG) has its size."""
    clock = monitor.most_mhz()
    parts = [f"{gpu.name} {gpu.arch}", f"{gpu.sms} SMs", f"{clock} MHz at most" if clock else ""]
    shared = "MPS" if "CUDA_MPS_PIPE_DIRECTORY" in os.environ or monitor.is_shared() else ""
    return ", ".join(part for part in [*parts, shared] if part)


class Nothing:
    """What a part of a backend has in place of the other part; it is never asked."""

    def build(self, task: LayerTask, config: KnobValues) -> Any:
        """Never asked for."""
        raise NotImplementedError

    def run(self, kernel: Any, best_seconds: float | None) -> tuple[float, tuple[float, ...]]:
        """Never asked for."""
        raise NotImplementedError

    def compare(self, kernels: Sequence[Any]) -> list[tuple[float, ...]]:
        """Never asked for."""
        raise NotImplementedError
