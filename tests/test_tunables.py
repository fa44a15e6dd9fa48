"""Named parameters with plain values, as knobs."""

import math

import numpy as np
import pytest

from chameleon_ray.errors import SettingsError
from chameleon_ray.space import split
from chameleon_ray.tunables import Tunables


def tunables(**values):
    """What a user states."""
    return Tunables.of(values, where="here")


def test_numbers_are_put_in_order():
    """A step of one is the smallest change, whole or not, negative or not."""
    made = tunables(block=[64, 16, 32], share=[0.5, -1.0, 0.25], pad=[True, False])
    assert made.values == {
        "block": (16, 32, 64),
        "share": (-1.0, 0.25, 0.5),
        "pad": (False, True),
    }
    block, share, pad = made.knobs()
    assert (block.choices, share.choices, pad.choices) == (
        ((16,), (32,), (64,)),
        ((0,), (1,), (2,)),
        ((0,), (1,)),
    )
    assert block.ordered
    assert share.ordered


def test_whole_floats_are_numbers():
    """16.0 is 16, as JSON may write it."""
    (knob,) = tunables(block=[32.0, 16.0]).knobs()
    assert knob.choices == ((16,), (32,))


@pytest.mark.parametrize("values", [[2**70, 1], [math.inf, 1.5], [-3, 4]])
def test_numbers_beyond_a_knob_are_places(values):
    """What no knob can hold is known by its place alone."""
    (knob,) = tunables(n=values).knobs()
    assert knob.choices == ((0,), (1,))


def test_texts_have_no_order():
    """Texts, and texts among numbers, stay as given."""
    made = tunables(layout=["nhwc", "nchw"], mixed=["auto", 4, 2.5, True])
    assert made.values["layout"] == ("nhwc", "nchw")
    assert made.values["mixed"] == ("auto", 4, 2.5, True)
    assert [knob.ordered for knob in made.knobs()] == [False, False]


def test_splits_keep_their_gray_code():
    """Texts of equally many factors with one product become the knob that `space.split` makes."""
    whole = split("tile_f", 24, 3)
    texts = ["x".join(map(str, choice)) for choice in whole.choices]
    (knob,) = tunables(tile_f=sorted(texts)).knobs()
    assert knob == whole
    (part,) = tunables(tile_f=texts[9:2:-2]).knobs()
    assert part.choices == whole.choices[3:10:2]


@pytest.mark.parametrize(
    "values",
    [["4x4", "2x4"], ["4x4", "4x2x2"], ["4x4", "auto"], ["0x4"], ["4x"], ["99999x99999"]],
)
def test_other_texts_are_no_splits(values):
    """Another product, another number of factors, or no factors."""
    (knob,) = tunables(tile=values).knobs()
    assert not knob.ordered
    assert knob.choices == tuple((n,) for n in range(len(values)))


def test_configs_go_there_and_back():
    """By value and by index, with every kind of value."""
    made = tunables(tile=["2x2", "4x1", "1x4"], mixed=["a", 1], share=[0.5, 0.1], one=[7])
    configs = [
        {"tile": "4x1", "mixed": 1, "share": 0.1, "one": 7, "time": 3},
        {"tile": "2x2", "mixed": "a", "share": 0.5, "one": 7.0},
    ]
    rows = made.indices(configs, where="here")
    assert rows.dtype == np.int32
    assert rows.shape == (2, 4)
    for config, row in zip(configs, rows, strict=True):
        config.pop("time", None)
        assert made.plain(row) == config


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"block": 48}, "here: block of the configuration {'block': 48} is not among .* 16, 32"),
        ({"grid": 1}, "here: the configuration {'grid': 1} has no block; its values: 16, 32"),
        ({"block": [16]}, r"here: block of the configuration {'block': \[16\]} is not among"),
        ({"block": "16"}, "is not among its values: 16, 32"),
    ],
)
def test_unknown_configs(config, message):
    """A value that was not stated, or a parameter that is missing."""
    with pytest.raises(SettingsError, match=message):
        tunables(block=[16, 32]).indices([{"block": 16}, config], where="here")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "no parameters to tune"),
        ({"block": []}, "block: give a list of at least one value"),
        ({"block": "16"}, "block: give a list"),
        ({"block": 16}, "block: give a list"),
        ({"block": [16, 16.0]}, "block: 16 stands twice"),
        ({"block": [math.nan]}, "block: nan is neither a number nor text"),
        ({"block": [None]}, "block: None is neither"),
        ({"block": [[16]]}, r"block: \[16\] is neither"),
    ],
)
def test_what_cannot_be_tuned(values, message):
    """Each is refused, with place and name."""
    with pytest.raises(SettingsError, match=f"here: {message}"):
        Tunables.of(values, where="here")
