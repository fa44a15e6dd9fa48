"""Depthwise convolution on a CPU: a filter for each channel, so there is little to compute.

Activations are NCHWc, in blocks of as many channels as a vector has lanes; filters are packed to
`(C / lanes, 1, KH, KW, lanes)`.

    tile_c          blocks of channels: in parallel, and inside a chunk
    tile_y, tile_x  rows in parallel, inside a chunk, and of a register tile; columns likewise,
                    without those in parallel
    pad             the padded input is computed whole beforehand (0), or each chunk's within it (1)
    unroll          whether the window of a filter is unrolled
"""

from __future__ import annotations

from functools import partial

import numpy as np
import numpy.typing as npt

from chameleon_ray.space import (
    Configs,
    DesignSpace,
    Values,
    options,
    split,
)
from chameleon_ray.tasks import Conv2d, Target
from chameleon_ray.templates.cpu_roofline import draft_window_speed
from chameleon_ray.templates.cpu_tiling import (
    Integers,
    at_most,
    columns_of,
    tile_of,
    tile_of_at_most,
)

_VERSION = "cpu_depthwise/1"
_MOST_ACCUMULATORS = 32
_ACCUMULATORS = 7  # of the default (`benchmarks/defaults.py`)
_FARTHER = 4  # times a byte from memory, in those of a cache


def version(_target: Target) -> str:
    """Changes whenever a config may stand for other code than before."""
    return _VERSION


def design_space(task: Conv2d, target: Target) -> DesignSpace:
    """The space of one depthwise convolution."""
    return DesignSpace(
        f"{_VERSION}:{task.key}:{target.lanes}x{target.cores}",
        (
            split("tile_c", task.out_channels // task.block, 2),
            split("tile_y", task.out_height, 3),
            split("tile_x", columns_of(task), 2),
            options("pad", (0, 1) if task.padding else (0,), ordered=False),
            options("unroll", (0, 1)),
        ),
        constraints=(tile_of_at_most(_MOST_ACCUMULATORS, _register_tile),),
        derive=partial(_derive, task, target),
        draft=partial(_draft, task, target),
    )


def _register_tile(values: Values) -> Integers:
    tile: Integers = values["tile_y"][:, 2] * values["tile_x"][:, 1]
    return tile


def _derive(task: Conv2d, target: Target, values: Values) -> dict[str, npt.NDArray[np.float64]]:
    """Tiles, what they read, and how they are spread over cores."""
    c, y, x = values["tile_c"], values["tile_y"], values["tile_x"]
    window = task.kernel_height * task.kernel_width
    rows = (y[:, 2] - 1) * task.stride + task.kernel_height
    columns = (x[:, 1] - 1) * task.stride + task.kernel_width
    chunk_rows = (y[:, 1] * y[:, 2] - 1) * task.stride + task.kernel_height
    chunks = task.batch * c[:, 0] * y[:, 0]
    tile = _register_tile(values)
    found = {
        "register_tile": tile,
        "fma_per_load": 16.0 * tile * window / (rows * columns + window),
        "chunk_input_bytes": 4.0 * task.block * c[:, 1] * chunk_rows * task.width,
        "chunk_output_bytes": 4.0 * task.block * c[:, 1] * y[:, 1] * y[:, 2] * task.out_width,
        "parallel_chunks": chunks,
        "imbalance": 1024.0 * np.ceil(chunks / target.cores) * target.cores / chunks,
        "padded_twice": 1024.0 * y[:, 0] * chunk_rows / (task.height + 2 * task.padding),
    }
    return {name: column.astype(np.float64) for name, column in found.items()}


def _draft(task: Conv2d, target: Target, values: Values) -> npt.NDArray[np.float64]:
    """Padding is another pass over the input, or one of each chunk over what it reads."""
    columns = _derive(task, target, values)
    inside, vector = values["pad"][:, 0] == 1, 4.0 * task.block
    chunks = columns["padded_twice"] / 1024 if task.padding else np.zeros(len(inside))
    whole = 2.0 * (_FARTHER if task.padding else 0)
    moved = vector * (1 + task.stride**2 * np.where(inside, 2 * chunks, whole))
    return draft_window_speed(
        columns,
        window=task.kernel_height * task.kernel_width,
        moved=moved,
        unrolled=values["unroll"][:, 0] == 1,
        target=target,
    )


def default_config(task: Conv2d, target: Target) -> Configs:
    """What an expert would write down: a block of channels at a time, a tile that fits registers.

    `(knobs,)`.
    """
    del target
    columns = columns_of(task)
    x = tile_of(columns, _ACCUMULATORS)
    y = at_most(task.out_height, max(1, _ACCUMULATORS // x))
    return design_space(task, Target()).config(
        {
            "tile_c": (task.out_channels // task.block, 1),
            "tile_y": (1, task.out_height // y, y),
            "tile_x": (columns // x, x),
            "pad": (1 if task.padding else 0,),
            "unroll": (1,),
        }
    )
