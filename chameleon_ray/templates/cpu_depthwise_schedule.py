"""The TIR that the knobs of `cpu_depthwise` stand for. Imports TVM."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tvm import te

from chameleon_ray.templates.activations import TASK, last_of_epilogue, output_shape, with_padding
from chameleon_ray.templates.cpu_tiling import columns_of, sum_in_registers

if TYPE_CHECKING:
    from chameleon_ray.space import KnobValues
    from chameleon_ray.tasks import Conv2d, Target


def output(data: Any, weight: Any, task: Conv2d, _target: Target) -> Any:
    """The output of a convolution, of packed filters, as a TE tensor."""
    t = task
    columns = columns_of(task)
    padded = with_padding(data, task, columns)
    ry = te.reduce_axis((0, t.kernel_height), name="ry")
    rx = te.reduce_axis((0, t.kernel_width), name="rx")
    conv = te.compute(
        (t.batch, t.out_channels // t.block, t.out_height, columns, t.block),
        lambda n, c, y, x, lane: te.sum(
            padded[n, c, y * t.stride + ry, x * t.stride + rx, lane] * weight[c, 0, ry, rx, lane],
            axis=[ry, rx],
        ),
        name="conv",
        attrs={TASK: task.key},
    )
    return te.compute(output_shape(task), lambda *at: conv[at], name="out")


def apply(sch: Any, values: KnobValues) -> None:
    """Schedule a function that has one such convolution, and perhaps an epilogue.

    Chunks of `n, c0, y0` run in parallel; a register tile of `y2 * x1` vectors is summed up over
    the window of a filter and written out after its epilogue.
    """
    conv, out = sch.get_sblock("conv"), last_of_epilogue(sch)
    n, c, y, x, lane, ry, rx = sch.get_loops(conv)
    c0, c1 = sch.split(c, values["tile_c"])
    y0, y1, y2 = sch.split(y, values["tile_y"])
    x0, x1 = sch.split(x, values["tile_x"])
    sch.reorder(n, c0, y0, c1, y1, x0, ry, rx, y2, x1, lane)
    chunk = sch.fuse(n, c0, y0)
    sch.parallel(chunk)
    sch.reverse_compute_at(out, x0)
    sch.vectorize(sch.get_loops(out)[-1])
    if sch.get_producers(conv):
        pad = sch.get_sblock("pad")
        if values["pad"][0]:
            sch.compute_at(pad, chunk)
        else:
            batch, channel, row, *_ = sch.get_loops(pad)
            sch.parallel(sch.fuse(batch, channel, row))
        sch.vectorize(sch.get_loops(pad)[-1])
    if values["unroll"][0]:
        sch.unroll(ry)
        sch.unroll(rx)
    sum_in_registers(sch, conv, (y2, x1), lane, since=ry)
