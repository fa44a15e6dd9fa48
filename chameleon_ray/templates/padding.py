"""The zeros around an input, in TIR. Imports TVM."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tvm import te, tirx

if TYPE_CHECKING:
    from chameleon_ray.tasks import Conv2d


def with_padding(data: Any, task: Conv2d) -> Any:
    """The input `(N,C,H,W)` with its padding, computed as a block `pad`; itself if it has none."""
    p, height, width = task.padding, task.height, task.width
    if not p:
        return data
    return te.compute(
        (task.batch, task.in_channels, height + 2 * p, width + 2 * p),
        lambda n, c, y, x: tirx.if_then_else(
            tirx.all(y >= p, y < height + p, x >= p, x < width + p),
            data[n, c, y - p, x - p],
            tirx.const(0.0, task.dtype),
        ),
        name="pad",
    )
