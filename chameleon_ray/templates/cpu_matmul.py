"""Products of matrices on a CPU: dense layers, and those of attention.

The right side is packed to `(columns / lanes, inner, lanes)`, so that one vector register holds
`lanes` columns: weights once, offline; what changes from one execution to the next, by the kernel
itself. Columns that are no multiple of the lanes are padded with zeros.

    tile_m      rows: in parallel, inside a chunk, and of a register tile
    tile_n      vectors of columns, likewise
    tile_k      what is summed: outside, and inside
    pack        the left side is read as it is (0), or copied first to `(rows / tile, inner, tile)`
                (1), so that what a register tile reads lies side by side
    inner       inside a chunk, tiles of rows (0) or of columns (1) follow one another
    auto_unroll_max_step
"""

from __future__ import annotations

import itertools
from functools import partial

import numpy as np
import numpy.typing as npt

from chameleon_ray.space import Configs, DesignSpace, Values, options, split
from chameleon_ray.tasks import Matmul, Target
from chameleon_ray.templates.cpu_roofline import draft_speed
from chameleon_ray.templates.cpu_tiling import (
    Integers,
    at_most,
    divisors,
    evenly_cut,
    in_chunks,
    tile_of_at_most,
)

_VERSION = "cpu_matmul/1"
_MOST_ACCUMULATORS = 64
_ACCUMULATORS = 14  # of the default
_UNROLL_STEPS = (0, 16, 64, 256)
_CHUNKS = 4  # of the default, for each core


def version(_target: Target) -> str:
    """Changes whenever a config may stand for other code than before."""
    return _VERSION


def rows_of(task: Matmul) -> int:
    """Rows that are computed: more than there are where those cannot be cut evenly."""
    return evenly_cut(task.rows)


def vectors_of(task: Matmul, target: Target) -> int:
    """Vectors that hold the columns of a row."""
    return -(-task.columns // target.lanes)


def packed(weight: npt.NDArray[np.float32], lanes: int) -> npt.NDArray[np.float32]:
    """Weights `(inner, columns)` as the template has them, `(columns / lanes, inner, lanes)`."""
    padded = np.pad(weight, ((0, 0), (0, -weight.shape[1] % lanes)))
    vectors = padded.reshape(len(weight), -1, lanes)
    return np.ascontiguousarray(vectors.transpose(1, 0, 2))


def design_space(task: Matmul, target: Target) -> DesignSpace:
    """The space of one product."""
    return DesignSpace(
        f"{_VERSION}:{task.key}:{target.lanes}x{target.cores}",
        (
            split("tile_m", rows_of(task), 3),
            split("tile_n", vectors_of(task, target), 3),
            split("tile_k", task.inner, 2),
            options("pack", (0, 1), ordered=False),
            options("inner", (0, 1), ordered=False),
            options("auto_unroll_max_step", _UNROLL_STEPS),
        ),
        constraints=(tile_of_at_most(_MOST_ACCUMULATORS, _register_tile),),
        derive=partial(_derive, task, target),
        draft=partial(_draft, task, target),
    )


def _register_tile(values: Values) -> Integers:
    tile: Integers = values["tile_m"][:, 2] * values["tile_n"][:, 2]
    return tile


def _derive(task: Matmul, target: Target, values: Values) -> dict[str, npt.NDArray[np.float64]]:
    """Tiles, what they read, and how they are spread over cores."""
    m, n, k = values["tile_m"], values["tile_n"], values["tile_k"]
    tile, lanes = _register_tile(values), target.lanes
    chunks = task.batch * m[:, 0] * n[:, 0]
    found = {
        "register_tile": tile,
        "fma_per_load": 16.0 * tile / (m[:, 2] + n[:, 2]),
        "inner_input_bytes": 4.0 * k[:, 1] * m[:, 2],
        "inner_weight_bytes": 4.0 * lanes * k[:, 1] * n[:, 2],
        "panel_bytes": 4.0 * lanes * task.inner * n[:, 2],
        "chunk_input_bytes": 4.0 * task.inner * m[:, 1] * m[:, 2],
        "chunk_weight_bytes": 4.0 * lanes * task.inner * n[:, 1] * n[:, 2],
        "parallel_chunks": chunks,
        "imbalance": 1024.0 * np.ceil(chunks / target.cores) * target.cores / chunks,
        "body": k[:, 1] * tile,
    }
    return {name: column.astype(np.float64) for name, column in found.items()}


def _draft(task: Matmul, target: Target, values: Values) -> npt.NDArray[np.float64]:
    return draft_speed(_derive(task, target, values), values, target)


def default_config(task: Matmul, target: Target) -> Configs:
    """What an expert would write down without measuring, `(knobs,)`.

    A register tile of at most 14 vectors that takes few loads for what it computes, all rows of a
    chunk by one panel of weights after the other, and a few chunks for each core.
    """
    rows, vectors = rows_of(task), vectors_of(task, target)
    tiles = [
        (m, n)
        for m, n in itertools.product(divisors(rows), divisors(vectors))
        if m * n <= _ACCUMULATORS and (n <= _ACCUMULATORS // 3 or task.rows == 1)
    ]
    m2, n2 = max(tiles, key=lambda tile: (tile[0] * tile[1]) / (tile[0] + tile[1]))
    n0, m0 = in_chunks(vectors // n2, rows // m2, _CHUNKS * target.cores / task.batch)
    inner = at_most(task.inner, _UNROLL_STEPS[1])
    return design_space(task, target).config(
        {
            "tile_m": (m0, rows // m2 // m0, m2),
            "tile_n": (n0, vectors // n2 // n0, n2),
            "tile_k": (task.inner // inner, inner),
            "pack": (1 if task.rows > m2 else 0,),
            "inner": (0,),
            "auto_unroll_max_step": (64,),
        }
    )
