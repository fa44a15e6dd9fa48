"""What is particular to each sampler; `contracts.py` has what every sampler does."""

import subprocess
import sys

import numpy as np
import pytest
from contracts import TestSampler  # noqa: F401 - collected here

from chameleon_ray.errors import SettingsError
from chameleon_ray.explorers import Candidates
from chameleon_ray.sampling import make_sampler
from chameleon_ray.sampling.adaptive import AdaptiveSampler, _truncating_kmeans, synthesise
from chameleon_ray.sampling.greedy import GreedySampler, diverse
from chameleon_ray.sampling.thompson import ThompsonSampler
from chameleon_ray.settings import AdaptiveSettings, GreedySettings, Policy, ThompsonSettings
from chameleon_ray.space import Constraint, DesignSpace, options

NONE = np.zeros(0, dtype=bool)


def plain_space(*sizes, constraints=()):
    """A space of plain numbers."""
    knobs = [options(f"k{i}", range(n)) for i, n in enumerate(sizes)]
    return DesignSpace("plain", knobs, constraints=constraints)


def ranked(configs):
    """Candidates as they stand, the best first."""
    configs = np.array(configs, dtype=np.int32)
    return Candidates(configs=configs, scores=np.linspace(1, 0, len(configs), dtype=np.float32))


def choose(sampler, space, configs, visited=None, failed=NONE, *, seed=0):
    """What a sampler picks."""
    visited = np.zeros((0, len(space.knobs)), np.int32) if visited is None else visited
    return sampler.choose(space, ranked(configs), visited, failed, np.random.default_rng(seed))


def letter(**settings):
    """Algorithm 1 to the letter."""
    return AdaptiveSampler(AdaptiveSettings(variant="letter", **settings), candidates=64)


def test_only_the_best_candidates_are_clustered():
    """`candidates` of a policy cuts the ranking: what stands below plays no part."""
    space = plain_space(100, 100)
    rng = np.random.default_rng(0)
    best = space.random(64, rng)
    worse = space.random(300, rng, avoid=best)
    sampler = make_sampler(Policy(candidates=64))
    short, long = choose(sampler, space, best), choose(sampler, space, [*best, *worse])
    assert short.tolist() == long.tolist()


def test_fewer_candidates_than_clusters_are_all_measured():
    """With five distinct candidates, k is five, and each is its own centroid."""
    configs = [(9, 9), (1, 2), (5, 5), (7, 0), (0, 8)]
    chosen = choose(letter(), plain_space(10, 10), configs)
    assert [tuple(row) for row in chosen] == configs


def test_repeated_candidates_count_once():
    """A candidate that stands there many times does not make more clusters."""
    chosen = choose(letter(), plain_space(10, 10), [(3, 3)] * 50)
    assert chosen.tolist() == [[3, 3]]


def test_the_cluster_of_the_best_candidate_comes_first():
    """Rows stand in the order of their clusters' best members."""
    groups = [(50, 50), (10, 10), (90, 90), (10, 90), (90, 10), (50, 10), (10, 50), (90, 50)]
    configs = [(x + d, y) for d in (0, 1, 2) for x, y in groups]
    chosen = choose(letter(largest=9), plain_space(100, 100), configs)
    assert [tuple(row) for row in chosen] == [(x + 1, y) for x, y in groups]


def test_the_best_scored_new_candidates_may_be_measured_besides():
    """They come first, in their order; what was measured is passed over."""
    space = plain_space(100, 100)
    configs = np.random.default_rng(0).integers(0, 100, size=(64, 2)).astype(np.int32)
    configs = space.distinct(configs)
    plain = choose(letter(), space, configs, visited=configs[1:2])
    chosen = choose(letter(exploit=3), space, configs, visited=configs[1:2])
    assert (chosen[:3] == configs[[0, 2, 3]]).all()
    assert space.contains(chosen, plain).all()
    assert len(space.distinct(chosen)) == len(chosen)


def test_a_centroid_on_forbidden_ground_becomes_its_nearest_candidate():
    """The mean of allowed configs may be forbidden; the nearest candidate stands in for it."""
    not_5 = Constraint(name="not 5", holds=lambda v: v["k0"][:, 0] != 5)
    configs = [(x, y) for x in (4, 6) for y in range(0, 80, 10)]
    chosen = choose(letter(largest=9), plain_space(10, 80, constraints=[not_5]), configs)
    assert {tuple(row) for row in chosen} <= set(configs)
    assert {y for _, y in chosen.tolist()} == set(range(0, 80, 10))


def test_synthesis_avoids_choices_that_only_failed():
    """A choice that was seen in failures alone is not drawn, one that also worked is."""
    space = plain_space(4, 50)
    points = np.array([(x, y) for x in (0, 1, 2) for y in range(20)], dtype=np.int32)
    visited = np.array([(0, 30), (1, 31), (1, 32)], dtype=np.int32)
    failed = np.array([True, True, False])
    found = synthesise(
        space, points, visited, failed, taken=visited, n=30, rng=np.random.default_rng(0)
    )
    assert len(found) == 30
    assert set(found[:, 0]) == {1, 2}


def test_synthesis_draws_by_frequency():
    """A choice that nine of ten candidates have is drawn about nine times in ten."""
    space = plain_space(2, 1000, 1000)
    rng = np.random.default_rng(0)
    points = rng.integers(0, [1, 1000, 1000], size=(60, 3)).astype(np.int32)
    points[:6, 0] = 1
    none = np.zeros((0, 3), dtype=np.int32)
    found = synthesise(space, points, none, NONE, taken=none, n=200, rng=rng)
    assert (found[:, 0] == 0).mean() == pytest.approx(0.9, abs=0.06)


def test_synthesis_stops_after_a_bounded_number_of_tries():
    """If the candidates' choices allow nothing new, fewer come back, and at once."""
    points = np.array([(0, 0), (0, 1)], dtype=np.int32)
    found = synthesise(
        plain_space(9, 9), points, points, np.zeros(2, bool), taken=points, n=5,
        rng=np.random.default_rng(0),
    )  # fmt: skip
    assert len(found) == 0


def test_when_synthesis_finds_nothing_candidates_then_random_configs_fill_up():
    """All centroids known and no new mixture: the spare candidates come, then random ones."""
    space = plain_space(30, 2)
    best = [(x, 0) for x in range(8)]
    visited = np.array(best, dtype=np.int32)
    sampler = AdaptiveSampler(AdaptiveSettings(variant="letter"), candidates=8)
    chosen = choose(sampler, space, [*best, (20, 1), (25, 1)], visited, np.zeros(8, bool))
    assert [tuple(row) for row in chosen[:2]] == [(20, 1), (25, 1)]
    assert len(chosen) == 8


def test_the_authors_take_every_eighth_number_of_clusters():
    """k is a multiple of eight up to and including 64."""
    space = plain_space(5, 200, 200, 3)
    for seed in range(5):
        rng = np.random.default_rng(seed)
        chosen = choose(make_sampler(Policy()), space, space.random(64, rng), seed=seed)
        assert len(chosen) in range(8, 65, 8)


def test_the_authors_centroids_are_truncated():
    """Centroids of whole numbers are rounded down, as the authors' code does."""
    points = np.array([[0, 0], [1, 3]], dtype=np.int32)
    centres, labels, loss = _truncating_kmeans(points, 1, np.random.default_rng(0))
    assert centres.tolist() == [[0, 1]]
    assert labels.tolist() == [0, 0]
    assert loss == 1 + 1 + 4


@pytest.mark.parametrize("k", [1, 8, 64])
def test_the_authors_kmeans_survives_identical_points(k):
    """All points alike: the loss is zero, and nothing divides by it."""
    points = np.full((10, 2), 7, dtype=np.int32)
    centres, _, loss = _truncating_kmeans(points, k, np.random.default_rng(0))
    assert loss == 0
    assert (centres == 7).all()


def test_greedy_takes_the_best_that_are_new():
    """The best-scored unvisited candidates in their order, then 3 of 64 at random."""
    space = plain_space(100, 100)
    configs = space.random(200, np.random.default_rng(0))
    chosen = choose(
        GreedySampler(GreedySettings()), space, configs, configs[:10], np.zeros(10, bool)
    )
    assert len(chosen) == 64
    assert chosen[:61].tolist() == configs[10:71].tolist()
    assert not space.contains(configs[:71], chosen[61:]).any()


@pytest.mark.parametrize(("epsilon", "random"), [(0.0, 0), (0.5, 5), (1.0, 10)])
def test_epsilon_is_the_random_share(epsilon, random):
    """That share of the batch, rounded down, is random."""
    space = plain_space(100, 100)
    configs = space.random(50, np.random.default_rng(0))
    sampler = GreedySampler(GreedySettings(batch=10, epsilon=epsilon))
    chosen = choose(sampler, space, configs)
    assert chosen[: 10 - random].tolist() == configs[: 10 - random].tolist()
    assert len(chosen) == 10


def test_greedy_fills_up_at_random():
    """With three candidates, the rest of the batch is random."""
    space = plain_space(100, 100)
    configs = space.random(3, np.random.default_rng(0))
    chosen = choose(GreedySampler(GreedySettings()), space, configs)
    assert chosen[:3].tolist() == configs.tolist()
    assert len(chosen) == 64


def test_importing_the_module_is_cheap():
    """scikit-learn is imported by the first clustering, not by the module."""
    code = "import sys, chameleon_ray.sampling; sys.exit('sklearn' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_diverse_batch_has_as_many_choices_as_can_be():
    """The first stays; then those that bring choices which none before them had."""
    configs = np.array([[0, 0], [0, 1], [1, 1], [2, 0], [1, 0]], dtype=np.int32)
    assert diverse(configs, 3).tolist() == [[0, 0], [1, 1], [2, 0]]
    assert diverse(configs[:2], 3).tolist() == [[0, 0], [0, 1]]


class TestThompson:
    """Each pick is the best new candidate of one member."""

    SPACE = plain_space(10, 10)

    def choose(self, members, *, visited=0, batch=3, seed=0):
        """Picks among ten candidates, the first of which were measured already."""
        configs = np.stack([np.arange(10), np.arange(10)], axis=1).astype(np.int32)
        members = np.array(members, dtype=np.float32)
        candidates = Candidates(configs=configs, scores=members.mean(axis=0), members=members)
        failed = np.zeros(visited, dtype=bool)
        sampler = ThompsonSampler(ThompsonSettings(batch=batch))
        rng = np.random.default_rng(seed)
        return sampler.choose(self.SPACE, candidates, configs[:visited], failed, rng)

    def test_picks_are_members_best(self):
        """Two members with one favourite each: over many rounds, both are picked first."""
        members = np.zeros((2, 10))
        members[0, 7] = members[1, 4] = 1.0
        firsts = {tuple(self.choose(members, seed=seed, batch=1)[0]) for seed in range(20)}
        assert firsts == {(7, 7), (4, 4)}

    def test_no_pick_twice_and_none_measured(self):
        """One member alone: its next best follows, and measured ones are passed over."""
        members = [np.arange(10)[::-1]]
        assert self.choose(members, visited=2)[:, 0].tolist() == [2, 3, 4]

    def test_too_few_candidates_are_filled_up_at_random(self):
        """A batch of three from one new candidate: two valid others."""
        chosen = self.choose([np.arange(10)], visited=9)
        assert chosen[0].tolist() == [9, 9]
        assert len(np.unique(chosen, axis=0)) == 3

    def test_a_score_without_members_is_refused(self):
        """The message names the cost models that have members."""
        candidates = Candidates(
            configs=np.zeros((1, 2), dtype=np.int32), scores=np.zeros(1, dtype=np.float32)
        )
        with pytest.raises(SettingsError, match="staged, gaussian or forest"):
            ThompsonSampler(ThompsonSettings()).choose(
                self.SPACE, candidates, candidates.configs[:0], NONE, np.random.default_rng(0)
            )
