"""A search replayed on a recorded space: one process, no Ray unless the policy's explorer asks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from itertools import accumulate
from typing import Any

import numpy as np

from chameleon_ray.assembly import search
from chameleon_ray.learning.agent_file import Weights
from chameleon_ray.learning.lessons import FixedLessons
from chameleon_ray.learning.past import Past
from chameleon_ray.measure import Measurement
from chameleon_ray.measure.recorded import RecordedMeasurer, RecordedSpace
from chameleon_ray.phases import Phases
from chameleon_ray.settings import Policy


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """How one search went.

    Attributes:
        space: Name of the recorded space.
        policy: Name of the policy.
        seed: Of the search.
        device: What the space was measured on, in words that say it is recorded.
        optimum_seconds: The space's shortest time.
        best_seconds: The shortest time after each attempt; None before the first success.
        outcomes: How often the attempts ended how: `ok`, or a failure's recorded name.
        phase_seconds: What the search itself took, by phase.
    """

    space: str
    policy: str
    seed: int
    device: str
    optimum_seconds: float
    best_seconds: tuple[float | None, ...]
    outcomes: Mapping[str, int]
    phase_seconds: Mapping[str, float]

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)

    @property
    def final(self) -> float:
        """Optimum over best found; 0 if nothing succeeded."""
        best = self.best_seconds[-1] if self.best_seconds else None
        return self.optimum_seconds / best if best else 0.0


def replay(
    recorded: RecordedSpace,
    policy: Policy,
    *,
    name: str,
    trials: int,
    seed: int,
    sleep: bool = False,
    past: Past | None = None,
    weights: Weights | None = None,
) -> Replay:
    """Search a recorded space.

    Args:
        recorded: The space.
        policy: How to search.
        name: What to call the policy.
        trials: Attempts, failed ones included; fewer if the space has fewer configs.
        seed: Of every random choice.
        sleep: Whether each measurement takes its recorded time.
        past: What is known of others.
        weights: What an agent of tokens begins with.
    """
    phases = Phases()
    trials = min(trials, len(recorded.configs))
    measured: list[Measurement] = []
    rounds = search(
        recorded.task,
        recorded.space,
        policy,
        measurer=RecordedMeasurer(recorded, sleep=sleep),
        budget=trials,
        seed=seed,
        rng=np.random.default_rng(seed),
        phases=phases,
        default=recorded.default,
        hopeless=None,
        lessons=FixedLessons(past=past) if past else None,
        weights=weights,
    )
    with closing(rounds):
        for history in rounds:
            measured = history.measurements
    return Replay(
        space=recorded.name,
        policy=name,
        seed=seed,
        device=device_of(recorded),
        optimum_seconds=recorded.optimum_seconds,
        best_seconds=tuple(best_so_far(measured)),
        outcomes=dict(Counter(m.message or str(m.outcome) for m in measured)),
        phase_seconds=dict(phases.seconds),
    )


def device_of(recorded: RecordedSpace) -> str:
    """What a space was measured on: nothing is measured here, and every output says so."""
    return f"recorded: {recorded.device or 'a device that the file does not name'}"


def best_so_far(measurements: list[Measurement]) -> list[float | None]:
    """The shortest time after each measurement, in seconds; None before the first success."""
    times = (m.seconds if m.ok else None for m in measurements)
    return list(accumulate(times, _shorter))


def _shorter(one: float | None, other: float | None) -> float | None:
    known = [seconds for seconds in (one, other) if seconds is not None]
    return min(known, default=None)
