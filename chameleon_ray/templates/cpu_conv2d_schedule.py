"""The TIR that the knobs of `cpu_conv2d` stand for. Imports TVM."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tvm import te
from tvm.s_tir import Schedule

from chameleon_ray.templates.cpu_conv2d import filter_vectors
from chameleon_ray.templates.padding import with_padding

if TYPE_CHECKING:
    from chameleon_ray.space import KnobValues
    from chameleon_ray.tasks import Conv2d, Target


def compute(task: Conv2d, lanes: int, vectors: int) -> Any:
    """The convolution as a PrimFunc: `(N,C,H,W), (F/lanes,C,KH,KW,lanes) -> (N,F,OH,OW)`."""
    t = task
    data = te.placeholder((t.batch, t.in_channels, t.height, t.width), name="data")
    weight = te.placeholder(
        (vectors, t.in_channels, t.kernel_height, t.kernel_width, lanes), name="weight"
    )
    padded = with_padding(data, task)
    rc = te.reduce_axis((0, t.in_channels), name="rc")
    ry = te.reduce_axis((0, t.kernel_height), name="ry")
    rx = te.reduce_axis((0, t.kernel_width), name="rx")
    conv = te.compute(
        (t.batch, vectors, t.out_height, t.out_width, lanes),
        lambda n, f, y, x, lane: te.sum(
            padded[n, rc, y * t.stride + ry, x * t.stride + rx] * weight[f, rc, ry, rx, lane],
            axis=[rc, ry, rx],
        ),
        name="conv",
    )
    out = te.compute(
        (t.batch, t.out_channels, t.out_height, t.out_width),
        lambda n, f, y, x: conv[n, f // lanes, y, x, f % lanes],
        name="out",
    )
    return te.create_prim_func([data, weight, out])


def schedule(task: Conv2d, target: Target, values: KnobValues) -> Any:
    """The scheduled module of one config.

    Chunks of `n, f0, y0, x0` run in parallel; a register tile of `f2 * y2 * x2` vectors is
    accumulated over the inner reduction and written out when its reduction is complete.
    """
    sch = Schedule(compute(task, target.lanes, filter_vectors(task, target)))
    conv, out = sch.get_sblock("conv"), sch.get_sblock("out")
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
    if task.padding:
        batch, channel, row, column = sch.get_loops(sch.get_sblock("pad"))
        sch.parallel(sch.fuse(batch, channel, row))
        sch.vectorize(column)
    sch.vectorize(lane)
    sch.annotate(chunk, "pragma_auto_unroll_max_step", values["auto_unroll_max_step"][0])
    sch.annotate(chunk, "pragma_unroll_explicit", values["unroll_explicit"][0])
    sch.decompose_reduction(conv, rc0)
    return sch.mod
