"""The backends: the contract, TVM's stopping rules, and the simulated device's model."""

import itertools

import numpy as np
import pytest
from contracts_backend import TARGET, TASK, BackendContract

from chameleon_ray.env_settings import RepeatSettings
from chameleon_ray.measure import tvm
from chameleon_ray.measure.simulated import simulated_seconds
from chameleon_ray.measure.tvm import TimedRunner
from chameleon_ray.networks import network
from chameleon_ray.tasks import Target
from chameleon_ray.templates import default_config, design_space


class TestBackends(BackendContract):
    """Every backend keeps the contract."""


class ScriptedKernel:
    """Takes the times it is given, one after another, the last one for ever."""

    def __init__(self, *milliseconds):
        self.milliseconds, self.calls = list(milliseconds), []

    def time(self, calls):
        self.calls.append(calls)
        first, *rest = self.milliseconds
        self.milliseconds = rest or [first]
        return first / 1000

    def error(self):
        return 0.0


def repeats(kernel, best_seconds=None, **settings):
    """Milliseconds of the repeats that the runner takes."""
    runner = TimedRunner(RepeatSettings(**settings), 5)
    return [1000 * s for s in runner.run(kernel, best_seconds)[1]]


def test_a_steady_kernel_is_timed_a_few_times():
    """The interval is narrow after the least number of repeats."""
    assert len(repeats(ScriptedKernel(2.0))) == 3


def test_a_noisy_kernel_is_timed_longer_but_not_for_ever():
    """The interval stays wide until the most."""
    noisy = ScriptedKernel(*(2.0 + i % 2 for i in range(50)))
    assert len(repeats(noisy, most=7)) == 7


def test_a_clearly_slower_kernel_is_timed_once():
    """Its fastest repeat is beyond the best by the factor; a close one is timed on."""
    assert len(repeats(ScriptedKernel(2.0), best_seconds=0.001)) == 1
    assert len(repeats(ScriptedKernel(2.0), best_seconds=0.0019)) == 3


def test_one_disturbed_repeat_does_not_condemn_a_kernel():
    """The call before the repeats was fast enough."""
    assert len(repeats(ScriptedKernel(2.0, 9.0, 2.0), best_seconds=0.0019)) > 1


def test_a_repeat_that_waited_for_a_core_is_taken_again(monkeypatch):
    """A few times; then the shortest of the attempts counts."""
    waited = iter([0.0, 0.0001, 0.0001, 0.0051, 0.0051, 0.0051])  # before and after each attempt
    monkeypatch.setattr(tvm, "waited_seconds", lambda: next(waited, 0.0))
    assert repeats(ScriptedKernel(2.0, 2.0, 9.0, 2.5), most=2, least=2) == [2.0, 2.5]
    clock = itertools.count()
    monkeypatch.setattr(tvm, "waited_seconds", lambda: float(next(clock)))
    assert repeats(ScriptedKernel(1.0, 9.0, 4.0, 3.0, 5.0), least=1, most=1) == [3.0]


def test_a_repeat_lasts_as_long_as_was_set():
    """A kernel of 0.1 ms runs thirty times in 3 ms, one of 5 ms once."""
    fast, slow = ScriptedKernel(0.1), ScriptedKernel(5.0)
    repeats(fast, seconds=0.003)
    repeats(slow, seconds=0.003)
    assert set(fast.calls[1:]) == {30}
    assert set(slow.calls) == {1}


def test_kernels_are_timed_in_turns():
    """Noise that comes and goes hits all alike."""
    order = []

    class Recorded(ScriptedKernel):
        def __init__(self, name):
            super().__init__(5.0)
            self.name = name

        def time(self, calls):
            order.append(self.name)
            return super().time(calls)

    TimedRunner(RepeatSettings(), 3).compare([Recorded("a"), Recorded("b")])
    assert "".join(order) == "ab" + "aabb" * 3


def test_the_simulated_device_has_something_to_find():
    """The best of many configs is much faster than the median, and faster than the default."""
    for layer in network("resnet18")[::4]:
        target = Target(lanes=16, cores=2)
        space = design_space(layer.task, target)
        rows = space.random(300, np.random.default_rng(0))
        seconds = [simulated_seconds(layer.task, target, space.describe(row)) for row in rows]
        default = space.describe(default_config(layer.task, target))
        assert min(seconds) < 0.5 * np.median(seconds)
        assert min(seconds) < simulated_seconds(layer.task, target, default)
        assert min(seconds) >= layer.task.flop / (2 * 100e9)


def test_simulated_noise_is_seeded():
    """The same seed and config give the same times; another seed others."""
    from chameleon_ray.measure.simulated import SimulatedBuilder

    config = design_space(TASK, TARGET).describe(default_config(TASK, TARGET))
    times = [SimulatedBuilder(TARGET, seed).build(TASK, config).time(1) for seed in (0, 0, 1)]
    assert times[0] == times[1] != times[2]
    assert times[0] == pytest.approx(simulated_seconds(TASK, TARGET, config), rel=0.1)
