"""What goes in and what comes out of a layer, in TIR: layouts, padding, epilogues. Imports TVM."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tvm import te, tirx, topi

from chameleon_ray.tasks import Matmul

if TYPE_CHECKING:
    from chameleon_ray.tasks import Conv2d, LayerTask, Step


TASK = "chameleon.task"  # annotates the block `conv` of a layer with the key of its task


def input_shape(task: LayerTask) -> tuple[int, ...]:
    """NCHW, or NCHWc in the task's blocks; of a product, `(rows, inner)` after its batch."""
    return _in_blocks(task.input_shape, task.in_block)


def output_shape(task: LayerTask) -> tuple[int, ...]:
    """As of inputs."""
    return _in_blocks(task.output_shape, task.out_block)


def _in_blocks(shape: tuple[int, ...], block: int) -> tuple[int, ...]:
    if block == 1:
        return shape
    batch, channels, height, width = shape
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


def after_epilogue(out: Any, task: LayerTask) -> tuple[list[Any], Any]:
    """What the steps of an epilogue take, and what is left of an output after them."""
    of_columns = isinstance(task, Matmul)
    bias = out.shape[-1:] if of_columns else (1, out.shape[1], 1, 1, *out.shape[4:])
    shapes = {"bias": bias, "add": out.shape}
    others = []
    for name in task.epilogue:
        if name in shapes:
            others.append(te.placeholder(shapes[name], name=name))
        out = _after(name, out, others[-1] if name in shapes else None)
    return others, out


def _after(name: Step, before: Any, other: Any) -> Any:
    zero, half, one, six = (tirx.const(number, before.dtype) for number in (0.0, 0.5, 1.0, 6.0))
    exponential: Any = topi.fast_exp(topi.negative(before)) if name == "silu" else None
    share: Any = (
        topi.fast_erf(before * tirx.const(0.5**0.5, before.dtype)) if name == "gelu" else None
    )

    def step(*at: Any) -> Any:
        number = before[at]
        match name:
            case "bias":
                of_column = len(other.shape) == 1
                return number + other[at[-1] if of_column else (0, at[1], 0, 0, *at[4:])]
            case "add":
                return number + other[at]
            case "relu":
                return te.max(number, zero)
            case "clip6":
                return te.min(te.max(number, zero), six)
            case "silu":
                return number / (one + exponential[at])
            case "gelu":
                return number * half * (one + share[at])

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
