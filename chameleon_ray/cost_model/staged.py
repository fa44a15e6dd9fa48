"""Two cost models, one after the other: what learns well from few points need not from many."""

from __future__ import annotations

from chameleon_ray.cost_model.forest import ForestCostModel
from chameleon_ray.cost_model.gaussian import GaussianCostModel
from chameleon_ray.settings import StagedSettings
from chameleon_ray.space import Configs, DesignSpace, Score, Vector


class StagedCostModel:
    """A forest until there are so many measurements, then a Gaussian process.

    Of the first dozens, random cuts along products of knobs tell more than a sum of effects whose
    sizes are not known yet; later the sum is the sharper of the two (docs/search.md).

    Args:
        settings: Both, and when the second follows.
        seed: Of their random choices.
    """

    def __init__(self, settings: StagedSettings, *, seed: int) -> None:
        self._until = settings.until
        self._first = ForestCostModel(settings.first, seed=seed)
        self._then = GaussianCostModel(settings.then, seed=seed)
        self._current: ForestCostModel | GaussianCostModel = self._first

    @property
    def fitted(self) -> bool:
        """Whether there is a fit to score with."""
        return self._current.fitted

    def fit(self, space: DesignSpace, configs: Configs, fitness: Vector) -> None:
        """Learn anew from all points `(n, knobs)`, `(n,)`; their number says which model does.

        Raises:
            ValueError: There are no points, or not one fitness for each.
        """
        self._current = self._first if len(configs) < self._until else self._then
        self._current.fit(space, configs, fitness)

    def score(self) -> Score:
        """The last fit, frozen.

        Raises:
            RuntimeError: Nothing has been fitted yet.
        """
        return self._current.score()
