"""The TIR that the knobs of `cpu_conv2d` stand for. Imports TVM."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tvm import te

from chameleon_ray.templates.activations import TASK, last_of_epilogue, output_shape, with_padding
from chameleon_ray.templates.cpu_conv2d import channels_of, groups_computed
from chameleon_ray.templates.cpu_tiling import columns_of, filter_vectors, unroll

if TYPE_CHECKING:
    from chameleon_ray.space import KnobValues
    from chameleon_ray.tasks import Conv2d, Target


_BLOCK = 4  # axes of activations before that of a block of channels


def output(data: Any, weight: Any, task: Conv2d, target: Target) -> Any:
    """The output of a convolution, of filters as `cpu_conv2d.packed` has them, as a TE tensor."""
    t, lanes = task, target.lanes
    columns = columns_of(task)
    padded = with_padding(data, task, columns)
    channels = channels_of(task, lanes)
    vectors = filter_vectors(task, target) // groups_computed(t.groups, t.out_channels, lanes)
    rc = te.reduce_axis((0, channels), name="rc")
    ry = te.reduce_axis((0, t.kernel_height), name="ry")
    rx = te.reduce_axis((0, t.kernel_width), name="rx")

    def number(n: Any, f: Any, y: Any, x: Any) -> Any:
        c = rc if channels == t.in_channels else f // vectors * channels + rc
        block = t.in_block
        return padded[n, c, y, x] if block == 1 else padded[n, c // block, y, x, c % block]

    conv = te.compute(
        (t.batch, filter_vectors(task, target), t.out_height, columns, lanes),
        lambda n, f, y, x, lane: te.sum(
            number(n, f, y * t.stride + ry, x * t.stride + rx) * weight[f, rc, ry, rx, lane],
            axis=[rc, ry, rx],
        ),
        name="conv",
        attrs={TASK: task.key},
    )
    shape = output_shape(task)
    if t.out_block > 1:
        return te.compute(shape, lambda *at: conv[at], name="out")
    return te.compute(shape, lambda n, f, y, x: conv[n, f // lanes, y, x, f % lanes], name="out")


def apply(sch: Any, values: KnobValues) -> None:
    """Schedule a function that has one convolution, and perhaps what is done with its output.

    Chunks of `n, f0, y0, x0` run in parallel; a register tile of `f2 * y2 * x2` vectors is
    accumulated over the inner reduction, and written out when its reduction is complete: by then
    the rest is done with it, bias and activation and whatever else was fused.
    """
    conv, out = sch.get_sblock("conv"), last_of_epilogue(sch)
    n, f, y, x, lane, rc, ry, rx = sch.get_loops(conv)
    f0, f1, f2 = sch.split(f, values["tile_f"])
    y0, y1, y2 = sch.split(y, values["tile_y"])
    x0, x1, x2 = sch.split(x, values["tile_x"])
    rc0, rc1 = sch.split(rc, values["tile_rc"])
    ry0, ry1 = sch.split(ry, values["tile_ry"])
    rx0, rx1 = sch.split(rx, values["tile_rx"])
    sch.reorder(
        n, f0, y0, x0, f1, y1, x1, rc0, ry0, rx0, rc1, ry1, rx1, f2, y2, x2, lane
    )  # fmt: skip
    chunk = sch.fuse(n, f0, y0, x0)
    sch.parallel(chunk)
    sch.reverse_compute_at(out, x1)
    if sch.get(out).iter_vars[_BLOCK:]:
        sch.vectorize(sch.get_loops(out)[-1])
    if sch.get_producers(conv):
        batch, channel, row, *others = sch.get_loops(sch.get_sblock("pad"))
        sch.parallel(sch.fuse(batch, channel, row))
        sch.vectorize(others[-1])
    sch.vectorize(lane)
    unroll(sch, chunk, values)
    sch.decompose_reduction(conv, rc0)
