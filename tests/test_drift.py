"""A device that drifts is told from one that is noisy."""

import itertools

import numpy as np
import pytest

from chameleon_ray.measure.drift import EVERY_SECONDS, REST_SECONDS, SOON_SECONDS, Watch


class Clock:
    """A clock that is set by hand."""

    now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def told(watch, clock, times):
    """What the watch says to each time, taken whenever one is due."""
    said = []
    for seconds in times:
        clock.now = max(clock.now, watch.next_at)
        assert watch.due
        said.append(watch.timed(seconds))
    return said


@pytest.mark.parametrize("noise", [0.0, 0.01, 0.1])
def test_a_noisy_device_has_not_drifted(clock, noise):
    """In a thousand looks; a single time that is out of line is looked at once more."""
    rng = np.random.default_rng(3)
    watch = Watch(clock)
    times = list(np.exp(noise * rng.uniform(-1, 1, 1000)))
    times[500] = 3.0
    assert not any(told(watch, clock, times))
    assert not watch.drifted


def test_looks_are_soon_after_each_other_at_first_and_rare_after_that(clock):
    """Five to know the noise; then one a minute."""
    watch, taken = Watch(clock), []
    for _ in range(8):
        clock.now = max(clock.now, watch.next_at)
        taken.append(clock.now)
        watch.timed(1.0)
    gaps = [b - a for a, b in itertools.pairwise(taken)]
    assert gaps == [SOON_SECONDS] * 4 + [EVERY_SECONDS] * 3


@pytest.mark.parametrize("factor", [1.2, 0.8])
def test_a_device_that_moves_rests_until_it_is_as_before(clock, factor):
    """It is said once, when it has been seen twice; slower and faster alike."""
    watch = Watch(clock)
    told(watch, clock, [1.0, 1.0, 1.01, 0.99, 1.0])
    assert told(watch, clock, [factor]) == [""]
    assert watch.due  # at once
    (said,) = told(watch, clock, [factor * 1.01])
    assert f"{factor * 1.01:.2f} times as long" in said
    assert watch.drifted == said
    assert not watch.due
    assert watch.next_at == clock.now + REST_SECONDS
    assert told(watch, clock, [1.7 * factor]) == [""]
    assert watch.drifted
    assert told(watch, clock, [1.0]) == [""]
    assert not watch.drifted
    assert watch.next_at == clock.now + EVERY_SECONDS


def test_a_device_that_stays_at_another_speed_is_steady_there(clock):
    """Later times are compared with those at the new speed."""
    watch = Watch(clock)
    told(watch, clock, [1.0] * 5 + [1.5, 1.5, 1.7, 1.7])
    assert not watch.drifted
    told(watch, clock, [1.7] * 5)
    assert not watch.drifted
    assert any(told(watch, clock, [1.0, 1.0]))


def test_a_device_that_never_becomes_steady_is_used_as_it_is(clock):
    """After a minute of rests; a run with one device would stand still for ever."""
    watch = Watch(clock)
    told(watch, clock, [1.0] * 5)
    begin = clock.now
    wild = itertools.cycle([1.5, 2.0, 3.0, 4.5])
    told(watch, clock, itertools.islice(wild, 2))
    told(watch, clock, [2.0])
    assert watch.drifted
    while watch.drifted:
        told(watch, clock, [next(wild)])
        assert clock.now < begin + 10 * EVERY_SECONDS


def test_a_reference_that_fails_says_nothing(clock):
    """Neither that it drifted nor that it is steady again."""
    watch = Watch(clock)
    told(watch, clock, [1.0] * 5 + [2.0, 2.0])
    assert watch.drifted
    clock.now = watch.next_at
    assert watch.timed(None) == ""
    assert watch.drifted
    assert watch.next_at == clock.now + REST_SECONDS


def test_a_reference_that_goes_on_failing_does_not_rest_a_device_for_ever(clock):
    """It is used as it is after as many rests as any other that does not become steady."""
    watch = Watch(clock)
    told(watch, clock, [1.0] * 5 + [2.0])
    assert watch.doubts
    told(watch, clock, [2.0])
    assert watch.drifted
    for _ in range(10):
        clock.now = watch.next_at
        watch.timed(None)
    assert not watch.drifted
