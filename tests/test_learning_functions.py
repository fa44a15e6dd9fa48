"""A user's function that learns from its runs elsewhere."""

import shutil

import numpy as np
import pytest

from chameleon_ray import tune_function
from chameleon_ray.errors import RunFolderError, SettingsError

KNOBS = {"tile": [1, 2, 4, 8, 16, 32, 64, 128], "rows": list(range(1, 33)), "unroll": [False, True]}


def kernel(scale, best_tile=32):
    """A kernel on a device that is slower or faster, with the best tile of that device."""

    def measure(config):
        off = abs(np.log2(config["tile"] / best_tile)) + abs(config["rows"] - 12) / 6
        return scale * (1 + off) * (1.0 if config["unroll"] else 1.3)

    return measure


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory):
    """A run of a function on a device; its folder."""
    run = tmp_path_factory.mktemp("runs") / "elsewhere"
    tune_function(kernel(1.0), KNOBS, trials=96, run=run)
    return run


def test_it_begins_with_what_was_best_elsewhere(elsewhere):
    """On a device ten times as slow, the second try after the default is the best of the other."""
    default = {"tile": 1, "rows": 1, "unroll": False}
    found = tune_function(kernel(10.0), KNOBS, trials=8, learn_from=elsewhere, default=default)
    assert found.history[0].config == default
    assert found.history[1].config == {"tile": 32, "rows": 12, "unroll": True}
    assert "96 measurements of 1 task" in found.learned_from


def test_fewer_values_and_another_best_tile_are_no_hindrance(elsewhere):
    """Another device has its best elsewhere, and a knob has lost values."""
    knobs = KNOBS | {"rows": [4, 8, 12, 16, 20]}
    seconds = {
        way: [
            tune_function(
                kernel(3.0, best_tile=16), knobs, trials=16, seed=seed, learn_from=places
            ).best_seconds
            for seed in range(5)
        ]
        for way, places in (("warm", [str(elsewhere)]), ("cold", []))
    }
    assert np.mean(seconds["warm"]) <= np.mean(seconds["cold"])
    assert max(seconds["warm"]) == pytest.approx(3.0)


def test_other_knobs_are_refused_before_anything_is_measured(elsewhere):
    """What was measured says nothing of them."""
    asked = []
    with pytest.raises(SettingsError, match=r"nothing of it has the knobs .*: block"):
        tune_function(asked.append, {"block": [1, 2]}, learn_from=[elsewhere])
    assert not asked


def test_the_same_names_for_other_lists_are_other_knobs(tmp_path):
    """A text stands for its place in a list, which says nothing where that list is another."""
    orders = {"order": ["ijk", "jik"], "share": [0.25, 0.5]}
    tune_function(lambda c: 1 + c["share"], orders, trials=4, run=tmp_path / "run")
    again = tune_function(lambda c: c["share"], orders, trials=2, learn_from=tmp_path / "run")
    assert again.history[0].config["share"] == 0.25
    others = {"order": ["jik", "ijk"], "share": [0.25, 0.5]}
    with pytest.raises(SettingsError, match=r"nothing of it has the knobs .*: order, share"):
        tune_function(lambda c: c["share"], others, trials=2, learn_from=tmp_path / "run")


def test_more_in_the_folder_that_it_learns_from_changes_nothing(elsewhere, tmp_path):
    """A run goes on with what it began with."""
    runs, asked = tmp_path / "runs", []

    def measure(config):
        asked.append(tuple(config.values()))
        return kernel(2.0)(config)

    shutil.copytree(elsewhere, runs / "first")
    tune_function(measure, KNOBS, trials=8, run=runs / "mine", learn_from=runs)
    tune_function(kernel(5.0), KNOBS, trials=8, run=runs / "other")
    found = tune_function(measure, KNOBS, trials=16, run=runs / "mine", learn_from=runs)
    assert len(asked) == len(set(asked)) == 16
    assert "96 measurements of 1 task" in found.learned_from


@pytest.mark.parametrize("places", [3, [3], ["/nowhere"]])
def test_places_that_teach_nothing_are_refused(places):
    """With the argument's name."""
    with pytest.raises(SettingsError, match=r"learn.from"):
        tune_function(kernel(1.0), KNOBS, learn_from=places)


def test_a_run_goes_on_with_what_it_began_with(elsewhere, tmp_path):
    """Another past would lead elsewhere, and is refused; the same goes on and repeats nothing."""
    asked = []

    def measure(config):
        asked.append(tuple(config.values()))
        return kernel(2.0)(config)

    run = tmp_path / "run"
    tune_function(measure, KNOBS, trials=8, run=run, learn_from=elsewhere)
    with pytest.raises(RunFolderError, match=r"learns_from is '96 measurements.*'nothing' here"):
        tune_function(measure, KNOBS, trials=16, run=run)
    tune_function(measure, KNOBS, trials=16, run=run, learn_from=elsewhere)
    assert len(asked) == len(set(asked)) == 16
