"""The cost model: learns from past measurements to predict fitness, the agent's reward."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from chameleon_ray.measure import Measurement
from chameleon_ray.plugins import load
from chameleon_ray.settings import (
    CostModel as CostModelKind,
    CostModelSettings,
    ForestSettings,
    MeasuredSettings,
    PluginSettings,
)
from chameleon_ray.space import Configs, DesignSpace, Features, Score, Vector

_RANKED = 64  # AutoTVM's plan size: the best so many must be ranked well


def fitness(task_flop: int, measurements: Sequence[Measurement]) -> Vector:
    """What the search maximises (equation 1): GFLOP/s, and 0 for every failure; float32 `(n,)`.

    The only place where a failure becomes a number.
    """
    return np.array(
        [task_flop / m.seconds / 1e9 if m.ok else 0.0 for m in measurements], dtype=np.float32
    )


class CostModel(Protocol):
    """Predicts fitness from features (Figure 3).

    Lifecycle: made once per task; `fit` after every round, each time on all measurements; then
    `score` gives the explorer a picklable function that outlives later fits unchanged.
    """

    @property
    def fitted(self) -> bool:
        """Whether there is a fit to score with."""

    def fit(self, features: Features, fitness: Vector) -> None:
        """Learn anew from all points.

        Args:
            features: float32 `(n, features)`, as `DesignSpace.features` gives them.
            fitness: float32 `(n,)`, as `fitness` gives it; its unit does not matter.

        Raises:
            ValueError: There are no points, or not one fitness for each.
        """

    def score(self, space: DesignSpace) -> Score:
        """Predicted fitness as a share of the best measured one, about 0 to 1.

        Raises:
            RuntimeError: Nothing has been fitted yet.
        """


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
        self._settings = settings
        self._seed = seed
        self._booster: bytes | None = None

    @property
    def fitted(self) -> bool:
        """Whether there is a fit to score with."""
        return self._booster is not None

    def fit(self, features: Features, fitness: Vector) -> None:
        """Learn anew from all points `(n, features)`, `(n,)`.

        The labels are divided by the best of them, so that predictions are shares of it.

        Raises:
            ValueError: There are no points, or not one fitness for each.
        """
        check_points(features, fitness)
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
        self._booster = bytes(booster.save_raw("ubj"))

    def score(self, space: DesignSpace) -> Score:
        """The last fit, frozen.

        Raises:
            RuntimeError: Nothing has been fitted yet.
        """
        if self._booster is None:
            raise RuntimeError("the cost model has not been fitted yet; call fit before score")
        return XgbScore(booster=self._booster, space=space)

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


def check_points(features: Features, fitness: Vector) -> None:
    """Whether there is something to fit.

    Raises:
        ValueError: There are no points, or not one fitness for each.
    """
    if len(features) != len(fitness) or not len(fitness):
        raise ValueError(f"cannot fit {len(features)} points to {len(fitness)} fitnesses")


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredScore:
    """Measured fitness; 0 for what was not measured.

    Attributes:
        fitness: By the bytes of a config's features.
        space: Makes the features.
    """

    fitness: Mapping[bytes, float]
    space: DesignSpace

    def __call__(self, configs: Configs) -> Vector:
        """Fitness as a share of the best, float32 `(n,)`."""
        rows = self.space.features(configs)
        return np.array([self.fitness.get(row.tobytes(), 0.0) for row in rows], dtype=np.float32)


class MeasuredCostModel:
    """No model at all: for searches that breed from what was measured."""

    def __init__(self) -> None:
        self._fitness: dict[bytes, float] | None = None

    @property
    def fitted(self) -> bool:
        """Whether there is anything to look up."""
        return self._fitness is not None

    def fit(self, features: Features, fitness: Vector) -> None:
        """Remember all points `(n, features)`, `(n,)`.

        Raises:
            ValueError: There are no points, or not one fitness for each.
        """
        check_points(features, fitness)
        shares = fitness / (float(fitness.max()) or 1.0)
        self._fitness = {
            row.tobytes(): float(share) for row, share in zip(features, shares, strict=True)
        }

    def score(self, space: DesignSpace) -> Score:
        """What was measured so far.

        Raises:
            RuntimeError: Nothing has been fitted yet.
        """
        if self._fitness is None:
            raise RuntimeError("the cost model has not been fitted yet; call fit before score")
        return MeasuredScore(fitness=self._fitness, space=space)


def make_cost_model(settings: CostModelKind, *, seed: int) -> CostModel:
    """The cost model that the settings describe; `seed` is that of its own random choices."""
    match settings:
        case CostModelSettings():
            return XgbCostModel(settings, seed=seed)
        case ForestSettings():
            from chameleon_ray.forest import ForestCostModel

            return ForestCostModel(settings, seed=seed)
        case MeasuredSettings():
            return MeasuredCostModel()
        case PluginSettings():
            model: CostModel = load(settings.kind, what="cost_model")(**settings.options)
            return model
