"""How a search with a past begins: where it was good elsewhere; as without, if that is wrong."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from chameleon_ray.explorers import Candidates, Explorer, WalkReport, report_of
from chameleon_ray.learning.warm import WarmCostModel
from chameleon_ray.sampling import Clustering, Ranking, Sampler
from chameleon_ray.sampling.improvement import ImprovementSampler
from chameleon_ray.settings import ImprovementSettings
from chameleon_ray.space import BoolArray, Configs, DesignSpace, Score

_INSURED = 4  # one pick in so many is as without a past
_WRONG = 0.5  # a past that is trusted less is wrong


class BeginningExplorer:
    """Starts walks at what was good elsewhere, too, until enough is good here.

    Args:
        explorer: Walks.
        model: Knows what was good elsewhere.
    """

    def __init__(self, explorer: Explorer, model: WarmCostModel) -> None:
        self._explorer, self._model = explorer, model

    @property
    def report(self) -> WalkReport | None:
        """Of the walks of the last round; None if there were none."""
        return report_of(self._explorer)

    def explore(
        self, space: DesignSpace, score: Score, starts: Configs, rng: np.random.Generator
    ) -> Candidates:
        """What the other explorer finds from these starts, and they themselves."""
        if self._model.past is None:
            return self._explorer.explore(space, score, starts, rng)
        elsewhere = self._model.past.elsewhere
        several = max(0, len(elsewhere) - len(starts))
        starts = space.distinct(np.concatenate([starts, elsewhere[:several]]))
        found = self._explorer.explore(space, score, starts, rng)
        missing = starts[~space.contains(found.configs, starts)]
        if not len(missing):
            return found
        together = Candidates.scored(space, np.concatenate([found.configs, missing]), score)
        return replace(together, evaluated=found.evaluated + len(missing))

    def close(self) -> None:
        """Free what the other explorer holds."""
        self._explorer.close()


class TrustingSampler:
    """Follows the past while it is trusted, and then begins as a search without one does.

    Few measurements after a good start are for what may still be better, not for telling the rest
    apart: while the past is trusted, a batch is picked by expected improvement.

    Args:
        sampler: Picks otherwise.
        batch: Configs of a round while the past is trusted.
        reserve: What is measured first without a past, `(n, knobs)`.
        model: Says how far the past is trusted.
    """

    def __init__(
        self, sampler: Sampler, *, batch: int, reserve: Configs, model: WarmCostModel
    ) -> None:
        self._sampler, self._reserve, self._model = sampler, reserve, model
        self._insured = 0.0  # picks of the reserve that are due
        self._trusting = ImprovementSampler(ImprovementSettings(batch=batch))

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
        """What promises most while the past is trusted, else the reserve, then the others."""
        if self._model.trust >= _WRONG:
            picked = self._trusting.choose(space, candidates, visited, failed, rng)
            if len(visited) <= 1:
                picked = self._with_nearest(space, picked, visited)
            return self._with_reserve(space, picked, visited)
        reserve, self._reserve = self._reserve, self._reserve[:0]
        fresh = reserve[~space.contains(visited, reserve)]
        if len(fresh):
            return fresh
        return self._sampler.choose(space, candidates, visited, failed, rng)

    def _with_reserve(self, space: DesignSpace, picked: Configs, visited: Configs) -> Configs:
        """A share of the picks is of the reserve: where the past does not look, it cannot err."""
        known = np.concatenate([visited, picked])
        fresh = self._reserve[~space.contains(known, self._reserve)]
        self._insured += len(picked) / _INSURED
        several = int(self._insured)
        self._insured -= several
        self._reserve = fresh[several:]
        return np.concatenate([picked[: len(picked) - len(fresh[:several])], fresh[:several]])

    def _with_nearest(self, space: DesignSpace, picked: Configs, visited: Configs) -> Configs:
        """The first batch begins with what was best on the layer and device most alike."""
        past = self._model.past
        nearest = picked[:0] if past is None else past.elsewhere[:1]
        nearest = nearest[~space.contains(visited, nearest)]
        return space.distinct(np.concatenate([nearest, picked]))[: len(picked)]
