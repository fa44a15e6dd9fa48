"""Direct convolution on an NVIDIA GPU: the eight knobs of Table 1, what they forbid and imply.

It is AutoTVM's `conv2d_nchw.cuda`: spatial axes split into blocks, virtual threads, threads and an
inner part; reductions in two, the inner part of which is fetched into shared memory at a time.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np

from chameleon_ray.space import BoolArray, Configs, Constraint, DesignSpace, Values
from chameleon_ray.tasks import Conv2d, Target
from chameleon_ray.templates.cuda_knobs import direct_space
from chameleon_ray.templates.cuda_roofline import best_draft, cycles, draft_speed, resident_blocks
from chameleon_ray.templates.cuda_tiling import (
    Column,
    Integers,
    Tiling,
    accumulators,
    registers,
    shared_bytes,
    threads,
    tiling,
)
from chameleon_ray.templates.gpu import (
    BLOCK_DEPTH,
    BLOCK_THREADS,
    GRID_ROWS,
    IN_REGISTERS,
    SM_REGISTERS,
    STATIC_SHARED_BYTES,
    THREAD_REGISTERS,
    WARP,
    Architecture,
    architecture,
)

_VERSION = "cuda_conv2d/1"

GRID_FITS = f"at most {GRID_ROWS} blocks along y and z"


def version(_target: Target) -> str:
    """Changes whenever a config may stand for other code than before."""
    return _VERSION


def design_space(task: Conv2d, target: Target) -> DesignSpace:
    """The space of Table 1 for one convolution on one GPU.

    Raises:
        UnsupportedError: The target's architecture is not known.
    """
    architecture(target.model)
    return DesignSpace(
        f"{version(target)}:{task.key}:{target.model}x{target.cores}",
        direct_space(task).knobs,
        constraints=(
            Constraint(name=f"at most {BLOCK_THREADS} threads", holds=threads_fit),
            Constraint(name=f"at most {BLOCK_DEPTH} threads along z", holds=_depth_fits),
            Constraint(name=GRID_FITS, holds=partial(_grid_fits, task)),
            Constraint(
                name=f"at most {STATIC_SHARED_BYTES >> 10} KiB of shared memory",
                holds=partial(shared_fits, task),
            ),
            Constraint(name=IN_REGISTERS, holds=_accumulators_fit),
        ),
        derive=partial(_derive, task, target),
        draft=partial(_draft, task, target),
    )


def threads_fit(v: Values) -> BoolArray:
    """Whether a block has no more threads than any GPU allows, `(n,)`."""
    fit: BoolArray = threads(v) <= BLOCK_THREADS
    return fit


def shared_fits(task: Conv2d, v: Values) -> BoolArray:
    """Whether what a block fetches at a time fits what every GPU has for it, `(n,)`."""
    fit: BoolArray = shared_bytes(task, v) <= STATIC_SHARED_BYTES
    return fit


def _depth_fits(v: Values) -> BoolArray:
    fit: BoolArray = v["tile_f"][:, 2] <= BLOCK_DEPTH
    return fit


def _grid_fits(task: Conv2d, v: Values) -> BoolArray:
    deep, rows = task.batch * v["tile_f"][:, 0], v["tile_y"][:, 0]
    fit: BoolArray = np.maximum(deep, rows) <= GRID_ROWS
    return fit


def _accumulators_fit(v: Values) -> BoolArray:
    """Beyond, a compiler has all of them in local memory, and every multiply-add waits for it."""
    most = np.minimum(THREAD_REGISTERS + 1, _registers_each(threads(v)))
    fit: BoolArray = accumulators(v) <= most
    return fit


def _registers_each(block_threads: Integers) -> Integers:
    """What an SM has for each thread of a block, so that it can start the block at all, `(n,)`."""
    each: Integers = SM_REGISTERS // (WARP * -(-block_threads // WARP))
    return each


@dataclass(frozen=True, slots=True, kw_only=True)
class _Occupancy:
    """How blocks fit an SM.

    Attributes:
        resident: How many it has at a time, one at least, `(n,)`.
        spilled: Registers that a thread would like to have and cannot, `(n,)`.
    """

    resident: Column
    spilled: Column


def _occupancy(v: Values, tiles: Tiling, sm: Architecture) -> _Occupancy:
    wanted = registers(v)
    allowed = np.minimum(THREAD_REGISTERS, _registers_each(threads(v)))
    taken = np.maximum(np.minimum(wanted, allowed), 1)
    return _Occupancy(
        resident=np.maximum(resident_blocks(tiles, taken, sm), 1),
        spilled=np.maximum(wanted - allowed, 0),
    )


def _derive(task: Conv2d, target: Target, v: Values) -> Tiling:
    """The tiling, and what it means on the target's GPU: occupancy, rounds, spilling, reuse."""
    found, gpu = tiling(task, v), architecture(target.model)
    warps = np.ceil(found["threads"] / WARP)
    occupancy = _occupancy(v, found, gpu)
    places = occupancy.resident * target.cores
    found["resident_warps"] = occupancy.resident * warps
    found["spilled"] = occupancy.spilled
    rounds = np.ceil(found["blocks"] / places)
    found["imbalance"] = 1024 * rounds * places / found["blocks"]
    found["full_warps"] = 1024 * found["threads"] / (WARP * warps)
    found["reuse"] = 1024 * found["tile"] * found["stage"] / found["shared_bytes"]
    found["unrolled"] = (found["body"] <= v["auto_unroll_max_step"][:, 0]).astype(float)
    return found


def _cycles(task: Conv2d, target: Target, v: Values) -> Column:
    """What a kernel should take, in cycles of an SM `(n,)`."""
    gpu = architecture(target.model)
    tiles = tiling(task, v)
    occupancy = _occupancy(v, tiles, gpu)
    resident = np.minimum(occupancy.resident, np.ceil(tiles["blocks"] / target.cores))
    rounds = np.ceil(tiles["blocks"] / (resident * target.cores))
    each = rounds * cycles(task, v, tiles, resident, gpu)
    found: Column = each * (1 + 0.02 * occupancy.spilled)
    return found


def _draft(task: Conv2d, target: Target, v: Values) -> Column:
    return draft_speed(_cycles(task, target, v))


def default_config(task: Conv2d, target: Target) -> Configs:
    """The best of many random configs by arithmetic (`cuda_roofline`), `(knobs,)`."""
    return best_draft(design_space(task, target), partial(_cycles, task, target))
