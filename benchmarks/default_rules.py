"""Variants of the rules by which templates choose defaults: what is tried of each kind."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from chameleon_ray.space import Choice, KnobValues
from chameleon_ray.tasks import Conv2d, LayerTask
from chameleon_ray.templates.cpu_conv2d import expected_speed
from chameleon_ray.templates.cpu_tiling import at_most, divisors, in_chunks


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A rule and the values that are tried of its settings.

    Attributes:
        config: What a setting of each makes of a default, in about so many chunks.
        settings: Name -> values.
    """

    config: Callable[..., KnobValues]
    settings: Mapping[str, Sequence[Any]]

    def variants(self, default: KnobValues, wanted: float) -> Iterator[tuple[str, KnobValues]]:
        """What the rule would have in place of a default, with the settings in words."""
        for values in itertools.product(*self.settings.values()):
            named = dict(zip(self.settings, values, strict=True))
            words = ", ".join(f"{name} {value}" for name, value in named.items())
            yield words, self.config(default, wanted, **named)


def kind_of(task: LayerTask) -> str:
    """Which rule a layer takes; empty if none."""
    if not isinstance(task, Conv2d):
        return "matmul"
    if task.form != "direct":
        return "winograd"
    if task.groups == 1:
        return "direct"
    return "depthwise" if task.groups == task.in_channels == task.out_channels else ""


def _direct(
    default: KnobValues,
    wanted: float,
    *,
    most: int,
    filters: int,
    channels: int,
    hidden: int,
    first: str,
    unroll: tuple[int, int],
) -> KnobValues:
    vectors, rows, columns = _extents(default, "tile_f", "tile_y", "tile_x")
    tiles = itertools.product(divisors(vectors), divisors(rows), divisors(columns))
    fitting = [tile for tile in tiles if math.prod(tile) <= most and tile[0] <= filters]
    f, y, x = max(fitting, key=partial(expected_speed, hidden))
    y0, f0 = _in_chunks(rows // y, vectors // f, wanted, first == "rows")
    return {
        **default,
        "tile_f": (f0, vectors // f // f0, f),
        "tile_y": (y0, rows // y // y0, y),
        "tile_x": (1, columns // x, x),
        "tile_rc": _split_at_most(math.prod(default["tile_rc"]), channels),
        "auto_unroll_max_step": unroll[:1],
        "unroll_explicit": unroll[1:],
    }


def _depthwise(
    default: KnobValues,
    _wanted: float,
    *,
    columns: int,
    rows: int,
    chunks: int,
    pad: int,
    unroll: int,
) -> KnobValues:
    blocks, all_rows, all_columns = _extents(default, "tile_c", "tile_y", "tile_x")
    x = at_most(all_columns, columns)
    y = at_most(all_rows, rows)
    y0 = at_most(all_rows // y, chunks)
    return {
        "tile_c": (blocks, 1),
        "tile_y": (y0, all_rows // y // y0, y),
        "tile_x": (all_columns // x, x),
        "pad": (min(pad, *default["pad"]),),
        "unroll": (unroll,),
    }


def _winograd(
    default: KnobValues,
    _wanted: float,
    *,
    filters: int,
    filters_outside: int,
    tiles: int,
    tiles_outside: int,
    channels: int,
    unroll: int,
) -> KnobValues:
    all_vectors, all_tiles = _extents(default, "tile_f", "tile_t")
    f = at_most(all_vectors, filters)
    t = at_most(all_tiles, tiles // f)
    rest_f, rest_t = all_vectors // f, all_tiles // t
    return {
        "tile_f": (rest_f, 1, f) if filters_outside else (1, rest_f, f),
        "tile_t": (rest_t, 1, t) if tiles_outside else (1, rest_t, t),
        "tile_rc": _split_at_most(math.prod(default["tile_rc"]), channels),
        "auto_unroll_max_step": (unroll,),
    }


def _matmul(
    default: KnobValues,
    wanted: float,
    *,
    most: int,
    columns: int,
    summed: int,
    pack: int,
    inner: int,
    first: str,
) -> KnobValues:
    rows, vectors = _extents(default, "tile_m", "tile_n")
    n = at_most(vectors, columns)
    m = at_most(rows, most // n)
    m0, n0 = _in_chunks(rows // m, vectors // n, wanted, first == "rows")
    return {
        **default,
        "tile_m": (m0, rows // m // m0, m),
        "tile_n": (n0, vectors // n // n0, n),
        "tile_k": _split_at_most(math.prod(default["tile_k"]), summed),
        "pack": (pack,),
        "inner": (inner,),
    }


RULES: Mapping[str, Rule] = {
    "direct": Rule(
        config=_direct,
        settings={
            "most": (7, 12, 14),
            "filters": (1, 2),
            "channels": (16, 64),
            "hidden": (8, 12),
            "first": ("rows", "filters"),
            "unroll": ((0, 0), (64, 1), (256, 1)),
        },
    ),
    "depthwise": Rule(
        config=_depthwise,
        settings={
            "columns": (4, 7, 14, 28),
            "rows": (1, 2),
            "chunks": (1, 2),
            "pad": (0, 1),
            "unroll": (0, 1),
        },
    ),
    "winograd": Rule(
        config=_winograd,
        settings={
            "filters": (1, 2),
            "filters_outside": (0, 1),
            "tiles": (7, 14),
            "tiles_outside": (0, 1),
            "channels": (4, 16, 256),
            "unroll": (0, 64),
        },
    ),
    "matmul": Rule(
        config=_matmul,
        settings={
            "most": (14, 28),
            "columns": (1, 2, 4),
            "summed": (4, 16),
            "pack": (0, 1),
            "inner": (0, 1),
            "first": ("rows", "columns"),
        },
    ),
}


def _extents(config: KnobValues, *knobs: str) -> tuple[int, ...]:
    return tuple(math.prod(config[knob]) for knob in knobs)


def _split_at_most(extent: int, most: int) -> Choice:
    inner = at_most(extent, most)
    return (extent // inner, inner)


def _in_chunks(one: int, other: int, wanted: float, one_first: bool) -> tuple[int, int]:  # noqa: FBT001
    if one_first:
        return in_chunks(one, other, wanted)
    return in_chunks(other, one, wanted)[::-1]
