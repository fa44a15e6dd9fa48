"""The Gaussian process: its kernels, its posterior and the functions drawn from it."""

import itertools
import tracemalloc
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pytest

from chameleon_ray.cost_model.anova import AnovaProcess
from chameleon_ray.cost_model.gaussian import GaussianCostModel
from chameleon_ray.cost_model.kernels import choice_kernel
from chameleon_ray.cost_model.products import products
from chameleon_ray.cost_model.tables import Tables
from chameleon_ray.settings import GaussianSettings
from chameleon_ray.space import DesignSpace, Knob, options, split

BLOCKS, TILES = (16, 24, 32, 48, 64), (1, 2, 4, 8)
SPACE = DesignSpace(
    "g",
    [
        options("block", BLOCKS),
        options("tile", TILES),
        options("fixed", (7,)),
        Knob(name="layout", choices=((0,), (1,), (2,)), ordered=False),
    ],
)


@pytest.mark.parametrize(
    "knob",
    [*SPACE.knobs[:2], SPACE.knobs[3], split("s", 24, 3)],
    ids=lambda knob: knob.name,
)
def test_a_kernel_is_centred_scaled_and_positive(knob):
    """Rows sum to zero, the mean variance is 1, and no direction has a negative one."""
    kernel = choice_kernel(knob)
    assert kernel.sum(axis=0) == pytest.approx(0, abs=1e-9)
    assert np.diag(kernel).mean() == pytest.approx(1)
    assert np.linalg.eigvalsh(kernel).min() > -1e-9


def test_near_choices_are_more_alike_and_so_are_equally_round_ones():
    """2 is more like 1 than 8 is, and the round 32 is more like 64 than 48 is."""
    tiles, blocks = choice_kernel(SPACE.knobs[1]), choice_kernel(SPACE.knobs[0])
    assert tiles[0, 1] > tiles[0, 3]
    assert blocks[4, 2] > blocks[4, 1]


def test_choices_without_order_are_all_equally_unlike():
    """Every two have the same covariance."""
    kernel = choice_kernel(SPACE.knobs[3])
    assert kernel[0, 1] == pytest.approx(kernel[0, 2]) == pytest.approx(kernel[1, 2])


def test_a_knob_of_one_choice_has_no_effect():
    """Its kernel is zero, and no term of the process asks about it."""
    assert not choice_kernel(SPACE.knobs[2]).any()
    assert all(2 not in group for group in AnovaProcess(SPACE).groups)


def test_tables_add_up_what_knobs_and_pairs_decide():
    """By hand: one table over the tile, one over block and tile, and a mean."""
    one = np.arange(4, dtype=np.float32)[:, None]
    two = (10 * np.arange(20, dtype=np.float32))[:, None]
    means = np.float32([0.5])
    tables = Tables(groups=((1,), (0, 1)), tables=(one, two), means=means, sizes=(5, 4, 1, 3))
    row = np.array([[2, 3, 0, 0]], dtype=np.int32)
    assert tables(row).tolist() == [[3 + 10 * (2 * 4 + 3) + 0.5]]


def test_tables_know_some_knobs_by_bins():
    """Four choices of the tile in two bins."""
    one = np.float32([[1], [2]])
    bins = {1: np.array([0, 0, 1, 1])}
    means = np.zeros(1, dtype=np.float32)
    tables = Tables(groups=((1,),), tables=(one,), means=means, sizes=(5, 2), bins=bins)
    rows = np.array([[4, tile] for tile in range(4)], dtype=np.int32)
    assert tables(rows).tolist() == [[1, 1, 2, 2]]
    assert rows[:, 1].tolist() == [0, 1, 2, 3]


def test_the_posterior_is_that_of_the_textbook():
    """The mean elsewhere: its covariance with the known configs, times what explains those.

    The product of block and tile, the only two knobs that count something, is one more column.
    """
    process, rng = AnovaProcess(SPACE), np.random.default_rng(0)
    configs = SPACE.random(12, rng)
    labels = rng.standard_normal(12)
    process.fit(configs, labels)
    *variances, noise = np.exp(process._logs)
    kernels = [choice_kernel(knob) for knob in SPACE.knobs]
    threads = sorted({block * tile for block in BLOCKS for tile in TILES})
    weights = np.float64([sum(b * t == n for b in BLOCKS for t in TILES) for n in threads])
    kernels.append(choice_kernel(options("threads", threads), weights))

    def columns(rows):
        values = SPACE.values(rows)
        product = np.searchsorted(threads, values["block"][:, 0] * values["tile"][:, 0])
        return np.column_stack([rows, product])

    def covariance(one, other):
        one, other, total = columns(one), columns(other), np.ones((len(one), len(other)))
        assert process.groups == ((0,), (1,), (3,), (4,), (0, 1), (0, 3), (1, 3))
        for group, variance in zip(process.groups, variances, strict=True):
            parts = [kernels[k][np.ix_(one[:, k], other[:, k])] for k in group]
            total += variance * np.prod(parts, axis=0)
        return total

    among = covariance(configs, configs) + (noise + 1e-4) * np.eye(12)
    others = SPACE.all_valid()
    expected = covariance(others, configs) @ np.linalg.solve(among, labels)
    drawn = process.posterior(configs, labels, draws=2, rng=rng)
    assert drawn(others)[0] == pytest.approx(expected, abs=1e-5)


def test_the_gradient_of_the_evidence_is_its_slope():
    """So that the search for the variances goes where they are most probable."""
    process, rng = AnovaProcess(SPACE), np.random.default_rng(0)
    configs, labels, found = SPACE.random(15, rng), rng.standard_normal(15), []

    def watch(loss, logs, **_options):
        found.append((loss, logs))
        return SimpleNamespace(x=logs)

    with mock.patch("chameleon_ray.cost_model.anova.minimize", watch):
        process.fit(configs, labels)
    ((loss, logs),) = found
    for i in range(len(logs)):
        step = np.zeros_like(logs)
        step[i] = 1e-5
        slope = (loss(logs + step)[0] - loss(logs - step)[0]) / 2e-5
        assert loss(logs)[1][i] == pytest.approx(slope, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize(
    "knobs",
    [
        [options("a", range(10_000)), options("b", range(1000)), options("c", range(1000))],
        [options(f"k{i}", (1, 2, 4, 8)) for i in range(60)],
        [Knob(name="u", choices=tuple((i,) for i in range(700)), ordered=False)],
    ],
    ids=["wide", "many", "wide without order"],
)
def test_wide_knobs_and_many_knobs_cost_no_fortune(knobs):
    """It learns all the same, and needs less than 300 MB for it."""
    space, rng = DesignSpace("large", knobs), np.random.default_rng(0)
    configs = space.random(200, rng)
    fitness = np.exp(-configs[:, 0] / space.sizes[0]).astype(np.float32)
    model = GaussianCostModel(GaussianSettings(clip=1), seed=0)
    tracemalloc.start()
    model.fit(space, configs[:150], fitness[:150])
    predicted, members = model.score().predict(configs[150:])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 300e6
    assert members.shape == (8, 50)
    if knobs[0].ordered:
        assert np.corrcoef(predicted, fitness[150:])[0, 1] > 0.5


def additive(configs):
    """A fitness that is a product of what each knob does."""
    return np.exp(-0.5 * (configs[:, 0] - 3) ** 2 - 0.3 * configs[:, 1] + 0.4 * configs[:, 3])


@pytest.mark.parametrize("seed", range(4))
def test_it_learns_a_sum_of_effects_from_a_third_of_the_space(seed):
    """With 20 of 60 configs it ranks the other 40 almost as they are."""
    rng = np.random.default_rng(seed)
    everything = rng.permutation(SPACE.all_valid())
    model = GaussianCostModel(GaussianSettings(clip=1), seed=0)
    model.fit(SPACE, everything[:20], additive(everything[:20]).astype(np.float32))
    predicted, true = model.score()(everything[20:]), additive(everything[20:])
    assert np.corrcoef(np.log(predicted), np.log(true))[0, 1] > 0.7


def test_drawn_functions_agree_where_it_was_measured_and_differ_elsewhere():
    """Their spread at measured configs is a fraction of that at others."""
    everything = SPACE.all_valid()
    rng = np.random.default_rng(1)
    order = rng.permutation(len(everything))
    known, unknown = everything[order[:20]], everything[order[20:]]
    fitness = (additive(known) * (1 + rng.random(20))).astype(np.float32)
    model = GaussianCostModel(GaussianSettings(clip=1, temper=1, draws=64), seed=0)
    model.fit(SPACE, known, fitness)
    _, at_known = model.score().predict(known)
    _, at_unknown = model.score().predict(unknown)
    assert np.log(at_known).std(axis=0).mean() < 0.7 * np.log(at_unknown).std(axis=0).mean()


def test_temper_draws_the_functions_to_the_mean():
    """At 0 every drawn function is the mean; at a half they depart half as far."""
    known = SPACE.random(20, np.random.default_rng(2))
    fitness, departures = additive(known).astype(np.float32), {}
    for temper in (0.0, 0.5, 1.0):
        model = GaussianCostModel(GaussianSettings(temper=temper), seed=0)
        model.fit(SPACE, known, fitness)
        mean, members = model.score().predict(SPACE.all_valid())
        departures[temper] = np.abs(np.log(members) - np.log(mean)).mean()
    assert departures[0.0] == pytest.approx(0, abs=1e-6)
    assert departures[0.5] == pytest.approx(departures[1.0] / 2, rel=1e-3)


def test_a_member_is_one_of_the_drawn_functions():
    """It scores as one row of what `predict` gives."""
    known = SPACE.random(20, np.random.default_rng(3))
    model = GaussianCostModel(GaussianSettings(), seed=0)
    model.fit(SPACE, known, additive(known).astype(np.float32))
    score = model.score()
    member = score.member(np.random.default_rng(0))(known)
    assert any(np.allclose(member, row) for row in score.predict(known)[1])


def test_a_space_that_leaves_nothing_to_choose_has_members_too():
    """Knobs of one choice each: all there is to doubt is the level, by the noise of one time."""
    space = DesignSpace("one", [options("a", (1,)), options("b", (2,))])
    model = GaussianCostModel(GaussianSettings(draws=4000, temper=1), seed=0)
    model.fit(space, space.all_valid(), np.float32([5]))
    mean, members = model.score().predict(space.all_valid())
    assert mean.tolist() == [1]
    (noise,) = np.exp(model._process._logs) + 1e-4
    assert np.log(members).std() == pytest.approx(np.sqrt(noise / (1 + noise)), rel=0.05)
    assert model.score().member(np.random.default_rng(0))(space.all_valid()).shape == (1,)


@pytest.mark.parametrize("seed", range(4))
def test_products_tell_of_pairs_that_were_not_measured(seed):
    """Time depends on block times tile alone; with products it is learned from a sixth of them."""
    rng = np.random.default_rng(seed)
    sizes = [options(name, (1, 2, 4, 8, 16, 32)) for name in ("block", "tile", "unroll")]
    space = DesignSpace("product", sizes)
    everything = rng.permutation(space.all_valid())
    fitness = np.exp(-np.abs(everything[:, 0] + everything[:, 1] - 5.0)).astype(np.float32)
    ranked = {}
    for on in (False, True):
        model = GaussianCostModel(GaussianSettings(clip=1, products=on), seed=0)
        model.fit(space, everything[:36], fitness[:36])
        predicted = model.score()(everything[36:])
        ranked[on] = np.corrcoef(np.log(predicted), np.log(fitness[36:]))[0, 1]
    assert 1 - ranked[True] < 0.5 * (1 - ranked[False])


def test_splits_are_multiplied_level_by_level():
    """Two splits into three parts have three products; splits of unlike depth and flags none."""
    knobs = [split("y", 8, 3), split("x", 4, 3), split("c", 6, 2), options("flag", (0, 1))]
    found = products(knobs, list(itertools.combinations(range(4), 2)))
    assert [p.pair for p in found] == [(0, 1)] * 3
    rows = np.array([[3, 2, 0, 0], [0, 5, 1, 1]], dtype=np.int32)
    for level, product in enumerate(found):
        for row, place in zip(rows, product.of(rows), strict=True):
            expected = knobs[0].choices[row[0]][level] * knobs[1].choices[row[1]][level]
            assert product.knob.choices[place] == (expected,)


def test_numbers_that_count_nothing_are_not_multiplied():
    """Their product would not fit a number."""
    knobs = [options("a", (1, 2**40)), options("b", (3, 2**30)), options("c", (1, 2))]
    assert [p.pair for p in products(knobs, [(0, 1), (0, 2), (1, 2)])] == [(0, 2), (1, 2)]


def test_many_sizes_are_not_multiplied():
    """Thirteen would make 78 columns."""
    knobs = [options(f"k{i}", (1, 2, 3)) for i in range(13)]
    pairs = list(itertools.combinations(range(13), 2))
    assert products(knobs, pairs) == []
    assert len(products(knobs[1:], pairs)) == 66
