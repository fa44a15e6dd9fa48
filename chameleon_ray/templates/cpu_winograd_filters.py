"""Winograd's filters, transformed where they are used, not where they are stored. Imports TVM.

Transformed, they are 16 or 36 numbers for every nine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from tvm import te
from tvm.s_tir import Schedule

from chameleon_ray.templates.cpu_winograd import SIDES, matrices
from chameleon_ray.templates.cpu_winograd_schedule import one_of

if TYPE_CHECKING:
    from chameleon_ray.tasks import Conv2d


def stored(weight: npt.NDArray[np.float32], task: Conv2d) -> npt.NDArray[np.float32]:
    """Filters `(F, C, 3, 3)` as `(3, 3, F / lanes, C, lanes)`: vectors, not transformed yet."""
    f, c, height, width = weight.shape
    vectors = weight.reshape(f // task.block, task.block, c, height, width)
    return np.ascontiguousarray(vectors.transpose(3, 4, 0, 2, 1))


def transformed_shape(task: Conv2d) -> tuple[int, ...]:
    """Of the filters of a task as `cpu_winograd.packed`."""
    points, _ = matrices(SIDES[task.form])[1].shape
    return (points, points, task.out_channels // task.block, task.in_channels, task.block)


def transformation(task: Conv2d) -> Any:
    """A scheduled PrimFunc: filters as `stored` -> as `cpu_winograd.packed`.

    In float64 until the last, as there.
    """
    _, of_filters, _ = matrices(SIDES[task.form])
    points, size = of_filters.shape
    f, c, lanes = task.out_channels // task.block, task.in_channels, task.block
    weight = te.placeholder((size, size, f, c, lanes), name="weight")
    rows = te.compute(
        (f, c, points, size, lanes),
        lambda f, c, a, j, lane: one_of(
            a, of_filters, lambda i: weight[i, j, f, c, lane].astype("float64")
        ),
        name="rows",
    )
    out = te.compute(
        (points, points, f, c, lanes),
        lambda a, b, f, c, lane: one_of(b, of_filters, lambda j: rows[f, c, a, j, lane]).astype(
            "float32"
        ),
        name="filters",
    )
    return _scheduled(te.create_prim_func([weight, out]))


def _scheduled(function: Any) -> Any:
    """A vector of filters at a time, for one channel; these in parallel."""
    sch = Schedule(function)
    out, rows = sch.get_sblock("filters"), sch.get_sblock("rows")
    a, b, f, c, lane = sch.get_loops(out)
    sch.reorder(f, c, a, b, lane)
    vector = sch.fuse(f, c)
    sch.parallel(vector)
    sch.compute_at(rows, vector)
    for block in (out, rows):
        *_, first, second, lane = sch.get_loops(block)
        sch.vectorize(lane)
        sch.unroll(first)
        sch.unroll(second)
    return sch.mod["main"].without_attr("global_symbol")  # another module gives it its name
