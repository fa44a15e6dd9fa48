"""No cost model: what was measured is all that is known, for searches that breed from it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from chameleon_ray.cost_model.labels import check_points, known
from chameleon_ray.space import Configs, DesignSpace, Listing, Score, Vector


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredScore:
    """Measured fitness; 0 for what was not measured.

    Attributes:
        configs: What was measured, int32 `(m, knobs)`.
        fitness: As a share of the best, float32 `(m,)`.
        space: Whose configs they are.
    """

    configs: Configs
    fitness: Vector
    space: DesignSpace

    def __call__(self, configs: Configs) -> Vector:
        """Fitness as a share of the best, float32 `(n,)`."""
        places = Listing(self.space, self.configs).find(configs)
        return np.where(places >= 0, self.fitness[places], np.float32(0))


class MeasuredCostModel:
    """No model at all: for searches that breed from what was measured."""

    def __init__(self) -> None:
        self._score: MeasuredScore | None = None

    @property
    def fitted(self) -> bool:
        """Whether there is anything to look up."""
        return self._score is not None

    def fit(self, space: DesignSpace, configs: Configs, fitness: Vector) -> None:
        """Remember all points `(n, knobs)`, `(n,)`.

        Raises:
            ValueError: There are no points, or not one fitness for each.
        """
        check_points(configs, fitness)
        shares = fitness / np.float32(fitness.max() or 1)
        self._score = MeasuredScore(configs=configs, fitness=shares, space=space)

    def score(self) -> Score:
        """What was measured so far.

        Raises:
            RuntimeError: Nothing has been fitted yet.
        """
        return known(self._score)
