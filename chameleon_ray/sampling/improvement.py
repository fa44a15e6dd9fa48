"""Expected improvement: picks that together promise to be better than what was measured."""

from __future__ import annotations

import numpy as np

from chameleon_ray.sampling import Ranking, filled, unmeasured
from chameleon_ray.settings import ImprovementSettings
from chameleon_ray.space import BoolArray, Configs, DesignSpace

_TIES = 1e-6  # of what all members expect: decides where no member expects an improvement


class ImprovementSampler:
    """Each pick adds most to the best that the members of an ensemble expect of all picks.

    The expected improvement of a batch (Ginsbourger et al., 2010), estimated by the members and
    chosen greedily. A member that an earlier pick of the batch satisfies asks for no second one, so
    a batch covers what the measurements leave open. Before anything is measured, the first pick is
    what all members together hold to be best, and the others are for members that disagree.

    Args:
        settings: Batch.
    """

    def __init__(self, settings: ImprovementSettings) -> None:
        self._settings = settings

    def choose(
        self,
        space: DesignSpace,
        candidates: Ranking,
        visited: Configs,
        failed: BoolArray,
        rng: np.random.Generator,
    ) -> Configs:
        """The picks, in the order in which they were chosen.

        Raises:
            SettingsError: The score has no members.
        """
        batch = self._settings.batch
        configs, members = unmeasured(space, candidates, visited, sampler="improvement")
        picks = [0] if failed.all() and len(configs) else []
        expected = np.full((len(members), 1), 1, dtype=np.float32)  # share of the best measured
        if picks:
            expected = members[:, picks]
        ties = _TIES * members.mean(axis=0)
        while len(picks) < min(batch, len(configs)):
            gains = np.maximum(members - expected, 0).mean(axis=0) + ties
            gains[picks] = -np.inf
            picks.append(int(gains.argmax()))
            expected = np.maximum(expected, members[:, picks[-1:]])
        return filled(space, configs[picks], batch, visited, rng)
