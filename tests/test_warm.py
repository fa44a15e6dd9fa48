"""Searches that begin with a past: how far it is followed, and what a wrong one costs."""

import pickle
from dataclasses import replace
from functools import cache, partial

import numpy as np
import pytest
from pasts import TASK, Device, a_kernel, a_source, seconds_of

from chameleon_ray.assembly import search
from chameleon_ray.cost_model import make_cost_model
from chameleon_ray.learning.lessons import FixedLessons
from chameleon_ray.learning.past import past_of
from chameleon_ray.learning.sources import of_recorded
from chameleon_ray.learning.warm import WarmCostModel
from chameleon_ray.measure.recorded import load_recorded
from chameleon_ray.measure.simulated import simulated_seconds_of
from chameleon_ray.networks import network
from chameleon_ray.phases import Phases
from chameleon_ray.presets import load_policy
from chameleon_ray.replay import replay
from chameleon_ray.settings import (
    CostModelSettings,
    ForestSettings,
    GaussianSettings,
    Policy,
    RandomSettings,
    ThompsonSettings,
)
from chameleon_ray.starts import first_batch
from chameleon_ray.tasks import Target
from chameleon_ray.templates import design_space

SPACE = a_kernel()
_, CHAMELEON = load_policy("chameleon")


def a_past(*sources):
    """Of these sources, or of one that is as the device."""
    return past_of(SPACE, {}, sources or [a_source()])


class SomeLessons:
    """Lessons that begin at a round, and the rounds that were asked for."""

    def __init__(self, past, begin=0):
        self.past, self.begin, self.asked = past, begin, []

    def at(self, round_):
        """As `Lessons`."""
        self.asked.append(round_)
        return self.past if round_ >= self.begin else None


def a_search(past, *, budget=40, policy=CHAMELEON, failing=False, lessons=None, **device):
    """A search of a made-up device and its measurer."""
    measurer = Device(SPACE, failing=failing, **device)
    if lessons is None and past is not None:
        lessons = FixedLessons(past=past)
    rounds = search(
        TASK,
        SPACE,
        policy,
        measurer=measurer,
        budget=budget,
        seed=0,
        rng=np.random.default_rng(0),
        phases=Phases(),
        lessons=lessons,
    )
    return rounds, measurer


def scores(past, **settings):
    """The best share of the optimum after each measurement."""
    rounds, measurer = a_search(past, **settings)
    history = list(rounds)[-1]
    best = seconds_of(SPACE, SPACE.all_valid(), **measurer.device).min()
    return best / np.minimum.accumulate([m.seconds for m in history.measurements])


class TestSearch:
    """The loop with a past."""

    def test_the_first_measurement_is_the_best_elsewhere(self):
        """On a device that is as the other one, the first is the optimum."""
        assert scores(a_past())[0] == 1

    def test_it_corrects_what_is_different_here(self):
        """Here staging is what costs; there it was what helped."""
        warm = scores(a_past(a_source(staged=-0.3)), staged=0.3)
        cold = scores(None, staged=0.3)
        assert warm[0] < 1
        assert warm[15] == 1
        assert warm[15] >= cold[15]

    def test_a_trusted_past_spares_the_first_look(self):
        """Four at a time from the beginning, instead of eight spread out."""
        rounds, measurer = a_search(a_past(), budget=16)
        list(rounds)
        assert measurer.asked == [4, 4, 4, 4]

    @pytest.mark.parametrize("batch", [1, 2, 4])
    def test_one_pick_in_four_is_as_without_a_past(self, batch):
        """However small the batches: where the past does not look, it cannot err."""
        policy = replace(CHAMELEON, sampler=ThompsonSettings(batch=batch))
        rounds, _ = a_search(a_past(), budget=16, policy=policy)
        configs = list(rounds)[-1].configs
        first = first_batch(SPACE, policy, np.random.default_rng(0))
        assert SPACE.contains(first, configs).sum() >= 4

    def test_a_wrong_past_is_followed_by_the_first_look(self):
        """Once it has proved wrong, the search begins as without it; that happens once."""
        upside_down = replace(a_source(), seconds=1 / a_source().seconds)
        rounds, measurer = a_search(a_past(upside_down), budget=32)
        history = list(rounds)[-1]
        first, reserve, *others = measurer.asked
        assert first == 4 < reserve <= 8
        assert set(others[:-1]) == {4}
        assert len(SPACE.distinct(history.configs)) == 32

    def test_failures_elsewhere_and_here(self):
        """What failed elsewhere is not tried first; what fails here is no reason to end."""
        source = a_source()
        failed = np.where(source.configs[:, 3] == 0, np.nan, source.seconds)
        rounds, _ = a_search(a_past(replace(source, seconds=failed)), budget=24, failing=True)
        history = list(rounds)[-1]
        assert len(history.configs) == 24
        assert history.best_seconds is not None

    def test_everything_measured_here_fails_at_first(self):
        """A past whose best all fail here: the search goes on elsewhere."""
        past = a_past(
            replace(a_source(), seconds=a_source().seconds / (1 + a_source().configs[:, 3]))
        )
        rounds, _ = a_search(past, budget=48, failing=True)
        assert list(rounds)[-1].best_seconds is not None

    @pytest.mark.parametrize("policy", ["autotvm", "random", "genetic", "chameleon"])
    def test_with_any_policy(self, policy):
        """Also with cost models and samplers that know no ensemble."""
        _, settings = load_policy(policy)
        assert scores(a_past(), policy=settings, budget=30).max() == 1

    def test_the_same_seed_the_same_search(self):
        """And a pause between two batches changes nothing."""
        whole, paused = (a_search(a_past(), budget=24)[0] for _ in range(2))
        expected = list(whole)[-1].configs.tolist()
        next(paused), next(paused)
        copy = pickle.loads(pickle.dumps(paused))
        copy.attach(Device(SPACE), Phases(), lambda _round: None)
        assert list(copy)[-1].configs.tolist() == expected

    def test_lessons_that_come_later(self):
        """A search that begins cold learns as others measure; it asks ever more rarely."""
        lessons = SomeLessons(a_past(), begin=1)
        rounds, measurer = a_search(None, lessons=lessons, budget=60)
        list(rounds)
        assert measurer.asked[0] == 8
        assert lessons.asked == [0, 1, 2, 4, 8]


class TestDraftedSearch:
    """A policy with a draft."""

    def test_it_begins_with_the_draft_and_not_with_the_first_look(self):
        """On the simulated CPU; without the switch, as ever."""
        task, target = network("resnet18")[3].task, Target(lanes=16, cores=2)
        space = design_space(task, target)
        asked = {}
        for draft in (False, True):
            measurer = Device(space)
            measurer.times = partial(simulated_seconds_of, task, target, space)
            policy = replace(CHAMELEON, draft=draft, explorer=RandomSettings(draws=512))
            rounds = search(
                task,
                space,
                policy,
                measurer=measurer,
                budget=12,
                seed=0,
                rng=np.random.default_rng(0),
                phases=Phases(),
            )
            list(rounds)
            asked[draft] = measurer.asked
        assert asked[False] == [8, 4]
        assert asked[True][0] == 4


class TestTrust:
    """How far the past is followed, by the odds of the measurements."""

    def model(self, past, points=12, **device):
        """A model fitted to the best of a source, as they are on a device."""
        configs = SPACE.all_valid()[:: 1024 // points][:points]
        times = seconds_of(SPACE, configs, **device)
        model = WarmCostModel(
            make_cost_model(ForestSettings(trees=8), seed=0),
            FixedLessons(past=past),
            SPACE,
            seed=0,
        )
        model.fit(SPACE, configs, (1e-3 / times).astype(np.float32))
        return model

    def test_it_rises_with_agreement_and_falls_with_disagreement(self):
        """A device like the one before, one that is a little different, one that is not alike."""
        same = self.model(a_past()).trust
        near = self.model(a_past(), staged=0.1).trust
        unlike = self.model(a_past(a_source(likes=6)), likes=0).trust
        assert same > 0.95
        assert near > 0.9
        assert unlike < 0.1

    def test_members_are_dealt_by_trust(self):
        """Where nothing speaks for the past, nearly all members are of the model without it."""
        score = self.model(a_past(a_source(likes=6)), likes=0).score()
        mean, members = score.predict(SPACE.all_valid()[:50])
        assert mean.dtype == members.dtype == np.float32
        assert mean.shape == (50,)
        assert members.shape == (32, 50)
        assert score.warm.missed.functions - 1 <= 3

    def test_a_score_survives_pickling(self):
        """Rollout workers are given it, and one of its members."""
        score = self.model(a_past()).score()
        configs = SPACE.all_valid()[:64]
        copy = pickle.loads(pickle.dumps(score))
        assert copy(configs).tolist() == score(configs).tolist()
        one, same = (s.member(np.random.default_rng(5)) for s in (score, copy))
        assert one(configs).tolist() == same(configs).tolist()

    def test_it_believes_what_it_has_measured(self):
        """Where the past is trusted, the mean at measured configs is near what they took."""
        model = self.model(a_past(), points=8, staged=0.2)
        assert model.trust > 0.5
        configs = SPACE.all_valid()[::128]
        times = seconds_of(SPACE, configs, staged=0.2)
        shares = times.min() / times
        assert np.abs(model.score()(configs) - shares).mean() < 0.06

    @pytest.mark.parametrize("settings", [CostModelSettings(), GaussianSettings()])
    def test_before_anything_is_measured_the_past_alone_speaks(self, settings):
        """Without a past, there has to be something to fit."""
        model = WarmCostModel(
            make_cost_model(settings, seed=0), FixedLessons(past=a_past()), SPACE, seed=0
        )
        none = SPACE.all_valid()[:0]
        model.fit(SPACE, none, np.zeros(0, np.float32))
        configs = SPACE.all_valid()
        told = model.score()(configs)
        assert np.corrcoef(np.log(told), a_source().labels)[0, 1] > 0.99
        cold = WarmCostModel(
            make_cost_model(settings, seed=0), SomeLessons(a_past(), begin=9), SPACE, seed=0
        )
        assert cold.trust == 0
        with pytest.raises(ValueError, match="cannot fit 0 points"):
            cold.fit(SPACE, none, np.zeros(0, np.float32))


@cache
def _recorded():
    recorded = load_recorded("convolution_A4000")
    return recorded, of_recorded(recorded)


def _wrong(kind):
    """The space's own times, shuffled or upside down: the worst past that there can be."""
    recorded, source = _recorded()
    seconds = np.nan_to_num(source.seconds, nan=np.nanmax(source.seconds))
    if kind == "shuffled":
        seconds = np.random.default_rng(1).permutation(seconds)
    else:
        seconds = seconds.min() * seconds.max() / seconds
    return past_of(recorded.space, source.numbers, [replace(source, seconds=seconds)])


@cache
def _attempts(kind):
    """Attempts until 80% of the optimum, of 20 seeds; a search that never gets there counts 64."""
    recorded, _ = _recorded()
    past = None if kind == "none" else _wrong(kind)
    found = [
        replay(recorded, CHAMELEON, name="chameleon", trials=64, seed=seed, past=past)
        for seed in range(20)
    ]
    shares = [[(r.optimum_seconds / b if b else 0) for b in r.best_seconds] for r in found]
    return np.array([next((n + 1 for n, x in enumerate(s) if x >= 0.8), 64) for s in shares])


@pytest.mark.parametrize("kind", ["shuffled", "upside down"])
def test_a_wrong_past_costs_at_most_a_tenth_or_8_measurements(kind):
    """On the mean of 20 seeds, on a real GPU's recorded space."""
    cold, wrong = _attempts("none").mean(), _attempts(kind).mean()
    assert wrong <= max(1.1 * cold, cold + 8)


def test_policy_settings_refuse_improvement_without_members():
    """As of Thompson sampling, whose picks are members' too."""
    from chameleon_ray.settings import ImprovementSettings

    with pytest.raises(ValueError, match="sampler improvement asks the members"):
        Policy(sampler=ImprovementSettings(), cost_model=CostModelSettings())
