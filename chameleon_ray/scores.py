"""How good searches are, and how sure that is: scores, intervals, significance. numpy and scipy.

A search's score after n attempts is the shortest time known of its space over the shortest that it
has found: 1 at the optimum, 0 before anything succeeded. Failed attempts count as attempts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

POINTS = (16, 32, 64, 128, 256, 512)
SHARE = 0.95
EVERYWHERE = "all spaces"

Values = npt.NDArray[np.float64]

_RESAMPLES = 9999


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """One search, as far as its scores need it.

    Attributes:
        space: What was searched.
        kernel: What the space is an instance of: spaces of one kernel are no independent evidence.
        policy: How.
        seed: Of the search.
        reference_seconds: The shortest time known of the space.
        best_seconds: Of the best found after each attempt; None before the first success.
    """

    space: str
    kernel: str
    policy: str
    seed: int
    reference_seconds: float
    best_seconds: tuple[float | None, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A mean, its 95% interval by bootstrap, and the number of values; no interval of one value."""

    mean: float
    low: float | None
    high: float | None
    n: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A policy's mean minus the first policy's, over the seeds that both have.

    Attributes:
        mean: The difference; None with no pair.
        p: Of the Wilcoxon signed-rank test, two-sided, after Holm's correction over all differences
            of the table; None with fewer than two pairs.
        n: Pairs.
    """

    mean: float | None
    p: float | None
    n: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One policy in a table.

    Attributes:
        seeds: How many searches of each space there are; the fewest, if they differ.
        scores: After each of the table's points.
        attempts: To the table's share; a search that never gets there counts as its budget.
        reached: Share of the searches that get there.
        differences: To the first policy at each point, then of the attempts; none in its own row.
    """

    policy: str
    seeds: int
    scores: tuple[Estimate, ...]
    attempts: Estimate
    reached: float
    differences: tuple[Difference, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """All policies on one space, or on the mean over the spaces.

    Attributes:
        space: Its name, or `EVERYWHERE`.
        spaces: How many spaces this is the mean of.
        kernels: How many kernels those are.
        points: Numbers of attempts after which there is a score.
        share: The score that counts as good.
    """

    space: str
    spaces: int
    kernels: int
    points: tuple[int, ...]
    share: float
    rows: tuple[Row, ...]

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)


def points_up_to(trials: int) -> tuple[int, ...]:
    """Those of `POINTS` that a budget reaches, and the budget itself."""
    return tuple(sorted({*(n for n in POINTS if n <= trials), min(trials, POINTS[-1])}))


def score_at(curve: Curve, points: Sequence[int]) -> Values:
    """The score after each number of attempts, `(points,)`; the last one if it stopped before."""
    best_seconds = curve.best_seconds or (None,)
    found = [best_seconds[min(n, len(best_seconds)) - 1] for n in points]
    return np.array([curve.reference_seconds / best if best else 0.0 for best in found])


def attempts_to(curve: Curve, *, trials: int, share: float = SHARE) -> int | None:
    """Attempts until the score is `share`; None if it never is within `trials`."""
    enough = curve.reference_seconds / share
    found = enumerate(curve.best_seconds[:trials], start=1)
    return next((n for n, best in found if best is not None and best <= enough), None)


def tabulate(
    curves: Sequence[Curve], *, trials: int, rng: np.random.Generator, share: float = SHARE
) -> list[Table]:
    """A table for each space, and one over the spaces that all policies searched.

    Args:
        curves: Searches, each of another space, policy and seed; the first one's policy is the
            one that the others are compared with.
        trials: The budget of each.
        rng: Draws the resamples.
        share: The score that counts as good.

    Returns:
        The tables in the order of the spaces; the last is over all spaces, if there are several.
    """
    found = _Found(curves, trials, share)
    tables = [_table(found, [space], space, over_seeds, rng) for space in found.kernels]
    common = [s for s in found.kernels if all(found.seeds(s, p) for p in found.policies)]
    if len(common) > 1:
        kernels = [found.kernels[space] for space in common]

        def over(means: Values, rng: np.random.Generator) -> Estimate:
            return over_kernels(means, kernels, rng)

        tables.append(_table(found, common, EVERYWHERE, over, rng))
    return tables


def over_seeds(values: Values, rng: np.random.Generator) -> Estimate:
    """The mean of one value for each seed `(seeds,)`; the seeds are resampled."""
    interval = _bootstrap((values,), lambda x, axis: x.mean(axis=axis), rng)
    return _estimate(float(values.mean()), interval, len(values))


def over_kernels(means: Values, kernels: Sequence[str], rng: np.random.Generator) -> Estimate:
    """The mean of one value for each space `(spaces,)`; whole kernels are resampled.

    Args:
        means: Each space's mean over its seeds.
        kernels: What each space is an instance of, `(spaces,)`.
        rng: Draws the resamples.
    """
    known = list(dict.fromkeys(kernels))
    group = np.array([known.index(kernel) for kernel in kernels])
    sums = np.bincount(group, weights=means).astype(np.float64)
    counts = np.bincount(group).astype(np.float64)
    interval = _bootstrap(
        (sums, counts), lambda s, c, axis: s.sum(axis=axis) / c.sum(axis=axis), rng
    )
    return _estimate(float(means.mean()), interval, len(known))


def signed_rank(differences: Values) -> float | None:
    """The two-sided p of the Wilcoxon signed-rank test `(pairs,)`; None of fewer than two."""
    from scipy.stats import wilcoxon

    if len(differences) < 2:
        return None
    if not differences.any():
        return 1.0
    return float(wilcoxon(differences).pvalue)


def holm(p: Sequence[float | None]) -> list[float | None]:
    """Holm's correction (1979) of several p values; what is None stays so and does not count."""
    known = sorted((value, place) for place, value in enumerate(p) if value is not None)
    corrected: list[float | None] = [None] * len(p)
    largest = 0.0
    for rank, (value, place) in enumerate(known):
        largest = max(largest, min(1.0, value * (len(known) - rank)))
        corrected[place] = largest
    return corrected


Over = Callable[[Values, np.random.Generator], Estimate]


class _Found:
    """What each search came to: scores at the points, attempts, and whether the share was reached.

    Args:
        curves: All searches.
        trials: The budget.
        share: What is to be reached.
    """

    def __init__(self, curves: Sequence[Curve], trials: int, share: float) -> None:
        self.points, self.share = points_up_to(trials), share
        self.kernels = {c.space: c.kernel for c in curves}
        self.policies = list(dict.fromkeys(c.policy for c in curves))
        self._width = len(self.points) + 2
        self._of: dict[tuple[str, str], dict[int, Values]] = {}
        for c in curves:
            needed = attempts_to(c, trials=trials, share=share)
            ends = [trials if needed is None else needed, needed is not None]
            row = np.array([*score_at(c, self.points), *ends], dtype=np.float64)
            self._of.setdefault((c.space, c.policy), {})[c.seed] = row

    def seeds(self, space: str, policy: str) -> list[int]:
        """Of the searches of a space by a policy."""
        return sorted(self._of.get((space, policy), ()))

    def values(self, space: str, policy: str) -> Values:
        """One row for each seed, `(seeds, values)`."""
        return np.stack([self._of[space, policy][s] for s in self.seeds(space, policy)])

    def paired(self, spaces: Sequence[str], policy: str, first: str) -> Values:
        """The mean difference of each seed that both have on all spaces, `(seeds, points + 1)`."""
        both = [self.seeds(space, p) for space in spaces for p in (policy, first)]
        differences = [
            np.mean([self._of[s, policy][seed] - self._of[s, first][seed] for s in spaces], axis=0)
            for seed in sorted(set(both[0]).intersection(*both[1:]))
        ]
        return np.reshape(differences, (-1, self._width))[:, :-1]


def _table(
    found: _Found,
    spaces: Sequence[str],
    name: str,
    over: Over,
    rng: np.random.Generator,
) -> Table:
    policies = [p for p in found.policies if all(found.seeds(s, p) for s in spaces)]
    pairs = {p: found.paired(spaces, p, policies[0]) for p in policies[1:]}
    corrected = iter(holm([signed_rank(column) for p in pairs for column in pairs[p].T]))
    rows = []
    for policy in policies:
        each = [found.values(space, policy) for space in spaces]
        means = each[0] if len(spaces) == 1 else np.stack([v.mean(axis=0) for v in each])
        estimates = [over(column, rng) for column in means.T[:-1]]
        rows.append(
            Row(
                policy=policy,
                seeds=min(len(values) for values in each),
                scores=tuple(estimates[:-1]),
                attempts=estimates[-1],
                reached=float(means[:, -1].mean()),
                differences=tuple(
                    Difference(
                        mean=float(column.mean()) if len(column) else None,
                        p=next(corrected),
                        n=len(column),
                    )
                    for column in pairs.get(policy, np.empty((0, 0))).T
                ),
            )
        )
    return Table(
        space=name,
        spaces=len(spaces),
        kernels=len({found.kernels[space] for space in spaces}),
        points=found.points,
        share=found.share,
        rows=tuple(rows),
    )


def _bootstrap(
    data: tuple[Values, ...], statistic: Callable[..., Values], rng: np.random.Generator
) -> tuple[float, float] | None:
    """The 95% percentile interval; the samples are resampled together. None of one value."""
    from scipy.stats import bootstrap

    if len(data[0]) < 2:
        return None
    found = bootstrap(
        data,
        statistic,
        paired=True,
        vectorized=True,
        method="percentile",
        n_resamples=_RESAMPLES,
        batch=1000,
        rng=rng,
    ).confidence_interval
    return float(found.low), float(found.high)


def _estimate(mean: float, interval: tuple[float, float] | None, n: int) -> Estimate:
    low, high = interval or (None, None)
    return Estimate(mean=mean, low=low, high=high, n=n)
