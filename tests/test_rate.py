"""How many there were a second, of late."""

import pytest

from chameleon_ray.rate import Rate


class Clock:
    """Goes as it is told."""

    now = 100.0

    def __call__(self):
        return self.now


def test_it_is_of_the_last_minute():
    """At first of the time that there was; what is older is forgotten."""
    clock = Clock()
    rate = Rate(clock)
    rate.add(4)
    assert rate.per_second == 4
    clock.now += 10
    rate.add(6)
    assert rate.per_second == 1
    clock.now += 20
    assert rate.per_second == pytest.approx(10 / 30)
    clock.now += 35
    assert rate.per_second == pytest.approx(6 / 60)
    clock.now += 1000
    assert rate.per_second == 0
