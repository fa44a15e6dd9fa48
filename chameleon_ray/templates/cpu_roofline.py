"""How fast a config should be on a CPU, by what limits a core: a draft before anything is measured.

The kernel sums a tile of vectors in registers. One step of that sum multiplies `loads` operands
into `register_tile` accumulators, and takes the longest of

    multiply-adds  two a cycle, but an accumulator is ready again only after four cycles
    loads          two a cycle
    spilling       a cycle for each accumulator that finds no register

and its share of what surrounds it: accumulators that are read and written once for each inner
reduction, the loop where it is not unrolled, and operands that do not fit a cache. Cores wait for
the one that has most to do. A draft tells good from bad, and not best from good.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from chameleon_ray.space import Values
from chameleon_ray.tasks import Target

Column = npt.NDArray[np.float64]

_PER_CYCLE = 2  # multiply-adds, and loads, of whole vectors
_LATENCY = 4  # cycles of a multiply-add
_OPERANDS = 2  # registers that accumulators cannot have
_LOOP_CYCLES = 2.0
_L1_BYTES, _L1_MISS = 32e3, 32.0  # bytes a cycle from the next cache
_L2_BYTES, _L2_MISS = 1e6, 16.0


def draft_speed(columns: Mapping[str, Column], values: Values, target: Target) -> Column:
    """The logarithm of the speed that is expected, up to a constant, float64 `(n,)`.

    Args:
        columns: Of n configs, as the templates derive them: `register_tile`, `fma_per_load` in
            sixteenths, `body` (multiply-adds between two ends of the inner reduction), bytes of
            the inner operands and of a chunk's, and `imbalance` in 1024ths.
        values: Of their knobs; `auto_unroll_max_step` is looked at.
        target: Its lanes tell how many registers there are.
    """
    tile, body = columns["register_tile"], columns["body"]
    multiply = np.maximum(tile / _PER_CYCLE, _LATENCY)
    load = 16.0 * tile / columns["fma_per_load"] / _PER_CYCLE
    rolled = body > np.maximum(values["auto_unroll_max_step"][:, 0], 1)
    inner = columns["inner_weight_bytes"] + columns["inner_input_bytes"]
    chunk = columns["chunk_weight_bytes"] + columns["chunk_input_bytes"]
    around = (
        2 * tile / _PER_CYCLE
        + np.where(inner > _L1_BYTES, inner / _L1_MISS, 0)
        + np.where(chunk > _L2_BYTES, inner / _L2_MISS, 0)
    )
    step = np.maximum(multiply, load) + _spilled(tile, target) + _LOOP_CYCLES * rolled
    return _speed(step + around * tile / body, columns)


def draft_window_speed(
    columns: Mapping[str, Column],
    *,
    window: int,
    moved: Column,
    unrolled: npt.NDArray[np.bool_],
    target: Target,
) -> Column:
    """The same of a depthwise convolution: a sum over a window, and little work for each byte.

    Args:
        columns: Of n configs, as the template derives them.
        window: Elements of a filter.
        moved: Bytes that are read and written for each vector of outputs besides the window, each
            from where it lies, in bytes of the next cache, `(n,)`.
        unrolled: Whether the window is: what two of its elements read is loaded once, `(n,)`.
        target: Its lanes tell how many registers there are.
    """
    tile = columns["register_tile"]
    multiply = window * np.maximum(tile / _PER_CYCLE, _LATENCY)
    once = 16.0 * tile * window / columns["fma_per_load"]
    load = np.where(unrolled, once, window * (tile + 1)) / _PER_CYCLE
    steps = np.maximum(multiply, load) + window * _spilled(tile, target)
    rolled = np.where(unrolled, 0, _LOOP_CYCLES * window)
    return _speed(steps + rolled + tile * moved / _L1_MISS, columns)


def _spilled(tile: Column, target: Target) -> Column:
    registers = 16 if target.lanes == 8 else 32
    found: Column = np.maximum(0, tile + _OPERANDS - registers)
    return found


def _speed(cycles: Column, columns: Mapping[str, Column]) -> Column:
    balance = np.maximum(1, columns["imbalance"] / 1024)
    speed: Column = -np.log(cycles / columns["register_tile"] * balance)
    return speed
