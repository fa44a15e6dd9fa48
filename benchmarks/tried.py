"""Parts that were tried for policy `chameleon` and left out; `ablations.py` shows what they do."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from chameleon_ray.cost_model.forest import ForestScore
from chameleon_ray.cost_model.labels import known
from chameleon_ray.sampling import Ranking
from chameleon_ray.sampling.thompson import ThompsonSampler
from chameleon_ray.settings import ThompsonSettings
from chameleon_ray.space import BoolArray, Configs, DesignSpace, Score, Vector

_BEST = 3  # measured configs whose neighbours are looked at


class NeighbourSampler:
    """A part of each batch is the best-ranked new neighbours of the three best measured configs.

    A local descent under the model, as Helion has it. The measured configs are ranked by the model
    too: a sampler does not know their times.

    Args:
        batch: Configs of a round.
        share: Of it, how much is neighbours; the rest is picked as Thompson sampling does.
    """

    def __init__(self, batch: int = 4, share: float = 0.5) -> None:
        self._near = round(batch * share)
        self._thompson = ThompsonSampler(ThompsonSettings(batch=batch - self._near))

    def choose(
        self,
        space: DesignSpace,
        candidates: Ranking,
        visited: Configs,
        failed: BoolArray,
        rng: np.random.Generator,
    ) -> Configs:
        """Neighbours, then the others."""
        ranked = candidates.configs
        best = ranked[space.contains(visited[~failed], ranked)][:_BEST]
        around = np.concatenate([ranked[:0], *(space.neighbours(config) for config in best)])
        new = ranked[space.contains(around, ranked) & ~space.contains(visited, ranked)]
        near = new[: self._near]
        taken = np.concatenate([visited, near])
        more = self._thompson.choose(space, candidates, taken, failed, rng)
        return np.concatenate([near, more])


class VotingScore(ForestScore):
    """A forest of classifiers: how probable it is that a config is one of the best."""

    def predict(self, configs: Configs) -> tuple[Vector, npt.NDArray[np.float32]]:
        """The mean of the trees, float32 `(n,)`, and what each says, float32 `(trees, n)`."""
        features = np.ascontiguousarray(self.space.features(configs))
        votes = np.array([tree.predict(features)[:, -1] for tree in self.trees], np.float32)
        return votes.mean(axis=0), votes


class TopTenthModel:
    """Asks of a config whether it is among the fastest tenth of what was measured, not how fast.

    Args:
        trees: Members.
    """

    def __init__(self, trees: int = 100) -> None:
        self._trees = trees
        self._score: VotingScore | None = None

    @property
    def fitted(self) -> bool:
        """Whether there is a fit to score with."""
        return self._score is not None

    def fit(self, space: DesignSpace, configs: Configs, fitness: Vector) -> None:
        """Learn anew from all points `(n, knobs)`, `(n,)`."""
        from sklearn.ensemble import ExtraTreesClassifier

        good = fitness >= np.quantile(fitness, 0.9)
        forest = ExtraTreesClassifier(self._trees, random_state=len(fitness), n_jobs=1)
        forest.fit(space.features(configs), good)
        self._score = VotingScore(trees=tuple(t.tree_ for t in forest.estimators_), space=space)

    def score(self) -> Score:
        """The last fit, frozen.

        Raises:
            RuntimeError: Nothing has been fitted yet.
        """
        return known(self._score)
