"""A simulated GPU: an analytic model of one, for trying a search on the paper's CUDA spaces.

Its times are made up and every place that shows them says so. The kernel is AutoTVM's direct
convolution (`cuda_knobs.direct_space`): a block computes a tile of outputs from tiles in shared
memory; each of its threads accumulates `vthread * inner` outputs in registers.

    seconds = max(rounds * cycles / clock, DRAM bytes / bandwidth) * luck * noise + launch
    rounds     blocks / (SMs * resident), rounded up: the tail of a last round is wasted
    resident   blocks that fit an SM by threads, registers and shared memory, at most 32
    cycles     of one round: `templates.cuda_roofline`, with 128 lanes
    DRAM       input, filters and outputs once, and a quarter of what the tiles read again,
               as far as inputs and filters exceed L2; outputs are written in sectors
    spilling   registers beyond 255 cost 2% each
    luck       exp of a normal number of 5%, the same for kernels of one inner body (what a
               compiler makes of it); noise the same of 1.5% for each config

A block beyond 1024 threads or 48 KiB of shared memory breaks a static constraint; one beyond the
65,536 registers of an SM fails when it is launched, and has no time.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import numpy.typing as npt

from chameleon_ray.measure.simulated import Seconds
from chameleon_ray.space import Configs, Constraint, DesignSpace, Values
from chameleon_ray.tasks import Conv2d
from chameleon_ray.templates.cuda_conv2d import shared_fits, threads_fit
from chameleon_ray.templates.cuda_knobs import direct_space
from chameleon_ray.templates.cuda_roofline import cycles, resident_blocks
from chameleon_ray.templates.cuda_tiling import Column, registers, tiling
from chameleon_ray.templates.gpu import (
    BLOCK_THREADS,
    STATIC_SHARED_BYTES,
    THREAD_REGISTERS,
    Architecture,
)

DEVICE = "simulated GPU 1"

_SMS, _CLOCK = 30, 1.5e9  # about a Titan Xp
_SM = Architecture(
    sm_threads=2048,
    sm_blocks=32,
    sm_shared_bytes=96 * 1024,
    block_shared_bytes=STATIC_SHARED_BYTES,
    sm_lanes=128,
)
_BANDWIDTH, _L2_BYTES = 480e9, 3 * 2**20
_LAUNCH_SECONDS = 3e-6
_LUCK, _NOISE = 0.05, 0.015


def gpu_space(task: Conv2d) -> DesignSpace:
    """The CUDA space of a convolution with what can be told of a config before it is built."""
    space = direct_space(task)
    return DesignSpace(
        f"{space.name}-simulated",
        space.knobs,
        constraints=(
            Constraint(name=f"at most {BLOCK_THREADS} threads", holds=threads_fit),
            Constraint(name="at most 48 KiB of shared memory", holds=partial(shared_fits, task)),
        ),
        derive=partial(tiling, task),
    )


def gpu_seconds(task: Conv2d, space: DesignSpace, configs: Configs) -> Seconds:
    """Seconds of one execution, float64 `(n,)`; NaN where the block does not fit an SM.

    Args:
        task: What is computed.
        space: Its CUDA space, with or without derived features.
        configs: int32 `(n, knobs)`.
    """
    v = space.values(configs)
    c = tiling(task, v)
    wanted = registers(v)
    spilled = np.maximum(wanted - THREAD_REGISTERS, 0)
    resident = resident_blocks(c, wanted, _SM)
    launched = (resident >= 1) & threads_fit(v) & (c["shared_bytes"] <= STATIC_SHARED_BYTES)
    resident = np.clip(resident, 1, np.ceil(c["blocks"] / _SMS))
    rounds = np.ceil(c["blocks"] / (_SMS * resident))
    taken = cycles(task, v, c, resident, _SM)
    dram = _dram_bytes(task, v, c) / _BANDWIDTH
    seconds = np.maximum(rounds * taken / _CLOCK, dram) * (1 + 0.02 * spilled)
    body = np.concatenate([v["tile_f"][:, 3:], v["tile_y"][:, 3:], v["tile_x"][:, 3:]], axis=1)
    inner = [v[k][:, 1:] for k in ("tile_rc", "tile_ry", "tile_rx")]
    rest = [v["auto_unroll_max_step"], v["unroll_explicit"]]
    luck = np.exp(_LUCK * _normal(np.concatenate([body, *inner, *rest], axis=1)))
    noise = np.exp(_NOISE * _normal(np.concatenate(list(v.values()), axis=1)))
    found: Seconds = np.where(launched, seconds * luck * noise + _LAUNCH_SECONDS, np.nan)
    return found


def _dram_bytes(task: Conv2d, v: Values, c: dict[str, Column]) -> Column:
    """Bytes to and from the card's memory."""
    inputs = 4.0 * task.batch * task.in_channels * task.height * task.width
    filters = 4.0 * task.out_channels * task.in_channels * task.kernel_height * task.kernel_width
    outputs = 4.0 * task.batch * task.out_channels * task.out_height * task.out_width
    x = v["tile_x"]
    run = np.where(x[:, 3] == 1, x[:, 2], 1) * 1.0  # neighbouring threads write neighbours
    written = outputs * 8 * np.ceil(run / 8) / run
    traffic = c["blocks"] * c["l2_bytes"]
    missing = 1 - min(1.0, _L2_BYTES / (inputs + filters))
    again = np.maximum(0, traffic - inputs - filters) * missing * 0.25  # blocks share what is near
    found: Column = inputs + filters + again + np.minimum(written, 2 * outputs)
    return found


def _normal(rows: npt.NDArray[np.int64]) -> Column:
    """One number for each row, the same for equal rows, normal up to three deviations."""
    mixed = np.full(len(rows), 0x9E3779B97F4A7C15, dtype=np.uint64)
    total = np.zeros(len(rows))
    for column in rows.T.astype(np.uint64):
        mixed = (mixed ^ column) * np.uint64(0xBF58476D1CE4E5B9)
        mixed ^= mixed >> np.uint64(29)
    for _ in range(4):
        mixed = mixed * np.uint64(0x94D049BB133111EB) + np.uint64(0x2545F4914F6CDD1D)
        mixed ^= mixed >> np.uint64(31)
        total += (mixed >> np.uint64(11)).astype(np.float64) / 2**53
    found: Column = (total - 2) * np.sqrt(3.0)
    return found
