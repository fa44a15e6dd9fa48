"""A simulated GPU: an analytic model of one, for trying a search on the paper's CUDA spaces.

Its times are made up and every place that shows them says so. The kernel is AutoTVM's direct
convolution (`cuda_knobs.direct_space`): a block computes a tile of outputs from tiles in shared
memory; each of its threads accumulates `vthread * inner` outputs in registers.

    seconds = max(rounds * cycles / clock, DRAM bytes / bandwidth) * luck * noise + launch
    rounds     blocks / (SMs * resident), rounded up: the tail of a last round is wasted
    resident   blocks that fit an SM by threads, registers and shared memory, at most 32
    cycles     of one round: the slowest of FMA, shared memory and L2, and what of the stages'
               latency other blocks do not hide
      FMA      outputs * reduction / 128 lanes, over full warps / all, over latency hiding
               min(1, warps * min(accumulators, 4) / 24), times what is not unrolled: index
               arithmetic of 1 + 3 / accumulators; and 1.25 if the unrolled body leaves the
               instruction cache
      shared   loads of a thread's operands, 32 a cycle, times bank conflicts: neighbours in a warp
               read `inner x * stride` words apart, which virtual threads avoid
      L2       input and filter tiles of every stage, in sectors of 8 floats, 32 bytes a cycle
      latency  500 cycles for each stage (outer reductions), shared among the resident blocks
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
from chameleon_ray.space import BoolArray, Configs, Constraint, DesignSpace, Values
from chameleon_ray.tasks import Conv2d
from chameleon_ray.templates.cuda_knobs import direct_space

DEVICE = "simulated GPU 1"

_SMS, _LANES, _CLOCK = 30, 128, 1.5e9  # about a Titan Xp
_BANDWIDTH, _L2_BYTES = 480e9, 3 * 2**20
_THREADS, _BLOCK_THREADS, _REGISTERS = 2048, 1024, 65_536
_SHARED_BYTES, _BLOCK_SHARED_BYTES = 96 * 1024, 48 * 1024
_LAUNCH_SECONDS = 3e-6
_LUCK, _NOISE = 0.05, 0.015

Column = npt.NDArray[np.float64]


def gpu_space(task: Conv2d) -> DesignSpace:
    """The CUDA space of a convolution with what can be told of a config before it is built."""
    space = direct_space(task)
    return DesignSpace(
        f"{space.name}-simulated",
        space.knobs,
        constraints=(
            Constraint(name=f"at most {_BLOCK_THREADS} threads", holds=_threads_fit),
            Constraint(name="at most 48 KiB of shared memory", holds=partial(_shared_fits, task)),
        ),
        derive=partial(_derive, task),
    )


def gpu_seconds(task: Conv2d, space: DesignSpace, configs: Configs) -> Seconds:
    """Seconds of one execution, float64 `(n,)`; NaN where the block does not fit an SM.

    Args:
        task: What is computed.
        space: Its CUDA space, with or without derived features.
        configs: int32 `(n, knobs)`.
    """
    v = space.values(configs)
    c = _derive(task, v)
    registers = _registers(v, c)
    warps = np.ceil(c["threads"] / 32)
    spilled = np.maximum(registers - 255, 0)
    registers = np.minimum(np.ceil(registers / 8) * 8, 255)
    resident = np.minimum.reduce(
        [
            np.full(len(configs), 32.0),
            _THREADS // (32 * warps),
            _REGISTERS // (registers * 32 * warps),
            _SHARED_BYTES // (np.ceil(c["shared_bytes"] / 256) * 256),
        ]
    )
    launched = (resident >= 1) & _threads_fit(v) & (c["shared_bytes"] <= _BLOCK_SHARED_BYTES)
    resident = np.clip(resident, 1, np.ceil(c["blocks"] / _SMS))
    rounds = np.ceil(c["blocks"] / (_SMS * resident))
    cycles = _cycles(task, v, c, warps, resident)
    dram = _dram_bytes(task, v, c) / _BANDWIDTH
    seconds = np.maximum(rounds * cycles / _CLOCK, dram) * (1 + 0.02 * spilled)
    body = np.concatenate([v["tile_f"][:, 3:], v["tile_y"][:, 3:], v["tile_x"][:, 3:]], axis=1)
    inner = [v[k][:, 1:] for k in ("tile_rc", "tile_ry", "tile_rx")]
    rest = [v["auto_unroll_max_step"], v["unroll_explicit"]]
    luck = np.exp(_LUCK * _normal(np.concatenate([body, *inner, *rest], axis=1)))
    noise = np.exp(_NOISE * _normal(np.concatenate(list(v.values()), axis=1)))
    found: Seconds = np.where(launched, seconds * luck * noise + _LAUNCH_SECONDS, np.nan)
    return found


def _cycles(task: Conv2d, v: Values, c: dict[str, Column], warps: Column, res: Column) -> Column:
    """Cycles of one round of `res` resident blocks on an SM."""
    f, y, x = v["tile_f"], v["tile_y"], v["tile_x"]
    reduction = task.in_channels * task.kernel_height * task.kernel_width
    accumulators = c["accumulators"]
    fmas = res * c["tile"] * reduction
    hiding = np.minimum(1, res * warps * np.minimum(accumulators, 4) / 24)
    step = v["auto_unroll_max_step"][:, 0]
    unrolled = (step > 0) & (c["body"] <= step)
    explicit = unrolled & (v["unroll_explicit"][:, 0] == 1)
    overhead = np.where(unrolled, np.where(explicit, 1.0, 1.04), 1 + 3 / accumulators + 0.1)
    overhead *= np.where(explicit & (c["body"] > 1024), 1.25, 1.0)
    full = c["threads"] / (32 * warps)
    fma = fmas / _LANES / full / hiding * overhead
    columns, rows = x[:, 1] * x[:, 3], y[:, 1] * y[:, 3]
    filters = f[:, 1] * f[:, 3]
    in_x = np.minimum(x[:, 2], 32)
    in_f = np.minimum(f[:, 2], np.ceil(32 / (x[:, 2] * y[:, 2])))
    input_conflicts = np.minimum(in_x, np.gcd(x[:, 3] * task.stride, 32))
    filter_conflicts = np.minimum(in_f, np.gcd(f[:, 3] * c["stage"].astype(np.int64), 32))
    loads = input_conflicts / filters + filter_conflicts / (columns * rows)
    shared = fmas * loads / 32 / full
    latency = c["stages"] * 500 / np.maximum(res, 1)
    found: Column = np.maximum.reduce([fma, shared, res * c["l2_bytes"] / 32]) + latency
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


def _derive(task: Conv2d, v: Values) -> dict[str, Column]:
    """What follows from the knobs: threads, tiles, bytes, reuse."""
    f, y, x = v["tile_f"], v["tile_y"], v["tile_x"]
    rc, ry, rx = (v[name][:, 1] for name in ("tile_rc", "tile_ry", "tile_rx"))
    outer = v["tile_rc"][:, 0] * v["tile_ry"][:, 0] * v["tile_rx"][:, 0]
    tiles = [axis[:, 1] * axis[:, 2] * axis[:, 3] for axis in (f, y, x)]
    rows = (tiles[1] - 1) * task.stride + ry
    columns = (tiles[2] - 1) * task.stride + rx
    stage = rc * ry * rx
    whole = (rx == task.kernel_width) * np.where(ry == task.kernel_height, rc * ry, ry)
    run = rx * np.maximum(whole, 1)  # of filters that stand side by side
    inputs = rc * rows * columns
    filters = tiles[0] * stage
    sectors = rc * rows * np.ceil(columns / 8) + filters / run * np.ceil(run / 8)
    accumulators = f[:, 1] * f[:, 3] * y[:, 1] * y[:, 3] * x[:, 1] * x[:, 3]
    found = {
        "threads": f[:, 2] * y[:, 2] * x[:, 2],
        "vthreads": f[:, 1] * y[:, 1] * x[:, 1],
        "accumulators": accumulators,
        "tile": tiles[0] * tiles[1] * tiles[2],
        "blocks": task.batch * f[:, 0] * y[:, 0] * x[:, 0],
        "stage": stage,
        "stages": outer,
        "body": accumulators * stage,
        "shared_bytes": 4 * (inputs + filters),
        "l2_bytes": 32 * sectors * outer,
    }
    return {name: column.astype(np.float64) for name, column in found.items()}


def _registers(v: Values, c: dict[str, Column]) -> Column:
    """Registers of a thread: accumulators, operands, addresses."""
    operands = v["tile_f"][:, 1] * v["tile_f"][:, 3] + v["tile_x"][:, 1] * v["tile_x"][:, 3]
    found: Column = 22 + c["accumulators"] + operands + 6.0 * v["unroll_explicit"][:, 0]
    return found


def _threads_fit(values: Values) -> BoolArray:
    threads = values["tile_f"][:, 2] * values["tile_y"][:, 2] * values["tile_x"][:, 2]
    fit: BoolArray = threads <= _BLOCK_THREADS
    return fit


def _shared_fits(task: Conv2d, values: Values) -> BoolArray:
    fit: BoolArray = _derive(task, values)["shared_bytes"] <= _BLOCK_SHARED_BYTES
    return fit


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
