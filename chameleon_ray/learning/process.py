"""A Gaussian process around the past: what it says, how far to follow it, and what it misses."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.linalg import cho_solve

from chameleon_ray.cost_model.anova import AnovaProcess, Variances
from chameleon_ray.cost_model.kernels import Matrix
from chameleon_ray.cost_model.tables import Tables
from chameleon_ray.learning.past import Past
from chameleon_ray.space import Configs

# What layers and devices differ by is little in each knob, and more in all of them together
_MISSED = Variances(knob=0.01, pair=0.005, noise=0.02, level=0.3)
_FOLLOWED = 0.3  # standard deviation of how far each opinion is followed


@dataclass(frozen=True, slots=True, kw_only=True)
class Corrected:
    """Functions of configs: the past, and what the measurements corrected; picklable.

    Attributes:
        past: The opinions.
        followed: How far each function follows each opinion, `(opinions, functions)`.
        missed: What the opinions miss.
    """

    past: Past
    followed: npt.NDArray[np.float32]
    missed: Tables

    def __call__(self, configs: Configs) -> npt.NDArray[np.float32]:
        """Each function of configs `(n, knobs)`, float32 `(functions, n)`."""
        told: npt.NDArray[np.float32] = self.missed(configs)
        return told + (self.past.opinions(configs) @ self.followed).T

    def only(self, function: int) -> Corrected:
        """One of the functions."""
        return replace(
            self, followed=self.followed[:, [function]], missed=self.missed.only(function)
        )


class PastProcess(AnovaProcess):
    """Labels as the past has them, plus what it misses.

    A label is a sum of the past's opinions, each times a number that is about its weight, and of an
    ANOVA process (`AnovaProcess`) whose variances are small until they are fitted: how much two
    devices or two layers differ, a few measurements cannot tell.

    Args:
        past: The opinions.
    """

    def __init__(self, past: Past) -> None:
        super().__init__(past.space, begin=_MISSED)
        self._past = past

    def evidence(self, configs: Configs, labels: Matrix) -> float:
        """See `AnovaProcess.evidence`: of what the past leaves of the labels to explain."""
        return super().evidence(configs, self._unexplained(configs, labels))

    def corrected(
        self, configs: Configs, labels: Matrix, *, draws: int, rng: np.random.Generator
    ) -> Corrected:
        """The mean and functions drawn from the posterior; the mean is the first.

        Args:
            configs: int32 `(n, knobs)`; there may be none.
            labels: `(n,)`.
            draws: So many functions are drawn.
            rng: Draws them.
        """
        opinions, weights = self._past.opinions(configs), self._past.weights
        prior = self._sample(draws, rng)
        luck = _FOLLOWED * rng.standard_normal((len(weights), draws))
        expected = prior.tables(configs) + (opinions @ luck).T
        left = self._left(self._unexplained(configs, labels), expected.astype(np.float32), rng)
        solved = cho_solve(self._factor(configs), left) if len(configs) else left
        followed = weights[:, None] + _FOLLOWED**2 * (opinions.T @ solved)
        followed[:, 1:] += luck
        return Corrected(
            past=self._past,
            followed=followed.astype(np.float32),
            missed=self._updated(prior, configs, solved),
        )

    def fit(self, configs: Configs, labels: Matrix) -> None:
        """Find the variances of what the past misses; see `AnovaProcess.fit`."""
        super().fit(configs, self._unexplained(configs, labels))

    def _unexplained(self, configs: Configs, labels: Matrix) -> Matrix:
        """The labels `(n,)` without what the opinions, each by its weight, say of them."""
        left: Matrix = labels - self._past.opinions(configs) @ self._past.weights
        return left

    def _besides(self, configs: Configs) -> Matrix:
        """That of how far the opinions are followed."""
        opinions = self._past.opinions(configs).astype(np.float64)
        return _FOLLOWED**2 * (opinions @ opinions.T)
