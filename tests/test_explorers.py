"""What is particular to each explorer; `contracts_explorer.py` has what every explorer does."""

import os
import time
from pathlib import Path

import numpy as np
import pytest
from contracts_explorer import (
    SMALL_PPO,
    TestExplorer,  # noqa: F401 - collected here
    peak,
    space,
)

from chameleon_ray.explorers import Candidates, make_explorer
from chameleon_ray.explorers.annealing import AnnealingExplorer, _Best, accept, propose
from chameleon_ray.ray_access import start_ray
from chameleon_ray.settings import AnnealingSettings, PpoSettings, RandomSettings
from chameleon_ray.space import DesignSpace, options, split

LEARNING = PpoSettings(episodes=64, steps=200, waves=8, minibatch=512, early_stop=None)
NO_STARTS = np.empty((0, 4), dtype=np.int32)


def big_space():
    """Six knobs, 10^7 configs, all ordered."""
    return DesignSpace(
        "big",
        [
            split("f", 64, 3),
            split("y", 56, 3),
            split("x", 56, 3),
            split("c", 64, 2),
            options("unroll", (0, 16, 64, 256)),
            options("explicit", (0, 1)),
        ],
    )


def test_ranked_keeps_each_config_once_the_best_first():
    """Repetitions go, scores do not increase."""
    walked = space()
    rows = np.array([[0, 0, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]], dtype=np.int32)
    found = Candidates.ranked(walked, rows, np.array([0.1, 0.9, 0.1], dtype=np.float32))
    assert found.configs.tolist() == [[1, 0, 0, 0], [0, 0, 0, 0]]
    np.testing.assert_allclose(found.scores, [0.9, 0.1])


class TestRandom:
    """Uniform draws."""

    def test_draws_avoid_what_was_measured(self):
        """With all but two configs measured, the two are drawn."""
        tiny = DesignSpace("tiny", [options("a", range(6))])
        starts = np.arange(4, dtype=np.int32)[:, None]
        explorer = make_explorer(RandomSettings(), seed=0)
        found = explorer.explore(tiny, peak(tiny), starts, np.random.default_rng(0))
        assert sorted(found.configs[:, 0].tolist()) == [4, 5]

    def test_the_score_has_no_say(self):
        """Two scores rank the same draws."""
        walked, drawn = space(), []
        for at in (0.1, 0.9):
            explorer = make_explorer(RandomSettings(), seed=0)
            found = explorer.explore(walked, peak(walked, at), NO_STARTS, np.random.default_rng(4))
            drawn.append(sorted(found.configs.tolist()))
        assert drawn[0] == drawn[1]
        assert len(drawn[0]) == 64


class TestAnnealing:
    """AutoTVM's simulated annealing."""

    def test_a_proposal_changes_one_knob_to_another_choice(self):
        """Exactly one knob differs, and every other choice of it turns up."""
        chains = np.full((4000, 2), 1, dtype=np.int32)
        line = DesignSpace("line", [options("a", range(4)), options("b", range(3))])
        proposals = propose(line, chains, np.random.default_rng(0))
        changed = proposals != chains
        assert (changed.sum(axis=1) == 1).all()
        assert set(proposals[changed[:, 0], 0].tolist()) == {0, 2, 3}
        assert set(proposals[changed[:, 1], 1].tolist()) == {0, 2}

    def test_knobs_with_one_choice_are_never_picked(self):
        """AutoTVM draws until something differs, so a knob of n choices weighs (n - 1) / n."""
        line = DesignSpace(
            "line", [options("a", (1,)), options("b", range(2)), options("c", range(4))]
        )
        chains = np.zeros((20_000, 3), dtype=np.int32)
        share = (propose(line, chains, np.random.default_rng(0)) != 0).mean(axis=0)
        np.testing.assert_allclose(share, [0, 0.4, 0.6], atol=0.02)

    def test_forbidden_proposals_are_drawn_again(self):
        """No chain leaves the valid configs, and each finds another one."""
        walked = space()
        chains = walked.random(500, np.random.default_rng(0))
        proposals = propose(walked, chains, np.random.default_rng(1))
        assert walked.valid(proposals).all()
        assert ((proposals != chains).sum(axis=1) == 1).all()

    def test_a_chain_that_is_shut_in_stays_put(self):
        """Nothing around it is allowed, and the draws end."""
        chains = np.array([[1, 1]], dtype=np.int32)
        island = DesignSpace("one", [options("a", range(3)), options("b", range(3))], listed=chains)
        assert (propose(island, chains, np.random.default_rng(0)) == chains).all()

    def test_better_is_always_accepted_and_worse_the_less_the_colder(self):
        """exp(min(gain / temperature, 1)) against a uniform number."""
        rng = np.random.default_rng(0)
        assert accept(np.full(1000, 0.1), 0.5, rng).all()
        worse = np.full(20_000, -0.5)
        assert accept(worse, 1.0, rng).mean() == pytest.approx(np.exp(-0.5), abs=0.02)
        assert accept(worse, 0.25, rng).mean() == pytest.approx(np.exp(-2), abs=0.02)
        assert not accept(worse, 0.0, rng).any()

    def test_it_stops_when_the_best_no_longer_change(self):
        """On a space that is soon exhausted, far fewer steps are scored than allowed."""
        tiny, calls = DesignSpace("tiny", [options("a", range(8))]), []

        def score(configs):
            calls.append(len(configs))
            return np.zeros(len(configs), dtype=np.float32)

        settings = AnnealingSettings(chains=4, steps=500, early_stop=20)
        AnnealingExplorer(settings).explore(tiny, score, NO_STARTS, np.random.default_rng(0))
        assert 20 < len(calls) < 100

    @pytest.mark.parametrize("persistent", [True, False])
    def test_chains_go_on_from_where_they_stood(self, persistent):
        """A second round starts with the last configs of the first, if chains are persistent."""
        walked, seen = space(), []

        def score(configs):
            seen.append(configs)
            return peak(walked)(configs)

        explorer = AnnealingExplorer(
            AnnealingSettings(chains=8, steps=300, early_stop=300, persistent=persistent)
        )
        rng = np.random.default_rng(0)
        explorer.explore(walked, score, NO_STARTS, rng)
        rounds = len(seen)
        explorer.explore(walked, score, NO_STARTS, rng)
        first, second = (peak(walked)(seen[i]).mean() for i in (0, rounds))
        assert (second > first + 0.2) == persistent

    def test_the_best_list_tells_what_changes_it(self):
        """A new config among the best 64 is a change; a known or a worse one is none."""
        line = DesignSpace("line", [options("a", range(100))])
        rows = np.arange(100, dtype=np.int32)[:, None]
        best = _Best(line, rows[:80], np.arange(80, dtype=np.float32))
        assert not best.update(rows[70:80], np.arange(70, 80, dtype=np.float32))
        assert not best.update(rows[:10], np.arange(10, dtype=np.float32))
        assert best.update(rows[90:91], np.array([20.0], dtype=np.float32))
        assert not best.update(rows[90:91], np.array([20.0], dtype=np.float32))

    def test_it_finds_better_configs_than_random_draws(self):
        """Its best 64 beat those of as many random draws."""
        walked = big_space()
        score, rng = peak(walked), np.random.default_rng(0)
        found = AnnealingExplorer(AnnealingSettings(chains=32, steps=200)).explore(
            walked, score, np.empty((0, 6), np.int32), rng
        )
        draws = np.sort(score(walked.random(len(found.configs), rng)))[::-1]
        assert found.scores[:64].mean() > draws[:64].mean()


@pytest.mark.ray
class TestPpo:
    """Adaptive exploration on RLlib."""

    @pytest.fixture
    def explorers(self):
        made = []

        def make(settings, seed=0):
            made.append(make_explorer(settings, seed=seed))
            return made[-1]

        yield make
        for explorer in made:
            explorer.close()

    def test_it_learns_within_a_round(self, explorers):
        """Over three seeds, the last wave scores clearly better than the first."""
        walked = big_space()
        score, gains = peak(walked), []
        for seed in range(3):
            explorer = explorers(LEARNING, seed)
            explorer.explore(walked, score, np.empty((0, 6), np.int32), np.random.default_rng(seed))
            waves = explorer.report.wave_scores
            gains.append(waves[-1] - waves[0])
        assert min(gains) > 0
        assert np.mean(gains) > 0.1

    def test_it_finds_better_configs_than_random_draws(self, explorers):
        """The best 64 of the second round beat those of as many random draws."""
        walked, rng = big_space(), np.random.default_rng(0)
        score = peak(walked)
        explorer = explorers(LEARNING)
        for _ in range(2):
            found = explorer.explore(walked, score, np.empty((0, 6), np.int32), rng)
        draws = np.sort(score(walked.random(len(found.configs), rng)))[::-1]
        assert found.scores[:64].mean() > draws[:64].mean()

    def test_the_agent_is_kept_from_round_to_round(self, explorers):
        """A second round starts better than the first one did."""
        walked, rng = big_space(), np.random.default_rng(1)
        explorer = explorers(LEARNING)
        first = []
        for _ in range(3):
            explorer.explore(walked, peak(walked), np.empty((0, 6), np.int32), rng)
            first.append(explorer.report.wave_scores[0])
        assert first[2] > first[0] + 0.05

    def test_other_use_of_random_generators_changes_nothing(self, explorers):
        """Neither torch's nor numpy's global generator is read, nor written."""
        import torch

        walked, found = space(), []
        for disturb in (False, True):
            explorer, rng = explorers(SMALL_PPO), np.random.default_rng(0)
            torch.manual_seed(int(disturb))
            np.random.seed(int(disturb))  # noqa: NPY002 - the very thing that must not matter
            before = torch.get_rng_state().tolist()
            for _ in range(2):
                if disturb:
                    explorers(SMALL_PPO, seed=8)
                found.append(explorer.explore(walked, peak(walked), NO_STARTS, rng))
            assert torch.get_rng_state().tolist() == before
        for one, other in zip(found[:2], found[2:], strict=True):
            np.testing.assert_array_equal(one.configs, other.configs)

    def test_a_quarter_of_the_walks_start_at_the_best(self, explorers):
        """Each wave has its share of the best starts; `random` ignores them."""
        walked = space()
        starts = walked.random(20, np.random.default_rng(5))
        for kind, expected in (("best", 4), ("random", 0)):
            explorer = explorers(PpoSettings(episodes=16, waves=2, steps=5, starts=kind))
            begin = explorer._episodes(walked, peak(walked), starts, np.random.default_rng(0))
            assert begin.starts.shape == (2, 8, 4)
            for wave in begin.starts:
                assert walked.contains(starts[:4], wave).sum() == expected / 2

    def test_starts_are_candidates(self, explorers):
        """The best starts come back, ranked with what was walked."""
        walked = space()
        starts = walked.random(2, np.random.default_rng(5))
        explorer = explorers(SMALL_PPO)
        found = explorer.explore(walked, peak(walked), starts, np.random.default_rng(0))
        assert walked.contains(found.configs, starts).all()

    def test_without_early_stop_every_step_is_walked(self, explorers):
        """The report counts episodes times steps."""
        walked = space()
        explorer = explorers(PpoSettings(episodes=8, steps=30, waves=2, early_stop=None))
        explorer.explore(walked, peak(walked), NO_STARTS, np.random.default_rng(0))
        assert explorer.report.steps == 240
        assert explorer.report.steps_by_worker == {0: 240}
        assert len(explorer.report.wave_scores) == 2

    def test_one_explorer_serves_one_space(self, explorers):
        """Another space is refused."""
        explorer = explorers(SMALL_PPO)
        explorer.explore(space(), peak(space()), NO_STARTS, np.random.default_rng(0))
        with pytest.raises(ValueError, match="contract"):
            explorer.explore(big_space(), peak(big_space()), NO_STARTS, np.random.default_rng(0))

    def test_no_folder_is_left_in_the_home(self, explorers):
        """RLlib would make one in ~/ray_results for every algorithm."""
        results = Path("~/ray_results").expanduser()
        before = sorted(results.glob("*"))
        explorer = explorers(SMALL_PPO)
        explorer.explore(space(), peak(space()), NO_STARTS, np.random.default_rng(0))
        assert sorted(results.glob("*")) == before

    def test_torch_gets_its_threads_back(self, explorers):
        """One thread while exploring, what it was before afterwards."""
        import torch

        torch.set_num_threads(2)
        explorer = explorers(SMALL_PPO)
        explorer.explore(space(), peak(space()), NO_STARTS, np.random.default_rng(0))
        assert torch.get_num_threads() == 2
        torch.set_num_threads(1)


@pytest.mark.ray
class TestWorkers:
    """Rollouts in other processes."""

    @pytest.fixture(autouse=True)
    def cluster(self, monkeypatch):
        import ray

        ray.shutdown()
        monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
        start_ray(cpus=3)
        yield
        ray.shutdown()

    def test_a_killed_worker_is_replaced_and_gets_score_and_weights(self):
        """No step is lost when a worker dies, its replacement walks, and nothing else changes."""
        settings = PpoSettings(
            episodes=8, steps=30, waves=2, minibatch=64, early_stop=None, workers=2
        )
        walked, rng = space(), np.random.default_rng(0)
        starts = walked.random(4, np.random.default_rng(1))
        explorer = make_explorer(settings, seed=0)
        alone = make_explorer(
            PpoSettings(episodes=8, steps=30, waves=2, minibatch=64, early_stop=None), seed=0
        )
        twin_rng, by_worker, same = np.random.default_rng(0), [], []
        for round_ in range(120):  # a replacement may take a while to start on a busy machine
            if round_ == 1:
                group = explorer._algorithm.env_runner_group
                victim = group.foreach_env_runner(lambda _: os.getpid(), local_env_runner=False)[0]
                os.kill(victim, 9)
            if round_ >= 1:
                time.sleep(0.5)
            found = explorer.explore(walked, peak(walked), starts, rng)
            by_worker.append(explorer.report.steps_by_worker)
            expected = alone.explore(walked, peak(walked), starts, twin_rng)
            same.append(walked.contains(expected.configs, found.configs).mean())
            assert explorer.report.steps == 240
            if round_ > 1 and by_worker[-1] == by_worker[0]:
                break
        assert by_worker[0] == {1: 120, 2: 120}
        assert by_worker[1][0] == 120
        assert by_worker[-1] == {1: 120, 2: 120}
        assert min(same) > 0.95
        explorer.close()
        alone.close()
