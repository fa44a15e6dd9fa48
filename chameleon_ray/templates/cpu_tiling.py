"""What the templates for a CPU have in common: register tiles, and how extents are cut."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from chameleon_ray.space import BoolArray, Constraint, KnobValues, Values
from chameleon_ray.tasks import Conv2d, Target

Integers = npt.NDArray[np.int64]

_LEAST = 4  # accumulators that hide some of the latency of an FMA
_NARROW = 16  # columns, and fewer, are a tile by themselves


def tile_of_at_most(vectors: int, tile: Callable[[Values], Integers]) -> Constraint:
    """Beyond any register file, the accumulators spill at every step.

    Args:
        vectors: So many at most.
        tile: How many a config has.
    """
    return Constraint(
        name=f"register tile of at most {vectors} vectors", holds=partial(_holds, vectors, tile)
    )


def _holds(vectors: int, tile: Callable[[Values], Integers], values: Values) -> BoolArray:
    fits: BoolArray = tile(values) <= vectors
    return fits


def filter_vectors(task: Conv2d, target: Target) -> int:
    """Vectors that hold the filters of one input channel."""
    return -(-task.out_channels // target.lanes)


def columns_of(task: Conv2d) -> int:
    """Columns of the output that are computed: more than it has where that cannot be cut evenly.

    Such as 110 for 109, of which the last is thrown away.
    """
    return evenly_cut(task.out_width)


def evenly_cut(extent: int) -> int:
    """The least extent from this one on that register tiles divide: of 4 to 15, or all of it."""
    return next(n for n in itertools.count(extent) if n < _NARROW or _has_even_cut(n))


def _has_even_cut(extent: int) -> bool:
    return any(extent % part == 0 for part in range(_NARROW // 4, _NARROW))


def unroll(sch: Any, chunk: Any, values: KnobValues) -> None:
    """Unroll what is inside a chunk, up to `auto_unroll_max_step`; TVM does, or LLVM may."""
    (explicit,) = values.get("unroll_explicit", (1,))
    sch.annotate(chunk, "pragma_auto_unroll_max_step", values["auto_unroll_max_step"][0])
    sch.annotate(chunk, "pragma_unroll_explicit", explicit)


def sum_in_registers(sch: Any, block: Any, tile: Sequence[Any], lane: Any, *, since: Any) -> None:
    """A tile of vectors, summed up from the loop `since` on."""
    for loop in tile:
        sch.unroll(loop)
    sch.vectorize(lane)
    sch.decompose_reduction(block, since)


def divisors(number: int) -> list[int]:
    """Of a number, in order."""
    return [d for d in range(1, number + 1) if number % d == 0]


def at_most(extent: int, most: int) -> int:
    """The largest divisor of an extent that is no more than that."""
    return max(d for d in divisors(extent) if d <= most)


def at_least(extent: int, least: float) -> int:
    """The smallest divisor of an extent that is no less than that; all of it, if none is."""
    return next((d for d in divisors(extent) if d >= least), extent)


def tile_of(extent: int, most: int) -> int:
    """The largest divisor of an extent up to so many; up to twice as many, if that is too few."""
    tile = at_most(extent, most)
    return tile if tile >= _LEAST else at_most(extent, 2 * most)


def in_chunks(first: int, second: int, wanted: float) -> tuple[int, int]:
    """How many chunks two extents are cut into, together at least so many, or all there can be.

    The second is cut only where the first is not enough.
    """
    ours = at_least(first, wanted)
    return ours, at_least(second, wanted / ours)
