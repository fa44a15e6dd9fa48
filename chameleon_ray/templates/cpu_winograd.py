"""Winograd's convolution on a CPU: filters of 3x3 with fewer multiplications.

F(m x m, 3 x 3) of Lavin and Gray (2016): tiles of the input, `m + 2` on a side, are transformed,
each of their `(m + 2)^2` points is a product of matrices (filters x channels, channels x tiles),
and the products are transformed back. Activations are NCHWc in blocks of as many channels as a
vector has lanes; filters are transformed before, to `(m + 2, m + 2, F / lanes, C, lanes)`.

    tile_f      vectors of filters: in parallel (with the points), inside, and of a register tile
    tile_t      tiles: outside, inside, and of a register tile
    tile_rc     channels: outside, and inside
    auto_unroll_max_step    of the product
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
from chameleon_ray.tasks import Conv2d, Form, Target
from chameleon_ray.templates.cpu_roofline import draft_speed
from chameleon_ray.templates.cpu_tiling import Integers, at_least, at_most, tile_of, tile_of_at_most

Matrix = npt.NDArray[np.float64]

SIDES: dict[Form, int] = {"winograd2": 2, "winograd4": 4}  # m

_VERSION = "cpu_winograd/1"
_FILTER = 3
_MOST_ACCUMULATORS = 64
_TILES_AT_ONCE = 7  # of the default, in a register tile
_CHANNELS = 4  # likewise, summed in it
_CHUNKS = 4  # likewise, for each core
_EVEN = range(4, 15)  # one of these has to divide the tiles
_PRODUCT = 1.3  # a multiply-add of a product of matrices, in those of a direct convolution
_READING = 25.0  # a weight from memory, likewise
_TRANSFORMING = 25.0  # a number of a tile, likewise
_UNROLL_STEPS = (0, 16, 64, 256)

_TILES = {
    2: [[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]],
    4: [
        [4, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
    ],
}
_FILTERS = {
    2: [[1, 0, 0], [1 / 2, 1 / 2, 1 / 2], [1 / 2, -1 / 2, 1 / 2], [0, 0, 1]],
    4: [
        [1 / 4, 0, 0],
        [-1 / 6, -1 / 6, -1 / 6],
        [-1 / 6, 1 / 6, -1 / 6],
        [1 / 24, 1 / 12, 1 / 6],
        [1 / 24, -1 / 12, 1 / 6],
        [0, 0, 1],
    ],
}
_OUTPUTS = {
    2: [[1, 1, 1, 0], [0, 1, -1, -1]],
    4: [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]],
}


def matrices(side: int) -> tuple[Matrix, Matrix, Matrix]:
    """`B^T`, `G` and `A^T` of F(side x side, 3 x 3): of inputs, filters and outputs."""
    return (
        np.array(_TILES[side], float),
        np.array(_FILTERS[side], float),
        np.array(_OUTPUTS[side], float),
    )


def tiles_of(task: Conv2d) -> tuple[int, int]:
    """Tiles along rows and along columns of the output."""
    side = SIDES[task.form]
    return -(-task.out_height // side), -(-task.out_width // side)


def fits(task: Conv2d) -> bool:
    """Whether a task of such a form can be computed so."""
    rows, columns = tiles_of(task)
    plain = task.kernel_height == task.kernel_width == _FILTER and task.stride == task.groups == 1
    in_blocks = task.block > 1 and not task.nchw
    return plain and in_blocks and any(task.batch * rows * columns % n == 0 for n in _EVEN)


def cost(task: Conv2d) -> float:
    """About how long a task takes in its form, in multiply-adds of the direct one; it ranks.

    What is multiplied, tiles that stick out included; reading the filters, which come from memory
    where a whole network is run; transforming inputs and outputs.
    """
    filters = task.in_channels * task.out_channels
    if task.form == "direct":
        window = task.kernel_height * task.kernel_width
        pixels = task.batch * task.out_height * task.out_width
        return filters * window * (pixels + _READING)
    side, (rows, columns) = SIDES[task.form], tiles_of(task)
    points, tiles = (side + _FILTER - 1) ** 2, task.batch * rows * columns
    channels = task.in_channels + task.out_channels
    multiplied = filters * points * (tiles * _PRODUCT + _READING)
    return multiplied + channels * points * tiles * _TRANSFORMING


def packed(weight: npt.NDArray[np.float32], task: Conv2d) -> npt.NDArray[np.float32]:
    """Filters `(F, C, 3, 3)`, transformed, as the template has them."""
    _, g, _ = matrices(SIDES[task.form])
    points = np.einsum("ai,fcij,bj->abfc", g, weight.astype(np.float64), g)
    a, b, f, c = points.shape
    vectors = points.reshape(a, b, f // task.block, task.block, c).transpose(0, 1, 2, 4, 3)
    return np.ascontiguousarray(vectors, dtype=np.float32)


def version(_target: Target) -> str:
    """Changes whenever a config may stand for other code than before."""
    return _VERSION


def design_space(task: Conv2d, target: Target) -> DesignSpace:
    """The space of one convolution in such a form."""
    rows, columns = tiles_of(task)
    return DesignSpace(
        f"{_VERSION}:{task.key}:{target.lanes}x{target.cores}",
        (
            split("tile_f", task.out_channels // task.block, 3),
            split("tile_t", task.batch * rows * columns, 3),
            split("tile_rc", task.in_channels, 2),
            options("auto_unroll_max_step", _UNROLL_STEPS),
        ),
        constraints=(tile_of_at_most(_MOST_ACCUMULATORS, _register_tile),),
        derive=partial(_derive, task, target),
        draft=partial(_draft, task, target),
    )


def _register_tile(values: Values) -> Integers:
    tile: Integers = values["tile_f"][:, 2] * values["tile_t"][:, 2]
    return tile


def _derive(task: Conv2d, target: Target, values: Values) -> dict[str, npt.NDArray[np.float64]]:
    """Tiles of the product, what they read, and how they are spread over cores."""
    f, t, c = values["tile_f"], values["tile_t"], values["tile_rc"]
    chunks = (SIDES[task.form] + _FILTER - 1) ** 2 * f[:, 0]
    tile = _register_tile(values)
    found = {
        "register_tile": tile,
        "fma_per_load": 16.0 * tile / (f[:, 2] + t[:, 2]),
        "inner_input_bytes": 4.0 * c[:, 1] * t[:, 2],
        "inner_weight_bytes": 4.0 * task.block * c[:, 1] * f[:, 2],
        "chunk_weight_bytes": 4.0 * task.block * task.in_channels * f[:, 1] * f[:, 2],
        "tile_input_bytes": 4.0 * task.in_channels * t[:, 1] * t[:, 2],
        "parallel_chunks": chunks,
        "imbalance": 1024.0 * np.ceil(chunks / target.cores) * target.cores / chunks,
        "body": c[:, 1] * tile,
    }
    return {name: column.astype(np.float64) for name, column in found.items()}


def _draft(task: Conv2d, target: Target, values: Values) -> npt.NDArray[np.float64]:
    """Of the product alone: the transforms are the same for all."""
    columns = _derive(task, target, values)
    columns["chunk_input_bytes"] = columns["tile_input_bytes"]
    return draft_speed(columns, values, target)


def default_config(task: Conv2d, target: Target) -> Configs:
    """What an expert would write down without measuring, `(knobs,)`.

    A vector of filters at a time, by few tiles and few channels, over all filters of a chunk: the
    best of many such rules, on AVX-512 and on AVX2 (`benchmarks/defaults.py --kind winograd`).
    """
    side, (rows, columns) = SIDES[task.form], tiles_of(task)
    vectors, tiles = task.out_channels // task.block, task.batch * rows * columns
    t2 = tile_of(tiles, _TILES_AT_ONCE)
    f0 = at_least(vectors, _CHUNKS * target.cores / (side + _FILTER - 1) ** 2)
    channels = at_most(task.in_channels, _CHANNELS)
    return design_space(task, target).config(
        {
            "tile_f": (f0, vectors // f0, 1),
            "tile_t": (tiles // t2, 1, t2),
            "tile_rc": (task.in_channels // channels, channels),
            "auto_unroll_max_step": (64,),
        }
    )
