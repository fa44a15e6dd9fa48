"""A cost model that begins with what is known of other layers and devices, and may unlearn it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from chameleon_ray.cost_model import CostModel
from chameleon_ray.cost_model.anova import AnovaProcess
from chameleon_ray.cost_model.gaussian import GROWTH, one_blas_thread
from chameleon_ray.cost_model.kernels import Matrix
from chameleon_ray.cost_model.labels import known
from chameleon_ray.explorers import Ensemble
from chameleon_ray.learning.lessons import Lessons
from chameleon_ray.learning.past import Past
from chameleon_ray.learning.process import Corrected, PastProcess
from chameleon_ray.learning.sources import FLOOR
from chameleon_ray.space import Configs, DesignSpace, Score, Vector

_MEMBERS = 32
_TEMPER = 0.7  # how far drawn functions depart from the mean, as a share of how far they would
_TRUST = 0.9  # in the past before anything is measured
_FIT = 16  # measurements that tell how much the past misses
_FEWEST = 4  # measurements before the present has a say in that
_JUDGED = 512  # after so many it is known how far to trust the past


@dataclass(frozen=True, slots=True, kw_only=True)
class MixedScore:
    """Predictions of the past, corrected, and of a model without it; picklable.

    Attributes:
        warm: The mean, and as many functions as members follow the past.
        cold: The model without the past; None while nothing is measured.
        trust: The share of the past.
        seed: Draws which of the cold model's members take part.
    """

    warm: Corrected
    cold: Score | None
    trust: float
    seed: int

    def __call__(self, configs: Configs) -> Vector:
        """The share of the best measured fitness that is expected, float32 `(n,)`."""
        return self.predict(configs)[0]

    def predict(self, configs: Configs) -> tuple[Vector, npt.NDArray[np.float32]]:
        """The mean, float32 `(n,)`, and what each member predicts, float32 `(members, n)`."""
        logs = self.warm(configs)
        shares = np.exp(logs)
        if self.cold is None:
            return shares[0], shares[1:]
        mean, members = _asked(self.cold, configs)
        others = _MEMBERS - (len(shares) - 1)
        rows = np.random.default_rng(self.seed).choice(
            len(members), others, replace=others > len(members)
        )
        together = self.trust * shares[0] + (1 - self.trust) * mean
        return together.astype(np.float32), np.concatenate([shares[1:], members[rows]])

    def member(self, rng: np.random.Generator) -> Score:
        """One member, drawn at random."""
        followers = self.warm.missed.functions - 1
        drawn = int(rng.integers(_MEMBERS))
        if self.cold is None or drawn < followers:
            return _Member(function=self.warm.only(1 + drawn % followers))
        return self.cold.member(rng) if isinstance(self.cold, Ensemble) else self.cold


@dataclass(frozen=True, slots=True, kw_only=True)
class _Member:
    function: Corrected

    def __call__(self, configs: Configs) -> Vector:
        shares: Vector = np.exp(self.function(configs)[0])
        return shares


class WarmCostModel:
    """Two models side by side: one around the past, and one that knows nothing of it.

    As many members of the ensemble follow the past as it is to be trusted: by the odds of the
    measurements under a Gaussian process around it, against one without (Bayesian model averaging).
    So a past that the present contradicts loses its say, and one that only knows less than the
    present does, too.

    Args:
        cold: The model without the past.
        lessons: What is known of others as the search goes on; asked before the rounds 0, 1, 2, 4,
            8 and so on.
        space: What is searched.
        seed: Of the draws.

    Attributes:
        past: What is known of others; None as long as that is nothing.
        trust: The share of the past, 0 to 1.
    """

    def __init__(self, cold: CostModel, lessons: Lessons, space: DesignSpace, *, seed: int) -> None:
        self._cold, self._lessons, self._seed = cold, lessons, seed
        self._plain = AnovaProcess(space)
        self._rounds = 0
        self._score: Score | None = None
        self._learn(lessons.at(0))
        self.trust = _TRUST if self.past else 0.0

    def _learn(self, past: Past | None) -> None:
        self.past, self._fitted_to, self._judged = past, 0, 0
        self._warm = PastProcess(past) if past else None

    @property
    def fitted(self) -> bool:
        """Whether there is a fit to score with."""
        return self._score is not None

    def fit(self, space: DesignSpace, configs: Configs, fitness: Vector) -> None:
        """Learn anew from all points `(n, knobs)`, `(n,)`; with a past, there may be none."""
        self._rounds += 1
        if self._rounds > 1 and not (self._rounds - 1) & (self._rounds - 2):
            self._learn(self._lessons.at(self._rounds - 1))
        if len(configs) or self._warm is None:
            self._cold.fit(space, configs, fitness)
        if self._warm is None:
            self._score = self._cold.score()
            return
        with one_blas_thread():
            self._score = self._mixed(self._warm, configs, _labels(fitness))

    def _mixed(self, warm: PastProcess, configs: Configs, labels: Matrix) -> MixedScore:
        """Both models, by how far the past is trusted."""
        grown = len(labels) >= max(_FIT, GROWTH * self._fitted_to)
        if grown:
            warm.fit(configs, labels)
            self._fitted_to = len(labels)
        if len(labels) >= _FEWEST and self._judged < _JUDGED:
            self.trust = self._odds(warm, configs, labels, grown=grown)
            self._judged = len(labels)
        followers = max(1, round(self.trust * _MEMBERS)) if len(configs) else _MEMBERS
        rng = np.random.default_rng([self._seed, len(labels)])
        drawn = warm.corrected(configs, labels, draws=followers, rng=rng)
        return MixedScore(
            warm=_tempered(drawn),
            cold=self._cold.score() if len(configs) else None,
            trust=self.trust,
            seed=len(labels),
        )

    def _odds(self, warm: PastProcess, configs: Configs, labels: Matrix, *, grown: bool) -> float:
        """How probable it is that the measurements are of the past's kind."""
        level, spread = float(labels.mean()), float(labels.std()) or 1.0
        standard = (labels - level) / spread
        if grown or len(labels) < _FIT:
            self._plain.fit(configs, standard)
        without = self._plain.evidence(configs, standard) - len(labels) * np.log(spread)
        gain = warm.evidence(configs, labels) - without + np.log(_TRUST / (1 - _TRUST))
        return float(1 / (1 + np.exp(-np.clip(gain, -30, 30))))

    def score(self) -> Score:
        """The last fit, frozen.

        Raises:
            RuntimeError: Nothing has been fitted yet.
        """
        return known(self._score)


def _labels(fitness: Vector) -> Matrix:
    """The logarithm of each fitness `(n,)` over the best one, at least `FLOOR`."""
    if not len(fitness) or not fitness.max():
        return np.full(len(fitness), FLOOR)
    with np.errstate(divide="ignore"):
        logs = np.log(fitness.astype(np.float64) / fitness.max())
    labels: Matrix = np.maximum(logs, FLOOR)
    return labels


def _tempered(drawn: Corrected) -> Corrected:
    """The functions nearer to their mean."""
    temper = np.float32(_TEMPER)
    followed = drawn.followed[:, :1] + temper * (drawn.followed - drawn.followed[:, :1])
    return Corrected(past=drawn.past, followed=followed, missed=drawn.missed.nearer(temper))


def _asked(score: Score, configs: Configs) -> tuple[Vector, npt.NDArray[np.float32]]:
    """The mean and the members of a score; one without members is its own."""
    if isinstance(score, Ensemble):
        return score.predict(configs)
    mean = score(configs)
    return mean, mean[None, :]
