"""A forest as the cost model: an ensemble whose members can be asked one by one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from chameleon_ray.cost_model.labels import check_points, known, log_labels
from chameleon_ray.settings import ForestSettings
from chameleon_ray.space import Configs, DesignSpace, Score, Vector


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
        return self.predict(configs)[0]

    def predict(self, configs: Configs) -> tuple[Vector, npt.NDArray[np.float32]]:
        """The mean of the trees, float32 `(n,)`, and what each predicts, float32 `(trees, n)`."""
        features = np.ascontiguousarray(self.space.features(configs))
        logs = np.empty((len(self.trees), len(features)), dtype=np.float32)
        for row, tree in zip(logs, self.trees if len(features) else (), strict=False):
            row[:] = tree.predict(features)[:, 0]
        np.exp(logs, out=logs)
        return logs.mean(axis=0), logs

    def member(self, rng: np.random.Generator) -> ForestScore:
        """One tree, drawn at random, as a score of its own."""
        return replace(self, trees=(self.trees[int(rng.integers(len(self.trees)))],))


class ForestCostModel:
    """Extremely randomised trees (Geurts et al., 2006) on the logarithm of the time.

    Every tree cuts at random, so trees differ most where little was measured; a draw among them
    is a draw from what the measurements leave open.

    Args:
        settings: Members, and how slow is slow.
        seed: Of the cuts.
    """

    def __init__(self, settings: ForestSettings, *, seed: int) -> None:
        import sklearn.ensemble  # noqa: F401 - here, so that the seconds are not those of a fit

        self._settings, self._seed = settings, seed
        self._score: ForestScore | None = None

    @property
    def fitted(self) -> bool:
        """Whether there is a fit to score with."""
        return self._score is not None

    def fit(self, space: DesignSpace, configs: Configs, fitness: Vector) -> None:
        """Learn anew from all points `(n, knobs)`, `(n,)`.

        Raises:
            ValueError: There are no points, or not one fitness for each.
        """
        from sklearn.ensemble import ExtraTreesRegressor

        check_points(configs, fitness)
        forest = ExtraTreesRegressor(
            self._settings.trees, random_state=(self._seed + len(fitness)) % 2**32, n_jobs=1
        ).fit(space.features(configs), log_labels(fitness, self._settings.clip))
        trees = tuple(tree.tree_ for tree in forest.estimators_)
        self._score = ForestScore(trees=trees, space=space)

    def score(self) -> Score:
        """The last fit, frozen.

        Raises:
            RuntimeError: Nothing has been fitted yet.
        """
        return known(self._score)
