"""Direct convolution on a CPU: the eight knobs of Table 1, what they forbid and imply.

Activations are NCHW, or NCHWc in blocks of `lanes` channels. Filters are packed once, offline, to
`(F / lanes, C, KH, KW, lanes)`, so that one vector register holds `lanes` output channels; a filter
count that is no multiple of the lanes is padded with zeros. `tile_f` splits the vectors of filters,
not the filters.

In groups, each vector of filters reads the channels of its own; where a group has fewer filters
than a vector has lanes, several are computed as one, their filters zero outside of their own.
"""

from __future__ import annotations

import itertools
import math
from functools import partial

import numpy as np
import numpy.typing as npt

from chameleon_ray.space import (
    Configs,
    DesignSpace,
    Knob,
    Values,
    options,
    split,
)
from chameleon_ray.tasks import Conv2d, Target
from chameleon_ray.templates.cpu_roofline import draft_speed
from chameleon_ray.templates.cpu_tiling import (
    Integers,
    at_most,
    columns_of,
    filter_vectors,
    in_chunks,
    tile_of_at_most,
)

_VERSION = "cpu_conv2d/1"

UNROLL_STEPS = (0, 16, 64, 256, 1024)
_MOST_ACCUMULATORS = 64
_MOST_MERGED = 8  # groups computed as one
_ACCUMULATORS = 14  # of the default
_CHANNELS = 16  # likewise, summed in a register tile
_CHUNKS = 4  # likewise, for each core
_CACHE_BYTES = 1 << 20  # filters of more are read once, each by one core


def version(_target: Target) -> str:
    """Changes whenever a config may stand for other code than before."""
    return _VERSION


def design_space(task: Conv2d, target: Target) -> DesignSpace:
    """The space of Table 1 for one convolution.

    Splits are outermost first: `tile_f = (parallel, inner, register)`, likewise `tile_y` and
    `tile_x`; `tile_rc`, `tile_ry` and `tile_rx` split the reduction in two.
    """
    return DesignSpace(
        f"{version(target)}:{task.key}:{target.lanes}x{target.cores}",
        _knobs(task, target),
        constraints=(tile_of_at_most(_MOST_ACCUMULATORS, _register_tile),),
        derive=partial(_derive, task, target),
        draft=partial(_draft, task, target),
    )


def _knobs(task: Conv2d, target: Target) -> tuple[Knob, ...]:
    return (
        split("tile_f", filter_vectors(task, target), 3),
        split("tile_y", task.out_height, 3),
        split("tile_x", columns_of(task), 3),
        split("tile_rc", channels_of(task, target.lanes), 2),
        split("tile_ry", task.kernel_height, 2),
        split("tile_rx", task.kernel_width, 2),
        options("auto_unroll_max_step", UNROLL_STEPS),
        options("unroll_explicit", (0, 1)),
    )


def groups_computed(groups: int, filters: int, lanes: int) -> int:
    """Groups of whole vectors of filters; 0 where too much of them would be zero."""
    if groups == 1:
        return 1
    merged = lanes // math.gcd(lanes, filters // groups)
    return groups // merged if merged <= _MOST_MERGED and groups % merged == 0 else 0


def channels_of(task: Conv2d, lanes: int) -> int:
    """Input channels that a filter reads, as it is computed."""
    return task.in_channels // groups_computed(task.groups, task.out_channels, lanes)


def packed(weight: npt.NDArray[np.float32], task: Conv2d, lanes: int) -> npt.NDArray[np.float32]:
    """Filters `(F, C/groups, KH, KW)` as the template has them, `(F/lanes, C, KH, KW, lanes)`.

    `C` are the channels of the groups as they are computed.
    """
    computed = groups_computed(task.groups, task.out_channels, lanes)
    return in_vectors(_in_groups(weight, task, task.groups // computed), lanes)


def in_vectors(weight: npt.NDArray[np.float32], lanes: int) -> npt.NDArray[np.float32]:
    """`(F, C, KH, KW)` as `(F/lanes, C, KH, KW, lanes)`, padded with zeros."""
    padded = np.pad(weight, ((0, -len(weight) % lanes), (0, 0), (0, 0), (0, 0)))
    vectors = padded.reshape(-1, lanes, *weight.shape[1:])
    return np.ascontiguousarray(vectors.transpose(0, 2, 3, 4, 1))


def _in_groups(
    weight: npt.NDArray[np.float32], task: Conv2d, merged: int
) -> npt.NDArray[np.float32]:
    """Filters of as many groups as one, zero where they read none of their own channels."""
    if merged == 1:
        return weight
    _, channels, *window = weight.shape
    own = weight.reshape(-1, merged, task.out_channels // task.groups, channels, *window)
    whole = np.zeros((*own.shape[:3], merged, *own.shape[3:]), dtype=weight.dtype)
    for group in range(merged):
        whole[:, group, :, group] = own[:, group]
    return whole.reshape(task.out_channels, merged * channels, *window)


def _register_tile(values: Values) -> Integers:
    tile: Integers = values["tile_f"][:, 2] * values["tile_y"][:, 2] * values["tile_x"][:, 2]
    return tile


def _derive(task: Conv2d, target: Target, values: Values) -> dict[str, npt.NDArray[np.float64]]:
    """What follows from the knobs: tiles, bytes touched, reuse, balance, size of the code."""
    f, y, x = values["tile_f"], values["tile_y"], values["tile_x"]
    rc, ry, rx = values["tile_rc"], values["tile_ry"], values["tile_rx"]
    step = values["auto_unroll_max_step"][:, 0]
    register_tile = _register_tile(values)
    reduction = rc[:, 1] * ry[:, 1] * rx[:, 1]
    rows = (y[:, 2] - 1) * task.stride + ry[:, 1]
    columns = (x[:, 2] - 1) * task.stride + rx[:, 1]
    input_bytes = 4.0 * rc[:, 1] * rows * columns
    weight_bytes = 4.0 * target.lanes * f[:, 2] * reduction
    tile_rows = (y[:, 1] * y[:, 2] - 1) * task.stride + task.kernel_height
    tile_columns = (x[:, 1] * x[:, 2] - 1) * task.stride + task.kernel_width
    channels = channels_of(task, target.lanes)
    chunk_input_bytes = 4.0 * channels * tile_rows * tile_columns
    chunk_filters = f[:, 1] * f[:, 2] * target.lanes
    chunk_weight_bytes = 4.0 * chunk_filters * channels * task.kernel_height * task.kernel_width
    chunks = task.batch * f[:, 0] * y[:, 0] * x[:, 0]
    turns = np.ceil(chunks / target.cores)
    loads = f[:, 2] + y[:, 2] * x[:, 2]
    return {
        "register_tile": register_tile.astype(np.float64),
        "fma_per_load": 16.0 * register_tile / loads,
        "reduction_tile": reduction.astype(np.float64),
        "inner_input_bytes": input_bytes,
        "inner_weight_bytes": weight_bytes,
        "chunk_input_bytes": chunk_input_bytes,
        "chunk_weight_bytes": chunk_weight_bytes,
        "chunk_output_bytes": 4.0 * chunk_filters * y[:, 1] * y[:, 2] * x[:, 1] * x[:, 2],
        "parallel_chunks": chunks.astype(np.float64),
        "imbalance": 1024.0 * turns * target.cores / chunks,
        "row_run": (x[:, 1] * x[:, 2]).astype(np.float64),
        "unrolled_body": np.minimum(reduction * register_tile, np.maximum(step, 1)).astype(
            np.float64
        ),
        "body": (reduction * register_tile).astype(np.float64),
    }


def _draft(task: Conv2d, target: Target, values: Values) -> npt.NDArray[np.float64]:
    return draft_speed(_derive(task, target, values), values, target)


def default_config(task: Conv2d, target: Target) -> Configs:
    """What an expert would write down without measuring, `(knobs,)`.

    The register tile hides the latency of an FMA and stays clear of spilling: at most 14 vectors
    that fit, with those of filters, one of the input and one to spare, into 32 registers (AVX-512,
    NEON) or 16 (AVX2). It has at most two vectors of filters; one if they are 1x1, with AVX-512,
    which multiplies by a number in memory. The whole filter window and a few channels are reduced
    in it, unrolled. There are a few chunks per core: of filters, if those are more than a core's
    cache holds, else of rows. The numbers are the best of many such rules
    (`benchmarks/defaults.py`).
    """
    space = design_space(task, target)
    f, y, x = (knob.choices for knob in space.knobs[:3])
    registers, hidden = (15, 8) if target.lanes == 8 else (31, 12)  # one is spare
    pointwise = task.kernel_height == task.kernel_width == 1
    filters = 1 if pointwise and target.lanes == 16 else 2
    widths = {choice[2] for choice in f if choice[2] <= filters}
    tiles = itertools.product(widths, {c[2] for c in y}, {c[2] for c in x})
    fitting = [t for t in tiles if math.prod(t) <= min(_ACCUMULATORS, registers - 1 - t[0])]
    f2, y2, x2 = max(fitting, key=partial(expected_speed, hidden))
    summed = channels_of(task, target.lanes)
    channels = at_most(summed, _CHANNELS)
    all_vectors = filter_vectors(task, target)
    vectors, rows = all_vectors // f2, task.out_height // y2
    wanted = _CHUNKS * target.cores
    window = task.kernel_height * task.kernel_width
    if 4 * all_vectors * target.lanes * summed * window > _CACHE_BYTES:
        f0, y0 = in_chunks(vectors, rows, wanted)
    else:
        y0, f0 = in_chunks(rows, vectors, wanted)
    return space.config(
        {
            "tile_f": (f0, vectors // f0, f2),
            "tile_y": (y0, rows // y0, y2),
            "tile_x": (1, columns_of(task) // x2, x2),
            "tile_rc": (summed // channels, channels),
            "tile_ry": (1, task.kernel_height),
            "tile_rx": (1, task.kernel_width),
            "auto_unroll_max_step": (256,),
            "unroll_explicit": (1,),
        }
    )


def expected_speed(hidden: int, tile: tuple[int, int, int]) -> tuple[float, float, int]:
    """Accumulators that hide the latency of an FMA and its loads, then few loads, then long rows.

    Args:
        hidden: So many accumulators hide it.
        tile: Vectors of filters, rows, columns.
    """
    f, y, x = tile
    accumulators, loads = f * y * x, f + y * x
    speed = min(accumulators, hidden) * min(1.0, accumulators / loads)
    return (speed, accumulators / loads**0.5, x)
