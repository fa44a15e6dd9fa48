"""How fast a tiling can be on a GPU, by arithmetic: it ranks; it does not predict.

    cycles of a round of resident blocks ~ max(FMA, shared, L2) + latency
    FMA      outputs * reduction / lanes, over full warps / all, over latency hiding
             min(1, warps * min(accumulators, 4) / 24), times what is not unrolled: index
             arithmetic of 1 + 3 / accumulators; and 1.25 if the unrolled body leaves the
             instruction cache
    shared   loads of a thread's operands, 32 a cycle, times bank conflicts: neighbours in a warp
             read `inner x * stride` words apart, which virtual threads avoid
    L2       input and filter tiles of every stage, in sectors of 8 floats, `_L2_BYTES` a cycle
    latency  `_STAGE_CYCLES` for each stage (outer reductions), shared among the resident blocks

The simulated GPU is made of it; the default of a layer is the best of many configs by it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from chameleon_ray.space import Configs, DesignSpace, Values
from chameleon_ray.tasks import Conv2d
from chameleon_ray.templates.cuda_tiling import Column, Tiling
from chameleon_ray.templates.gpu import SM_REGISTERS, THREAD_REGISTERS, WARP, Architecture

_L2_BYTES = 32
_STAGE_CYCLES = 500
_DRAFTS = 16_384  # random configs among which a default is the best


def resident_blocks(tiles: Tiling, registers: Column, sm: Architecture) -> Column:
    """Blocks that an SM has at a time, `(n,)`; 0 where it has no room for one.

    Args:
        tiles: What the knobs mean.
        registers: Of a thread, `(n,)`.
        sm: The architecture.
    """
    registers = np.minimum(np.ceil(registers / 8) * 8, THREAD_REGISTERS)
    warps = np.ceil(tiles["threads"] / WARP)
    found: Column = np.minimum.reduce(
        [
            np.full(len(warps), float(sm.sm_blocks)),
            sm.sm_threads // (WARP * warps),
            SM_REGISTERS // (registers * WARP * warps),
            sm.sm_shared_bytes // (np.ceil(tiles["shared_bytes"] / 256) * 256),
        ]
    )
    return found


def best_draft(space: DesignSpace, cost: Callable[[Values], Column]) -> Configs:
    """The best of many random configs by arithmetic, the same at each call, `(knobs,)`.

    Args:
        space: Where they are drawn.
        cost: Knob values of n configs -> what is to be small, `(n,)`.
    """
    drafts = space.random(_DRAFTS, np.random.default_rng(0))
    best: Configs = drafts[np.argmin(cost(space.values(drafts)))]
    return best


def draft_speed(cost: Column) -> Column:
    """The logarithm of the speed by cycles; minus infinity for what fits no SM, `(n,)`."""
    with np.errstate(divide="ignore", invalid="ignore"):
        speed: Column = -np.log(cost)
    return np.nan_to_num(speed, nan=-np.inf)


def cycles(task: Conv2d, v: Values, tiles: Tiling, resident: Column, sm: Architecture) -> Column:
    """Cycles of one round of so many resident blocks on an SM, `(n,)`."""
    f, y, x = v["tile_f"], v["tile_y"], v["tile_x"]
    reduction = task.in_channels * task.kernel_height * task.kernel_width
    warps = np.ceil(tiles["threads"] / WARP)
    accumulators = tiles["accumulators"]
    fmas = resident * tiles["tile"] * reduction
    hiding = np.minimum(1, resident * warps * np.minimum(accumulators, 4) / 24)
    step = v["auto_unroll_max_step"][:, 0]
    unrolled = (step > 0) & (tiles["body"] <= step)
    explicit = unrolled & (v["unroll_explicit"][:, 0] == 1)
    overhead = np.where(unrolled, np.where(explicit, 1.0, 1.04), 1 + 3 / accumulators + 0.1)
    overhead *= np.where(explicit & (tiles["body"] > 1024), 1.25, 1.0)
    full = tiles["threads"] / (WARP * warps)
    fma = fmas / sm.sm_lanes / full / hiding * overhead
    columns, rows = x[:, 1] * x[:, 3], y[:, 1] * y[:, 3]
    filters = f[:, 1] * f[:, 3]
    in_x = np.minimum(x[:, 2], WARP)
    in_f = np.minimum(f[:, 2], np.ceil(WARP / (x[:, 2] * y[:, 2])))
    input_conflicts = np.minimum(in_x, np.gcd(x[:, 3] * task.stride, 32))
    filter_conflicts = np.minimum(in_f, np.gcd(f[:, 3] * tiles["stage"].astype(np.int64), 32))
    loads = input_conflicts / filters + filter_conflicts / (columns * rows)
    shared = fmas * loads / 32 / full
    latency = tiles["stages"] * _STAGE_CYCLES / np.maximum(resident, 1)
    l2 = resident * tiles["l2_bytes"] / _L2_BYTES
    found: Column = np.maximum.reduce([fma, shared, l2]) + latency
    return found
