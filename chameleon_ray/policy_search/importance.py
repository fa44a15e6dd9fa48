"""How much each setting matters to the score: permutation importance of a forest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from chameleon_ray.policy_search.ranges import Range
from chameleon_ray.policy_search.samples import Scored

_TREES, _FOLDS, _SHUFFLES = 200, 5, 20
LEAST = 10  # samples; of fewer nothing can be said


@dataclass(frozen=True, slots=True, kw_only=True)
class Importance:
    """What a forest can tell of the scores from the settings.

    Attributes:
        explained: Share of the variance of scores that it had not seen; not above 0: nothing.
        drops: By setting: how much of that share is lost when the setting is shuffled.
    """

    explained: float
    drops: dict[str, float]


def importance(ranges: Sequence[Range], samples: Sequence[Scored], seed: int) -> Importance | None:
    """Permutation importance (Breiman 2001) on samples held out; None with too few samples.

    A sample counts with what it scored at the iterations that all samples had: the same seeds on
    the same spaces. Members of a population have none in common: there a score counts by how far
    it is from the mean of its iteration.
    """
    if len(samples) < LEAST:
        return None
    from sklearn.ensemble import ExtraTreesRegressor
    from sklearn.inspection import permutation_importance
    from sklearn.model_selection import KFold

    x = np.array([[r.place(s.settings[r.setting]) for r in ranges] for s in samples])
    y = _comparable(samples)
    spread = float(y.var()) or 1.0
    left, drops = 0.0, np.zeros(len(ranges))
    folds = KFold(_FOLDS, shuffle=True, random_state=seed)
    for train, test in folds.split(x):
        forest = ExtraTreesRegressor(_TREES, min_samples_leaf=2, random_state=seed, n_jobs=1)
        forest.fit(x[train], y[train])
        left += float(((forest.predict(x[test]) - y[test]) ** 2).sum())
        found = permutation_importance(
            forest,
            x[test],
            y[test],
            scoring="neg_mean_squared_error",
            n_repeats=_SHUFFLES,
            random_state=seed,
        )
        drops += found.importances_mean * len(test)
    settings = [r.setting for r in ranges]
    return Importance(
        explained=1 - left / len(y) / spread,
        drops=dict(zip(settings, (drops / len(y) / spread).tolist(), strict=True)),
    )


def _comparable(samples: Sequence[Scored]) -> npt.NDArray[np.float64]:
    """One number for each sample, made of like with like."""
    common = set.intersection(*(set(s.means) for s in samples))
    if common:
        return np.array([np.mean([s.means[n] for n in common]) for s in samples])
    numbers = {n for s in samples for n in s.means}
    middle = {n: np.mean([s.means[n] for s in samples if n in s.means]) for n in numbers}
    return np.array([np.mean([m - middle[n] for n, m in s.means.items()]) for s in samples])
