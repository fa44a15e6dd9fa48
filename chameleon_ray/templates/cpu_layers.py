"""The TIR of a layer on a CPU, whatever its kind. Imports TVM."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from tvm import te
from tvm.s_tir import Schedule

from chameleon_ray.tasks import Matmul
from chameleon_ray.templates import (
    cpu_conv2d_schedule,
    cpu_depthwise_schedule,
    cpu_matmul_schedule,
    cpu_winograd_schedule,
    filters_of,
)
from chameleon_ray.templates.activations import after_epilogue, input_shape

if TYPE_CHECKING:
    from chameleon_ray.space import KnobValues
    from chameleon_ray.tasks import LayerTask, Target


def compute(task: LayerTask, target: Target) -> Any:
    """A task as a PrimFunc: input, packed filters, ... -> output.

    Between filters and output, it takes what the steps of the epilogue take.
    """
    data = te.placeholder(input_shape(task), name="data")
    filters = filters_of(np.zeros(task.weight_shape, dtype=np.float32), task, target)
    weight = te.placeholder(filters.shape, name="weight")
    others, out = after_epilogue(output(data, weight, task, target), task)
    return te.create_prim_func([data, weight, *others, out])


def output(data: Any, weight: Any, task: LayerTask, target: Target) -> Any:
    """The output of a task without its epilogue, of packed filters, as a TE tensor."""
    return _code(task).output(data, weight, task, target)


def apply(sch: Any, task: LayerTask, values: KnobValues) -> None:
    """Schedule a function that computes a task, and perhaps more with its output."""
    _code(task).apply(sch, values)


def schedule(task: LayerTask, target: Target, values: KnobValues) -> Any:
    """The scheduled module of one config."""
    sch = Schedule(compute(task, target))
    apply(sch, task, values)
    return sch.mod


def _code(task: LayerTask) -> Any:
    if isinstance(task, Matmul):
        return cpu_matmul_schedule
    if task.form != "direct":
        return cpu_winograd_schedule
    return cpu_depthwise_schedule if task.is_depthwise else cpu_conv2d_schedule
