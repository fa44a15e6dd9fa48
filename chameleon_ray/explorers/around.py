"""Explorers that spare walks where those would find nothing new."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from chameleon_ray.errors import SettingsError
from chameleon_ray.explorers import Candidates, Explorer, WalkReport, report_of
from chameleon_ray.space import Configs, DesignSpace, Score

_LISTABLE = 1_000_000  # configs, valid or not, that may be gone through to find the valid ones
_KEPT = 4096  # the best-scored of the last walks that are scored anew


class EnumeratingExplorer:
    """Scores a small space whole: a walk could only find less.

    Args:
        everything: Every valid config of the space, int32 `(n, knobs)`.
    """

    def __init__(self, everything: Configs) -> None:
        self._everything = everything

    def explore(
        self, space: DesignSpace, score: Score, starts: Configs, rng: np.random.Generator
    ) -> Candidates:
        """Every valid config, ranked."""
        del starts, rng  # nothing is left to chance
        return Candidates.scored(space, self._everything, score)

    def close(self) -> None:
        """Nothing is held."""


class SparingExplorer:
    """Walks anew only now and then; in between, scores anew what was found.

    Between two walks the candidates are the best-scored of the last walks and the neighbours of
    the best measured configs, so that the search goes on where it is good.

    Args:
        explorer: Walks.
        every: One round in so many walks.
    """

    def __init__(self, explorer: Explorer, *, every: int) -> None:
        self._explorer, self._every = explorer, every
        self._round = 0
        self._found: Configs | None = None
        self._fresh = False

    @property
    def report(self) -> WalkReport | None:
        """Of the walks of the last round; None if there were none."""
        return report_of(self._explorer) if self._fresh else None

    def explore(
        self, space: DesignSpace, score: Score, starts: Configs, rng: np.random.Generator
    ) -> Candidates:
        """Fresh candidates, or the known ones ranked by the new score."""
        self._fresh = self._found is None or self._round % self._every == 0
        self._round += 1
        evaluated = 0
        if self._fresh:
            walked = self._explorer.explore(space, score, starts, rng)
            self._found, evaluated = walked.configs[:_KEPT], walked.evaluated
        around = [space.neighbours(config) for config in starts]
        assert self._found is not None  # noqa: S101 - the first round walks
        known = space.distinct(np.concatenate([self._found, starts, *around]))
        found = Candidates.scored(space, known, score)
        return replace(found, evaluated=found.evaluated + evaluated)

    def close(self) -> None:
        """Free what the other explorer holds."""
        self._explorer.close()


def all_valid(space: DesignSpace, limit: int) -> Configs | None:
    """Every valid config of a space that has at most `limit`; None if it has more."""
    try:
        everything = space.all_valid(limit=max(limit, _LISTABLE))
    except SettingsError:
        return None
    return everything if len(everything) <= limit else None
