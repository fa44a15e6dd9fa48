"""Filters to time a kernel with: as many as come from memory, as they do inside a network.

A network reads all of its filters between two executions of a layer; a layer that is executed over
and over keeps its own in a cache. So each execution gets the next ones of a pool that no cache of
a core holds. Their values are of no meaning for the time.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]

_POOL = 1 << 24  # numbers: 64 MiB, as of a network like ResNet-18
_DRAWN = 1 << 18  # of those, that differ
_MOST = 64  # copies; small filters are of little weight
_LINE = 16  # numbers of a cache line, at which each begins


def cold(shape: Sequence[int]) -> list[Array]:
    """Filters of a shape, which share no memory; one, if it is larger than the whole pool."""
    size = int(np.prod(shape))
    stride = -(-size // _LINE) * _LINE
    pool = _pool(max(_POOL, 2 * stride if stride <= _POOL else stride))
    copies = min(_MOST, len(pool) // stride)
    return [pool[at : at + size].reshape(shape) for at in range(0, copies * stride, stride)]


@lru_cache(maxsize=1)
def _pool(numbers: int) -> Array:
    """Normal numbers, the first at the beginning of a cache line."""
    drawn = np.random.default_rng(0).standard_normal(_DRAWN, dtype=np.float32)
    room: Array = np.empty(numbers + _LINE, dtype=np.float32)
    skipped = -(room.ctypes.data // room.itemsize) % _LINE
    pool = room[skipped : skipped + numbers]
    pool[:] = np.resize(drawn, numbers)
    return pool
