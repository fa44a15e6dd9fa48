"""What the cost models have in common: labels, and what is refused."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import numpy.typing as npt

from chameleon_ray.space import Configs, Vector

T = TypeVar("T")
_NOTHING = -20.0  # the logarithm of as good as nothing


def log_labels(fitness: Vector, clip: float) -> npt.NDArray[np.float64]:
    """The logarithm of each fitness over the best one, `(n,)`: 0 is best.

    Args:
        fitness: `(n,)`; 0 stands for a failure.
        clip: What is slower than this quantile of the times, and what failed, counts as equal to
            it: what is far from good need not be told apart.
    """
    valid = fitness > 0
    if not valid.any():
        return np.full(len(fitness), _NOTHING)
    logs = np.log(fitness[valid] / fitness.max()).astype(np.float64)
    labels = np.full(len(fitness), np.quantile(logs, 1 - clip))
    labels[valid] = np.maximum(logs, labels[valid])
    return labels


def known(score: T | None) -> T:
    """The score of a fit.

    Raises:
        RuntimeError: There has been none yet.
    """
    if score is None:
        raise RuntimeError("the cost model has not been fitted yet; call fit before score")
    return score


def check_points(configs: Configs, fitness: Vector) -> None:
    """Whether there is something to fit.

    Raises:
        ValueError: There are no points, or not one fitness for each.
    """
    if len(configs) != len(fitness) or not len(fitness):
        raise ValueError(f"cannot fit {len(configs)} points to {len(fitness)} fitnesses")
