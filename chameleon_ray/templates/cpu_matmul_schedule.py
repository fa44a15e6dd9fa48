"""The TIR that the knobs of `cpu_matmul` stand for. Imports TVM."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tvm import te, tirx

from chameleon_ray.templates.activations import TASK, last_of_epilogue
from chameleon_ray.templates.cpu_matmul import rows_of, vectors_of
from chameleon_ray.templates.cpu_tiling import sum_in_registers, unroll

if TYPE_CHECKING:
    from chameleon_ray.space import KnobValues
    from chameleon_ray.tasks import Matmul, Target


def output(data: Any, right: Any, task: Matmul, target: Target) -> Any:
    """The product, of weights as `cpu_matmul.packed` has them or of a right side as it is.

    Args:
        data: `(..., rows, inner)`, with as many before them as the task has a batch.
        right: Packed, or `(..., inner, columns)` with the same axes before them.
        task: What is computed.
        target: For what.
    """
    t, lanes = task, target.lanes
    before = [*map(int, data.shape[:-2])]
    vectors, rows = vectors_of(task, target), rows_of(task)
    padded = _with_rows(data, rows, t.dtype)
    panels = right if t.constant else _packed(right, vectors, lanes, t.dtype)
    k = te.reduce_axis((0, t.inner), name="k")

    def weight(at: Any, v: Any, lane: Any) -> Any:
        return panels[v, k, lane] if t.constant else panels[*_each(at, before), v, k, lane]

    conv = te.compute(
        (math.prod(before), rows, vectors, lanes),
        lambda b, m, v, lane: te.sum(
            padded[*_each(b, before), m, k] * weight(b, v, lane), axis=[k]
        ),
        name="conv",
        attrs={TASK: task.key},
    )
    return te.compute(
        (*before, t.rows, t.columns),
        lambda *at: conv[_all(at[:-2], before), at[-2], at[-1] // lanes, at[-1] % lanes],
        name="out",
    )


def _each(batch: Any, extents: Sequence[int]) -> list[Any]:
    """The place along each axis of a place in all of them."""
    places: list[Any] = []
    for extent in reversed(extents):
        last = len(places) == len(extents) - 1
        places.append(0 if extent == 1 else batch if last else batch % extent)
        batch = batch if extent == 1 else batch // extent
    return places[::-1]


def _all(places: Sequence[Any], extents: Sequence[int]) -> Any:
    """The other way round."""
    at: Any = tirx.const(0, "int64") if not places else 0
    for place, extent in zip(places, extents, strict=True):
        at = at * extent + place
    return at


def _with_rows(data: Any, rows: int, dtype: str) -> Any:
    """Computed as a block `pad`, if there are to be more rows than there are."""
    *before, own, inner = map(int, data.shape)
    if own == rows:
        return data
    zero = tirx.const(0.0, dtype)
    return te.compute(
        (*before, rows, inner),
        lambda *at: tirx.if_then_else(at[-2] < own, data[at], zero),
        name="pad",
    )


def _packed(right: Any, vectors: int, lanes: int, dtype: str) -> Any:
    """Panels of what is not packed before."""
    *before, inner, columns = map(int, right.shape)

    def number(*at: Any) -> Any:
        *b, v, k, lane = at
        column = v * lanes + lane
        found = right[*b, k, tirx.min(column, columns - 1)]
        if columns == vectors * lanes:
            return right[*b, k, column]
        return tirx.Select(column < columns, found, tirx.const(0.0, dtype))

    return te.compute((*before, vectors, inner, lanes), number, name="conv_panels")


def apply(sch: Any, values: KnobValues) -> None:
    """Schedule a function that has one such product, and perhaps what is done with its output.

    Chunks of `b, n0, m0` run in parallel; a register tile of `m2 * n2` vectors is summed up and
    written after its epilogue.
    """
    conv, out = sch.get_sblock("conv"), last_of_epilogue(sch)
    _left(sch, conv, values)
    b, m, v, lane, k = sch.get_loops(conv)
    m0, m1, m2 = sch.split(m, values["tile_m"])
    n0, n1, n2 = sch.split(v, values["tile_n"])
    k0, k1 = sch.split(k, values["tile_k"])
    within = (m1, n1) if values["inner"][0] else (n1, m1)
    sch.reorder(b, n0, m0, *within, k0, k1, m2, n2, lane)
    chunk = sch.fuse(b, n0, m0)
    sch.parallel(chunk)
    sch.reverse_compute_at(out, within[-1])
    _in_vectors(sch, sch.get_loops(out)[-1], int(sch.get(lane).extent))
    for panels in (one for one in sch.get_producers(conv) if _makes_panels(sch, one)):
        *before, _, _ = sch.get_loops(panels)
        sch.parallel(sch.fuse(*before))
        sch.vectorize(sch.get_loops(panels)[-1])
    unroll(sch, chunk, values)
    sum_in_registers(sch, conv, (m2, n2), lane, since=k0)


def _left(sch: Any, conv: Any, values: KnobValues) -> None:
    """The left side: padded beforehand, and copied as register tiles read it."""
    tile = values["tile_m"][2]
    padding = [one for one in sch.get_producers(conv) if not _makes_panels(sch, one)]
    if values["pack"][0]:
        copied = sch.cache_read(conv, 0, "global", [conv])
        sch.transform_layout(
            copied,
            ("write", 0),
            lambda *at: (*at[:-2], at[-2] // tile, at[-1], at[-2] % tile),
        )
        for block in padding:
            sch.compute_inline(block)
        *before, row, _ = sch.get_loops(copied)
        rows, _ = sch.split(row, [None, tile])
        sch.parallel(sch.fuse(*before, rows))
    for block in () if values["pack"][0] else padding:
        *before, inner = sch.get_loops(block)
        sch.parallel(sch.fuse(*before))
        sch.vectorize(inner)


def _makes_panels(sch: Any, block: Any) -> bool:
    name: str = sch.get(block).name_hint
    return name == "conv_panels"


def _in_vectors(sch: Any, loop: Any, lanes: int) -> None:
    if int(sch.get(loop).extent) > lanes:
        _, loop = sch.split(loop, [None, lanes])
    sch.vectorize(loop)
