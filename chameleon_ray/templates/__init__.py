"""Templates: which knobs a task has on a target, and the code that their values stand for.

What the search needs (knobs, constraints, features) is numpy only; TVM is imported by the
`*_schedule` modules, in the processes that build. `gemm_kernel/` is code without TVM.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from chameleon_ray.errors import UnsupportedError
from chameleon_ray.tasks import Matmul
from chameleon_ray.templates import (
    cpu_conv2d,
    cpu_depthwise,
    cpu_matmul,
    cpu_winograd,
    cuda_conv2d,
    cuda_gemm,
)
from chameleon_ray.templates.gpu import architecture

_ON_CPU = (cpu_conv2d, cpu_depthwise, cpu_winograd, cpu_matmul)

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from chameleon_ray.space import Configs, DesignSpace, KnobValues
    from chameleon_ray.tasks import Conv2d, GpuTemplate, LayerTask, Target


class Template(Protocol):
    """A module of this package that knows a kind of layer on a kind of target."""

    def design_space(self, task: Any, target: Target) -> DesignSpace:
        """The knobs, what they forbid and what they imply."""

    def default_config(self, task: Any, target: Target) -> Configs:
        """A sensible config, `(knobs,)`."""

    def version(self, target: Target) -> str:
        """Changes whenever a config may stand for other code than before."""


def design_space(task: LayerTask, target: Target) -> DesignSpace:
    """The design space of a task on a target.

    Raises:
        UnsupportedError: There is no template for the task on the target.
    """
    check_supported(task, target)
    return _template(task, target).design_space(task, target)


def default_config(task: LayerTask, target: Target) -> Configs:
    """A sensible config by rule, `(knobs,)`: trial 0 of every task."""
    check_supported(task, target)
    return _template(task, target).default_config(task, target)


def _template(task: LayerTask, target: Target) -> Template:
    if isinstance(task, Matmul):
        return cpu_matmul
    if target.kind == "llvm":
        if task.form != "direct":
            return cpu_winograd
        return cpu_depthwise if task.is_depthwise else cpu_conv2d
    return _on_gpu(target)


def _on_gpu(target: Target) -> Template:
    return cuda_conv2d if target.template == "direct" else cuda_gemm


def template_version(target: Target) -> str:
    """Of all templates for a target; changes whenever a config may stand for other code."""
    if target.kind == "llvm":
        return ", ".join(t.version(target) for t in _ON_CPU)
    return _on_gpu(target).version(target)


def has_template_of(task: LayerTask, target: Target, versions: str) -> bool:
    """Whether the template of a task is, here and now, among those that `template_version` told."""
    return _template(task, target).version(target) in versions.split(", ")


def filters_of(
    weight: npt.NDArray[np.float32], task: LayerTask, target: Target
) -> npt.NDArray[np.float32]:
    """Filters `(F, C/groups, KH, KW)` as the template of a task on a CPU takes them.

    Or the right side of a product, which is packed beforehand if it is constant.
    """
    if isinstance(task, Matmul):
        return cpu_matmul.packed(weight, target.lanes) if task.constant else weight
    if task.form != "direct":
        return cpu_winograd.packed(weight, task)
    if task.is_depthwise:
        return cpu_conv2d.in_vectors(weight, target.lanes)
    return cpu_conv2d.packed(weight, task, target.lanes)


def with_best_form(task: Conv2d) -> Conv2d:
    """A task on a CPU in the form that promises most, by arithmetic (`cpu_winograd.cost`)."""
    forms = [replace(task, form=form) for form in cpu_winograd.SIDES]
    fitting = [task, *(other for other in forms if cpu_winograd.fits(other))]
    return min(fitting, key=cpu_winograd.cost)


def gpu_template(version: str) -> GpuTemplate:
    """Which template of a GPU a version is of; `direct` if it is of none."""
    name = version.partition("/")[0].removeprefix("cuda_")
    return name if name in cuda_gemm.MATHS else "direct"


def schedule(task: LayerTask, target: Target, values: KnobValues) -> Any:
    """The `tvm.IRModule` that the knob values stand for. Imports TVM.

    Raises:
        UnsupportedError: There is no template of TVM's for the task on the target.
    """
    from chameleon_ray.templates import cpu_layers, cuda_conv2d_schedule

    check_supported(task, target)
    if target.kind == "llvm" or isinstance(task, Matmul):
        return cpu_layers.schedule(task, target, values)
    if target.template != "direct":
        raise UnsupportedError(f"template {target.template!r} is CUDA C++ from the start: no TIR.")
    return cuda_conv2d_schedule.schedule(task, values)


def check_supported(task: LayerTask, target: Target) -> None:
    """Whether there is a template; `native` is any architecture.

    Raises:
        UnsupportedError: There is none for the task on the target.
    """
    if target.kind == "cuda" and target.model != "native":
        architecture(target.model)
    if isinstance(task, Matmul):
        if target.kind == "cuda":
            raise UnsupportedError(f"{task.key}: on a GPU there is no template for products yet.")
        return
    if task.form != "direct" and not cpu_winograd.fits(task):
        raise UnsupportedError(f"{task.key}: there is no such form of it.")
    if target.kind == "cuda" and (task.epilogue or task.block > 1):
        raise UnsupportedError(
            f"{task.key}: on a GPU a convolution is tuned in NCHW and without its epilogue."
        )
    if task.block not in (1, target.lanes):
        raise UnsupportedError(f"{task.key}: its blocks are not of {target.lanes} lanes.")
    if task.groups > 1 and not _fits_in_groups(task, target):
        raise UnsupportedError(f"{task.key}: such convolution in groups has no template yet.")


def _fits_in_groups(task: Conv2d, target: Target) -> bool:
    if target.kind == "cuda":
        return False
    if task.is_depthwise:
        return task.block > 1 and not task.nchw
    return cpu_conv2d.groups_computed(task.groups, task.out_channels, target.lanes) > 0
