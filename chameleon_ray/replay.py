"""A search replayed on a recorded space: one process, no Ray unless the policy's explorer asks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import accumulate
from typing import Any

import numpy as np

from chameleon_ray.cost_model import make_cost_model
from chameleon_ray.explorers import explorer_of
from chameleon_ray.measure import Measurement
from chameleon_ray.measure.recorded import RecordedMeasurer, RecordedSpace
from chameleon_ray.phases import Phases
from chameleon_ray.sampling import make_sampler
from chameleon_ray.settings import Policy
from chameleon_ray.starts import first_batch
from chameleon_ray.task_tuner import Budget, tune_task


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """How one search went.

    Attributes:
        space: Name of the recorded space.
        policy: Name of the policy.
        seed: Of the search.
        optimum_seconds: The space's shortest time.
        best_seconds: The shortest time after each attempt; None before the first success.
        outcomes: How often the attempts ended how: `ok`, or a failure's recorded name.
        phase_seconds: What the search itself took, by phase.
    """

    space: str
    policy: str
    seed: int
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
) -> Replay:
    """Search a recorded space.

    Args:
        recorded: The space.
        policy: How to search.
        name: What to call the policy.
        trials: Attempts, failed ones included; fewer if the space has fewer configs.
        seed: Of every random choice.
        sleep: Whether each measurement takes its recorded time.
    """
    rng, phases = np.random.default_rng(seed), Phases()
    space = recorded.space
    if policy.features == "knobs":
        space = space.with_knob_features()
    explorer = explorer_of(policy, seed=seed)
    trials = min(trials, len(recorded.configs))
    measured: list[Measurement] = []
    try:
        for history in tune_task(
            recorded.task,
            space,
            first=first_batch(space, policy, rng),
            has_default=False,
            explorer=explorer,
            sampler=make_sampler(policy),
            measurer=RecordedMeasurer(recorded, sleep=sleep),
            cost_model=make_cost_model(policy.cost_model, seed=seed),
            budget=Budget(measurements=trials),
            rng=rng,
            phases=phases,
            hopeless=trials + 1,
        ):
            measured = history.measurements
    finally:
        explorer.close()
    return Replay(
        space=recorded.name,
        policy=name,
        seed=seed,
        optimum_seconds=recorded.optimum_seconds,
        best_seconds=tuple(best_so_far(measured)),
        outcomes=dict(Counter(m.message or str(m.outcome) for m in measured)),
        phase_seconds=dict(phases.seconds),
    )


def best_so_far(measurements: list[Measurement]) -> list[float | None]:
    """The shortest time after each measurement, in seconds; None before the first success."""
    times = (m.seconds if m.ok else None for m in measurements)
    return list(accumulate(times, _shorter))


def _shorter(one: float | None, other: float | None) -> float | None:
    known = [seconds for seconds in (one, other) if seconds is not None]
    return min(known, default=None)
