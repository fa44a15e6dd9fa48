"""Which layer is measured next."""

from dataclasses import dataclass

import pytest
from ray.tune.experiment import Trial
from ray.tune.schedulers import TrialScheduler

from chameleon_ray import tune
from chameleon_ray.layer_scheduler import LayerScheduler
from chameleon_ray.networks import network

LAYERS = network("resnet18")[:3]


@dataclass(eq=False)
class FakeTrial:
    """What a scheduler asks a trial."""

    layer: int
    status: str = Trial.PENDING

    @property
    def config(self):
        return {"layer": self.layer}


class Controller:
    """Runs one trial at a time, as the scheduler says; those that are told so have ended.

    Layers of `gains` are slow, and gain 1% a batch until they are as fast as the others.
    """

    def __init__(self, schedule, gains=(), at_once=1):
        self.exhausted, self.gains = set(), gains
        self.scheduler = LayerScheduler(LAYERS, schedule, self.exhausted.add, at_once=at_once)
        self.trials = [FakeTrial(layer.index) for layer in LAYERS]
        self.measured = dict.fromkeys((layer.index for layer in LAYERS), 0)
        self.best = {
            layer.index: layer.task.flop / (5e10 if layer.index in gains else 1e11)
            for layer in LAYERS
        }

    def get_trials(self):
        return self.trials

    def run(self, batches):
        """So many batches of four; the layer of each."""
        order, running = [], None
        for _ in range(batches):
            running = running or self.scheduler.choose_trial_to_run(self)
            if running is None:
                break
            running.status = Trial.RUNNING
            order.append(running.layer)
            self.measured[running.layer] += 4
            if running.layer in self.gains:
                known = next(x for x in LAYERS if x.index == running.layer)
                least = known.task.flop / 1e11
                self.best[running.layer] = max(least, 0.99 * self.best[running.layer])
            told = {
                "measurements": self.measured[running.layer],
                "best_seconds": self.best[running.layer],
            }
            action = self.scheduler.on_trial_result(self, running, told)
            if running.layer in self.exhausted:
                running.status, running = Trial.TERMINATED, None
            elif action == TrialScheduler.PAUSE:
                running.status, running = Trial.PAUSED, None
        return order


@pytest.mark.parametrize("schedule", ["round_robin", "gain"])
def test_nobody_gives_way_to_a_layer_whose_process_is_being_started(schedule):
    """The first goes on while a second process imports for seconds; then it does give way."""
    controller = Controller(schedule, at_once=2)
    assert len(set(controller.run(8))) == 1
    (first,) = (trial for trial in controller.trials if trial.status == Trial.RUNNING)
    second = next(trial for trial in controller.trials if trial is not first)
    second.status = Trial.RUNNING
    told = {"measurements": 32, "best_seconds": controller.best[first.layer]}
    answer = controller.scheduler.on_trial_result(controller, first, told)
    assert answer == TrialScheduler.PAUSE


def test_round_robin_gives_each_layer_as_much():
    """Up to a batch or two."""
    controller = Controller("round_robin")
    controller.run(30)
    assert max(controller.measured.values()) - min(controller.measured.values()) <= 16


def test_gain_goes_to_the_layer_that_gains():
    """The others are measured too: a doubling without a gain may be chance."""

    def counts(gains):
        order = Controller("gain", gains=gains).run(60)
        assert set(order[:6]) == {1, 2, 3}  # each until it has a time to halve
        return {layer.index: order.count(layer.index) for layer in LAYERS}

    first, third = counts({1}), counts({3})
    assert third[3] > 1.25 * first[3]
    assert first[1] > 1.25 * third[1]
    assert min(*first.values(), *third.values()) >= 2


@pytest.mark.parametrize("schedule", ["gain", "round_robin"])
def test_a_layer_that_has_nothing_left_to_gain_is_told(schedule):
    """With `gain`, and after many batches without any."""
    early, controller = Controller(schedule, gains={3}), Controller(schedule, gains={3})
    early.run(24)
    assert not early.exhausted
    controller.run(600)
    assert controller.exhausted == ({1, 2, 3} if schedule == "gain" else set())


def test_a_layer_that_is_alone_goes_on():
    """There is nobody to give way to; and without anybody who waits, nobody is chosen."""
    controller = Controller("gain")
    for trial in controller.trials[1:]:
        trial.status = Trial.TERMINATED
    assert controller.run(5) == [1] * 5
    controller.trials[0].status = Trial.TERMINATED
    assert controller.scheduler.choose_trial_to_run(controller) is None


@pytest.mark.ray
@pytest.mark.usefixtures("shared_ray")
@pytest.mark.parametrize("schedule", ["gain", "fifo"])
def test_the_measurements_of_a_network_are_given_out_as_the_policy_says(tmp_path, schedule):
    """As many in all; with `gain`, the layers share them."""
    policy = tmp_path / "scheduled.yaml"
    policy.write_text(
        f"initial: 8\nschedule: {schedule}\nexplorer: {{kind: random}}\n"
        "sampler: {kind: greedy, batch: 4}\n"
    )
    result = tune(
        "resnet18",
        env="simulated",
        policy=str(policy),
        layers=[1, 4, 11],
        trials=24,
        run=tmp_path / "run",
    )
    measured = [layer.measurements for layer in result.layers]
    assert all(layer.best_seconds for layer in result.layers)
    assert result.finished
    if schedule == "fifo":
        assert measured == [24, 24, 24]
    else:
        assert 72 - 3 * 4 <= sum(measured) <= 72 + 3 * 4
        assert min(measured) >= 12
