"""Samplers pick the few candidates worth measuring: adaptive sampling and the greedy baseline."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from chameleon_ray.errors import SettingsError
from chameleon_ray.plugins import load
from chameleon_ray.settings import (
    AdaptiveSettings,
    GreedySettings,
    PluginSettings,
    Policy,
    ThompsonSettings,
)
from chameleon_ray.space import BoolArray, Configs, DesignSpace

Points = npt.NDArray[np.floating] | npt.NDArray[np.integer]
Labels = npt.NDArray[np.intp]
Clusters = tuple[Points, Labels, float]  # centroids, cluster of each point, loss

_TRIES = 256  # synthetic configs drawn before falling back to candidates
_ITERATIONS = 100  # most passes of the authors' k-means


@dataclass(frozen=True, slots=True, kw_only=True)
class Clustering:
    """What a sampler clustered.

    Attributes:
        points: The configs `(n, knobs)`, the best-scored first.
        labels: The cluster of each, `(n,)`.
    """

    points: Configs
    labels: Labels


class Ranking(Protocol):
    """What a sampler needs of `explorers.Candidates`."""

    @property
    def configs(self) -> Configs:
        """Distinct configs `(n, knobs)`, the best-scored first."""

    @property
    def members(self) -> npt.NDArray[np.float32] | None:
        """What each member of an ensemble predicts, `(members, n)`; None without an ensemble."""


class Sampler(Protocol):
    """Picks the configs to measure next (section 3.3).

    Lifecycle: made once per task, called once per round; keeps nothing between calls.
    """

    def choose(
        self,
        space: DesignSpace,
        candidates: Ranking,
        visited: Configs,
        failed: BoolArray,
        rng: np.random.Generator,
    ) -> Configs:
        """The next configs to measure.

        Args:
            space: The task's space.
            candidates: What an exploration walked through, the best-scored first.
            visited: What was measured, `(m, knobs)`.
            failed: Which of those failed, `(m,)`.
            rng: The only source of randomness.

        Returns:
            Distinct, statically valid configs `(n, knobs)`, none of them in `visited`, in the
            order in which they should be measured. None only if nothing new was found at all.
        """


class AdaptiveSampler:
    """Clusters the best candidates and measures the centroids (section 3.3, Algorithm 1).

    The number of clusters k grows until the L2 loss, the sum of squared distances to the
    centroids, stops falling steeply: `threshold * loss >= previous loss`. Distances are taken
    between choice indices as they are, so that knobs with many choices count for more. Centroids
    that were measured already, or that came up twice, are replaced by sample synthesis.

    The variant `letter` is Algorithm 1: k in range(smallest, largest), all knobs. `authors` is
    what the authors published as code: k in steps of `smallest` up to and including `largest`,
    the two knobs with the most choices; the other knobs are drawn from the candidates' values.

    Args:
        settings: Variant, range of k, threshold.
        candidates: How many of the best-scored candidates are clustered (`b_GBT`).

    Attributes:
        clusters: Those of the last call, for the report; None if it had nothing to cluster.
    """

    def __init__(self, settings: AdaptiveSettings, *, candidates: int) -> None:
        self._settings = settings
        self._candidates = candidates
        self.clusters: Clustering | None = None

    def choose(
        self,
        space: DesignSpace,
        candidates: Ranking,
        visited: Configs,
        failed: BoolArray,
        rng: np.random.Generator,
    ) -> Configs:
        """The `exploit` best new candidates; then one config for each cluster, the best's first."""
        ranked = space.distinct(candidates.configs[space.valid(candidates.configs)])
        self.clusters = None
        if not len(ranked):
            return space.random(self._settings.smallest, rng, avoid=visited)
        clustered = self._clustered(space, ranked, visited, failed, rng)
        best = ranked[~space.contains(visited, ranked)][: self._settings.exploit]
        return space.distinct(np.concatenate([best, clustered]))

    def _clustered(
        self,
        space: DesignSpace,
        ranked: Configs,
        visited: Configs,
        failed: BoolArray,
        rng: np.random.Generator,
    ) -> Configs:
        """Algorithm 1: a new config for each cluster, the best candidate's first."""
        points = ranked[: self._candidates]
        if self._settings.variant == "letter":
            centroids, labels = self._all_knobs(space, points, rng)
        else:
            centroids, labels = self._cardinal_knobs(space, points, visited, rng)
        self.clusters = Clustering(points=points, labels=labels)
        chosen = centroids[_by_best_member(labels, len(centroids))]
        redundant = ~space.valid(chosen) | space.contains(visited, chosen)
        redundant |= _repeats(space, chosen)
        taken = np.concatenate([visited, chosen[~redundant]])
        n = int(redundant.sum())
        new = synthesise(space, points, visited, failed, taken=taken, n=n, rng=rng)
        new = _fill(space, new, ranked, taken=taken, n=n, rng=rng)
        places = np.flatnonzero(redundant)
        chosen[places[: len(new)]] = new
        return np.delete(chosen, places[len(new) :], axis=0)

    def _all_knobs(
        self, space: DesignSpace, points: Configs, rng: np.random.Generator
    ) -> tuple[Configs, Labels]:
        """Lines 2 to 7 of Algorithm 1; centroids are rounded, or else their nearest candidate."""
        sizes = range(self._settings.smallest, self._settings.largest)
        seed = int(rng.integers(2**31))
        centres, labels = self._knee(_kmeans(points, k, seed) for k in sizes)
        rows = np.rint(centres).astype(np.int32)
        nearest = points[_squared_distances(centres, points).argmin(axis=1)]
        return np.where(space.valid(rows)[:, None], rows, nearest), labels

    def _cardinal_knobs(
        self, space: DesignSpace, points: Configs, visited: Configs, rng: np.random.Generator
    ) -> tuple[Configs, Labels]:
        """The authors' code: centroids in two knobs; the others drawn until the row is new."""
        step = self._settings.smallest
        cardinal = np.argsort(-space.sizes, kind="stable")[:2]
        steps = range(step, self._settings.largest + 1, step)
        sizes = sorted({min(k, len(points)) for k in steps})
        plane = points[:, cardinal]
        centres, labels = self._knee(_truncating_kmeans(plane, k, rng) for k in sizes)
        rows = np.empty((0, len(space.sizes)), dtype=np.int32)
        for centre in centres:
            draws = _draw(list(points.T), _TRIES, rng)
            draws[:, cardinal] = centre
            taken = np.concatenate([visited, rows])
            new = draws[space.valid(draws) & ~space.contains(taken, draws)]
            rows = np.concatenate([rows, new[:1] if len(new) else draws[:1]])
        return rows, labels

    def _knee(self, clusterings: Iterable[Clusters]) -> tuple[Points, Labels]:
        """The first clustering that is not `threshold` times better than the one before."""
        centres: Points = np.empty((0, 0))
        labels, previous = np.empty(0, dtype=np.intp), np.inf
        for centres, labels, loss in clusterings:  # noqa: B007 - the last ones are the answer
            if self._settings.threshold * loss >= previous:
                break
            previous = loss
        return centres, labels


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
        best = ranked[~space.contains(visited, ranked)][:greedy]
        taken = np.concatenate([visited, best])
        return np.concatenate([best, space.random(batch - len(best), rng, avoid=taken)])


class ThompsonSampler:
    """Each pick is the best new candidate of one member of an ensemble, drawn at random.

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
        if candidates.members is None:
            raise SettingsError(
                "the sampler thompson needs a cost model with members: gaussian or forest."
            )
        batch = self._settings.batch
        new = space.valid(candidates.configs) & ~space.contains(visited, candidates.configs)
        configs, members = candidates.configs[new], candidates.members[:, new]
        picks: list[int] = []
        for row in rng.choice(len(members), size=min(batch, len(configs)), replace=True):
            scores = members[row].copy()
            scores[picks] = -np.inf
            picks.append(int(scores.argmax()))
        chosen = configs[picks]
        taken = np.concatenate([visited, chosen])
        return np.concatenate([chosen, space.random(batch - len(chosen), rng, avoid=taken)])


def make_sampler(policy: Policy) -> Sampler:
    """The sampler that the policy describes."""
    match policy.sampler:
        case AdaptiveSettings() as settings:
            return AdaptiveSampler(settings, candidates=policy.candidates)
        case GreedySettings() as settings:
            return GreedySampler(settings)
        case ThompsonSettings() as settings:
            return ThompsonSampler(settings)
        case PluginSettings() as settings:
            sampler: Sampler = load(settings.kind, what="sampler")(**settings.options)
            return sampler


def synthesise(
    space: DesignSpace,
    points: Configs,
    visited: Configs,
    failed: BoolArray,
    *,
    taken: Configs,
    n: int,
    rng: np.random.Generator,
) -> Configs:
    """Sample synthesis (section 3.3, line 9 of Algorithm 1): new configs from frequent choices.

    The first is the mode: of each knob the most frequent choice, the better-scored of equally
    frequent ones. The others draw each knob from its frequencies. Choices that were seen in
    failures only stay out, unless a knob has no others.

    Args:
        space: The task's space.
        points: The candidates `(m, knobs)`, at least one, the best-scored first.
        visited: What was measured.
        failed: Which of those failed.
        taken: What must not come up again.
        n: How many are wanted.
        rng: The only source of randomness.

    Returns:
        Up to `n` distinct, valid configs that are not in `taken`.
    """
    good, bad = visited[~failed], visited[failed]
    pools = []
    for knob, column in enumerate(points.T):
        hopeless = np.setdiff1d(bad[:, knob], good[:, knob])
        hopeful = column[~np.isin(column, hopeless)]
        pools.append(hopeful if len(hopeful) else column)
    mode = np.array([_most_frequent(pool) for pool in pools], dtype=np.int32)
    found = np.concatenate([mode[None, :], _draw(pools, _TRIES, rng)])
    found = found[space.valid(found) & ~space.contains(taken, found)]
    return space.distinct(found)[:n]


def _most_frequent(column: npt.NDArray[np.int32]) -> int:
    """The most frequent number; of equally frequent ones, that which comes first."""
    numbers, first, counts = np.unique(column, return_index=True, return_counts=True)
    return int(numbers[np.lexsort((first, -counts))[0]])


def _draw(columns: Sequence[npt.NDArray[np.int32]], n: int, rng: np.random.Generator) -> Configs:
    """`n` configs, each knob drawn from its column by itself."""
    return np.stack([rng.choice(column, size=n) for column in columns], axis=1)


def _fill(
    space: DesignSpace,
    found: Configs,
    ranked: Configs,
    *,
    taken: Configs,
    n: int,
    rng: np.random.Generator,
) -> Configs:
    """`found` brought to `n`, by the best candidates not yet taken, then by random configs."""
    taken = np.concatenate([taken, found])
    spare = ranked[~space.contains(taken, ranked)][: n - len(found)]
    found = np.concatenate([found, spare])
    missing = n - len(found)
    if not missing:
        return found
    return np.concatenate([found, space.random(missing, rng, avoid=np.concatenate([taken, spare]))])


def _by_best_member(labels: Labels, clusters: int) -> Labels:
    """The clusters in the order of their first points; those without points come last."""
    used, first = np.unique(labels, return_index=True)
    unused = np.setdiff1d(np.arange(clusters), used)
    return np.concatenate([used[np.argsort(first)], unused])


def _repeats(space: DesignSpace, configs: Configs) -> BoolArray:
    """Which configs stand earlier in the batch, `(n,)`."""
    repeats = np.ones(len(configs), dtype=np.bool_)
    repeats[np.unique(space.encode(configs), return_index=True)[1]] = False
    return repeats


def _squared_distances(left: Points, right: Points) -> npt.NDArray[np.float64]:
    """Between every two rows, `(len(left), len(right))`."""
    gaps: npt.NDArray[np.float64] = left[:, None, :].astype(np.float64) - right[None, :, :]
    squared: npt.NDArray[np.float64] = np.square(gaps).sum(axis=2)
    return squared


def _kmeans(points: Configs, k: int, seed: int) -> Clusters:
    """scikit-learn's k-means over distinct points; at most one cluster for each point."""
    from sklearn.cluster import KMeans

    fit = KMeans(min(k, len(points)), n_init=1, random_state=seed).fit(points.astype(np.float64))
    return fit.cluster_centers_, fit.labels_.astype(np.intp), float(fit.inertia_)


def _truncating_kmeans(points: Configs, k: int, rng: np.random.Generator) -> Clusters:
    """The authors' k-means: centroids start as random points and are truncated to integers.

    A cluster that loses its last point restarts at a random point.
    """
    centres = points[rng.integers(len(points), size=k)]
    labels = np.zeros(len(points), dtype=np.intp)
    for _ in range(_ITERATIONS):
        labels = _squared_distances(points, centres).argmin(axis=1)
        counts = np.bincount(labels, minlength=k)
        sums = np.zeros_like(centres)
        np.add.at(sums, labels, points)
        moved = sums // np.maximum(counts, 1)[:, None].astype(np.int32)
        empty = counts == 0
        moved[empty] = points[rng.integers(len(points), size=int(empty.sum()))]
        settled = not empty.any() and bool((moved == centres).all())
        centres = moved
        if settled:
            break
    return centres, labels, float(np.square(points - centres[labels]).sum())
