"""Thompson sampling: each pick is the best of what one member of an ensemble believes."""

from __future__ import annotations

import numpy as np

from chameleon_ray.sampling import Ranking, filled, unmeasured
from chameleon_ray.settings import ThompsonSettings
from chameleon_ray.space import BoolArray, Configs, DesignSpace


class ThompsonSampler:
    """Each pick is the best new candidate of another member of an ensemble, drawn at random.

    Thompson sampling (Thompson, 1933): a config is picked as often as it may be the best one, as
    far as the measurements tell. Of candidates that a member holds to be equal, the one that all
    members together hold to be best is picked.

    Args:
        settings: Batch.
    """

    def __init__(self, settings: ThompsonSettings) -> None:
        self._settings = settings

    def choose(
        self,
        space: DesignSpace,
        candidates: Ranking,
        visited: Configs,
        failed: BoolArray,  # noqa: ARG002 - part of the protocol; a failure is a low score here
        rng: np.random.Generator,
    ) -> Configs:
        """The picks, in the order in which their members were drawn.

        Raises:
            SettingsError: The score has no members.
        """
        batch = self._settings.batch
        configs, members = unmeasured(space, candidates, visited, sampler="thompson")
        picks: list[int] = []
        again = len(members) < batch  # members are asked twice only if there are not enough
        for row in rng.choice(len(members), size=min(batch, len(configs)), replace=again):
            scores = members[row].copy()
            scores[picks] = -np.inf
            picks.append(int(scores.argmax()))
        return filled(space, configs[picks], batch, visited, rng)
