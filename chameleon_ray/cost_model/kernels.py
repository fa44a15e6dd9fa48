"""How alike the choices of a knob are: a kernel between choices, for the Gaussian cost model."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from chameleon_ray.derived import twos
from chameleon_ray.space import Knob

Matrix = npt.NDArray[np.float64]

_SCALE = 0.3  # of a knob's range: over so much, alikeness falls to 1/e


def choice_kernel(knob: Knob, weights: Matrix | None = None) -> Matrix:
    """Covariance between the choices of a knob, `(choices, choices)`; its rows sum to zero.

    Half says that a choice is like itself alone. The other half says that near choices are alike:
    near in the logarithm of their numbers, and near in their order. For single numbers that are
    not all powers of two, a share says that equally round numbers are alike, because hardware
    prefers multiples of powers of two. Choices without an order are like themselves alone.

    Centred, so that the knobs' effects and the mean are told apart, and scaled to a mean variance
    of 1. A knob of one choice has no effect: zeros.

    Args:
        knob: Whose choices.
        weights: How often each stands in these means, `(choices,)`; all alike if None.
    """
    n = len(knob)
    alike = np.eye(n)
    if knob.ordered and n > 1:
        numbers = np.array(knob.choices, dtype=np.float64)
        logs = np.log2(np.maximum(numbers, 0) + 1)
        ranks = np.arange(n, dtype=np.float64)[:, None]
        alike = 0.5 * alike + 0.25 * (_near(logs) + _near(ranks))
        if numbers.shape[1] == 1 and _uneven(numbers[:, 0]):
            rounds = twos(numbers[:, 0].astype(np.int64))
            alike = 0.6 * alike + 0.4 * np.exp(-np.abs(rounds[:, None] - rounds))
    shares = np.full(n, 1 / n) if weights is None else weights / weights.sum()
    centring = np.eye(n) - shares
    centred: Matrix = centring @ alike @ centring.T
    variance = float(np.diag(centred) @ shares)
    return centred / variance if variance > 1e-9 else np.zeros((n, n))


def _near(points: Matrix) -> Matrix:
    """exp(-distance), distances in units of a share of the largest one."""
    gaps: Matrix = np.abs(points[:, None, :] - points).sum(axis=2)
    largest = float(gaps.max())
    return np.exp(-gaps / (_SCALE * largest)) if largest else np.ones_like(gaps)


def _uneven(numbers: Matrix) -> bool:
    whole = numbers.astype(np.int64)
    return len(numbers) > 2 and bool((whole & (whole - 1)).any())
