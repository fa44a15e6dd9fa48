"""The TIR that the knobs of `cpu_winograd` stand for. Imports TVM."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from tvm import te, tirx

from chameleon_ray.templates.activations import TASK, last_of_epilogue, output_shape, with_padding
from chameleon_ray.templates.cpu_tiling import sum_in_registers, unroll
from chameleon_ray.templates.cpu_winograd import SIDES, matrices, tiles_of

if TYPE_CHECKING:
    from chameleon_ray.space import KnobValues
    from chameleon_ray.tasks import Conv2d, Target


def output(data: Any, weight: Any, task: Conv2d, _target: Target) -> Any:
    """The output of a convolution, of packed filters, as a TE tensor."""
    t, side, lanes = task, SIDES[task.form], task.block
    of_inputs, _, of_outputs = matrices(side)
    points, (rows, columns) = len(of_inputs), tiles_of(task)
    padded = with_padding(data, task, columns * side, rows * side)  # as far as whole tiles go
    blocks, vectors = t.in_channels // lanes, t.out_channels // lanes
    in_rows = te.compute(
        (t.batch, blocks, rows, columns, points, points, lanes),
        lambda n, c, y, x, a, j, lane: one_of(
            a, of_inputs, lambda i: padded[n, c, y * side + i, x * side + j, lane]
        ),
        name="conv_in_rows",
    )
    inputs = te.compute(
        (points, points, blocks, t.batch, rows, columns, lanes),
        lambda a, b, c, n, y, x, lane: one_of(
            b, of_inputs, lambda j: in_rows[n, c, y, x, a, j, lane]
        ),
        name="conv_in",
    )
    rc = te.reduce_axis((0, t.in_channels), name="rc")
    each = rows * columns

    def product(a: Any, b: Any, f: Any, p: Any, lane: Any) -> Any:
        n, y, x = p // each, p % each // columns, p % columns
        number = inputs[a, b, rc // lanes, n, y, x, rc % lanes]
        return te.sum(number * weight[a, b, f, rc, lane], axis=rc)

    products = te.compute(
        (points, points, vectors, t.batch * each, lanes),
        product,
        name="conv",
        attrs={TASK: task.key},
    )
    out_rows = te.compute(
        (t.batch, vectors, rows, columns, side, points, lanes),
        lambda n, f, y, x, i, b, lane: one_of(
            i, of_outputs, lambda a: products[a, b, f, (n * rows + y) * columns + x, lane]
        ),
        name="conv_out_rows",
    )
    return te.compute(
        output_shape(task),
        lambda n, f, y, x, lane: one_of(
            x % side,
            of_outputs,
            lambda b: out_rows[n, f, y // side, x // side, y % side, b, lane],
        ),
        name="out",
    )


def one_of(index: Any, matrix: Any, number: Callable[[int], Any]) -> Any:
    """A row of a matrix times numbers; which row, is known once loops are unrolled."""
    rows = [_sum(row, number) for row in matrix.tolist()]
    chosen = rows[-1]
    for at, row in reversed([*enumerate(rows[:-1])]):
        chosen = tirx.Select(index == at, row, chosen)
    return chosen


def _sum(row: Sequence[float], number: Callable[[int], Any]) -> Any:
    terms = [
        number(at) if factor == 1 else number(at) * factor
        for at, factor in enumerate(row)
        if factor
    ]
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total


def apply(sch: Any, values: KnobValues) -> None:
    """Schedule a function that has one such convolution, and perhaps an epilogue.

    Inputs are transformed a tile at a time, rows of tiles in parallel; products in chunks of points
    and `f0`; outputs a tile at a time, written after their epilogue.
    """
    out = last_of_epilogue(sch)
    if sch.get_producers(sch.get_sblock("conv_in_rows")):
        n, channel, row, _, lane = sch.get_loops(sch.get_sblock("pad"))
        sch.parallel(sch.fuse(n, channel, row))
        sch.vectorize(lane)
    _inputs(sch)
    _products(sch, values)
    _outputs(sch, out)


def _inputs(sch: Any) -> None:
    block, rows = sch.get_sblock("conv_in"), sch.get_sblock("conv_in_rows")
    a, b, c, n, y, x, lane = sch.get_loops(block)
    sch.reorder(n, c, y, x, a, b, lane)
    sch.parallel(sch.fuse(n, c, y))
    sch.compute_at(rows, x)
    _unroll_last(sch, block)
    _unroll_last(sch, rows)


def _products(sch: Any, values: KnobValues) -> None:
    block = sch.get_sblock("conv")
    a, b, f, t, lane, rc = sch.get_loops(block)
    f0, f1, f2 = sch.split(f, values["tile_f"])
    t0, t1, t2 = sch.split(t, values["tile_t"])
    rc0, rc1 = sch.split(rc, values["tile_rc"])
    sch.reorder(a, b, f0, t0, f1, t1, rc0, rc1, f2, t2, lane)
    chunk = sch.fuse(a, b, f0)
    sch.parallel(chunk)
    written = sch.cache_write(block, 0, "local")
    sch.reverse_compute_at(written, t1)
    sch.vectorize(sch.get_loops(written)[-1])
    unroll(sch, chunk, values)
    sum_in_registers(sch, block, (f2, t2), lane, since=rc0)


def _outputs(sch: Any, out: Any) -> None:
    rows = sch.get_sblock("conv_out_rows")
    side = int(sch.get(sch.get_loops(rows)[4]).extent)
    n, f, y, x, lane = sch.get_loops(out)
    y0, y1 = sch.split(y, [None, side])
    x0, x1 = sch.split(x, [None, side])
    sch.reorder(n, f, y0, x0, y1, x1, lane)
    sch.parallel(sch.fuse(n, f, y0))
    sch.compute_at(rows, x0)
    _unroll_last(sch, out)
    _unroll_last(sch, rows)


def _unroll_last(sch: Any, block: Any) -> None:
    """The last axis in vectors, and the two before it unrolled: which rows they take is known."""
    *_, first, second, lane = sch.get_loops(block)
    sch.vectorize(lane)
    sch.unroll(first)
    sch.unroll(second)
