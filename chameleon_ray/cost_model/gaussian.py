"""A Gaussian process as the cost model; functions drawn from it are an ensemble."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from chameleon_ray.cost_model.anova import AnovaProcess
from chameleon_ray.cost_model.labels import check_points, known, log_labels
from chameleon_ray.cost_model.tables import Tables
from chameleon_ray.settings import GaussianSettings
from chameleon_ray.space import Configs, DesignSpace, Score, Vector

GROWTH = 1.15  # the variances are fitted anew when there are so many times as many points


@dataclass(frozen=True, slots=True, kw_only=True)
class GaussianScore:
    """A frozen, picklable Gaussian process: int32 configs `(n, knobs)` -> float32 `(n,)`.

    Attributes:
        functions: The posterior mean, then functions drawn from the posterior, of the logarithm
            of the share.
    """

    functions: Tables

    def __call__(self, configs: Configs) -> Vector:
        """The posterior mean, as a share of the best measured fitness."""
        shares: Vector = np.exp(self.functions.only(0)(configs))[0]
        return shares

    def predict(self, configs: Configs) -> tuple[Vector, npt.NDArray[np.float32]]:
        """The posterior mean, float32 `(n,)`, and the drawn functions, float32 `(draws, n)`."""
        shares = np.exp(self.functions(configs))
        return shares[0], shares[1:]

    def member(self, rng: np.random.Generator) -> GaussianScore:
        """One of the drawn functions, chosen at random, as a score of its own."""
        drawn = int(rng.integers(1, self.functions.functions))
        return replace(self, functions=self.functions.only(drawn, drawn))


class GaussianCostModel:
    """A Gaussian process on the logarithm of the time (`AnovaProcess`).

    A few dozen points tell little about interactions, and a forest has to find even a sum of
    effects cut by cut. This model begins with the sum.

    Args:
        settings: How many functions are drawn, and how slow is slow.
        seed: Of the draws.
    """

    def __init__(self, settings: GaussianSettings, *, seed: int) -> None:
        self._settings, self._seed = settings, seed
        self._process: AnovaProcess | None = None
        self._fitted_to = 0
        self._score: GaussianScore | None = None

    @property
    def fitted(self) -> bool:
        """Whether there is a fit to score with."""
        return self._score is not None

    def fit(self, space: DesignSpace, configs: Configs, fitness: Vector) -> None:
        """Learn anew from all points `(n, knobs)`, `(n,)`.

        Raises:
            ValueError: There are no points, or not one fitness for each.
        """
        check_points(configs, fitness)
        with one_blas_thread():
            self._fit(space, configs, fitness)

    def _fit(self, space: DesignSpace, configs: Configs, fitness: Vector) -> None:
        if self._process is None:
            self._process = AnovaProcess(space, multiply=self._settings.products)
        labels = log_labels(fitness, self._settings.clip)
        mean, spread = float(labels.mean()), float(labels.std()) or 1.0
        labels = (labels - mean) / spread
        if len(labels) >= GROWTH * self._fitted_to:
            self._process.fit(configs, labels)
            self._fitted_to = len(labels)
        rng = np.random.default_rng([self._seed, len(labels)])
        drawn = self._process.posterior(configs, labels, draws=self._settings.draws, rng=rng)
        nearer = drawn.nearer(np.float32(self._settings.temper))
        tables = tuple(np.float32(spread) * table for table in nearer.tables)
        levels = np.float32(spread) * nearer.means + np.float32(mean)
        self._score = GaussianScore(functions=replace(nearer, tables=tables, means=levels))

    def score(self) -> Score:
        """The last fit, frozen.

        Raises:
            RuntimeError: Nothing has been fitted yet.
        """
        return known(self._score)


def one_blas_thread() -> AbstractContextManager[Any]:
    """BLAS has one thread within: more are slower here, and other cores time kernels."""
    limited: AbstractContextManager[Any] = _blas().limit(limits=1, user_api="blas")
    return limited


@cache
def _blas() -> Any:
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()
