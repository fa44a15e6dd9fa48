"""Uniform draws: the baseline that every search must beat."""

from __future__ import annotations

import numpy as np

from chameleon_ray.explorers import Candidates
from chameleon_ray.settings import RandomSettings
from chameleon_ray.space import Configs, DesignSpace, Score


class RandomExplorer:
    """Draws distinct valid configs, uniform over the space, whatever their score.

    Args:
        settings: How many.
    """

    def __init__(self, settings: RandomSettings) -> None:
        self._settings = settings

    def explore(
        self, space: DesignSpace, score: Score, starts: Configs, rng: np.random.Generator
    ) -> Candidates:
        """Fresh draws; configs in `starts` are not drawn.

        Args:
            space: The task's space.
            score: Only ranks the draws.
            starts: The best measured configs `(m, knobs)`.
            rng: The only source of randomness.
        """
        configs = space.random(self._settings.draws, rng, avoid=starts)
        return Candidates.scored(space, configs, score)

    def close(self) -> None:
        """Nothing is held."""
