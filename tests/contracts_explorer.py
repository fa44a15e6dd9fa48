"""What every explorer must do; an implementation is tested by adding it to `EXPLORERS`."""

import pickle
from dataclasses import dataclass

import numpy as np
import pytest

from chameleon_ray.explorers import Candidates, make_explorer
from chameleon_ray.settings import (
    AnnealingSettings,
    GeneticSettings,
    PpoSettings,
    RandomSettings,
)
from chameleon_ray.space import Constraint, DesignSpace, Knob, options, split

SMALL_PPO = PpoSettings(episodes=8, steps=40, waves=2, minibatch=64)

EXPLORERS = [
    pytest.param(SMALL_PPO, id="ppo", marks=pytest.mark.ray),
    pytest.param(
        PpoSettings(
            episodes=4,
            steps=40,
            waves=4,
            batch="draw",
            minibatch=32,
            starts="random",
            resample_unordered=False,
        ),
        id="ppo as in the paper",
        marks=pytest.mark.ray,
    ),
    pytest.param(
        PpoSettings(episodes=8, steps=40, waves=2, minibatch=64, agent="tokens"),
        id="ppo with tokens",
        marks=pytest.mark.ray,
    ),
    pytest.param(AnnealingSettings(chains=8, steps=40), id="annealing"),
    pytest.param(GeneticSettings(population=50, generations=4), id="genetic"),
    pytest.param(RandomSettings(draws=50), id="random"),
]


def few_threads(values):
    """A constraint that forbids about half of `space()`."""
    return values["tile_x"][:, 1] * values["tile_y"][:, 1] <= 16


def space():
    """Four knobs, one of them without order, and a constraint."""
    return DesignSpace(
        "contract",
        [
            split("tile_x", 56, 3),
            split("tile_y", 56, 3),
            options("unroll", (0, 16, 64, 256)),
            Knob(name="layout", choices=((0,), (1,), (2,)), ordered=False),
        ],
        constraints=[Constraint(name="at most 16 threads", holds=few_threads)],
    )


@dataclass(frozen=True)
class Peak:
    """A smooth score with one maximum; picklable."""

    sizes: tuple[int, ...]
    at: float = 0.7

    def __call__(self, configs):
        distance = ((configs / np.array(self.sizes) - self.at) ** 2).sum(axis=1)
        return np.exp(-4 * distance).astype(np.float32)


@dataclass(frozen=True)
class Pair:
    """A score of two members; picklable."""

    one: Peak
    two: Peak

    def __call__(self, configs):
        return self.predict(configs)[0]

    def predict(self, configs):
        members = np.stack([self.one(configs), self.two(configs)])
        return members.mean(axis=0), members

    def member(self, rng):
        return self.one if rng.random() < 0.5 else self.two


def peak(walked, at=0.7):
    """The score of a space."""
    return Peak(tuple(int(size) for size in walked.sizes), at)


@pytest.mark.parametrize("settings", EXPLORERS)
class TestExplorer:
    """The promises of `Explorer`, checked on every implementation."""

    @pytest.fixture
    def explorer(self, settings):
        explorer = make_explorer(settings, seed=3)
        yield explorer
        explorer.close()

    def explore(self, explorer, rounds=1, seed=0):
        walked, rng = space(), np.random.default_rng(seed)
        starts = walked.random(5, np.random.default_rng(9))
        return [explorer.explore(walked, peak(walked), starts, rng) for _ in range(rounds)]

    def test_candidates_are_valid_distinct_and_inside(self, explorer):
        """Every candidate of every round is an allowed row of indices, once, as int32."""
        walked = space()
        for found in self.explore(explorer, rounds=2):
            assert isinstance(found, Candidates)
            assert found.configs.dtype == np.int32
            assert found.configs.shape == (len(found.scores), 4)
            assert len(found.scores) > 10
            assert (found.configs >= 0).all()
            assert (found.configs < walked.sizes).all()
            assert walked.valid(found.configs).all()
            assert len(walked.distinct(found.configs)) == len(found.configs)

    def test_scores_are_the_scores_of_the_configs_best_first(self, explorer):
        """Scores do not increase, and are what the score says of each row."""
        walked = space()
        for found in self.explore(explorer, rounds=2):
            assert found.scores.dtype == np.float32
            assert (np.diff(found.scores) <= 0).all()
            np.testing.assert_allclose(found.scores, peak(walked)(found.configs), rtol=1e-6)

    def test_the_members_of_an_ensemble_are_asked_about_every_candidate(self, explorer):
        """Samplers that need members get them, in the candidates' order; a plain score has none."""
        walked = space()
        pair = Pair(peak(walked, 0.6), peak(walked, 0.8))
        starts, rng = walked.random(3, np.random.default_rng(1)), np.random.default_rng(0)
        found = explorer.explore(walked, pair, starts, rng)
        assert found.members.shape == (2, len(found.configs))
        np.testing.assert_allclose(found.members[1], pair.two(found.configs), rtol=1e-6)
        assert (np.diff(found.scores) <= 0).all()
        assert self.explore(explorer)[0].members is None

    def test_same_seed_same_candidates(self, explorer, settings):
        """A run that is replayed walks the same path, over several rounds, bit for bit."""
        twin = make_explorer(settings, seed=3)
        for one, other in zip(
            self.explore(explorer, rounds=3), self.explore(twin, rounds=3), strict=True
        ):
            np.testing.assert_array_equal(one.configs, other.configs)
            np.testing.assert_array_equal(one.scores, other.scores)
        twin.close()

    def test_another_seed_other_candidates(self, explorer, settings):
        """The rng matters."""
        twin = make_explorer(settings, seed=3)
        one, other = self.explore(explorer)[0], self.explore(twin, seed=1)[0]
        assert one.configs.tolist() != other.configs.tolist()
        twin.close()

    def test_starts_may_be_missing(self, explorer):
        """Before anything was measured, there are no starts."""
        walked = space()
        none = np.empty((0, 4), dtype=np.int32)
        found = explorer.explore(walked, peak(walked), none, np.random.default_rng(0))
        assert len(found.configs) > 10

    def test_a_tiny_space_is_no_trouble(self, explorer):
        """A space with fewer configs than walkers is walked all the same."""
        tiny = DesignSpace("tiny", [options("a", (1, 2)), options("b", (7,))])
        none = np.empty((0, 2), dtype=np.int32)
        found = explorer.explore(tiny, peak(tiny), none, np.random.default_rng(0))
        assert sorted(found.configs.tolist()) == [[0, 0], [1, 0]]

    def test_survives_pickling(self, explorer, settings):
        """A copy that went through pickle explores as the original does."""
        twin = pickle.loads(pickle.dumps(make_explorer(settings, seed=3)))
        one, other = self.explore(explorer)[0], self.explore(twin)[0]
        np.testing.assert_array_equal(one.configs, other.configs)
        twin.close()

    def test_survives_pickling_between_two_rounds(self, explorer):
        """A layer that is paused goes on with what its explorer has learned and where it was."""
        walked, rng = space(), np.random.default_rng(0)
        starts = walked.random(5, np.random.default_rng(9))
        explorer.explore(walked, peak(walked), starts, rng)
        twin, same = pickle.loads(pickle.dumps((explorer, rng)))
        one = explorer.explore(walked, peak(walked), starts, rng)
        other = twin.explore(walked, peak(walked), starts, same)
        np.testing.assert_array_equal(one.configs, other.configs)
        twin.close()
