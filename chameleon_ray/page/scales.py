"""From quantities to places on a chart, and round numbers to label them with."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """A linear or logarithmic axis.

    Attributes:
        low: The quantity at the axis's beginning.
        high: The quantity at its end; larger than `low`.
        start: Where on the chart the axis begins.
        end: Where it ends.
        log: Whether equal ratios are equally far apart; `low` is positive then.
        whole: Whether the quantities are counts: no label stands between two of them.
    """

    low: float
    high: float
    start: float
    end: float
    log: bool = False
    whole: bool = False

    @classmethod
    def over(
        cls,
        values: Iterable[float],
        *,
        start: float,
        end: float,
        zero: bool = False,
        log: bool = False,
        whole: bool = False,
    ) -> Scale:
        """An axis that all finite values fit on, between round numbers.

        Args:
            values: Any quantities, of which those that are not finite (nor positive, with `log`)
                are ignored.
            start: Where on the chart the axis begins.
            end: Where it ends.
            zero: Whether it begins at zero.
            log: Whether it is logarithmic.
            whole: Whether the quantities are counts.
        """
        found = [v for v in values if math.isfinite(v) and (v > 0 or not log)]
        low, high = min(found, default=1.0 if log else 0.0), max(found, default=1.0)
        if log:
            low, high = 10.0 ** math.floor(math.log10(low)), 10.0 ** math.ceil(math.log10(high))
            return cls(low=low, high=max(high, low * 10), start=start, end=end, log=True)
        low = min(0.0, low) if zero else low
        if high - low <= 1e-9 * max(abs(low), abs(high)):
            low, high = (low - abs(low) / 2, high + abs(high) / 2) if low else (0.0, 1.0)
        step = _round_step(max((high - low) / 4, float(whole)))
        low, high = math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step
        high = max(high, low + step)
        return cls(low=low, high=high, start=start, end=end, whole=whole)

    def place(self, value: float) -> float:
        """Where a quantity stands on the chart."""
        low, high, at = self.low, self.high, value
        if self.log:
            low, high, at = math.log10(low), math.log10(high), math.log10(max(value, self.low))
        return self.start + (at - low) / (high - low) * (self.end - self.start)

    def ticks(self) -> list[float]:
        """Round numbers along the axis, about five."""
        if self.log:
            first, last = round(math.log10(self.low)), round(math.log10(self.high))
            return [10.0**n for n in range(first, last + 1, max(1, -(-(last - first) // 5)))]
        step = _round_step(max((self.high - self.low) / 4, float(self.whole)))
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [n * step for n in range(first, last + 1)]


def number(value: float) -> str:
    """A number as a label: three digits, no more zeros than needed."""
    if not math.isfinite(value):
        return "-"
    if value and not 1e-3 <= abs(value) < 1e5:
        return f"{value:.2g}"
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"


def finite(values: Sequence[float | None]) -> list[float]:
    """Those that are there and finite."""
    return [value for value in values if value is not None and math.isfinite(value)]


def _round_step(least: float) -> float:
    """The smallest of 1, 2, 2.5, 5 times a power of ten that is not below `least`."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(n * power for n in (1, 2, 2.5, 5, 10) if n * power >= least * (1 - 1e-9))
