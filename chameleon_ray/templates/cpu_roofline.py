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

from chameleon_ray.tasks import Target

Column = npt.NDArray[np.float64]

_PER_CYCLE = 2  # multiply-adds, and loads, of whole vectors
_LATENCY = 4  # cycles of a multiply-add
_OPERANDS = 2  # registers that accumulators cannot have
_LOOP_CYCLES = 2.0
_L1_BYTES, _L1_MISS = 32e3, 32.0  # bytes a cycle from the next cache
_L2_BYTES, _L2_MISS = 1e6, 16.0


def draft_speed(columns: Mapping[str, Column], target: Target) -> Column:
    """The logarithm of the speed that is expected, up to a constant, float64 `(n,)`.

    Args:
        columns: Of n configs, derived as `cpu_conv2d` and `cpu_matmul` do: `register_tile`,
            `fma_per_load` in sixteenths, `reduction_tile`, bytes of the inner operands and of a
            chunk's, `unrolled_body` and `body`, and `imbalance` in 1024ths.
        target: Its lanes tell how many registers there are.
    """
    tile, reduction = columns["register_tile"], columns["reduction_tile"]
    registers = 16 if target.lanes == 8 else 32
    multiply = np.maximum(tile / _PER_CYCLE, _LATENCY)
    load = 16.0 * tile / columns["fma_per_load"] / _PER_CYCLE
    spilled = np.maximum(0, tile + _OPERANDS - registers)
    rolled = columns["unrolled_body"] < columns["body"]
    inner = columns["inner_weight_bytes"] + columns["inner_input_bytes"]
    chunk = columns["chunk_weight_bytes"] + columns["chunk_input_bytes"]
    around = (
        2 * tile / _PER_CYCLE
        + np.where(inner > _L1_BYTES, inner / _L1_MISS, 0)
        + np.where(chunk > _L2_BYTES, inner / _L2_MISS, 0)
    )
    cycles = np.maximum(multiply, load) + spilled + _LOOP_CYCLES * rolled + around / reduction
    balance = np.maximum(1, columns["imbalance"] / 1024)
    speed: Column = -np.log(cycles / tile * balance)
    return speed
