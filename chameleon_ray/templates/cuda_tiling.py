"""What Table 1's CUDA knobs mean for the blocks and threads of a direct convolution."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from chameleon_ray.space import Values
from chameleon_ray.tasks import Conv2d

_ALIGNMENT = 64  # bytes; of TVM's arrays in shared memory

Column = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Tiling = dict[str, Column]


def threads(v: Values) -> Integers:
    """Threads of a block, `(n,)`."""
    found: Integers = v["tile_f"][:, 2] * v["tile_y"][:, 2] * v["tile_x"][:, 2]
    return found


def accumulators(v: Values) -> Integers:
    """Outputs that a thread has in hand, `(n,)`: its inner part for each of its virtual threads."""
    f, y, x = (v[axis][:, 1] * v[axis][:, 3] for axis in ("tile_f", "tile_y", "tile_x"))
    found: Integers = f * y * x
    return found


def shared_bytes(task: Conv2d, v: Values) -> Integers:
    """Shared memory of a block, `(n,)`: inputs and filters of a stage, and what aligns them."""
    inputs, filters = _fetched(task, v)
    found: Integers = 4 * inputs + -4 * inputs % _ALIGNMENT + 4 * filters
    return found


def _fetched(task: Conv2d, v: Values) -> tuple[Integers, Integers]:
    """Elements of the input and of the filters that a block fetches at a time."""
    f, y, x = (v[axis][:, 1:].prod(axis=1) for axis in ("tile_f", "tile_y", "tile_x"))
    rc, ry, rx = (v[axis][:, 1] for axis in ("tile_rc", "tile_ry", "tile_rx"))
    rows, columns = (y - 1) * task.stride + ry, (x - 1) * task.stride + rx
    return rc * rows * columns, f * rc * ry * rx


def tiling(task: Conv2d, v: Values) -> Tiling:
    """What the knobs mean on whatever GPU.

    Returns:
        Named columns, float64 `(n,)`: among them `accumulators` of a thread, outputs of a block's
        `tile`, reduction steps of a `stage` and how many `stages` there are, multiply-adds of a
        thread's `body` in one, and the `l2_bytes` that a block reads, in sectors of 32 bytes.
    """
    f, y, x = v["tile_f"], v["tile_y"], v["tile_x"]
    rc, ry, rx = (v[name][:, 1] for name in ("tile_rc", "tile_ry", "tile_rx"))
    outputs = accumulators(v)
    outer = v["tile_rc"][:, 0] * v["tile_ry"][:, 0] * v["tile_rx"][:, 0]
    columns = (x[:, 1:].prod(axis=1) - 1) * task.stride + rx
    stage = rc * ry * rx
    whole = (rx == task.kernel_width) * np.where(ry == task.kernel_height, rc * ry, ry)
    run = rx * np.maximum(whole, 1)  # of filters that stand side by side
    inputs, filters = _fetched(task, v)
    sectors = inputs / columns * np.ceil(columns / 8) + filters / run * np.ceil(run / 8)
    found = {
        "threads": threads(v),
        "vthreads": f[:, 1] * y[:, 1] * x[:, 1],
        "accumulators": outputs,
        "tile": outputs * threads(v),
        "blocks": task.batch * f[:, 0] * y[:, 0] * x[:, 0],
        "stage": stage,
        "stages": outer,
        "body": outputs * stage,
        "shared_bytes": 4 * (inputs + filters),
        "l2_bytes": 32 * sectors * outer,
    }
    return {name: column.astype(np.float64) for name, column in found.items()}


def registers(v: Values) -> Column:
    """Registers that a thread would like, about: accumulators, operands, addresses, `(n,)`."""
    operands = sum(v[axis][:, 1] * v[axis][:, 3] for axis in ("tile_f", "tile_x"))
    found: Column = 22 + accumulators(v) + operands + 6.0 * v["unroll_explicit"][:, 0]
    return found
