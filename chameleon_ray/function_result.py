"""What came of tuning a user's own function."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from chameleon_ray.text import ratio
from chameleon_ray.tunables import Plain

_UNITS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "us"), (1e-9, "ns"))


class Attempt(NamedTuple):
    """One measurement: the config by value, its seconds or None, and what was said of a failure."""

    config: dict[str, Plain]
    seconds: float | None
    message: str


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class FunctionResult:
    """The fastest config that was found, and the way there.

    Attributes:
        best_config: By value.
        best_seconds: Of it: the shortest time of all measurements.
        default_seconds: Of the default; None if none was given, or if it failed.
        history: Every measurement in order; the default's is the first.
        outcomes: Outcome -> how many measurements.
        allowed: How many configs the restrictions allow; None where the space is too large to
            count them.
        policy: Name of the policy.
        seed: Of every random choice.
        run: The run folder; empty if nothing was written.
        learned_from: What the search began with, in words, and what of it could not be used.
        damaged: Names of damaged journal files that were set aside; what they held was measured
            again.
    """

    best_config: Mapping[str, Plain]
    best_seconds: float
    default_seconds: float | None
    history: tuple[Attempt, ...]
    outcomes: Mapping[str, int]
    allowed: int | None
    policy: str
    seed: int
    run: str = ""
    learned_from: str = ""
    damaged: tuple[str, ...] = ()

    @property
    def measurements(self) -> int:
        """How many there are, failed ones and the default included."""
        return len(self.history)

    def to_json(self) -> dict[str, Any]:
        """As plain values, for `json.dumps`."""
        return {
            "best_config": dict(self.best_config),
            "best_seconds": self.best_seconds,
            "default_seconds": self.default_seconds,
            "measurements": self.measurements,
            "outcomes": dict(self.outcomes),
            "allowed": self.allowed,
            "policy": self.policy,
            "seed": self.seed,
            "run": self.run,
            "learned_from": self.learned_from,
            "damaged": list(self.damaged),
            "history": [attempt._asdict() for attempt in self.history],
        }

    def __repr__(self) -> str:
        return f"<FunctionResult: {self._headline()}: {dict(self.best_config)}>"

    def __str__(self) -> str:
        """A few lines: the time, the gain, the config, the failures."""
        width = max(len(name) for name in self.best_config)
        failed = sum(attempt.seconds is None for attempt in self.history)
        lines = [self._headline()]
        lines += [f"  {name:<{width}} = {value!r}" for name, value in self.best_config.items()]
        if failed:
            lines.append(f"{failed} of {self.measurements} measurements failed.")
        return "\n".join(lines)

    def _headline(self) -> str:
        best, default = _time(self.best_seconds), self.default_seconds
        gain = f", {ratio(default, self.best_seconds)} as fast as the default" if default else ""
        return f"{best}, the best of {self.measurements} measurements{gain}"


def _time(seconds: float) -> str:
    """Four digits, in the largest unit that leaves one before the point."""
    size, unit = next((u for u in _UNITS if seconds >= u[0]), _UNITS[-1])
    return f"{seconds / size:.4g} {unit}"
