"""What sources say of a space they are not of."""

import pickle

import numpy as np
import pytest
from pasts import a_kernel, a_source, seconds_of

from chameleon_ray.learning.numbers import of_device, of_task
from chameleon_ray.learning.past import draft_of, past_of
from chameleon_ray.learning.sources import FLOOR, has_knobs_of, kept_rows, labels_of, without
from chameleon_ray.space import Constraint, DesignSpace, options, split
from chameleon_ray.tasks import Conv2d, Matmul, Target
from chameleon_ray.templates import default_config, design_space
from chameleon_ray.templates.cpu_roofline import draft_speed


def test_labels_are_logarithms_of_shares_and_failures_are_as_bad_as_can_be():
    """The best is 0, twice its time -0.69; a failure and a hundred times its time are the floor."""
    labels = labels_of(np.array([2.0, 1.0, np.nan, 100.0]))
    assert labels == pytest.approx([-np.log(2), 0, FLOOR, FLOOR])


def test_of_many_rows_the_best_half_is_kept_and_some_of_the_others():
    """So that memory is bounded, and what is good is not drawn at random."""
    seconds = np.random.default_rng(0).permutation(1000.0 + np.arange(1000))
    seconds[:100] = np.nan
    kept = kept_rows(seconds, 50)
    assert len(kept) == len(set(kept)) == 50
    best = np.sort(seconds[~np.isnan(seconds)])[:25]
    assert set(best) <= set(seconds[kept])
    assert kept.tolist() == kept_rows(seconds, 50).tolist()
    assert kept_rows(seconds, 1000).tolist() == list(range(1000))


class TestSources:
    """Which sources are the very space under test."""

    def test_the_same_task_on_the_same_device(self):
        """Whatever file it comes from; another device is another space."""
        tested, again = a_source("gpu"), a_source("gpu", rows=9)
        other = a_source("other", likes=3)
        assert without([again, other], tested) == [other]

    def test_the_same_times_under_another_name(self):
        """A copy of the file under another name teaches nothing honestly either."""
        tested, copy = a_source("gpu"), a_source("copy")
        slower = a_source("slower", staged=0.5)
        assert without([copy, slower], tested) == [slower]


class TestPast:
    """The opinions of sources."""

    def test_a_forest_says_what_a_source_measured(self):
        """Of one large source: what is best in it, and how much the others lose."""
        space, source = a_kernel(), a_source()
        past = past_of(space, {}, [source])
        told = past.opinions(source.configs)
        assert told.shape == (len(source.configs), 1)
        assert told.dtype == np.float32
        assert told[:, 0] == pytest.approx(source.labels, abs=1e-5)

    def test_each_large_source_has_an_opinion_of_its_own(self):
        """Beside that of all; a small one has none. Weights add up to one."""
        sources = [a_source("a"), a_source("b", likes=4), a_source("c", rows=50)]
        past = past_of(a_kernel(), {}, sources)
        told = past.opinions(sources[1].configs)
        assert told.shape[1] == 3
        assert told[:, 2] == pytest.approx(sources[1].labels, abs=1e-5)
        assert past.weights.sum() == pytest.approx(1)
        assert past.weights[0] == pytest.approx(0.5)
        assert past.used == ("a", "b", "c")

    def test_it_ranks_configs_that_nobody_measured(self):
        """From 200 rows of two devices to a whole third one."""
        space = a_kernel()
        past = past_of(space, {}, [a_source("a", rows=200), a_source("b", rows=200, staged=0.3)])
        configs = space.all_valid()
        expected = past.opinions(configs) @ past.weights
        true = -np.log(seconds_of(space, configs, staged=0.1))
        assert np.corrcoef(expected, true)[0, 1] > 0.9

    def test_sources_with_other_knobs_are_left_out(self):
        """A source of another kernel says nothing; if all are of such, there is no past."""
        other = DesignSpace("other", [options("block", [1, 2]), options("width", [1, 2])])
        stranger = a_source("stranger", space=a_kernel())
        assert has_knobs_of(stranger, a_kernel())
        assert not has_knobs_of(stranger, other)
        assert past_of(other, {}, [stranger]) is None

    def test_of_other_choices_the_features_carry_over(self):
        """Choices that are others are told by their numbers; starts are the nearest."""
        wide = DesignSpace(
            "wide",
            [options(k, [1, 2, 4, 8, 16, 32]) for k in ("block", "tile", "unroll", "depth")]
            + [options("staged", [0, 1], ordered=False), options("two", [1, 2])],
            constraints=[Constraint(name="few", holds=_few)],
        )
        past = past_of(wide, {}, [a_source()])
        assert wide.valid(past.elsewhere).all()
        assert len(wide.distinct(past.elsewhere)) == len(past.elsewhere) > 0
        best = wide.describe(past.elsewhere[0])
        assert best["unroll"] == (2,)
        assert best["block"][0] * best["tile"][0] == 4

    def test_splits_of_other_extents_carry_over(self):
        """The nearest split, in the logarithm of its factors."""
        small = DesignSpace("t/1:small", [split("tile", 16, 2)])
        large = DesignSpace("t/1:large", [split("tile", 64, 2)])
        configs = small.all_valid()
        source = a_source(space=a_kernel())
        from dataclasses import replace

        inner = np.array([choice[1] for choice in small.knobs[0].choices])
        source = replace(source, space=small, configs=configs, seconds=1 / inner[configs[:, 0]])
        past = past_of(large, {}, [source])
        assert large.describe(past.elsewhere[0])["tile"][1] == 16

    def test_numbers_tell_layers_apart(self):
        """What is good depends on the layer; of a layer in between, the nearer one is followed."""
        from dataclasses import replace

        low, high = (
            replace(a_source(name, likes=likes), numbers={"width": width, "same": 3.0})
            for name, likes, width in (("low", 1, 8.0), ("high", 5, 512.0))
        )
        space = a_kernel()
        configs = space.all_valid()
        near_low, near_high = (
            past_of(space, {"width": width, "same": 3.0, "unknown": 1.0}, [low, high])
            for width in (9.0, 500.0)
        )
        told = [past.opinions(configs)[:, 0] for past in (near_low, near_high)]
        for mine, other, source in ((told[0], told[1], low), (told[1], told[0], high)):
            assert np.abs(mine - source.labels).mean() < np.abs(other - source.labels).mean() / 2

    def test_it_travels_without_its_answers(self):
        """A copy in another process says the same."""
        past = past_of(a_kernel(), {}, [a_source(rows=300)])
        configs = a_kernel().all_valid()
        told = past.opinions(configs)
        assert past.opinions(configs) is told
        copy = pickle.loads(pickle.dumps(past))
        assert len(pickle.dumps(copy)) < len(pickle.dumps(past)) + 100
        assert copy.opinions(configs).tolist() == told.tolist()

    def test_its_digest_is_of_what_it_was_taught(self):
        """Equal sources, equal digest."""
        one, same, other = (
            past_of(a_kernel(), {}, [source])
            for source in (a_source(), a_source(), a_source(likes=3))
        )
        assert one.digest == same.digest != other.digest


def _few(values):
    return values["block"][:, 0] * values["tile"][:, 0] <= 64


class TestNumbers:
    """Devices and layers as numbers."""

    def test_gpus_by_the_words_of_journals_and_recorded_spaces(self):
        """The longer name first: an RTX 3060 Laptop is no RTX 3060."""
        assert of_device("NVIDIA A100-PCIE-40GB")["processors"] == 108
        assert of_device("NVIDIA GeForce RTX 3060 Laptop GPU")["processors"] == 30
        assert of_device("convolution MI250X")["lanes"] == 64
        assert of_device("gemm RTX 2080 Ti") == of_device("NVIDIA GeForce RTX 2080 Ti")

    def test_a_cpu_by_its_cores_and_lanes(self):
        """As a run's journal names it."""
        assert of_device("AMD EPYC 9R14, 2 cores, 16 lanes") == {"processors": 2, "lanes": 16}

    def test_an_unknown_device_has_none(self):
        """Nothing is made up."""
        assert of_device("Abacus 3000") == {}

    def test_layers_by_their_sizes(self):
        """A convolution and a product, each with its flops for each number moved."""
        conv = Conv2d(
            in_channels=64, out_channels=128, height=28, width=28, kernel_height=3, kernel_width=3
        )
        numbers = of_task(conv)
        assert numbers["in_channels"] == 64
        assert numbers["flop"] == conv.flop
        moved = 64 * 28 * 28 + 128 * 26 * 26 + 128 * 64 * 9
        assert numbers["flop_per_number"] == pytest.approx(conv.flop / moved)
        product = Matmul(rows=64, columns=32, inner=16)
        moved = 64 * 16 + 16 * 32 + 64 * 32
        assert of_task(product)["flop_per_number"] == pytest.approx(product.flop / moved)


class TestDraft:
    """What arithmetic says, as an opinion."""

    def test_a_template_drafts_its_space(self):
        """Of a convolution on a CPU: the best draft is 0, and the default is a good one."""
        task = Conv2d(
            in_channels=64, out_channels=64, height=58, width=58, kernel_height=3, kernel_width=3
        )
        target = Target(lanes=16, cores=2)
        space = design_space(task, target)
        past = draft_of(space)
        configs = space.random(512, np.random.default_rng(1))
        told = past.opinions(configs)[:, 0]
        assert told.max() <= 0
        assert told.min() >= FLOOR
        default = past.opinions(default_config(task, target)[None, :])[0, 0]
        assert (told < default).mean() > 0.8

    def test_one_accumulator_is_slower_than_twelve_and_forty_spill(self):
        """A multiply-add takes four cycles, two begin in each, and there are 32 registers."""
        tiles = np.array([1.0, 12.0, 40.0])
        columns = {
            "register_tile": tiles,
            "fma_per_load": 16 * tiles / (tiles + 1),
            "inner_weight_bytes": np.full(3, 4096.0),
            "inner_input_bytes": np.full(3, 4096.0),
            "chunk_weight_bytes": np.full(3, 65536.0),
            "chunk_input_bytes": np.full(3, 65536.0),
            "body": 64 * tiles,
            "imbalance": np.full(3, 1024.0),
        }
        step = {"auto_unroll_max_step": np.full((3, 1), 10_000)}
        one, twelve, forty = draft_speed(columns, step, Target(lanes=16, cores=2))
        assert twelve > forty > one
        waiting = draft_speed({**columns, "imbalance": np.full(3, 2048.0)}, step, Target(lanes=16))
        assert waiting[1] == pytest.approx(twelve - np.log(2))
        narrow = draft_speed(columns, step, Target(lanes=8))
        assert narrow[1] == twelve
        assert narrow[2] < forty

    def test_a_space_without_a_draft(self):
        """There is nothing to follow."""
        assert draft_of(a_kernel()) is None
