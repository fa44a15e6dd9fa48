"""Design spaces: splits, batches as index arrays, moves, constraints and random draws."""

import itertools
import math
import pickle
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra import numpy as hnp

from chameleon_ray.errors import SettingsError, UnknownNameError
from chameleon_ray.space import Constraint, DesignSpace, Knob, options, split


def first_knob_is_even(values):
    """A constraint that can be pickled."""
    return next(iter(values.values()))[:, 0] % 2 == 0


def product_of_values(values):
    """A derived feature that can be pickled."""
    return {"product": np.prod([v[:, 0] for v in values.values()], axis=0).astype(np.float64)}


def space_of(*sizes, constraints=(), **kwargs):
    """A space of plain numbers 0, 1, ... with so many choices per knob."""
    knobs = [options(f"k{i}", range(n)) for i, n in enumerate(sizes)]
    return DesignSpace("test", knobs, constraints=constraints, **kwargs)


EVEN = Constraint(name="k0 is even", holds=first_knob_is_even)
HUGE = (2**16,) * 5  # 2^80 configs: no int64 can number them

spaces = st.one_of(
    st.lists(st.integers(1, 6), min_size=1, max_size=5).map(lambda sizes: space_of(*sizes)),
    st.just(space_of(*HUGE)),
)


@st.composite
def batches(draw, most=30):
    """A space and a batch of its configs, small indices so that some repeat."""
    space = draw(spaces)
    n = draw(st.integers(0, most))
    columns = [
        draw(hnp.arrays(np.int32, n, elements=st.integers(0, min(int(size), 3) - 1)))
        for size in space.sizes
    ]
    return space, np.stack(columns, axis=1)


def rows(configs):
    """A batch as Python tuples."""
    return [tuple(map(int, row)) for row in configs]


def moved_factor(before, after):
    """The factor that went from one part of a split to another, or 0 if more than that moved."""
    ratios = sorted(Fraction(b, a) for a, b in zip(before, after, strict=True) if a != b)
    moved = len(ratios) == 2 and ratios[0] * ratios[1] == 1 and ratios[1].denominator == 1
    return int(ratios[1]) if moved else 0


def is_prime(number):
    """Whether no smaller number divides it."""
    return number > 1 and all(number % d for d in range(2, math.isqrt(number) + 1))


@given(st.integers(1, 400), st.integers(1, 4))
@settings(deadline=None)
def test_split_lists_every_factorisation_once(extent, parts):
    """The choices of a split are all ordered factorisations, each once."""
    choices = split("tile", extent, parts).choices
    assert all(math.prod(choice) == extent for choice in choices)
    assert len(set(choices)) == len(choices)
    divisors = [d for d in range(1, extent + 1) if extent % d == 0]
    count = dict.fromkeys(divisors, 1)  # ways to write each divisor with one part
    for _ in range(parts - 1):
        count = {n: sum(count[n // d] for d in divisors if n % d == 0) for n in divisors}
    assert len(choices) == count[extent]


@given(st.integers(2, 3000), st.integers(2, 4))
@settings(deadline=None)
def test_neighbouring_splits_differ_by_one_prime_factor(extent, parts):
    """A step of one along a split moves exactly one prime factor from one part to another."""
    for left, right in itertools.pairwise(split("tile", extent, parts).choices):
        assert is_prime(moved_factor(left, right)), (left, right)


def test_split_counts_are_those_of_the_tvm_tutorial():
    """512 splits into four parts in 220 ways."""
    assert len(split("tile_f", 512, 4)) == 220


def test_split_begins_with_everything_in_the_innermost_part_or_the_outermost():
    """The first choice is one of the two extremes, so index 0 is never an arbitrary tiling."""
    assert sorted(split("tile", 48, 3).choices[0]) == [1, 1, 48]


@given(batches())
@settings(deadline=None)
def test_encode_agrees_with_tuples(case):
    """Two configs have one code exactly if they are equal, in spaces of any size."""
    space, batch = case
    codes = space.encode(batch)
    assert codes.shape == (len(batch),)
    keys = [code.tobytes() for code in codes]
    for (i, left), (j, right) in itertools.combinations(enumerate(rows(batch)), 2):
        assert (keys[i] == keys[j]) == (left == right)


@given(batches())
@settings(deadline=None)
def test_distinct_agrees_with_a_dict(case):
    """Each config once, in the order of first appearance."""
    space, batch = case
    assert rows(space.distinct(batch)) == list(dict.fromkeys(rows(batch)))


@given(batches(), st.data())
@settings(deadline=None)
def test_contains_agrees_with_a_set(case, data):
    """Membership is that of Python's sets, in spaces of any size."""
    space, batch = case
    cut = data.draw(st.integers(0, len(batch)))
    among, asked = batch[:cut], batch[cut:]
    known = set(rows(among))
    assert space.contains(among, asked).tolist() == [row in known for row in rows(asked)]


def test_a_huge_space_does_not_overflow():
    """Configs that differ in the last of 2^80 positions are told apart, and drawn at random."""
    space = space_of(*HUGE)
    assert space.size == 2**80
    top = (space.sizes - 1)[None, :].astype(np.int32)
    below = top.copy()
    below[0, 0] -= 1
    assert not space.contains(top, below)[0]
    drawn = space.random(100, np.random.default_rng(0), avoid=top)
    assert len(set(rows(drawn))) == 100


@given(batches(), st.data())
@settings(deadline=None)
def test_moves_stay_inside_and_allowed(case, data):
    """No step leaves the space or enters a forbidden config; an allowed step is taken."""
    plain, batch = case
    space = DesignSpace(plain.name, plain.knobs, constraints=[EVEN])
    batch = batch[space.valid(batch)]
    steps = data.draw(hnp.arrays(np.int64, batch.shape, elements=st.integers(-3, 3)))
    moved = space.move(batch, steps)
    assert moved.dtype == np.int32
    assert ((moved >= 0) & (moved < space.sizes)).all()
    assert space.valid(moved).all()
    clipped = np.clip(batch + steps, 0, space.sizes - 1)
    allowed = space.valid(clipped.astype(np.int32))
    assert (moved[allowed] == clipped[allowed]).all()
    assert (moved[~allowed] == batch[~allowed]).all()


@given(batches())
@settings(deadline=None)
def test_describe_and_config_are_inverse(case):
    """Knob values name a config, and lead back to it."""
    space, batch = case
    for row in batch:
        assert (space.config(space.describe(row)) == row).all()


def test_config_accepts_lists_as_json_gives_them():
    """Knob values may come back from JSON as lists."""
    space = DesignSpace("s", [split("tile", 12, 2), options("unroll", (0, 16))])
    row = space.config({"tile": [3, 4], "unroll": [16]})
    assert space.describe(row) == {"tile": (3, 4), "unroll": (16,)}


def test_config_names_what_is_missing_and_what_is_not_a_choice():
    """A missing knob and an impossible value are named, with what is known."""
    space = DesignSpace("conv", [split("tile", 12, 2)])
    with pytest.raises(UnknownNameError, match=r"conv: unknown knob 'tile'.*Known: tyle"):
        space.config({"tyle": (3, 4)})
    with pytest.raises(UnknownNameError, match=r"unknown choice of tile '\(5, 2\)'"):
        space.config({"tile": (5, 2)})


@given(
    st.lists(st.integers(1, 5), min_size=1, max_size=4),
    st.integers(0, 40),
    st.integers(0, 2**32 - 1),
)
@settings(max_examples=50, deadline=None)
def test_random_draws_are_distinct_valid_and_avoid_the_known(sizes, n, seed):
    """Random configs are new, allowed and distinct; the same seed draws the same ones."""
    space = space_of(*sizes, constraints=[EVEN])
    everything = space.all_valid()
    avoid = everything[::2]
    drawn = space.random(n, np.random.default_rng(seed), avoid=avoid)
    assert space.valid(drawn).all()
    assert len(set(rows(drawn))) == len(drawn) <= n
    assert not set(rows(drawn)) & set(rows(avoid))
    assert rows(drawn) == rows(space.random(n, np.random.default_rng(seed), avoid=avoid))


def test_random_finds_every_config_of_a_small_space():
    """If as many are asked for as there are, all of them come."""
    space = space_of(4, 3, 2)
    drawn = space.random(24, np.random.default_rng(0))
    assert set(rows(drawn)) == set(itertools.product(range(4), range(3), range(2)))


def test_random_is_uniform():
    """Each of eight configs is the first about as often as the others (chi-square, p > 0.001)."""
    space = space_of(4, 2)
    rng = np.random.default_rng(7)
    counts = np.bincount(
        [int(space.encode(space.random(1, rng))[0]) for _ in range(1600)], minlength=8
    )
    assert ((counts - 200) ** 2 / 200).sum() < 24.3


def test_random_gives_up_where_nothing_is_valid():
    """A space without a valid config yields an empty batch instead of a hang."""
    nothing = Constraint(name="no", holds=lambda v: np.zeros(len(v["k0"]), dtype=bool))
    drawn = space_of(3, 3, constraints=[nothing]).random(5, np.random.default_rng(0))
    assert drawn.shape == (0, 2)


@given(batches())
@settings(deadline=None)
def test_neighbours_are_one_step_along_one_knob(case):
    """Neighbours differ by one in one knob, are allowed and distinct, and none is left out."""
    plain, batch = case
    space = DesignSpace(plain.name, plain.knobs, constraints=[EVEN])
    for row in batch[:3]:
        around = rows(space.neighbours(row))
        expected = set()
        for knob, step in itertools.product(range(len(space.sizes)), (-1, 1)):
            other = row.copy()
            other[knob] += step
            if 0 <= other[knob] < space.sizes[knob] and space.valid(other[None, :])[0]:
                expected.add(tuple(map(int, other)))
        assert set(around) == expected
        assert len(around) == len(expected)


def test_neighbours_keep_the_type_of_configs():
    """Neighbours can be handed on as a batch of int32."""
    space = space_of(4, 3)
    assert space.neighbours(np.array([1, 1], dtype=np.int32)).dtype == np.int32


def test_all_valid_lists_each_allowed_config_once_and_refuses_large_spaces():
    """Listing is complete for small spaces, and an error that names the size for large ones."""
    space = space_of(4, 3, constraints=[EVEN])
    expected = set(itertools.product((0, 2), range(3)))
    assert set(rows(space.all_valid())) == expected
    assert len(space.all_valid()) == len(expected)
    with pytest.raises(SettingsError, match="has 12 configs; listing stops at 11"):
        space.all_valid(limit=11)


def test_valid_configs_are_counted_or_estimated():
    """Exactly up to a million configs, beyond that from draws that are the same each time."""
    knobs = [options(name, range(10)) for name in "abcdef"]
    half = Constraint(name="half", holds=lambda values: values["a"][:, 0] < 5)
    space = DesignSpace("million", knobs, constraints=[half])
    assert space.count_valid() == 500_000
    assert space.estimate_valid() == pytest.approx(500_000, rel=0.01)
    assert space.estimate_valid() == space.estimate_valid()
    larger = DesignSpace("more", [*knobs, options("g", (0, 1))], constraints=[half])
    assert larger.count_valid() is None
    assert larger.estimate_valid() == pytest.approx(1_000_000, rel=0.01)
    assert larger.only(np.zeros((1, 7), np.int32), name="one").count_valid() == 1


def test_broken_names_the_constraints():
    """A config's broken constraints are named, and a valid config has none."""
    space = space_of(4, 3, constraints=[EVEN])
    assert space.broken(np.array([1, 0], dtype=np.int32)) == ["k0 is even"]
    assert space.broken(np.array([2, 0], dtype=np.int32)) == []


def test_features_are_logarithms_of_values_and_of_what_follows_from_them():
    """Feature columns are named, and hold log2(1 + value)."""
    space = DesignSpace(
        "s", [split("tile", 12, 2), options("unroll", (0, 15))], derive=product_of_values
    )
    batch = space.config({"tile": (3, 4), "unroll": (15,)})[None, :]
    features = space.features(batch)
    assert features.dtype == np.float32
    assert space.feature_names == ("tile[0]", "tile[1]", "unroll[0]", "product")
    assert features[0] == pytest.approx([2, math.log2(5), 4, math.log2(46)])


def test_a_space_of_no_knobs_has_one_config_without_features():
    """The empty product: nothing to decide."""
    assert DesignSpace("none", []).size == 1
    assert DesignSpace("none", []).features(np.zeros((2, 0), dtype=np.int32)).shape == (2, 0)


def test_empty_batches_go_through_everything():
    """A batch of no configs is no special case."""
    space = space_of(4, 3, constraints=[EVEN])
    none = np.zeros((0, 2), dtype=np.int32)
    assert space.valid(none).shape == (0,)
    assert space.features(none).shape == (0, 2)
    assert space.distinct(none).shape == (0, 2)
    assert space.move(none, none).shape == (0, 2)


@pytest.mark.parametrize(
    "knobs",
    [[Knob(name="a", choices=())], [options("a", (1,)), options("a", (2,))]],
    ids=["no choice", "one name twice"],
)
def test_knobs_need_choices_and_distinct_names(knobs):
    """A space that cannot be meant is refused."""
    with pytest.raises(SettingsError, match="knobs need choices"):
        DesignSpace("bad", knobs)


def test_a_space_survives_pickling():
    """A space travels to other processes with its constraints and features."""
    space = space_of(4, 3, constraints=[EVEN], derive=product_of_values)
    copy = pickle.loads(pickle.dumps(space))
    batch = space.all_valid()
    assert (copy.features(batch) == space.features(batch)).all()
    assert (copy.all_valid() == batch).all()
    assert copy.feature_names == space.feature_names
