"""A sample of settings as a trial of Ray Tune: each training iteration is one seed, all spaces.

All samples meet the same seeds in the same order, so that whoever stops the poor ones after a few
iterations compares like with like.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from ray import tune

from chameleon_ray.policy_search.declared import Declared, with_settings
from chameleon_ray.policy_search.grounds import Ground
from chameleon_ray.policy_search.ranges import tidied
from chameleon_ray.settings import Policy

SCORE, MEAN = "score", "mean"  # of this iteration's seed; of all so far


@dataclass(frozen=True, slots=True, kw_only=True)
class Scoring:
    """What all samples have in common.

    Attributes:
        ground: Where they are scored.
        base: The policy whose settings they change.
        declared: Which settings, and between what.
        seeds: One for each iteration.
    """

    ground: Ground
    base: Policy
    declared: Declared
    seeds: tuple[int, ...]


class SampleTrainable(tune.Trainable):
    """Scores one sample after another, in one process."""

    def setup(self, config: dict[str, Any], scoring: Scoring) -> None:
        """Ray calls this once per process."""
        self._scoring = scoring
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Ray calls this to go on with another sample, or with a member's new settings."""
        self._begin(new_config)
        return True

    def _begin(self, config: dict[str, Any]) -> None:
        self._settings = tidied(self._scoring.declared.ranges, config)
        self._means: list[float] = []

    def step(self) -> dict[str, Any]:
        """The searches of one seed."""
        s = self._scoring
        changed = s.declared.all_of(self._settings)
        policy = with_settings(s.base, changed, where="a sample")
        scores = s.ground.scores(policy, s.seeds[len(self._means)])
        self._means.append(float(np.mean(list(scores.values()))))
        return {
            SCORE: self._means[-1],
            MEAN: float(np.mean(self._means)),
            "settings": self._settings,
            "scores": scores,
            "done": len(self._means) == len(s.seeds),
        }

    def save_checkpoint(self, checkpoint_dir: str) -> dict[str, Any]:
        """How many seeds were had; the settings themselves are Tune's."""
        del checkpoint_dir
        return {"means": self._means}

    def load_checkpoint(self, checkpoint: dict[str, Any] | None) -> None:
        """Go on with the next seed."""
        self._means = list(checkpoint["means"]) if checkpoint else []
