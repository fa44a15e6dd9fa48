"""Restrictions allow exactly the configs for which each of them answers yes."""

import itertools

import cloudpickle
import numpy as np
import pytest

from chameleon_ray.errors import SettingsError, UnknownNameError
from chameleon_ray.restrictions import Restrictions
from chameleon_ray.space import DesignSpace
from chameleon_ray.tunables import Tunables

KNOBS = {
    "x": [1, 2, 4, 8, 16],
    "y": [0, 1, 2, 3],
    "share": [0.25, 0.5, 1.0],
    "shift": [-2, -1, 0, 3],
    "vector": [True, False],
    "order": ["ijk", "ikj", "jik"],
    "depth": [1, 2.5, "auto"],
}
TUNABLES = Tunables.of(KNOBS, where="knobs")
FREE = DesignSpace("free", TUNABLES.knobs())
EVERYTHING = FREE.all_valid()


def restricted(*given, tunables=TUNABLES, seed=0):
    space = DesignSpace("free", tunables.knobs())
    return Restrictions(given, tunables, space.random(64, np.random.default_rng(seed)))


def by_hand(holds):
    return np.array([bool(holds(**TUNABLES.plain(config))) for config in EVERYTHING])


def first_letter(config):
    """Where columns are asked, this takes the first row for the first letter."""
    return (config["order"][0] == "i") & (config["x"] > 2)


def test_one_is_asked_only_about_what_those_before_it_allow():
    """A divisor that may be zero is guarded by the restriction before it."""
    asked = restricted("y > 0", "x % y == 0", lambda c: 8 // c["y"] > 2)
    expected = by_hand(lambda x, y, **_: y > 0 and x % y == 0 and 8 // y > 2)
    assert (asked.allowed(EVERYTHING) == expected).all()


@pytest.mark.parametrize(
    ("given", "holds"),
    [
        ("x * y <= 8", lambda x, y, **_: x * y <= 8),
        ("1 < x < 16 and not vector", lambda x, vector, **_: 1 < x < 16 and not vector),
        ("order in ('ijk', 'ikj') or x == 1", lambda x, order, **_: order[0] == "i" or x == 1),
        ("x & 6", lambda x, **_: x & 6),
        (" share * x >= 2 \n", lambda x, share, **_: share * x >= 2),
        ("x << shift > 8 if shift > 0 else x > 2", lambda x, shift, **_: _shifted(x, shift)),
        (
            "depth == 'auto' or depth * x > 4",
            lambda x, depth, **_: depth == "auto" or depth * x > 4,
        ),
        (lambda c: c["x"] > c["shift"] + c["y"], lambda x, y, shift, **_: x > shift + y),
        (lambda c: c["order"] + "!" != "ijk!", lambda order, **_: order != "ijk"),
        (lambda c: np.log2(c["x"]) <= 2, lambda x, **_: x <= 4),
        (lambda c: max(c["x"], c["y"]) > 2, lambda x, y, **_: max(x, y) > 2),
        (lambda c: not c["vector"], lambda vector, **_: not vector),
        (first_letter, lambda x, order, **_: order[0] == "i" and x > 2),
        ("True", lambda **_: True),
    ],
)
def test_they_hold_as_python_says(given, holds):
    """Text and functions agree with the condition on each config's own values."""
    asked, expected = restricted(given), by_hand(holds)
    assert (asked.allowed(EVERYTHING) == expected).all()
    some = EVERYTHING[::97]
    assert [asked.broken(config) is None for config in some] == list(expected[::97])


def _shifted(x, shift):
    return x << shift > 8 if shift > 0 else x > 2


def test_a_space_with_the_constraint_allows_the_same():
    """Knobs that stand for positions, negative numbers or text come back as their values."""
    given = ["x * share > 1", "shift != -1", lambda c: c["order"] != "jik" or c["depth"] == 2.5]
    asked = restricted(*given)
    space = DesignSpace("bound", TUNABLES.knobs(), constraints=asked.constraints())
    assert (space.valid(EVERYTHING) == asked.allowed(EVERYTHING)).all()
    assert 0 < asked.allowed(EVERYTHING).sum() < len(EVERYTHING)
    assert restricted().constraints() == []


def test_a_function_that_can_be_asked_about_columns_is():
    """A few calls answer for thousands of configs."""
    calls = []

    def small(config):
        calls.append(1)
        return config["x"] * config["y"] <= 8

    asked = restricted(small)
    calls.clear()
    asked.allowed(EVERYTHING)
    assert len(calls) == 1


def test_text_is_asked_once_for_each_combination_of_the_knobs_that_it_names():
    """`and` needs one config after the other, but not all of them."""
    asked = restricted("x > 1 and y > 1")
    asked.allowed(EVERYTHING)
    assert len(asked._parts[0]._known) == len(KNOBS["x"]) * len(KNOBS["y"])


def test_products_do_not_overflow():
    """Numbers are Python's, also where columns are asked."""
    tunables = Tunables.of({"a": [1, 2**40], "b": [1, 2**40]}, where="knobs")
    asked = restricted("a * b < 2**63", tunables=tunables)
    everything = np.array(list(itertools.product(range(2), range(2))), dtype=np.int32)
    assert list(asked.allowed(everything)) == [True, True, True, False]


def test_it_is_told_how_many_each_leaves():
    """In order, with the place of a function."""
    left = restricted("x <= 4", lambda c: c["y"] == 0, "x > 8").left(EVERYTHING)
    n = len(EVERYTHING)
    assert [count for _, count in left] == [n * 3 // 5, n * 3 // 20, 0]
    assert left[0][0] == "x <= 4"
    assert "<lambda> (test_restrictions.py, line" in left[1][0]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("x *", "'x \\*': not an expression"),
        ("print(x)", "'print\\(x\\)' is more than knobs.*give a function"),
        ("().__class__", "more than knobs"),
        ("[v for v in (x, y)]", "more than knobs"),
        (3, "3 is neither a function"),
        ("x / y > 1", "'?x / y > 1'? fails for {'x': .*'y': 0.*ZeroDivisionError"),
        (lambda c: c["z"] > 1, r"<lambda> \(test_restrictions.*fails for .*KeyError"),
        (lambda c: None, "answers None for {'x'"),
        (lambda c: "yes", "answers 'yes'"),
    ],
)
def test_what_cannot_be_asked_is_refused(given, message):
    """The message names the restriction, and the config where there is one."""
    with pytest.raises(SettingsError, match=message):
        restricted(given).allowed(EVERYTHING)


def test_an_unknown_knob_is_refused_with_the_known_ones():
    """Before anything is asked."""
    with pytest.raises(UnknownNameError, match=r"unknown knob 'sharr'.*'share'.*Known: x, y"):
        restricted("sharr > 1")


def test_they_travel_to_other_processes():
    """As Ray sends them: lambdas, compiled text and all."""
    asked = restricted("x > 1 and y > 1", lambda c: c["x"] > 2)
    there = cloudpickle.loads(cloudpickle.dumps(asked))
    assert (there.allowed(EVERYTHING) == asked.allowed(EVERYTHING)).all()


def test_splits_are_found_again_whatever_their_order():
    """They stand in a Gray code, where first factors neither ascend nor differ."""
    tunables = Tunables.of(
        {"tile": ["8x8x1", "4x16x1", "4x8x2", "16x2x2", "1x1x64"], "x": [1, 2, 4]}, where="knobs"
    )
    kept = restricted("tile != '4x8x2'", "x < 4 or tile == '1x1x64'", tunables=tunables)
    space = DesignSpace("splits", tunables.knobs(), constraints=kept.constraints())
    everything = DesignSpace("splits", tunables.knobs()).all_valid()
    named = [tunables.plain(config) for config in everything]
    wanted = [c["tile"] != "4x8x2" and (c["x"] < 4 or c["tile"] == "1x1x64") for c in named]
    assert space.valid(everything).tolist() == wanted
    assert sum(wanted) == 9
