"""Quantities as people write them: durations in and out, times of a kernel, ratios."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

from chameleon_ray.errors import SettingsError

_UNITS = {"s": 1, "m": 60, "h": 3600}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)([smh])")


def parse_duration(text: str, *, where: str) -> float:
    """Seconds of a duration such as `90s`, `10m` or `1.5h`.

    Raises:
        SettingsError: Not a positive number with a unit; the message names the units.
    """
    match = _DURATION.fullmatch(text.strip())
    seconds = float(match[1]) * _UNITS[match[2]] if match else 0.0
    if seconds <= 0:
        raise SettingsError(
            f"{where}: {text!r} is not a duration. Write a positive number and a unit, "
            "s, m or h: 90s, 10m, 1.5h."
        )
    return seconds


def duration(seconds: float) -> str:
    """A duration with as much precision as matters: `8.4 s`, `3 min 20 s`, `2 h 05 min`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def milliseconds(seconds: float | None) -> str:
    """A kernel's time in milliseconds, three digits; `-` if there is none."""
    if seconds is None or not math.isfinite(seconds):
        return "-"
    value = seconds * 1e3
    return f"{value:.3f}" if value < 10 else f"{value:.2f}" if value < 100 else f"{value:.1f}"


def speed(flop: int, seconds: float | None) -> str:
    """GFLOP/s; `-` if there is no time."""
    return f"{flop / seconds / 1e9:.1f}" if seconds else "-"


def ratio(numerator: float | None, denominator: float | None) -> str:
    """How many times one is the other: `1.32x`; `-` if either is missing."""
    return f"{numerator / denominator:.2f}x" if numerator and denominator else "-"


def geometric_mean(values: Iterable[float]) -> float | None:
    """The geometric mean of positive numbers; None if there are none."""
    logs = [math.log(value) for value in values]
    return math.exp(math.fsum(logs) / len(logs)) if logs else None
