"""Explorers around another one: they spare its walks where those would find nothing new."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from chameleon_ray.errors import SettingsError
from chameleon_ray.explorers import Candidates, Explorer, WalkReport, report_of
from chameleon_ray.space import Configs, DesignSpace, Score

_KEPT = 4096  # the best-scored of the last walks that are scored anew


class EnumeratingExplorer:
    """Scores a small space whole; a walk could only find less.

    Args:
        explorer: Explores the spaces that are not small.
        limit: Most valid configs of a small space.
    """

    def __init__(self, explorer: Explorer, *, limit: int) -> None:
        self._explorer, self._limit = explorer, limit
        self._space: DesignSpace | None = None
        self._everything: Configs | None = None

    @property
    def report(self) -> WalkReport | None:
        """Of the other explorer's last round; None in a small space, where nobody walks."""
        return report_of(self._explorer) if self._everything is None else None

    def explore(
        self, space: DesignSpace, score: Score, starts: Configs, rng: np.random.Generator
    ) -> Candidates:
        """Every valid config, ranked; or what the other explorer finds in a large space."""
        if space is not self._space:
            self._space, self._everything = space, _all_valid(space, self._limit)
        if self._everything is None:
            return self._explorer.explore(space, score, starts, rng)
        return Candidates.scored(space, self._everything, score)

    def close(self) -> None:
        """Free what the other explorer holds."""
        self._explorer.close()


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
        found = Candidates.scored(space, np.concatenate([self._found, starts, *around]), score)
        return replace(found, evaluated=found.evaluated + evaluated)

    def close(self) -> None:
        """Free what the other explorer holds."""
        self._explorer.close()


def _all_valid(space: DesignSpace, limit: int) -> Configs | None:
    """Every valid config of a space that is small enough; None if it is not."""
    try:
        everything = space.all_valid(limit=max(limit, _LISTABLE))
    except SettingsError:
        return None
    return everything if len(everything) <= limit else None


_LISTABLE = 1_000_000  # configs, valid or not, that may be gone through to find the valid ones
