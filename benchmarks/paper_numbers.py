"""The numbers behind the figures and tables of `paper.py`; numpy and scikit-learn only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from paper_searches import PHASES, Values, Watched

from chameleon_ray.measure.recorded import RecordedSpace
from chameleon_ray.scores import SHARE
from chameleon_ray.searches import Search


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


def scores(search: Search) -> Values:
    """Optimum over best found after each attempt, `(attempts,)`; 0 before the first success."""
    optimum = search.reference_seconds or np.nan
    return np.array([optimum / best if best else 0.0 for best in search.best_seconds])


def mean_scores(searches: Sequence[Search], trials: int) -> Values:
    """The mean score after each attempt, `(trials,)`; a search that ended keeps its last score."""
    rows = [scores(s)[:trials] for s in searches]
    return np.mean([np.pad(r, (0, trials - len(r)), mode="edge") for r in rows], axis=0)


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


def until(run: Run, share: float = SHARE) -> tuple[int, float, bool]:
    """Attempts and seconds until the score is `share`, and whether it is; else the whole budget."""
    reached = np.flatnonzero(scores(run.search) >= share)
    last = len(run.watched.rows) - 1
    at = int(reached[0]) if len(reached) else last
    return at + 1, float(elapsed(run)[at]), bool(len(reached))


def after_rounds(run: Run, rounds: int) -> tuple[int, float, float]:
    """Attempts, seconds and score after the first batch and so many rounds."""
    done = run.watched.rounds[:rounds]
    attempts = int(done[-1]["measured_before"] + done[-1]["chosen"]) if done else 0
    attempts = min(max(attempts, 1), len(run.watched.rows))
    return attempts, float(elapsed(run)[attempts - 1]), float(scores(run.search)[attempts - 1])


def evaluated(runs: Sequence[Run]) -> float:
    """Configs that a round scores, on average."""
    return _mean([r["evaluated"] for run in runs for r in run.watched.rounds])


def batch(runs: Sequence[Run]) -> float:
    """Measurements of a round, on average."""
    whole = [run.watched.rounds[:-1] or run.watched.rounds for run in runs]  # the last is cut off
    return _mean([r["chosen"] for rounds in whole for r in rounds])


def spread(run: Run) -> tuple[Values, Values] | None:
    """How far the times of a clustered round are from the median of their cluster, and of all.

    Relative differences `(points,)` each, of the candidates that have a time; None without
    clusters.
    """
    seconds, labels = _clustered(run)
    if not len(seconds):
        return None
    medians = {label: np.median(seconds[labels == label]) for label in np.unique(labels)}
    own = np.array([medians[label] for label in labels])
    return np.abs(seconds / own - 1), np.abs(seconds / np.median(seconds) - 1)


def explained(run: Run, rng: np.random.Generator) -> tuple[float, float] | None:
    """The share of the variance of log time that clusters explain, and that random ones would."""
    seconds, labels = _clustered(run)
    if len(np.unique(labels)) < 2:
        return None
    logs = np.log(seconds)
    chance = [_between(logs, rng.permutation(labels)) for _ in range(100)]
    return _between(logs, labels), float(np.mean(chance))


def silhouette(run: Run) -> float | None:
    """How apart the clusters of a round are (Rousseeuw, 1987), -1 to 1; None without clusters."""
    from sklearn.metrics import silhouette_score

    points = run.watched.clusters.get("points", [])
    labels = np.array(run.watched.clusters.get("cluster", []))
    if not 1 < len(np.unique(labels)) < len(labels):
        return None
    return float(silhouette_score(run.recorded.configs[points], labels))


def plane(run: Run) -> Values:
    """The candidates of the clustered round in their first two principal components, `(n, 2)`."""
    points = run.recorded.configs[run.watched.clusters["points"]].astype(np.float64)
    centred = points - points.mean(axis=0)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    flat = centred @ axes[:2].T
    return np.pad(flat, ((0, 0), (0, 2 - flat.shape[1])))


def _clustered(run: Run) -> tuple[Values, Values]:
    """Seconds and cluster of the points that have a time."""
    points = run.watched.clusters.get("points", [])
    labels = np.array(run.watched.clusters.get("cluster", []), dtype=np.int64)
    seconds = run.recorded.seconds[points]
    known = np.isfinite(seconds)
    return seconds[known], labels[known]


def _between(values: Values, labels: Values) -> float:
    total = float(((values - values.mean()) ** 2).sum())
    within = sum(
        float(((values[labels == x] - values[labels == x].mean()) ** 2).sum())
        for x in np.unique(labels)
    )
    return 1 - within / total if total else 0.0


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if len(values) else float("nan")
