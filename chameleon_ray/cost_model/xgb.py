"""XGBoost as the cost model, as AutoTVM and the paper have it (Tables 7 and 8)."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np

from chameleon_ray.cost_model.labels import check_points, known
from chameleon_ray.settings import CostModelSettings
from chameleon_ray.space import Configs, DesignSpace, Features, Score, Vector

_RANKED = 64  # AutoTVM's plan size: the best so many must be ranked well


@dataclass(frozen=True, kw_only=True)  # no slots: the loaded booster is cached in __dict__
class XgbScore:
    """A frozen, picklable cost model: int32 configs `(n, knobs)` -> float32 `(n,)`.

    Attributes:
        booster: XGBoost's own binary JSON of the trees.
        space: Makes the features.
    """

    booster: bytes
    space: DesignSpace

    def __call__(self, configs: Configs) -> Vector:
        """Predicted fitness as a share of the best measured one."""
        if not len(configs):
            return np.zeros(0, dtype=np.float32)
        predicted = self._loaded.inplace_predict(self.space.features(configs))
        return np.asarray(predicted, dtype=np.float32)

    @cached_property
    def _loaded(self) -> Any:
        """The booster, loaded once in each process that scores."""
        from xgboost import Booster

        loaded = Booster(model_file=bytearray(self.booster))
        loaded.set_param({"nthread": 1})
        return loaded

    def __getstate__(self) -> dict[str, object]:
        """The fields alone: a loaded booster stays in its process."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


class XgbCostModel:
    """Gradient-boosted trees with a squared loss (`mode_GBT` = xgb-reg, Tables 7 and 8).

    As in AutoTVM's code: all points are fitted, and boosting goes on until the model has not come
    to rank the best of them better for `patience` rounds (`average_recall`). One thread, and the
    same points and seed give the same trees.
    """

    def __init__(self, settings: CostModelSettings, *, seed: int) -> None:
        import xgboost  # noqa: F401 - here, so that the seconds are not those of the first fit

        self._settings = settings
        self._seed = seed
        self._score: XgbScore | None = None

    @property
    def fitted(self) -> bool:
        """Whether there is a fit to score with."""
        return self._score is not None

    def fit(self, space: DesignSpace, configs: Configs, fitness: Vector) -> None:
        """Learn anew from all points `(n, knobs)`, `(n,)`.

        The labels are divided by the best of them, so that predictions are shares of it.

        Raises:
            ValueError: There are no points, or not one fitness for each.
        """
        check_points(configs, fitness)
        features = space.features(configs)
        best = float(fitness.max())
        labels = fitness / best if best > 0 else fitness
        booster, points = self._booster_on(features, labels)
        rows = np.ascontiguousarray(features)
        best_recall, best_round = -1.0, 0
        for round_ in range(self._settings.rounds):
            booster.update(points, round_)
            if round_ % 2 == 0:
                recall = average_recall(booster.inplace_predict(rows), labels, _RANKED)
                if recall > best_recall:
                    best_recall, best_round = recall, round_
                elif round_ - best_round >= self._settings.patience:
                    break
        self._score = XgbScore(booster=bytes(booster.save_raw("ubj")), space=space)

    def score(self) -> Score:
        """The last fit, frozen.

        Raises:
            RuntimeError: Nothing has been fitted yet.
        """
        return known(self._score)

    def _booster_on(self, features: Features, labels: Vector) -> tuple[Any, Any]:
        """An untrained booster and its points."""
        from xgboost import Booster, DMatrix

        points = DMatrix(features, labels, nthread=1)
        parameters = {
            "objective": "reg:squarederror",
            "tree_method": "hist",
            "max_depth": self._settings.max_depth,
            "eta": self._settings.learning_rate,
            "gamma": self._settings.least_gain,
            "nthread": 1,
            "seed": self._seed,
        }
        return Booster(parameters, [points]), points


def average_recall(predicted: Vector, measured: Vector, n: int) -> float:
    """How well a prediction ranks the best (AutoTVM's `a-recall@n`), from 0 to 1.

    The mean, over i from 1 to n, of the share of the i best that are among the i predicted best.

    Args:
        predicted: `(m,)`.
        measured: `(m,)`.
        n: At most so many of the best count.
    """
    n = min(n, len(measured))
    places = np.empty((2, len(measured)), dtype=np.intp)
    for row, values in zip(places, (predicted, measured), strict=True):
        row[np.argsort(-values, kind="stable")] = np.arange(len(measured))
    both_within = np.bincount(places.max(axis=0), minlength=n)[:n].cumsum()
    return float((both_within / np.arange(1, n + 1)).mean())
