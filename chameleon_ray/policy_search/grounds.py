"""Where samples are scored: recorded spaces, searched with the same seeds by every sample."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np

from chameleon_ray.compare import Standing, compare, search_by_policy
from chameleon_ray.measure.recorded import RecordedSpace, kernel_of
from chameleon_ray.scores import Curve, points_up_to, score_at
from chameleon_ray.searches import (
    SEARCHES,
    Search,
    Searches,
    SearchKey,
    policy_digest,
    space_digest,
)
from chameleon_ray.settings import Policy

OnProgress = Callable[[Standing], None]


class Ground(Protocol):
    """What policies are scored on. It is sent to the processes that do the scoring."""

    @property
    def kernels(self) -> Mapping[str, str]:
        """What each space is an instance of, by name of the space."""

    @property
    def digest(self) -> str:
        """Stands for all that scores here depend on, besides policy and seed."""

    @property
    def resources(self) -> Mapping[str, float]:
        """What one sample at a time needs, as Ray counts it."""

    def only(self, spaces: Collection[str]) -> Ground:
        """The same with some of the spaces."""

    def scores(self, policy: Policy, seed: int) -> dict[str, float]:
        """How well a policy searches each space with a seed; what was searched before is kept."""

    def judged(
        self, policies: Sequence[tuple[str, Policy]], seeds: Sequence[int], on_progress: OnProgress
    ) -> list[Search]:
        """Searches by policies that are to be compared, with references."""


def score_of(
    best_seconds: tuple[float | None, ...], reference_seconds: float, trials: int
) -> float:
    """A search as one number: the mean of its scores at the points that `compare` tabulates.

    The points are powers of two, so that early attempts count for as much as late ones.
    """
    curve = Curve(
        space="",
        kernel="",
        policy="",
        seed=0,
        reference_seconds=reference_seconds,
        best_seconds=best_seconds,
    )
    return float(np.mean(score_at(curve, points_up_to(trials))))


@dataclass(frozen=True)
class RecordedGround:
    """Recorded spaces.

    Attributes:
        spaces: With distinct names.
        trials: Attempts of each search.
        out: Folder of the finished searches.
    """

    spaces: tuple[RecordedSpace, ...]
    trials: int
    out: Path

    @property
    def kernels(self) -> Mapping[str, str]:
        """As the files say, or the part of a space's name before the device."""
        return {space.name: kernel_of(space) for space in self.spaces}

    @cached_property
    def _digests(self) -> Mapping[str, str]:
        return {space.name: space_digest(space) for space in self.spaces}

    @property
    def digest(self) -> str:
        """Of the spaces' contents and the budget."""
        return f"{sorted(self._digests.items())}, {self.trials} trials"

    @property
    def resources(self) -> Mapping[str, float]:
        """A core."""
        return {"CPU": 1.0}

    def only(self, spaces: Collection[str]) -> RecordedGround:
        """The same with some of the spaces."""
        chosen = tuple(space for space in self.spaces if space.name in spaces)
        return RecordedGround(spaces=chosen, trials=self.trials, out=self.out)

    def scores(self, policy: Policy, seed: int) -> dict[str, float]:
        """Searches the spaces one after another, on one core."""
        return {space.name: self._score(space, policy, seed) for space in self.spaces}

    def judged(
        self, policies: Sequence[tuple[str, Policy]], seeds: Sequence[int], on_progress: OnProgress
    ) -> list[Search]:
        """As `compare` searches them, as many at once as there are cores."""
        return compare(
            self.spaces,
            policies,
            seeds=seeds,
            trials=self.trials,
            out=self.out,
            on_progress=on_progress,
        )

    def _score(self, space: RecordedSpace, policy: Policy, seed: int) -> float:
        of_policy = policy_digest(policy)
        key = SearchKey(
            space=space.name,
            space_digest=self._digests[space.name],
            policy=f"sample-{of_policy}",
            policy_digest=of_policy,
            seed=seed,
            trials=self.trials,
        )
        store = Searches(self.out / SEARCHES)
        found = store.find(key)
        if found is None:
            found = search_by_policy(space, key, policy)
            store.write(found)
        return score_of(found.best_seconds, space.optimum_seconds, self.trials)
