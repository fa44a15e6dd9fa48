"""The cost model: learns from past measurements to predict fitness, the agent's reward."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from chameleon_ray.measure import Measurement
from chameleon_ray.plugins import load
from chameleon_ray.settings import (
    CostModel as CostModelKind,
    CostModelSettings,
    ForestSettings,
    GaussianSettings,
    MeasuredSettings,
    PluginSettings,
    StagedSettings,
)
from chameleon_ray.space import Configs, DesignSpace, Score, Vector


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
    `score` gives the explorer a picklable function that outlives later fits unchanged. A score
    may be an `explorers.Ensemble`, whose members can be asked one by one.
    """

    @property
    def fitted(self) -> bool:
        """Whether there is a fit to score with."""

    def fit(self, space: DesignSpace, configs: Configs, fitness: Vector) -> None:
        """Learn anew from all points.

        Args:
            space: The task's space; the same in every call.
            configs: int32 `(n, knobs)`, distinct.
            fitness: float32 `(n,)`, as `fitness` gives it; its unit does not matter.

        Raises:
            ValueError: There are no points, or not one fitness for each.
        """

    def score(self) -> Score:
        """Predicted fitness as a share of the best measured one, about 0 to 1.

        Raises:
            RuntimeError: Nothing has been fitted yet.
        """


def make_cost_model(settings: CostModelKind, *, seed: int) -> CostModel:
    """The cost model that the settings describe; `seed` is that of its own random choices."""
    match settings:
        case CostModelSettings():
            from chameleon_ray.cost_model.xgb import XgbCostModel

            return XgbCostModel(settings, seed=seed)
        case ForestSettings():
            from chameleon_ray.cost_model.forest import ForestCostModel

            return ForestCostModel(settings, seed=seed)
        case GaussianSettings():
            from chameleon_ray.cost_model.gaussian import GaussianCostModel

            return GaussianCostModel(settings, seed=seed)
        case StagedSettings():
            from chameleon_ray.cost_model.staged import StagedCostModel

            return StagedCostModel(settings, seed=seed)
        case MeasuredSettings():
            from chameleon_ray.cost_model.measured import MeasuredCostModel

            return MeasuredCostModel()
        case PluginSettings():
            model: CostModel = load(settings.kind, what="cost_model")(**settings.options)
            return model
