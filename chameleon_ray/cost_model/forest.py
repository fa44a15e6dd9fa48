"""A forest as the cost model: an ensemble whose members can be asked one by one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from chameleon_ray.settings import ForestSettings
from chameleon_ray.space import Configs, DesignSpace, Features, Score, Vector


@dataclass(frozen=True, slots=True, kw_only=True)
class ForestScore:
    """A frozen, picklable forest: int32 configs `(n, knobs)` -> float32 `(n,)`.

    Attributes:
        trees: Fitted scikit-learn trees.
        space: Makes the features.
    """

    trees: tuple[Any, ...]
    space: DesignSpace

    def __call__(self, configs: Configs) -> Vector:
        """Predicted fitness as a share of the best measured one: the mean of the members."""
        mean: Vector = self.members(configs).mean(axis=0)
        return mean

    def members(self, configs: Configs) -> npt.NDArray[np.float32]:
        """What each tree predicts, float32 `(trees, n)`."""
        features = np.ascontiguousarray(self.space.features(configs))
        logs = np.empty((len(self.trees), len(features)), dtype=np.float32)
        for row, tree in zip(logs, self.trees if len(features) else (), strict=False):
            row[:] = tree.predict(features)[:, 0]
        return np.exp(logs, out=logs)

    def member(self, rng: np.random.Generator) -> ForestScore:
        """One tree, drawn at random, as a score of its own."""
        return ForestScore(
            trees=(self.trees[int(rng.integers(len(self.trees)))],), space=self.space
        )


class ForestCostModel:
    """Extremely randomised trees (Geurts et al., 2006) on the logarithm of the time.

    Every tree cuts at random, so trees differ most where little was measured; a draw among them
    is a draw from what the measurements leave open.

    Args:
        settings: Members, and how slow is slow.
        seed: Of the cuts.
    """

    def __init__(self, settings: ForestSettings, *, seed: int) -> None:
        self._settings, self._seed = settings, seed
        self._trees: tuple[Any, ...] = ()

    @property
    def fitted(self) -> bool:
        """Whether there is a fit to score with."""
        return bool(self._trees)

    def fit(self, features: Features, fitness: Vector) -> None:
        """Learn anew from all points `(n, features)`, `(n,)`.

        Raises:
            ValueError: There are no points, or not one fitness for each.
        """
        from sklearn.ensemble import ExtraTreesRegressor

        if len(features) != len(fitness) or not len(fitness):
            raise ValueError(f"cannot fit {len(features)} points to {len(fitness)} fitnesses")
        forest = ExtraTreesRegressor(
            self._settings.trees, random_state=(self._seed + len(fitness)) % 2**32, n_jobs=1
        ).fit(features, _labels(fitness, self._settings.clip))
        self._trees = tuple(tree.tree_ for tree in forest.estimators_)

    def score(self, space: DesignSpace) -> Score:
        """The last fit, frozen.

        Raises:
            RuntimeError: Nothing has been fitted yet.
        """
        if not self._trees:
            raise RuntimeError("the cost model has not been fitted yet; call fit before score")
        return ForestScore(trees=self._trees, space=space)


def _labels(fitness: Vector, clip: float) -> npt.NDArray[np.float64]:
    """The logarithm of each fitness over the best one; what is slow or failed is clipped."""
    valid = fitness > 0
    if not valid.any():
        return np.zeros(len(fitness))
    logs = np.log(fitness[valid] / fitness.max()).astype(np.float64)
    labels = np.full(len(fitness), np.quantile(logs, 1 - clip))
    labels[valid] = np.maximum(logs, labels[valid])
    return labels
