"""What the next measurements of a layer promise, and what is made of it."""

import math

import numpy as np
import pytest

from chameleon_ray.promise import Curve, exhausted, promises


def curve(weight, *steps, measurements, flop=None):
    """A curve with these (measurements, best seconds)."""
    made = Curve(weight=weight, flop=flop)
    for n, seconds in steps:
        made.reached(n, seconds)
    made.reached(measurements, None)
    return made


def test_a_curve_knows_its_best_time_at_any_length():
    """Only what is better changes it."""
    made = curve(1, (1, 4.0), (8, 2.0), measurements=16)
    made.reached(20, 3.0)
    assert [made.best(n) for n in (0, 1, 7, 8, 20)] == [math.inf, 4.0, 4.0, 2.0, 2.0]
    assert made.measurements == 20
    assert made.doubling == 0.0
    assert curve(1, (1, 4.0), (8, 2.0), measurements=8).doubling == pytest.approx(math.log(2))


def test_layers_that_were_hardly_measured_come_first():
    """There is nothing yet to tell what they promise."""
    promised = promises([Curve(weight=1), curve(9, (1, 1.0), (8, 0.5), measurements=8)])
    assert promised[0] == math.inf
    assert np.isfinite(promised[1])
    assert (promises([Curve(weight=1), Curve(weight=2)]) == math.inf).all()


def test_it_is_about_the_network_and_its_time():
    """Twice the uses or twice the time promise twice as much, all else equal."""
    one, twice = (curve(w, (1, 1.0), (8, 0.5), measurements=8) for w in (1, 2))
    longer = curve(1, (1, 2.0), (8, 1.0), measurements=8)
    a, b, c = promises([one, twice, longer])
    assert b == pytest.approx(2 * a)
    assert c == pytest.approx(2 * a)


def test_what_gains_promises_more_than_what_is_stuck_and_that_is_not_nothing():
    """A doubling without a gain may be chance: the other layers gained in theirs."""
    gaining = curve(1, (1, 1.0), (16, 0.5), measurements=16)
    stuck = curve(1, (1, 0.5), measurements=16)
    a, b = promises([gaining, stuck])
    assert a > b > 0


def test_promises_become_less_with_measurements():
    """The same gain over twice as many measurements is less than half as much for each."""
    short = curve(1, (1, 1.0), (8, 0.5), measurements=8)
    long = curve(1, (1, 1.0), (16, 0.5), measurements=16)
    a, b = promises([short, long])
    assert b < a / 2


def test_a_layer_that_is_slow_for_its_size_has_more_to_gain():
    """Equal curves: the one that does a quarter of the operations a second; if all are known."""
    fast, slow = (curve(1, (1, 1.0), (16, 0.5), measurements=16, flop=n) for n in (4e9, 1e9))
    a, b = promises([fast, slow])
    assert a < b
    unknown = curve(1, (1, 1.0), (16, 0.5), measurements=16)
    a, b, c = promises([fast, slow, unknown])
    assert a == b == c


def test_a_layer_is_exhausted_when_a_doubling_would_not_be_felt():
    """Not before it was measured a few times, nor while another has no time yet."""
    heavy = curve(1, (1, 1.0), measurements=512)
    light = curve(1, (1, 1e-6), measurements=512)
    gaining = curve(1, (1, 1.0), (512, 0.9), measurements=512)
    assert exhausted([gaining, light]).tolist() == [False, True]
    assert exhausted([heavy, light]).tolist() == [True, True]  # nothing gains
    few = curve(1, (1, 1e-6), measurements=16)
    assert exhausted([gaining, few]).tolist() == [False, False]
    assert not exhausted([light, Curve(weight=1)]).any()
