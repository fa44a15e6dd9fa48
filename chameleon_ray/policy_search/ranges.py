"""What a setting may be: one of a few values, or a number between two ends. numpy only."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

Value = bool | int | float | str | None
Settings = Mapping[str, Value]  # by dotted name: `explorer.learning_rate`

_STEP = 0.2  # of a range, its standard deviation: how far a number is perturbed
_ANEW = 0.25  # as PBT: so often a value is drawn anew and not moved
_DIGITS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One of a few values; neighbours in the list are taken to be alike.

    Attributes:
        setting: Its dotted name.
        values: At least two, distinct.
    """

    setting: str
    values: tuple[Value, ...]

    def draw(self, rng: np.random.Generator) -> Value:
        """Any of them."""
        return self.values[int(rng.integers(len(self.values)))]

    def near(self, value: Value, rng: np.random.Generator) -> Value:
        """One beside it in the list, or now and then any."""
        if rng.random() < _ANEW:
            return self.draw(rng)
        at = self.values.index(value) + (1 if rng.random() < 0.5 else -1)
        return self.values[min(max(at, 0), len(self.values) - 1)]

    def tidy(self, value: Value) -> Value:
        """The value itself: a list needs no rounding."""
        return value

    def holds(self, value: Value) -> bool:
        """Whether it stands in the list."""
        return any(value == v and type(value) is type(v) for v in self.values)

    def place(self, value: Value) -> float:
        """Where it stands in the list, from 0 to 1."""
        return self.values.index(value) / (len(self.values) - 1)

    def ends(self) -> tuple[Value, ...]:
        """All values: each has to be possible."""
        return self.values

    def domain(self) -> object:
        """The same, as Ray Tune has it."""
        from ray import tune

        return tune.choice(list(self.values))


@dataclass(frozen=True, slots=True, kw_only=True)
class Between:
    """A number between two ends, both included.

    Attributes:
        setting: Its dotted name.
        low: The smaller end; positive with `log`.
        high: The larger end.
        log: Whether equal ratios are equally likely, and not equal differences.
        whole: Whether only whole numbers are meant.
    """

    setting: str
    low: float
    high: float
    log: bool = False
    whole: bool = False

    def draw(self, rng: np.random.Generator) -> Value:
        """Uniform between the ends, or between their logarithms."""
        half = 0.5 if self.whole else 0.0  # so that both ends are as likely as what lies between
        low, high = self._scaled(self.low - half), self._scaled(self.high + half)
        return self._tidied(low + float(rng.random()) * (high - low))

    def near(self, value: Value, rng: np.random.Generator) -> Value:
        """A number not far from it, or now and then any."""
        if rng.random() < _ANEW:
            return self.draw(rng)
        low, high = self._scaled(self.low), self._scaled(self.high)
        step = float(rng.normal(0, _STEP)) * (high - low)
        return self._tidied(self._scaled(_number(value)) + step)

    def tidy(self, value: Value) -> Value:
        """Rounded to a whole number or to four digits, and not beyond the ends."""
        number = min(max(_number(value), self.low), self.high)
        return round(number) if self.whole else float(f"{number:.{_DIGITS}g}")

    def holds(self, value: Value) -> bool:
        """Whether it is a number between the ends."""
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        return self.low <= value <= self.high

    def place(self, value: Value) -> float:
        """How far it is from the lower end, from 0 to 1."""
        low, high = self._scaled(self.low), self._scaled(self.high)
        return (self._scaled(_number(value)) - low) / (high - low)

    def ends(self) -> tuple[Value, ...]:
        """Both ends: a policy's limits are intervals, so what lies between is possible too."""
        return (self.tidy(self.low), self.tidy(self.high))

    def domain(self) -> object:
        """The same, as Ray Tune has it."""
        from ray import tune

        if self.whole:
            integers = tune.lograndint if self.log else tune.randint
            return integers(round(self.low), round(self.high) + 1)
        return (tune.loguniform if self.log else tune.uniform)(self.low, self.high)

    def _tidied(self, scaled: float) -> Value:
        return self.tidy(math.exp(scaled) if self.log else scaled)

    def _scaled(self, value: float) -> float:
        return math.log(value) if self.log else value


Range = Choice | Between


def drawn(ranges: Sequence[Range], rng: np.random.Generator) -> dict[str, Value]:
    """One sample."""
    return {r.setting: r.draw(rng) for r in ranges}


def perturbed(
    ranges: Sequence[Range], settings: Settings, rng: np.random.Generator
) -> dict[str, Value]:
    """A sample near another: about half of the settings move, one at least."""
    moves = rng.random(len(ranges)) < 0.5
    moves[int(rng.integers(len(ranges)))] = True
    return {
        r.setting: r.near(settings[r.setting], rng) if moved else settings[r.setting]
        for r, moved in zip(ranges, moves, strict=True)
    }


def tidied(ranges: Sequence[Range], settings: Settings) -> dict[str, Value]:
    """A sample as it is written and searched: numbers rounded."""
    return {r.setting: r.tidy(settings[r.setting]) for r in ranges}


def _number(value: Value) -> float:
    if isinstance(value, int | float):
        return float(value)
    raise TypeError(f"{value!r} is no number")
