"""The loop of Figure 3, with every part replaced: no Ray, no TVM, no clock."""

import pickle

import numpy as np
import pytest
from contracts import a_space

from chameleon_ray.cost_model import make_cost_model
from chameleon_ray.errors import NothingValidError
from chameleon_ray.explorers import Candidates
from chameleon_ray.measure import Measurement, Outcome, Purpose
from chameleon_ray.networks import network
from chameleon_ray.phases import Phases
from chameleon_ray.sampling import make_sampler
from chameleon_ray.settings import CostModelSettings, GreedySettings, Policy
from chameleon_ray.task_tuner import History, TaskTuner

TASK = network("resnet18")[0].task
SPACE = a_space()


def seconds_of(config):
    """A smooth landscape whose best is the config of all zeros."""
    return 1e-3 * (1 + config.sum())


class TableMeasurer:
    """Measures by a function; results come back in reverse order."""

    def __init__(self, fails=lambda config: False):
        self.fails, self.purposes = fails, []

    def submit(self, configs, *, purpose):
        self.purposes += [purpose] * len(configs)
        return self.results(configs)

    def results(self, configs):
        for position in reversed(range(len(configs))):
            config = configs[position]
            ok = not self.fails(config)
            yield (
                position,
                Measurement(
                    task=TASK.key,
                    config=SPACE.describe(config),
                    purpose=Purpose.SEARCH,
                    outcome=Outcome.OK if ok else Outcome.BUILD_ERROR,
                    message="" if ok else "no such intrinsic",
                    repeat_seconds=(seconds_of(config),) if ok else (),
                ),
            )


class DrawingExplorer:
    """Proposes what it draws, ranked by the score it is given."""

    def __init__(self, draws):
        self.draws = draws

    def explore(self, space, score, starts, rng):
        configs = space.random(self.draws, rng)
        return Candidates.ranked(space, configs, score(configs))

    def close(self):
        pass


def tuning(measurer, *, budget, seed=0, batch=8, draws=512, depth=1, cost_model=None):
    rng = np.random.default_rng(seed)
    return TaskTuner(
        TASK,
        SPACE,
        first=SPACE.random(9, rng),
        explorer=DrawingExplorer(draws),
        sampler=make_sampler(Policy(sampler=GreedySettings(batch=batch))),
        measurer=measurer,
        cost_model=cost_model or make_cost_model(CostModelSettings(), seed=0),
        budget=budget,
        rng=rng,
        phases=Phases(),
        depth=depth,
    )


def test_it_learns_and_spends_exactly_the_budget():
    """Sixty measurements, no config twice, and later batches are faster than the first."""
    measurer = TableMeasurer()
    *_, history = tuning(measurer, budget=60)
    assert len(history.configs) == 60
    assert len(SPACE.distinct(history.configs)) == 60
    assert measurer.purposes[0] is Purpose.DEFAULT
    assert set(measurer.purposes[1:]) == {Purpose.SEARCH}
    assert history.fitness[-20:].mean() > 1.2 * history.fitness[:9].mean()


def test_the_order_in_which_results_arrive_does_not_matter():
    """Measurements belong to their configs, and the same seed takes the same path."""
    histories = []
    for _ in range(2):
        *_, history = tuning(TableMeasurer(), budget=40)
        histories.append(history)
        for config, measurement in zip(history.configs, history.measurements, strict=True):
            assert SPACE.describe(config) == measurement.config
    assert (histories[0].configs == histories[1].configs).all()


class Watched(TableMeasurer):
    """Notes when a batch begins and when its results are asked for."""

    def __init__(self):
        super().__init__()
        self.events = []

    def submit(self, configs, *, purpose):
        number = sum(kind == "begin" for kind, _ in self.events)
        self.events.append(("begin", number))
        answers = super().submit(configs, purpose=purpose)

        def noted():
            self.events.append(("wait", number))
            yield from answers

        return noted()


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_so_many_batches_are_under_way(depth):
    """The first two are alone; from then on the next begin before the oldest is waited for."""
    measurer = Watched()
    *_, history = tuning(measurer, budget=50, depth=depth)
    assert len(SPACE.distinct(history.configs)) == 50
    under_way, most = 0, []
    for kind, _ in measurer.events:
        under_way += 1 if kind == "begin" else -1
        most.append(under_way)
    assert max(most[:4]) == 1
    assert max(most) == depth
    waits = [number for kind, number in measurer.events if kind == "wait"]
    assert waits == list(range(len(waits)))


def test_what_is_under_way_is_believed_to_come_out_as_predicted():
    """The model is fitted to all that was measured and, at its own word, to all that was chosen."""
    seen = []

    class Believer:
        fitted = True

        def fit(self, space, configs, fitness):
            seen.append(fitness)

        def score(self):
            return lambda configs: np.full(len(configs), 0.25, dtype=np.float32)

    tuner = tuning(Watched(), budget=40, depth=2, cost_model=Believer())
    *_, history = tuner
    sizes = [9, 17, 25, 33]  # the second fit waits for no batch: the first eight are under way
    assert [len(fitness) for fitness in seen] == sizes
    assert seen[0].tolist() == history.fitness[:9].tolist()
    for fitness, known in zip(seen[1:], (9, 17, 25), strict=True):
        assert fitness[:known].tolist() == history.fitness[:known].tolist()
        assert fitness[known:] == pytest.approx(0.25 * history.fitness[:known].max())
    assert next(tuner, None) is None


def test_what_is_no_longer_allowed_is_not_started():
    """A time budget that is over ends the search between two batches, or before the first."""
    measurer = TableMeasurer()
    search = tuning(measurer, budget=60)
    search.allow(0)
    *_, history = search
    assert measurer.purposes == []
    assert history.best_seconds is None
    search = tuning(measurer, budget=60)
    next(search), next(search)
    search.allow(0)
    assert next(search, None) is None
    assert len(measurer.purposes) == len(search.history.configs) == 9


@pytest.mark.parametrize(("trials", "failures"), [(60, 33), (20, 20)])
def test_a_search_without_anything_valid_ends_in_an_error(trials, failures):
    """After 32 failures, to the end of their batch, or all of its budget; with a whole message."""
    told = rf"(?s){failures} build_error.*no such intrinsic.*doctor"
    with pytest.raises(NothingValidError, match=told):
        list(tuning(TableMeasurer(fails=lambda config: True), budget=trials))


def test_failures_count_and_never_win():
    """A failed measurement uses the budget, has fitness zero and is no finalist."""
    measurer = TableMeasurer(fails=lambda config: config[0] % 2 == 0)
    *_, history = tuning(measurer, budget=40)
    assert len(history.configs) == 40
    assert history.failed.any()
    assert (history.fitness[history.failed] == 0).all()
    assert (history.best(50)[:, 0] % 2 == 1).all()


def test_a_small_space_ends_when_all_of_it_is_measured():
    """The budget is larger than the space."""
    everything = {"batch": 10**6, "draws": 10**6}
    *_, history = tuning(TableMeasurer(), budget=10**6, **everything)
    assert len(history.configs) == len(SPACE.all_valid())


def test_a_remeasured_config_counts_with_its_later_time():
    """Labels follow the newer measurement instead of keeping the first noisy one."""
    history = History(TASK, SPACE)
    configs = SPACE.random(3, np.random.default_rng(0))

    def measured(seconds):
        return [
            Measurement(
                task=TASK.key,
                config={},
                purpose=Purpose.SEARCH,
                outcome=Outcome.OK,
                repeat_seconds=(s,),
            )
            for s in seconds
        ]

    history.add(configs, measured([1.0, 2.0, 3.0]))
    history.add(configs[1:2], measured([0.5]))
    assert history.best_seconds == 0.5
    assert (history.best(1)[0] == configs[1]).all()
    assert len(history.measurements) == len(history.configs) == 3


@pytest.mark.parametrize("depth", [1, 2])
def test_a_search_that_is_pickled_between_two_batches_goes_on_as_if_it_were_not(depth):
    """What is under way is asked for again; what it is attached to stays behind."""
    budget = 60
    *_, whole = tuning(TableMeasurer(), budget=budget, depth=depth)
    search = tuning(TableMeasurer(), budget=budget, depth=depth)
    for _ in range(3):
        next(search)
    assert len(search.history.configs) < 60
    resumed, told = pickle.loads(pickle.dumps(search)), []
    resumed.attach(TableMeasurer(), Phases(), told.append)
    *_, history = resumed
    np.testing.assert_array_equal(history.configs, whole.configs)
    assert told[-1].chosen


def test_a_search_that_is_allowed_nothing_more_waits_for_what_is_under_way():
    """And measures nothing more."""
    search = tuning(TableMeasurer(), budget=100, depth=2)
    for _ in range(3):
        next(search)
    before = len(search.history.configs)
    search.allow(0)
    *_, history = search
    assert before < len(history.configs) <= before + 8
