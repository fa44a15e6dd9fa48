"""What goes in and what comes out of a layer, in TIR: layouts, padding, epilogues. Imports TVM."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tvm import te, tirx, topi

if TYPE_CHECKING:
    from chameleon_ray.tasks import Conv2d, Step


TASK = "chameleon.task"  # annotates the block `conv` of a layer with the key of its task


def input_shape(task: Conv2d) -> tuple[int, ...]:
    """NCHW, or NCHWc in the task's blocks."""
    return _shape(task.batch, task.in_channels, task.height, task.width, block=task.in_block)


def output_shape(task: Conv2d) -> tuple[int, ...]:
    """Likewise."""
    t = task
    return _shape(t.batch, t.out_channels, t.out_height, t.out_width, block=t.out_block)


def _shape(batch: int, channels: int, height: int, width: int, *, block: int) -> tuple[int, ...]:
    if block == 1:
        return batch, channels, height, width
    return batch, channels // block, height, width, block


def with_padding(data: Any, task: Conv2d, columns: int = 0, rows: int = 0) -> Any:
    """The input with its padding, computed as a block `pad`; itself if it has none.

    Args:
        data: The input.
        task: Whose.
        columns: Of the output that are computed, if they are more than it has.
        rows: Likewise.
    """
    p, height, width = task.padding, task.height, task.width
    below = max(0, rows - task.out_height) * task.stride
    more = max(0, columns - task.out_width) * task.stride
    if not (p or below or more):
        return data
    n, c, _, _, *block = data.shape
    return te.compute(
        (n, c, height + 2 * p + below, width + 2 * p + more, *block),
        lambda n, c, y, x, *lane: tirx.if_then_else(
            tirx.all(y >= p, y < height + p, x >= p, x < width + p),
            data[n, c, y - p, x - p, *lane],
            tirx.const(0.0, task.dtype),
        ),
        name="pad",
    )


def after_epilogue(out: Any, task: Conv2d) -> tuple[list[Any], Any]:
    """What the steps of an epilogue take, and what is left of an output after them."""
    _, c, _, _, *block = out.shape
    shapes = {"bias": (1, c, 1, 1, *block), "add": out.shape}
    others = []
    for name in task.epilogue:
        if name in shapes:
            others.append(te.placeholder(shapes[name], name=name))
        out = _after(name, out, others[-1] if name in shapes else None)
    return others, out


def _after(name: Step, before: Any, other: Any) -> Any:
    zero, one, six = (tirx.const(number, before.dtype) for number in (0.0, 1.0, 6.0))
    exponential: Any = topi.fast_exp(topi.negative(before)) if name == "silu" else None

    def step(n: Any, f: Any, y: Any, x: Any, *lane: Any) -> Any:
        number = before[n, f, y, x, *lane]
        match name:
            case "bias":
                return number + other[0, f, 0, 0, *lane]
            case "add":
                return number + other[n, f, y, x, *lane]
            case "relu":
                return te.max(number, zero)
            case "clip6":
                return te.min(te.max(number, zero), six)
            case "silu":
                return number / (one + exponential[n, f, y, x, *lane])

    return te.compute(before.shape, step, name=f"after_{name}")


def last_of_epilogue(sch: Any) -> Any:
    """The last block that the output `out` goes through, the others inlined into it."""
    last = sch.get_sblock("out")
    while consumers := sch.get_consumers(last):
        last = consumers[-1]
    while between := [b for b in sch.get_producers(last) if not _of_layer(sch, b)]:
        sch.compute_inline(between[0])
    return last


def _of_layer(sch: Any, block: Any) -> bool:
    """Whether a template made it, which calls what comes before `out` so."""
    name: str = sch.get(block).name_hint
    return name.startswith("conv")
