"""The TIR that the knobs of `cpu_conv2d` stand for. Imports TVM."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tvm import te, tirx, topi
from tvm.s_tir import Schedule

from chameleon_ray.templates.cpu_conv2d import filter_vectors
from chameleon_ray.templates.padding import with_padding

if TYPE_CHECKING:
    from chameleon_ray.space import KnobValues
    from chameleon_ray.tasks import Conv2d, Step, Target


TASK = "chameleon.task"  # annotates the block of a convolution with the key of its task


def compute(task: Conv2d, target: Target) -> Any:
    """A task as a PrimFunc: `(N,C,H,W), (F/lanes,C,KH,KW,lanes), ... -> (N,F,OH,OW)`.

    Between filters and output, it takes what the steps of the epilogue take.
    """
    t, vectors = task, filter_vectors(task, target)
    data = te.placeholder((t.batch, t.in_channels, t.height, t.width), name="data")
    weight = te.placeholder(
        (vectors, t.in_channels, t.kernel_height, t.kernel_width, target.lanes), name="weight"
    )
    others, out = _after_epilogue(convolution(data, weight, task, target), task)
    return te.create_prim_func([data, weight, *others, out])


def convolution(data: Any, weight: Any, task: Conv2d, target: Target) -> Any:
    """The output of a convolution, of filters as `cpu_conv2d.packed` has them, as a TE tensor."""
    t, lanes = task, target.lanes
    padded = with_padding(data, task)
    rc = te.reduce_axis((0, t.in_channels), name="rc")
    ry = te.reduce_axis((0, t.kernel_height), name="ry")
    rx = te.reduce_axis((0, t.kernel_width), name="rx")
    conv = te.compute(
        (t.batch, filter_vectors(task, target), t.out_height, t.out_width, lanes),
        lambda n, f, y, x, lane: te.sum(
            padded[n, rc, y * t.stride + ry, x * t.stride + rx] * weight[f, rc, ry, rx, lane],
            axis=[rc, ry, rx],
        ),
        name="conv",
        attrs={TASK: task.key},
    )
    return te.compute(
        (t.batch, t.out_channels, t.out_height, t.out_width),
        lambda n, f, y, x: conv[n, f // lanes, y, x, f % lanes],
        name="out",
    )


def _after_epilogue(out: Any, task: Conv2d) -> tuple[list[Any], Any]:
    """What the steps of an epilogue take, and what is left after them."""
    shapes = {"bias": (1, task.out_channels, 1, 1), "add": out.shape}
    others = []
    for name in task.epilogue:
        if name in shapes:
            others.append(te.placeholder(shapes[name], name=name))
        out = _after(name, out, others[-1] if name in shapes else None)
    return others, out


def _after(name: Step, before: Any, other: Any) -> Any:
    zero, one, six = (tirx.const(number, before.dtype) for number in (0.0, 1.0, 6.0))
    exponential = topi.fast_exp(topi.negative(before)) if name == "silu" else None  # in vectors

    def step(n: Any, f: Any, y: Any, x: Any) -> Any:
        number = before[n, f, y, x]
        match name:
            case "bias":
                return number + other[0, f, 0, 0]
            case "add":
                return number + other[n, f, y, x]
            case "relu":
                return te.max(number, zero)
            case "clip6":
                return te.min(te.max(number, zero), six)
            case "silu":
                return number / (one + exponential[n, f, y, x])

    return te.compute(before.shape, step, name=f"after_{name}")


def schedule(task: Conv2d, target: Target, values: KnobValues) -> Any:
    """The scheduled module of one config."""
    sch = Schedule(compute(task, target))
    apply(sch, values)
    return sch.mod


def apply(sch: Any, values: KnobValues) -> None:
    """Schedule a function that has one convolution, and perhaps what is done with its output.

    Chunks of `n, f0, y0, x0` run in parallel; a register tile of `f2 * y2 * x2` vectors is
    accumulated over the inner reduction, and written out when its reduction is complete: by then
    the rest is done with it, bias and activation and whatever else was fused.
    """
    conv = sch.get_sblock("conv")
    out = _fused(sch)
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
    if sch.get_producers(conv):
        batch, channel, row, column = sch.get_loops(sch.get_sblock("pad"))
        sch.parallel(sch.fuse(batch, channel, row))
        sch.vectorize(column)
    sch.vectorize(lane)
    sch.annotate(chunk, "pragma_auto_unroll_max_step", values["auto_unroll_max_step"][0])
    sch.annotate(chunk, "pragma_unroll_explicit", values["unroll_explicit"][0])
    sch.decompose_reduction(conv, rc0)


def _fused(sch: Any) -> Any:
    """The last block that the output goes through, the others inlined into it."""
    last = sch.get_sblock("out")
    while consumers := sch.get_consumers(last):
        last = consumers[-1]
    conv = sch.get_sblock("conv")
    while between := [b for b in sch.get_producers(last) if not sch.get(b).same_as(sch.get(conv))]:
        sch.compute_inline(between[0])
    return last
