"""The TIR that the knobs of `cuda_conv2d` stand for. Imports TVM."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tvm import te
from tvm.s_tir import Schedule

from chameleon_ray.templates.activations import with_padding

if TYPE_CHECKING:
    from chameleon_ray.space import KnobValues
    from chameleon_ray.tasks import Conv2d


def compute(task: Conv2d) -> Any:
    """The convolution as a PrimFunc: `(N,C,H,W), (F,C,KH,KW) -> (N,F,OH,OW)`."""
    t = task
    data = te.placeholder((t.batch, t.in_channels, t.height, t.width), name="data")
    weight = te.placeholder(
        (t.out_channels, t.in_channels, t.kernel_height, t.kernel_width), name="weight"
    )
    padded = with_padding(data, task)
    rc = te.reduce_axis((0, t.in_channels), name="rc")
    ry = te.reduce_axis((0, t.kernel_height), name="ry")
    rx = te.reduce_axis((0, t.kernel_width), name="rx")
    conv = te.compute(
        (t.batch, t.out_channels, t.out_height, t.out_width),
        lambda n, f, y, x: te.sum(
            padded[n, rc, y * t.stride + ry, x * t.stride + rx] * weight[f, rc, ry, rx],
            axis=[rc, ry, rx],
        ),
        name="conv",
    )
    return te.create_prim_func([data, weight, conv])


def schedule(task: Conv2d, values: KnobValues) -> Any:
    """The scheduled module of one config: AutoTVM's direct convolution, with today's primitives.

    A block computes a tile of the output, and its threads a part of that each, in registers.
    Inputs and filters of one step of the outer reduction are fetched into shared memory by all
    threads of the block together; padding is computed on the way.
    """
    sch = Schedule(compute(task))
    conv = sch.get_sblock("conv")
    fetched = [sch.cache_read(conv, operand, "shared") for operand in (0, 1)]
    if task.padding:
        sch.compute_inline(sch.get_sblock("pad"))
    accumulated = sch.cache_write(conv, 0, "local")
    n, f, y, x, rc, ry, rx = sch.get_loops(conv)
    bf, vf, tf, fi = sch.split(f, values["tile_f"])
    by, vy, ty, yi = sch.split(y, values["tile_y"])
    bx, vx, tx, xi = sch.split(x, values["tile_x"])
    rco, rci = sch.split(rc, values["tile_rc"])
    ryo, ryi = sch.split(ry, values["tile_ry"])
    rxo, rxi = sch.split(rx, values["tile_rx"])
    sch.reorder(
        n, bf, by, bx, vf, vy, vx, tf, ty, tx, rco, ryo, rxo, rci, ryi, rxi, fi, yi, xi
    )  # fmt: skip
    block = sch.fuse(n, bf)
    for loops, name in (((block, by, bx), "blockIdx"), ((vf, vy, vx), "vthread")):
        _bind(sch, loops, name)
    _bind(sch, (tf, ty, tx), "threadIdx")
    sch.reverse_compute_at(accumulated, tx)
    for stage in fetched:
        sch.compute_at(stage, rxo, preserve_unit_loops=True)
        together = sch.fuse(*sch.get_loops(stage)[-4:])
        threads = [values[knob][2] for knob in ("tile_f", "tile_y", "tile_x")]
        _bind(sch, sch.split(together, [None, *threads])[1:], "threadIdx")
    sch.annotate(block, "pragma_auto_unroll_max_step", values["auto_unroll_max_step"][0])
    sch.annotate(block, "pragma_unroll_explicit", values["unroll_explicit"][0])
    sch.decompose_reduction(conv, rco)
    return sch.mod


def _bind(sch: Schedule, loops: Any, name: str) -> None:
    """Loops over channels, rows and columns to the z, y and x of blocks or threads."""
    for loop, axis in zip(loops, "zyx", strict=True):
        sch.bind(loop, f"{name}.{axis}")
