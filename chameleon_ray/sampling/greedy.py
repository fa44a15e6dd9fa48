"""AutoTVM's sampler: the best-scored candidates, and a few random ones."""

from __future__ import annotations

import numpy as np

from chameleon_ray.sampling import Ranking, filled
from chameleon_ray.settings import GreedySettings
from chameleon_ray.space import BoolArray, Configs, DesignSpace


class GreedySampler:
    """The best-scored candidates not yet measured, the last few replaced by random configs.

    AutoTVM's rule (Table 8): `batch` configs, of which `epsilon`, rounded down, are random. If
    there are too few new candidates, more are random.

    Args:
        settings: Batch and share of random configs.
    """

    def __init__(self, settings: GreedySettings) -> None:
        self._settings = settings

    def choose(
        self,
        space: DesignSpace,
        candidates: Ranking,
        visited: Configs,
        failed: BoolArray,  # noqa: ARG002 - part of the protocol; greedy looks at scores alone
        rng: np.random.Generator,
    ) -> Configs:
        """The best first, the random ones last."""
        batch = self._settings.batch
        greedy = batch - int(self._settings.epsilon * batch)
        ranked = space.distinct(candidates.configs[space.valid(candidates.configs)])
        new = ranked[~space.contains(visited, ranked)]
        best = diverse(new[: int(greedy * self._settings.diversity)], greedy)
        return filled(space, best, batch, visited, rng)


def diverse(configs: Configs, n: int) -> Configs:
    """Up to `n` of the configs, chosen one by one for how many choices they bring that are new.

    AutoTVM's filter for diversity: greedy maximisation of the number of distinct choices of all
    knobs; of equally diverse configs the one that stands first.
    """
    if len(configs) <= n:
        return configs
    chosen: list[int] = []
    new = np.ones(configs.shape, dtype=np.bool_)
    for _ in range(n):
        gains = new.sum(axis=1)
        gains[chosen] = -1
        chosen.append(int(gains.argmax()))
        new &= configs != configs[chosen[-1]]
    return configs[chosen]
