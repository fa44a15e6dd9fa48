"""How a search with a past begins: where it was good elsewhere; as without, if that is wrong."""

from __future__ import annotations

import numpy as np

from chameleon_ray.explorers import Candidates, Explorer, WalkReport, report_of
from chameleon_ray.learning.warm import WarmCostModel
from chameleon_ray.sampling import Clustering, Ranking, Sampler
from chameleon_ray.space import BoolArray, Configs, DesignSpace, Score

_WRONG = 0.5  # a past that is trusted less is wrong


class BeginningExplorer:
    """Starts walks at what was good elsewhere, too, until enough is good here.

    Args:
        explorer: Walks.
        elsewhere: Valid configs `(m, knobs)`, the best first.
    """

    def __init__(self, explorer: Explorer, elsewhere: Configs) -> None:
        self._explorer, self._elsewhere = explorer, elsewhere

    @property
    def report(self) -> WalkReport | None:
        """Of the walks of the last round; None if there were none."""
        return report_of(self._explorer)

    def explore(
        self, space: DesignSpace, score: Score, starts: Configs, rng: np.random.Generator
    ) -> Candidates:
        """As the other explorer does from these starts."""
        several = max(0, len(self._elsewhere) - len(starts))
        together = np.concatenate([starts, self._elsewhere[:several]])
        return self._explorer.explore(space, score, space.distinct(together), rng)

    def close(self) -> None:
        """Free what the other explorer holds."""
        self._explorer.close()


class ReservingSampler:
    """Keeps what a search without a past begins with, and takes it if the past proves wrong.

    Args:
        sampler: Picks otherwise.
        reserve: What is measured first without a past, `(n, knobs)`. Once as many are measured, it
            is of no more use.
        model: Says how far the past is trusted.
    """

    def __init__(self, sampler: Sampler, reserve: Configs, model: WarmCostModel) -> None:
        self._sampler, self._reserve, self._model = sampler, reserve, model

    @property
    def clusters(self) -> Clustering | None:
        """Of the other sampler's last round, if it clusters."""
        return getattr(self._sampler, "clusters", None)

    def choose(
        self,
        space: DesignSpace,
        candidates: Ranking,
        visited: Configs,
        failed: BoolArray,
        rng: np.random.Generator,
    ) -> Configs:
        """The reserve if the past has just proved wrong, or the other sampler's picks."""
        reserve = self._reserve
        if len(visited) < len(reserve) and self._model.trust < _WRONG:
            self._reserve = reserve[:0]
            fresh = reserve[~space.contains(visited, reserve)]
            if len(fresh):
                return fresh
        return self._sampler.choose(space, candidates, visited, failed, rng)
