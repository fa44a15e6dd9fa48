"""Templates: which knobs a task has on a target, and the code that their values stand for.

What the search needs (knobs, constraints, features) is numpy only; TVM is imported by the
`*_schedule` modules, in the processes that build.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from chameleon_ray.errors import UnsupportedError
from chameleon_ray.templates import cpu_conv2d, cuda_conv2d
from chameleon_ray.templates.gpu import architecture

if TYPE_CHECKING:
    from chameleon_ray.space import Configs, DesignSpace, KnobValues
    from chameleon_ray.tasks import Conv2d, Target


def design_space(task: Conv2d, target: Target) -> DesignSpace:
    """The design space of a task on a target.

    Raises:
        UnsupportedError: There is no template for the task on the target.
    """
    check_supported(task, target)
    if target.kind == "cuda":
        return cuda_conv2d.design_space(task, target)
    return cpu_conv2d.design_space(task, target)


def default_config(task: Conv2d, target: Target) -> Configs:
    """A sensible config by rule, `(knobs,)`: trial 0 of every task."""
    check_supported(task, target)
    if target.kind == "cuda":
        return cuda_conv2d.default_config(task, target)
    return cpu_conv2d.default_config(task, target)


def template_version(target: Target) -> str:
    """Changes whenever a config may stand for other code than before."""
    return cuda_conv2d.VERSION if target.kind == "cuda" else cpu_conv2d.VERSION


def schedule(task: Conv2d, target: Target, values: KnobValues) -> Any:
    """The `tvm.IRModule` that the knob values stand for. Imports TVM.

    Raises:
        UnsupportedError: There is no template for the task on the target.
    """
    from chameleon_ray.templates import cpu_conv2d_schedule, cuda_conv2d_schedule

    check_supported(task, target)
    if target.kind == "cuda":
        return cuda_conv2d_schedule.schedule(task, values)
    return cpu_conv2d_schedule.schedule(task, target, values)


def check_supported(task: Conv2d, target: Target) -> None:
    """Whether there is a template; `native` is any architecture.

    Raises:
        UnsupportedError: There is none for the task on the target.
    """
    if target.kind == "cuda" and target.model != "native":
        architecture(target.model)
    if task.groups > 1:
        raise UnsupportedError(
            f"{task.key}: grouped convolution (groups={task.groups}) has no template yet; "
            "leave the layer out with --layers."
        )
