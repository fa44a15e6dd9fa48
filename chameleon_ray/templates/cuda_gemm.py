"""Convolution on an NVIDIA GPU as a product of matrices (implicit GEMM): knobs and limits.

Beside Table 1's direct convolution, with what the fastest libraries do within reach of its knobs:
vectorised loads, buffers in shared memory that are filled ahead, a reduction split among blocks
(small images with many channels), tensor cores, Winograd's transforms. The kernel is in
`gemm_kernel/`.

    threads_m, threads_n   a block's threads, along filters and along pixels
    rows, columns          outputs of a thread, likewise
    vector                 words that it reads from shared memory at a time (without tensor cores)
    stage                  how much of the reduction is in shared memory at a time
    buffers                2: the next stage is stored while this one is used; 3 and 4: so many less
                           one are on their way, and pass through no register (sm_80 and newer; of
                           words that are not changed on the way)
    split                  blocks that share the reduction of a tile; the last one adds
    load_m, load_n         weights, and inputs of 1x1 filters, that a thread loads at a time
    unroll                 of the reduction within a stage
    raster                 neighbouring blocks have the same inputs (0) or the same filters (1)
    math                   multiply-adds in float32 (0), in tf32 (1) or float16 (2) on tensor cores,
                           all with sums in float32
    winograd               of filters of 3x3 with stride 1: a product for each of the 16 points of
                           F(2x2, 3x3) (Lavin and Gray, 2016), over tiles of 2x2 pixels and channels
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np

from chameleon_ray.errors import UnsupportedError
from chameleon_ray.space import BoolArray, Configs, Constraint, DesignSpace, Knob, Values, options
from chameleon_ray.tasks import Conv2d, GpuTemplate, Target
from chameleon_ray.templates.cuda_roofline import best_draft, draft_speed, resident_blocks
from chameleon_ray.templates.cuda_tiling import Column, Integers
from chameleon_ray.templates.gpu import (
    BLOCK_THREADS,
    IN_REGISTERS,
    SM_REGISTERS,
    TENSOR_SPEEDUP,
    WARP,
    Architecture,
    architecture,
)

MATHS: dict[GpuTemplate, int] = {"gemm": 0, "gemm_tf32": 1, "gemm_float16": 2}  # the last math

ASYNCHRONOUS = 3  # buffers, and more, that are filled asynchronously

_VERSION = 2
_LARGEST_FILTER = 15
_FILTER, _POINTS = 3, 16  # of F(2x2, 3x3): rows of a filter, products
_WORKSPACE_BYTES = 2**26  # of the parts of a split reduction
_OVERHEAD_REGISTERS = 40  # addresses, counters, limits
_MOST_REGISTERS = 224  # by this estimate: beyond, one in ten spills


def version(target: Target) -> str:
    """Changes whenever a config may stand for other code than before."""
    return f"cuda_{target.template}/{_VERSION}"


def design_space(task: Conv2d, target: Target) -> DesignSpace:
    """The space of one convolution on one GPU.

    Raises:
        UnsupportedError: The architecture is not known, or has no such tensor cores; or the filter
            has more than 15 rows or columns, whose bits an integer has no room for.
    """
    if max(task.kernel_height, task.kernel_width) > _LARGEST_FILTER:
        raise UnsupportedError(
            f"{task.key}: filters of more than {_LARGEST_FILTER} rows or columns take "
            "template: direct."
        )
    shared = architecture(target.model).block_shared_bytes
    maths = MATHS[target.template]
    if maths and target.model not in TENSOR_SPEEDUP:
        raise UnsupportedError(
            f"{target.model} has no tensor cores for tf32 (sm_80 and newer have): set "
            "template: gemm in the env file."
        )
    return DesignSpace(
        f"{version(target)}:{task.key}:{target.model}x{target.cores}",
        _knobs(task, target, maths),
        constraints=(
            Constraint(name=f"one warp to {BLOCK_THREADS} threads", holds=_threads_fit),
            Constraint(name="tiles no larger than what they cover", holds=partial(_cover, task)),
            Constraint(name="a part of each stage for every thread", holds=_everyone_loads),
            Constraint(name="vectors that divide rows and columns", holds=_vectors_divide),
            Constraint(name="tiles of whole tensor core products", holds=_whole_products),
            Constraint(name="a part of the reduction for every block", holds=partial(_parts, task)),
            Constraint(name="Winograd in float32, without wide loads", holds=_transforms_alone),
            Constraint(name="three buffers and more of unchanged words", holds=_unchanged),
            Constraint(
                name=f"at most {shared >> 10} KiB of shared memory",
                holds=partial(_shared_fits, shared),
            ),
            Constraint(name=IN_REGISTERS, holds=_registers_fit),
        ),
        derive=partial(_derive, task, target),
        draft=partial(_draft, task, target),
    )


def _knobs(task: Conv2d, target: Target, maths: int) -> list[Knob]:
    pixels = task.out_height * task.out_width
    depth = task.in_channels * task.kernel_height * task.kernel_width
    side_by_side = task.kernel_height == task.kernel_width == task.stride == 1 and task.padding == 0
    three, widths = task.kernel_height == task.kernel_width == _FILTER, (1, 2, 4)
    return [
        options("threads_m", (4, 8, 16, 32)),
        options("threads_n", (4, 8, 16, 32)),
        options("rows", (1, 2, 4, 8, 16)),
        options("columns", (1, 2, 4, 8, 16)),
        options("vector", widths),
        options("stage", (4, 8, 16, 32, 64)),
        options("buffers", (1, 2, 3, 4) if target.model in TENSOR_SPEEDUP else (1, 2)),
        options("split", (1, 2, 4, 8, 16, 32)),
        options("load_m", [w for w in widths if depth % w == 0]),
        options("load_n", [w for w in widths if side_by_side and pixels % w == 0] or [1]),
        options("unroll", (1, 4, 16)),
        options("raster", (0, 1), ordered=False),
        options("math", range(maths + 1), ordered=False),
        options("winograd", (0, 1) if three and task.stride == 1 else (0,), ordered=False),
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Numbers:
    """Knob values as columns `(n,)`, and what follows from them alone."""

    threads_m: Integers
    threads_n: Integers
    rows: Integers
    columns: Integers
    vector: Integers
    stage: Integers
    buffers: Integers
    split: Integers
    load_m: Integers
    load_n: Integers
    unroll: Integers
    raster: Integers
    math: Integers
    winograd: Integers

    @property
    def points(self) -> Integers:
        """Products that are computed side by side."""
        return np.where(self.winograd == 1, _POINTS, 1)

    def depth(self, task: Conv2d) -> Integers:
        """What a sum is over."""
        whole = task.in_channels * task.kernel_height * task.kernel_width
        return np.where(self.winograd == 1, task.in_channels, whole)

    def width(self, task: Conv2d) -> Integers:
        """Pixels, or tiles of 2x2 of them."""
        tiles = -(-task.out_height // 2) * -(-task.out_width // 2)
        each = np.where(self.winograd == 1, tiles, task.out_height * task.out_width)
        found: Integers = task.batch * each
        return found

    @property
    def threads(self) -> Integers:
        """Of a block."""
        return self.threads_m * self.threads_n

    @property
    def tile_m(self) -> Integers:
        """Filters of a block."""
        return self.threads_m * self.rows

    @property
    def tile_n(self) -> Integers:
        """Pixels of a block."""
        return self.threads_n * self.columns

    @property
    def packed(self) -> Integers:
        """Numbers in a word of shared memory."""
        return np.where(self.math == MATHS["gemm_float16"], 2, 1)

    @property
    def words(self) -> Integers:
        """Of a stage, for each filter and each pixel."""
        return self.stage // self.packed

    @property
    def shared_bytes(self) -> Integers:
        """Shared memory of a block, all buffers."""
        skew = np.where(self.winograd == 1, 4, 0)
        lanes = sum((tile + 4) * self.points + skew for tile in (self.tile_m, self.tile_n))
        pitch = self.tile_n + (40 - self.tile_n % 32) % 32
        tensor = self.tile_m * (self.words + 4) + self.words * pitch
        found: Integers = 4 * self.buffers * np.where(self.math > 0, tensor, self.words * lanes)
        return found

    @property
    def fetched(self) -> Integers:
        """Numbers that a thread brings to shared memory, for a stage."""
        weights = np.where(self.winograd == 1, _FILTER**2, 1) * self.tile_m
        found: Integers = -(-self.stage * (weights + self.points * self.tile_n) // self.threads)
        return found

    @property
    def sums(self) -> Integers:
        """Of a thread."""
        return self.rows * self.columns * self.points

    @property
    def registers(self) -> Integers:
        """What a thread would like, about."""
        operands = np.where(self.math > 0, 2 * self.rows + self.columns, self.rows + self.columns)
        places = np.maximum(self.tile_n // (self.load_n * self.threads), 1)
        held = np.where(self.buffers < ASYNCHRONOUS, self.fetched, 0)
        found: Integers = self.sums + held + operands + 2 * places + _OVERHEAD_REGISTERS
        return found


def _numbers(v: Values) -> _Numbers:
    return _Numbers(**{name: column[:, 0] for name, column in v.items()})


def shared_bytes(knobs: Mapping[str, int]) -> int:
    """Shared memory of a block of one config, by the value of each knob."""
    columns = {name: np.array([[value]]) for name, value in knobs.items()}
    return int(_numbers(columns).shared_bytes[0])


def _threads_fit(v: Values) -> BoolArray:
    threads = _numbers(v).threads
    return (threads >= WARP) & (threads <= BLOCK_THREADS)


def _cover(task: Conv2d, v: Values) -> BoolArray:
    c = _numbers(v)
    wide = (c.tile_m >= 2 * task.out_channels) | (c.tile_n >= 2 * c.width(task))
    return ~(wide | (c.stage >= 2 * c.depth(task)))


def _everyone_loads(v: Values) -> BoolArray:
    c = _numbers(v)
    weights, inputs = c.tile_m * c.stage // c.load_m, c.tile_n * c.words // c.load_n
    runs = c.tile_n // c.load_n
    whole = (c.stage >= c.load_m) & (c.load_m >= c.packed) & (runs > 0)
    return whole & (weights >= c.threads) & (inputs >= c.threads)


def _vectors_divide(v: Values) -> BoolArray:
    c = _numbers(v)
    whole = (c.rows % c.vector == 0) & (c.columns % c.vector == 0)
    fits: BoolArray = np.where(c.math > 0, c.vector == 1, whole)
    return fits


def _whole_products(v: Values) -> BoolArray:
    c = _numbers(v)
    whole = (c.threads_m >= 8) & (c.rows >= 2) & (c.columns >= 2) & (c.words >= 8)
    fits: BoolArray = (c.math == 0) | whole
    return fits


def _parts(task: Conv2d, v: Values) -> BoolArray:
    """None is left without work, and all have room for what they found."""
    c = _numbers(v)
    stages = -(-c.depth(task) // c.stage)
    each = -(-stages // c.split)
    parts = c.split * _tiles(task, c) * c.sums * c.threads
    room = 4 * parts <= _WORKSPACE_BYTES
    fits: BoolArray = (c.split == 1) | (((c.split - 1) * each < stages) & room)
    return fits


def _transforms_alone(v: Values) -> BoolArray:
    c = _numbers(v)
    fits: BoolArray = (c.winograd == 0) | ((c.math == 0) & (c.load_m == 1) & (c.load_n == 1))
    return fits


def _unchanged(v: Values) -> BoolArray:
    """Nothing is packed, transformed, or laid across on its way."""
    c = _numbers(v)
    plain = (c.packed == 1) & (c.winograd == 0) & ((c.math > 0) | (c.load_m == 1))
    fits: BoolArray = (c.buffers < ASYNCHRONOUS) | plain
    return fits


def _shared_fits(most: int, v: Values) -> BoolArray:
    fits: BoolArray = _numbers(v).shared_bytes <= most
    return fits


def _registers_fit(v: Values) -> BoolArray:
    c = _numbers(v)
    fits: BoolArray = c.registers <= np.minimum(_MOST_REGISTERS, SM_REGISTERS // c.threads)
    return fits


def _tiles(task: Conv2d, c: _Numbers) -> Integers:
    found: Integers = -(-task.out_channels // c.tile_m) * -(-c.width(task) // c.tile_n)
    return found


def _resident(c: _Numbers, sm: Architecture) -> Column:
    """Blocks that an SM has at a time, one at least."""
    takes = {"threads": c.threads, "shared_bytes": c.shared_bytes}
    tiles = {name: column.astype(np.float64) for name, column in takes.items()}
    found: Column = np.maximum(resident_blocks(tiles, c.registers.astype(np.float64), sm), 1.0)
    return found


def _derive(task: Conv2d, target: Target, v: Values) -> dict[str, Column]:
    """What a config means: tiles, what they fetch, and how they fill the target's GPU."""
    c, sm = _numbers(v), architecture(target.model)
    tiles, resident = _tiles(task, c), _resident(c, sm)
    blocks, places = tiles * c.split, resident * target.cores
    covered = tiles * c.tile_m * c.tile_n
    found = {
        "threads": c.threads,
        "tile_m": c.tile_m,
        "tile_n": c.tile_n,
        "tile": c.tile_m * c.tile_n,
        "sums": c.sums,
        "blocks": blocks,
        "stages": -(-c.depth(task) // (c.stage * c.split)),
        "shared_bytes": c.shared_bytes,
        "fetched": c.fetched,
        "registers": c.registers,
        "resident_warps": resident * c.threads / WARP,
        "imbalance": 1024 * np.ceil(blocks / places) * places / blocks,
        "work": covered * c.points * c.depth(task),
        "waste": 1024 * covered / (task.out_channels * c.width(task)),
        "reuse": 1024 * c.tile_m * c.tile_n / (c.tile_m + c.tile_n),
        "workspace": covered * c.points * (c.split - 1),
    }
    return {name: column.astype(np.float64) for name, column in found.items()}


def _draft(task: Conv2d, target: Target, v: Values) -> Column:
    return draft_speed(_cycles(task, target, _numbers(v)))


def default_config(task: Conv2d, target: Target) -> Configs:
    """The best of many random configs by arithmetic, `(knobs,)`."""
    return best_draft(design_space(task, target), lambda v: _cycles(task, target, _numbers(v)))


def _cycles(task: Conv2d, target: Target, c: _Numbers) -> Column:
    """About how many cycles a config takes; it ranks, it does not predict (`cuda_roofline`).

    The largest of multiply-adds, reads of shared memory and what comes from L2, and the latency
    of a stage, which other blocks and more buffers hide.
    """
    sm = architecture(target.model)
    blocks = _tiles(task, c) * c.split
    resident = np.minimum(_resident(c, sm), np.ceil(blocks / target.cores))
    rounds = np.ceil(blocks / (resident * target.cores))
    stages = np.ceil(np.ceil(c.depth(task) / c.stage) / c.split)
    warps = resident * c.threads / WARP
    products = c.tile_m * c.tile_n * c.stage * c.points
    tensor = c.packed * TENSOR_SPEEDUP.get(target.model, 1)
    lanes = sm.sm_lanes * np.where(c.math > 0, tensor, 1)
    hiding = np.minimum(1.0, warps * np.minimum(c.sums, 16) / 64)
    fma = resident * products / lanes / hiding * np.where(c.unroll == 1, 1.15, 1.0)
    tensor_reads = c.words / 8 * (2 * c.rows + c.columns)
    lane_reads = c.words * (c.rows + c.columns) / c.vector
    reads = c.threads / WARP * c.points * np.where(c.math > 0, tensor_reads, lane_reads)
    stores = 2 * c.points * c.words * (c.tile_m + c.tile_n) / WARP
    shared = resident * (reads + stores)
    l2 = resident * 4 * c.threads * c.fetched / 32
    latency = np.where(c.buffers > 1, 300 / np.maximum(c.buffers - 1, 1), 500) / resident
    ends = 600 + 2 * c.sums * np.where(c.split > 1, 20 + 4 * c.split, 4)
    found: Column = rounds * (stages * (np.maximum.reduce([fma, shared, l2]) + latency) + ends)
    return found
