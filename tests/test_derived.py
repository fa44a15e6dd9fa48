"""Features that follow from plain numbers."""

import pickle

import numpy as np

from chameleon_ray.derived import products_of
from chameleon_ray.space import DesignSpace, options

KNOBS = [
    options("block", (16, 48, 64, 96)),
    options("tile", (1, 2, 4)),
    options("flag", (0, 1)),
    options("layout", (0, 1, 2), ordered=False),
]


def columns(rows):
    """The derived columns of configs given as rows of indices."""
    space = DesignSpace("d", KNOBS, derive=products_of(KNOBS))
    values = space.values(np.array(rows, dtype=np.int32))
    return {name: column.tolist() for name, column in products_of(KNOBS)(values).items()}


def test_sizes_are_multiplied_in_pairs_and_flags_and_names_are_not():
    """Only knobs that count something take part."""
    assert columns([[1, 2, 1, 0]])["block*tile"] == [192.0]
    assert set(columns([[0, 0, 0, 0]])) == {"block*tile", "twos(block)"}


def test_how_often_two_divides_a_size():
    """16, 48, 64, 96 are divided 4, 4, 6 and 5 times; powers of two need no such column."""
    assert columns([[i, 0, 0, 0] for i in range(4)])["twos(block)"] == [4, 4, 6, 5]


def test_they_become_features_and_travel():
    """A space with them pickles and gives the same features."""
    space = DesignSpace("d", KNOBS, derive=products_of(KNOBS))
    rows = space.random(20, np.random.default_rng(0))
    again = pickle.loads(pickle.dumps(space))
    assert space.features(rows).shape == (20, 6)
    assert np.array_equal(again.features(rows), space.features(rows))
    assert space.with_knob_features().features(rows).shape == (20, 4)


def test_with_many_knobs_pairs_are_left_out():
    """Thirteen sizes would make 78 columns of products."""
    many = [options(f"k{i}", (1, 2, 3)) for i in range(13)]
    assert products_of(many).factors == ()
    assert len(products_of(many).rounded) == 13
