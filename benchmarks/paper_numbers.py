"""The numbers behind the figures and tables of `paper.py` and `paper_cpu.py`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from paper_searches import PHASES, Values, Watched

from chameleon_ray.compare import curves
from chameleon_ray.environment import DIRECTIONS, Moves, random_starts
from chameleon_ray.measure.recorded import RecordedSpace
from chameleon_ray.scores import SHARE, Estimate, Row, Table, attempts_to, over_seeds
from chameleon_ray.searches import Search
from chameleon_ray.settings import PpoSettings
from chameleon_ray.space import Configs, DesignSpace

Labels = npt.NDArray[np.int64]

_BLIND = 1024  # walks whose mean length is taken


@dataclass(frozen=True, slots=True, kw_only=True)
class Clustered:
    """The clustered candidates of one round.

    Attributes:
        points: int32 `(n, knobs)`.
        labels: The cluster of each, `(n,)`.
        seconds: Times that are known of members of the clusters, `(m,)`.
        members: The cluster of each of these, `(m,)`.
    """

    points: Configs
    labels: Labels
    seconds: Values
    members: Labels

    @property
    def alike(self) -> tuple[Values, Labels]:
        """Times and clusters of those that share their cluster with another one with a time."""
        labels, counts = np.unique(self.members, return_counts=True)
        shared = np.isin(self.members, labels[counts > 1])
        return self.seconds[shared], self.members[shared]


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What the rounds of one search tell.

    Attributes:
        evaluated: How many configs each round scored.
        chosen: How many each round measured.
        steps: How many steps the walks of RL took in each round.
        clustered: Those of its clustered rounds that were kept, in order.
    """

    evaluated: Sequence[float]
    chosen: Sequence[float]
    steps: Sequence[float] = ()
    clustered: Sequence[Clustered] = ()


Panels = Mapping[str, Mapping[str, Sequence[Seen]]]  # space or layer -> column -> one per seed


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A watched search, and what its measurements cost whoever recorded them.

    Attributes:
        costs: `compile` and `run` seconds of each row of the recording; None if not recorded.
    """

    recorded: RecordedSpace
    search: Search
    watched: Watched
    costs: Mapping[str, Values] | None

    @property
    def seen(self) -> Seen:
        """Its rounds, as for any search."""
        rows, clusters = (self.watched.clusters.get(name, []) for name in ("points", "cluster"))
        labels, seconds = np.array(clusters, dtype=np.int64), self.recorded.seconds[rows]
        clustered = Clustered(
            points=self.recorded.configs[rows],
            labels=labels,
            seconds=seconds[np.isfinite(seconds)],
            members=labels[np.isfinite(seconds)],
        )
        return Seen(
            evaluated=[r["evaluated"] for r in self.watched.rounds],
            chosen=[r["chosen"] for r in self.watched.rounds],
            steps=[r["steps"] for r in self.watched.rounds],
            clustered=(clustered,) if rows else (),
        )


def estimate(values: Sequence[float]) -> Estimate | None:
    """The mean of one value for each seed; None if one is missing, or all are."""
    if not values or not np.isfinite(values).all():
        return None
    return over_seeds(np.array(values, dtype=np.float64), np.random.default_rng(0))


def row_of(tables: Sequence[Table], panel: str, policy: str) -> Row | None:
    """A policy's row in the table of a space; None if it has none."""
    rows = (row for table in tables if table.space == panel for row in table.rows)
    return next((row for row in rows if row.policy == policy), None)


def scores(search: Search) -> Values:
    """Optimum over best found after each attempt, `(attempts,)`; 0 before the first success."""
    optimum = search.reference_seconds or np.nan
    return np.array([optimum / best if best else 0.0 for best in search.best_seconds])


def mean_scores(searches: Sequence[Search], trials: int) -> Values:
    """The mean score after each attempt, `(trials,)`; a search that ended keeps its last score."""
    rows = [scores(s)[:trials] for s in searches]
    padded = np.stack([np.pad(row, (0, trials - len(row)), mode="edge") for row in rows])
    means: Values = padded.mean(axis=0)
    return means


def breakdown(run: Run) -> dict[str, float]:
    """Seconds of a whole search by what they were spent on: ours computed here, theirs recorded."""
    found = {phase: sum(r[phase] for r in run.watched.rounds) for phase in PHASES}
    for name in ("compile", "run"):
        if run.costs is not None:
            found[name] = float(run.costs[name][run.watched.rows].sum())
    return found


def elapsed(run: Run) -> Values:
    """Seconds until each attempt was measured, `(attempts,)`: recorded ones, and our own."""
    rows = run.watched.rows
    spent = np.zeros(len(rows))
    for name in ("compile", "run"):
        if run.costs is not None:
            spent += run.costs[name][rows]
    for r in run.watched.rounds:
        spent[int(r["measured_before"])] += sum(r[phase] for phase in PHASES)
    return np.cumsum(spent)


def seconds_to(run: Run, share: float = SHARE) -> float:
    """Seconds until the score is `share`; of a search that never gets there, all of its."""
    (curve,) = curves([run.search])
    trials = len(run.watched.rows)
    needed = attempts_to(curve, trials=trials, share=share) or trials
    return float(elapsed(run)[needed - 1])


def after_rounds(run: Run, rounds: int) -> tuple[int, float, float]:
    """Attempts, seconds and score after the first batch and so many rounds, one at least."""
    last = run.watched.rounds[:rounds][-1]
    attempts = min(int(last["measured_before"] + last["chosen"]), len(run.watched.rows))
    return attempts, float(elapsed(run)[attempts - 1]), float(scores(run.search)[attempts - 1])


def chain_steps(of: Sequence[Seen], chains: int) -> list[list[float]]:
    """Of each seed and round of annealing: steps of a chain; it scores every step, and the starts.

    Args:
        of: Its searches.
        chains: How many there are.
    """
    return [[scored / chains - 1 for scored in seen.evaluated] for seen in of]


def walk_steps(of: Sequence[Seen], walks: int) -> list[list[float]]:
    """Of each seed and round of RL: steps of a walk, on average over a round's walks."""
    return [[steps / walks for steps in seen.steps] for seen in of]


def batch(of: Sequence[Seen]) -> Estimate | None:
    """Measurements of a round; the last is left out where there are others: the budget cuts it."""
    return estimate([mean(seen.chosen[:-1] or seen.chosen) for seen in of])


def blind_steps(space: DesignSpace, settings: PpoSettings) -> float:
    """How many steps a walk has on average if its directions are drawn, all three alike."""
    rng = np.random.default_rng(0)
    moves = Moves(
        space, early_stop=settings.early_stop, resample_unordered=settings.resample_unordered
    )
    configs = random_starts(space, _BLIND, rng)
    going, steps = np.ones(len(configs), dtype=np.bool_), 0
    for _ in range(settings.steps):
        steps += int(going.sum())
        actions = rng.integers(DIRECTIONS, size=configs.shape)
        configs, stopped = moves.step(configs, actions, rng.random(configs.shape, dtype=np.float32))
        going &= ~stopped
    return steps / len(configs)


def spread(rounds: Sequence[Clustered], rng: np.random.Generator) -> dict[str, Values]:
    """How far times are from the median of their cluster, of a random one as large, and of all.

    Relative differences, one for each time of `Clustered.alike`; empty if there are none.
    """
    found: dict[str, list[Values]] = {
        "to the median of its cluster": [],
        "of a random cluster as large": [],
        "of all of the round": [],
    }
    for clustered in rounds:
        seconds, labels = clustered.alike
        if len(seconds):
            ways = labels, rng.permutation(labels), np.zeros_like(labels)
            for values, groups in zip(found.values(), ways, strict=True):
                values.append(np.abs(seconds / _medians(seconds, groups) - 1))
    return {name: np.concatenate(values) for name, values in found.items() if values}


def explained(rounds: Sequence[Clustered], rng: np.random.Generator) -> tuple[float, float]:
    """The share of the variance of log time that clusters explain, and that random ones would.

    Over all rounds together, of the times of `Clustered.alike`; NaN if there is no variance.
    """
    total = within = chance = 0.0
    for clustered in rounds:
        seconds, labels = clustered.alike
        if len(np.unique(labels)) < 2:
            continue  # nothing lies between clusters
        logs = np.log(seconds)
        total += _squares(logs, np.zeros_like(labels))
        within += _squares(logs, labels)
        chance += mean([_squares(logs, rng.permutation(labels)) for _ in range(100)])
    return (1 - within / total, 1 - chance / total) if total else (math.nan, math.nan)


def silhouette(clustered: Clustered) -> float:
    """How apart the clusters are (Rousseeuw, 1987), -1 to 1; NaN if that cannot be said."""
    from sklearn.metrics import silhouette_score

    if not 1 < len(np.unique(clustered.labels)) < len(clustered.labels):
        return math.nan
    return float(silhouette_score(clustered.points, clustered.labels))


def plane(clustered: Clustered) -> Values:
    """The candidates in their first two principal components, `(n, 2)`."""
    points = clustered.points.astype(np.float64)
    centred = points - points.mean(axis=0)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    flat = centred @ axes[:2].T
    return np.pad(flat, ((0, 0), (0, 2 - flat.shape[1])))


def _medians(values: Values, groups: Labels) -> Values:
    medians = np.empty_like(values)
    for group in np.unique(groups):
        medians[groups == group] = np.median(values[groups == group])
    return medians


def _squares(values: Values, groups: Labels) -> float:
    """The sum of squared distances to the means of the groups."""
    parts = (values[groups == group] for group in np.unique(groups))
    return float(sum(((part - part.mean()) ** 2).sum() for part in parts))


def mean(values: Sequence[float]) -> float:
    """Their mean; NaN of none."""
    return float(np.mean(values)) if len(values) else math.nan
