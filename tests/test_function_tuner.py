"""`tune_function`: whatever has knobs and can be timed by a function."""

import json
import math
import os
import shutil
import subprocess
import sys
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

import chameleon_ray
from chameleon_ray import tune_function
from chameleon_ray.errors import (
    NothingValidError,
    RunFolderError,
    SettingsError,
    UnknownNameError,
)
from chameleon_ray.measure import Purpose
from chameleon_ray.measure.function import FunctionMeasurer, seconds_of
from chameleon_ray.records import read_records
from chameleon_ray.rounds import read_rounds
from chameleon_ray.space import DesignSpace
from chameleon_ray.tunables import Tunables

ROOT = Path(__file__).parent.parent
KNOBS = {
    "tile": [1, 2, 4, 8, 16, 32, 64, 128],
    "share": [0.25, 0.5, 0.75, 1.0],
    "vector": [True, False],
    "order": ["ijk", "ikj", "jik", "jki"],
}
DEFAULT = {"tile": 1, "share": 1.0, "vector": False, "order": "ijk"}
LEARNING = """
initial: 8
start: spread
candidates: 64
measurements: 40
explorer: {kind: annealing, chains: 8, steps: 20}
sampler: {kind: greedy, batch: 4, epsilon: 0}
"""


@pytest.fixture
def learning(tmp_path):
    """A quick policy in small batches, with a cost model: where it goes depends on what it saw."""
    path = tmp_path / "learning.yaml"
    path.write_text(LEARNING)
    return str(path)


class Kernel:
    """A kernel with one best config; remembers what it was asked."""

    def __init__(self, *, fails=lambda config: False, stop_after=None):
        self.asked, self._fails, self._stop_after = [], fails, stop_after

    def __call__(self, config):
        if len(self.asked) == self._stop_after:
            raise KeyboardInterrupt
        self.asked.append(dict(config))
        if self._fails(config):
            raise RuntimeError(f"no such kernel: {config['order']}")
        slow = abs(math.log2(config["tile"]) - 5) + abs(config["share"] - 0.5)
        config["tile"] = None  # a config is the function's own to spoil
        return 1e-3 * (1 + slow) * (1 if config["vector"] else 2)


def test_it_finds_the_best_of_a_small_space():
    """With as many trials as there are configs, and not one measurement more."""
    kernel, seen = Kernel(), []
    result = tune_function(
        kernel, KNOBS, policy="random", trials=1000, default=DEFAULT, on_measurement=seen.append
    )
    assert result.best_config == {"tile": 32, "share": 0.5, "vector": True} | {
        "order": result.best_config["order"]
    }
    assert result.best_seconds == pytest.approx(1e-3)
    assert result.default_seconds == pytest.approx(2e-3 * 6.5)
    assert result.measurements == result.allowed == len(kernel.asked) == 8 * 4 * 2 * 4
    assert kernel.asked[0] == result.history[0].config == DEFAULT
    assert tuple(seen) == result.history
    assert [attempt.config for attempt in result.history] == kernel.asked
    assert {type(v) for config in kernel.asked for v in config.values()} == {int, float, bool, str}
    assert result.outcomes == {"ok": 256}


def test_the_same_seed_takes_the_same_way(learning):
    """Another seed takes another."""
    histories = [
        tune_function(Kernel(), KNOBS, policy=learning, trials=20, seed=seed).history
        for seed in (1, 1, 2)
    ]
    assert histories[0] == histories[1] != histories[2]
    assert len(histories[0]) == 20


def test_only_what_is_allowed_is_measured(learning):
    """Restrictions by text and by function hold for every measurement."""
    kernel = Kernel()
    result = tune_function(
        kernel,
        KNOBS,
        restrictions=["tile * share <= 16", lambda c: c["vector"] or c["order"] != "jki"],
        policy=learning,
    )
    assert len(kernel.asked) == 40
    assert all(c["tile"] * c["share"] <= 16 for c in kernel.asked)
    assert all(c["vector"] or c["order"] != "jki" for c in kernel.asked)
    assert result.allowed < 256
    single = tune_function(Kernel(), KNOBS, restrictions="tile == 2", policy="random")
    assert single.allowed == single.measurements == 32


def test_a_space_too_large_to_list_is_searched(learning):
    """Restrictions hold there, too."""
    knobs = {f"k{i}": [-3.5, -1, 0, 2, 7, 11, 13] for i in range(12)}
    result = tune_function(
        lambda c: 1.0 + sum(c.values()) ** 2,
        knobs,
        restrictions=["k0 + k1 > 0", lambda c: c["k2"] != c["k3"]],
        policy=learning,
        trials=24,
        default=dict.fromkeys(knobs, 2) | {"k3": -1},
    )
    assert result.measurements == 24
    assert result.allowed is None
    assert all(a.config["k0"] + a.config["k1"] > 0 for a in result.history)
    assert all(a.config["k2"] != a.config["k3"] for a in result.history)


def test_failures_are_noted_and_the_search_goes_on(learning):
    """An exception's traceback stays with its config, and says nothing of this package."""
    kernel = Kernel(fails=lambda c: c["order"] == "jki")
    result = tune_function(kernel, KNOBS, policy=learning, default=DEFAULT | {"order": "jki"})
    failed = [a for a in result.history if a.seconds is None]
    assert result.outcomes == {"ok": 40 - len(failed), "run_error": len(failed)}
    assert all(a.config["order"] == "jki" for a in failed)
    assert failed[0].message.startswith("Traceback")
    assert failed[0].message.endswith("RuntimeError: no such kernel: jki")
    assert "test_function_tuner.py" in failed[0].message
    assert "measure/function.py" not in failed[0].message
    assert result.default_seconds is None
    assert f"{len(failed)} of 40 measurements failed" in str(result)


@pytest.mark.parametrize(
    ("returned", "seconds"),
    [
        (0.5, (0.5,)),
        (2, (2.0,)),
        (np.float32(0.5), (0.5,)),
        (np.int64(3), (3.0,)),
        (np.array(0.5), (0.5,)),
        (Fraction(1, 4), (0.25,)),
        (Decimal("0.25"), (0.25,)),
        ([0.5, 0.25, 1], (0.5, 0.25, 1.0)),
        (np.array([0.5, 0.25]), (0.5, 0.25)),
        ((Fraction(1, 2),), (0.5,)),
    ],
)
def test_times_come_as_any_real_number_or_several(returned, seconds):
    """A sequence is the repeats of one config."""
    assert seconds_of(returned) == (seconds, "")


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        (None, "None"),
        (math.nan, "nan"),
        (math.inf, "inf"),
        (-math.inf, "-inf"),
        (0, "0"),
        (0.0, "0.0"),
        (-1.5, "-1.5"),
        (np.float64(-1.5), "-1.5"),
        (True, "True"),
        (np.True_, "True"),
        ("0.5", "'0.5'"),
        (b"0.5", "b'0.5'"),
        (1j, "1j"),
        (np.complex64(1), "1"),
        (10**400, "1000"),
        (1e-40, "1e-40"),
        ([], r"\[\]"),
        ([0.5, None], "None among the repeats"),
        ([[0.5], [0.5, 1.0]], "0.5"),
        ({"seconds": 0.5}, "seconds"),
        (object(), "object"),
    ],
)
def test_what_is_no_time_is_a_failure(returned, said):
    """The message says what came back, and what should."""
    seconds, message = seconds_of(returned)
    assert seconds == ()
    assert message.startswith("measure returned ")
    assert said.replace("\\", "") in message
    assert message.endswith(
        "it must return seconds, a positive number or a sequence of them, or raise."
    )
    result = tune_function(
        lambda config: returned if config["a"] == 1 else 0.5, {"a": [1, 2]}, policy="random"
    )
    assert result.outcomes == {"ok": 1, "run_error": 1}
    assert [a.message for a in result.history if a.seconds is None] == [message]
    assert result.best_config == {"a": 2}


def test_leaving_the_program_is_a_failure_like_any_other():
    """A kernel's own `sys.exit` costs one attempt; what was measured stays."""
    result = tune_function(
        lambda config: 0.5 if config["a"] == 1 else sys.exit("no device"), {"a": [1, 2]}
    )
    assert result.outcomes == {"ok": 1, "run_error": 1}
    assert [a.message.endswith("SystemExit: no device") for a in result.history] in (
        [True, False],
        [False, True],
    )


def test_the_median_of_repeats_counts():
    """One slow repeat does no harm."""
    result = tune_function(lambda config: [0.5, 9.0, 0.25], {"a": [1]}, policy="random")
    assert result.best_seconds == 0.5


@pytest.mark.parametrize("trials", [3, 500])
def test_a_function_that_always_fails_ends_the_search(trials, learning):
    """The first error is shown with its traceback; 32 are enough."""
    kernel = Kernel(fails=lambda c: True)
    with pytest.raises(NothingValidError) as caught:
        tune_function(kernel, KNOBS, policy=learning, trials=trials)
    assert len(kernel.asked) == min(trials, 32)
    text = str(caught.value)
    assert f"none of the first {len(kernel.asked)} measurements gave a time" in text
    assert str(kernel.asked[0]) in text
    assert "Traceback" in text
    assert f"RuntimeError: no such kernel: {kernel.asked[0]['order']}" in text
    assert "doctor" not in text


def test_a_first_batch_may_be_longer_than_32():
    """It is measured whole before the search gives up."""
    kernel = Kernel(fails=lambda c: True)
    with pytest.raises(NothingValidError, match="first 64 measurements"):
        tune_function(kernel, KNOBS, policy="autotvm")


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"measure": 3}, SettingsError, "measure: 3 cannot be called"),
        ({"on_measurement": 3}, SettingsError, "on_measurement: 3 cannot be called"),
        ({"knobs": {}}, SettingsError, "knobs: no parameters"),
        ({"knobs": [("a", [1])]}, SettingsError, "knobs: no parameters"),
        ({"knobs": {"a": []}}, SettingsError, "knobs: a: give a list"),
        ({"knobs": {"a": "abc"}}, SettingsError, "knobs: a: give a list"),
        ({"knobs": {"a": {1, 2}}}, SettingsError, "knobs: a: give a list"),
        ({"knobs": {"a": [1, 1]}}, SettingsError, "knobs: a: 1 stands twice"),
        ({"knobs": {"a": [1, True]}}, SettingsError, "stands twice"),
        ({"knobs": {"a": [None]}}, SettingsError, "neither a number nor text"),
        ({"knobs": {"a": [math.nan]}}, SettingsError, "neither a number nor text"),
        ({"knobs": {3: [1]}}, SettingsError, "the name 3 is not text"),
        ({"trials": 0}, SettingsError, "trials: 0 is not a whole number from 1"),
        ({"trials": 2.5}, SettingsError, "trials: 2.5"),
        ({"trials": True}, SettingsError, "trials: True"),
        ({"seed": -1}, SettingsError, "seed: -1 is not a whole number from 0"),
        ({"policy": "chamaeleon"}, UnknownNameError, "policy 'chamaeleon'.*'chameleon'"),
        ({"policy": "./nowhere.yaml"}, SettingsError, "no such file"),
        ({"default": {"tile": 1}}, SettingsError, "default: no value for share, vector, order"),
        (
            {"default": DEFAULT | {"tile": 3}},
            SettingsError,
            "default: tile of the conf.* not among",
        ),
        ({"default": DEFAULT | {"tile": [1]}}, SettingsError, "default: tile"),
        ({"default": DEFAULT | {"tyle": 3}}, UnknownNameError, "default: unknown knob 'tyle'"),
        ({"default": 3}, SettingsError, "default: 3 is not a configuration"),
        (
            {"default": DEFAULT, "restrictions": ["tile > 1"]},
            SettingsError,
            "default: {'tile': 1.*is not allowed: it breaks the restriction tile > 1",
        ),
        ({"restrictions": 3}, SettingsError, "restrictions: 3 is not a list"),
        ({"restrictions": ["tyle > 1"]}, UnknownNameError, "'tyle'.*Known: tile, share"),
        ({"restrictions": ["tile ="]}, SettingsError, "not an expression"),
        (
            {"restrictions": ["tile > 1", "share < 0.5", lambda c: c["tile"] < 2]},
            SettingsError,
            r"none of 256 .*224, then share < 0.5 leaves 56, then .*<lambda> \(.*\) leaves 0\.",
        ),
        ({"restrictions": [lambda c: c["nothing"]]}, SettingsError, "KeyError: 'nothing'"),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_measured(change, error, message, tmp_path):
    """In one line that names the argument; no folder is made."""
    kernel = Kernel()
    arguments = {"measure": kernel, "knobs": KNOBS, "policy": "random", "run": tmp_path / "run"}
    with pytest.raises(error, match=message) as caught:
        tune_function(**arguments | change)
    assert "\n" not in str(caught.value)
    assert kernel.asked == []
    assert not (tmp_path / "run").exists()


def test_a_large_space_of_which_nothing_is_allowed_is_refused():
    """It is looked at by a sample."""
    knobs = {f"k{i}": list(range(8)) for i in range(10)}
    with pytest.raises(
        SettingsError, match=r"none of 100,000 random ones of 1,073,741,824 .*: k0 > 7 leaves 0"
    ):
        tune_function(Kernel(), knobs, restrictions=["k0 > 7"], policy="random")


def test_a_run_goes_on_where_it_was_interrupted(tmp_path, learning):
    """Ctrl-C passes; the same call then measures the rest, and comes to the same result."""
    whole = tune_function(Kernel(), KNOBS, policy=learning, default=DEFAULT)
    arguments = {"policy": learning, "default": DEFAULT, "run": tmp_path / "run"}
    first = Kernel(stop_after=21)
    with pytest.raises(KeyboardInterrupt):
        tune_function(first, KNOBS, **arguments)
    records, _ = read_records(tmp_path / "run")
    assert len(records) == 21
    assert records[0].measurement.purpose is Purpose.DEFAULT
    assert records[0].measurement.config == {"tile": (1,), "share": (3,), "vector": (0,)} | {
        "order": (0,)
    }
    assert json.loads((tmp_path / "run" / "run.json").read_text())["knobs"]["share"][3] == 1.0
    second = Kernel()
    result = tune_function(second, KNOBS, **arguments)
    assert first.asked + second.asked == [a.config for a in whole.history]
    assert result.history == whole.history
    assert result.run == str(tmp_path / "run")
    third, seen = Kernel(), []
    more = tune_function(third, KNOBS, trials=44, on_measurement=seen.append, **arguments)
    assert len(third.asked) == 4
    assert tuple(seen) == more.history
    assert more.history[:40] == whole.history
    rounds, _ = read_rounds(tmp_path / "run")
    assert [r.number for r in rounds] == list(range(1, 10))
    assert [r.measured_before for r in rounds] == list(range(9, 44, 4))[:9]
    assert [s for r in rounds for s in r.seconds] == [a.seconds for a in more.history[9:]]


def test_failures_are_not_measured_again(tmp_path, learning):
    """Their messages come from the journal."""
    arguments = {"policy": learning, "run": tmp_path / "run"}
    kernel = Kernel(fails=lambda c: c["order"] == "jki")
    before = tune_function(kernel, KNOBS, **arguments)
    again = Kernel()
    assert tune_function(again, KNOBS, **arguments).history == before.history
    assert again.asked == []
    assert "run_error" in before.outcomes


def test_a_damaged_journal_costs_what_it_held(tmp_path, learning):
    """The result names the file that was set aside."""
    arguments = {"policy": learning, "trials": 12, "run": tmp_path / "run"}
    before = tune_function(Kernel(), KNOBS, **arguments)
    (tmp_path / "run" / "records-00000007-00000007.parquet").write_bytes(b"PAR1")
    again = Kernel()
    result = tune_function(again, KNOBS, **arguments)
    assert [a.config for a in before.history][6:7] == again.asked
    assert result.history == before.history
    assert result.damaged == ("records-00000007-00000007.parquet.damaged",)


def small(config):
    """Allows 128 configs."""
    return config["tile"] <= 8


def slower(config):
    """Another function than `Kernel`."""
    return 1.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 1}, "seed is 0 there and 1 here"),
        ({"policy": "random"}, "policy is .*learning.yaml' there and 'random' here"),
        ({"knobs": KNOBS | {"share": [0.5, 1.0]}}, r"knobs\.share is \[0.25, .*here"),
        ({"knobs": KNOBS | {"tile": [float(n) for n in KNOBS["tile"]]}}, r"knobs\.tile is \[1, 2"),
        ({"knobs": dict(reversed(KNOBS.items()))}, r"names is \['tile', .* there"),
        ({"knobs": {"tile": KNOBS["tile"]}}, r"names is \['tile', .* and \['tile'\] here"),
        ({"restrictions": ["tile <= 8"]}, r"restrictions is \['small'\] there"),
        ({"restrictions": []}, r"allowed is '128 of 256 configs \("),
        ({"default": DEFAULT}, "default is None there"),
        ({"measure": slower}, "measure is 'Kernel' there and 'slower' here"),
    ],
)
def test_a_folder_of_another_run_is_refused(change, message, tmp_path, learning):
    """What differs is named; nothing is measured."""
    arguments = {"knobs": KNOBS, "restrictions": [small], "policy": learning, "trials": 4}
    tune_function(Kernel(), run=tmp_path / "run", **arguments)
    calls = {"measure": Kernel(), "run": tmp_path / "run"}
    with pytest.raises(RunFolderError, match=message) as caught:
        tune_function(**calls | arguments | change)
    assert "another folder with run=, and learn from this one with learn_from=." in str(
        caught.value
    )


def test_a_function_restriction_that_changed_is_noticed(tmp_path):
    """Its name is the same, what it allows is not."""
    for limit, expected in ((8, None), (16, "allowed is '128 of 256 configs")):

        def fits(config, limit=limit):
            return config["tile"] <= limit

        arguments = {"restrictions": [fits], "policy": "random", "trials": 2}
        if expected is None:
            tune_function(Kernel(), KNOBS, run=tmp_path / "run", **arguments)
        else:
            with pytest.raises(RunFolderError, match=expected):
                tune_function(Kernel(), KNOBS, run=tmp_path / "run", **arguments)


def test_the_folder_of_a_network_and_other_files_are_refused(tmp_path):
    """Nothing is written there."""
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(RunFolderError, match=r"not a run folder.*thesis.*with run=\."):
        tune_function(Kernel(), KNOBS, policy="random", run=tmp_path)
    (tmp_path / "network").mkdir()
    (tmp_path / "network" / "run.json").write_text('{"network": "resnet18", "seed": 0}')
    with pytest.raises(RunFolderError, match="kind is None there and 'function' here"):
        tune_function(Kernel(), KNOBS, policy="random", run=tmp_path / "network")


def test_a_folder_is_free_again_after_an_error(tmp_path, learning):
    """A callback that raises ends the search; what was measured is kept."""

    def enough(attempt):
        raise TimeoutError

    arguments = {"policy": learning, "trials": 5, "run": tmp_path / "run"}
    with pytest.raises(TimeoutError):
        tune_function(Kernel(), KNOBS, on_measurement=enough, **arguments)
    again = Kernel()
    assert tune_function(again, KNOBS, **arguments).measurements == 5
    assert len(again.asked) == 4


def test_without_a_folder_nothing_is_written(tmp_path, learning, monkeypatch):
    """Not even where the user stands."""
    monkeypatch.chdir(tmp_path)
    before = set(tmp_path.rglob("*"))
    assert tune_function(Kernel(), KNOBS, policy=learning, trials=3).run == ""
    assert set(tmp_path.rglob("*")) == before


def test_the_result_can_be_read_and_kept():
    """As one line, as a few, and as JSON."""
    result = tune_function(
        lambda c: {1: 0.01, 2: 0.0025}[c["block"]],
        {"block": [1, 2], "flag": ["-O2"]},
        policy="random",
        default={"block": 1, "flag": "-O2"},
    )
    line = "2.5 ms, the best of 2 measurements, 4.00x as fast as the default"
    assert repr(result) == f"<FunctionResult: {line}: {{'block': 2, 'flag': '-O2'}}>"
    assert str(result).splitlines() == [line, "  block = 2", "  flag  = '-O2'"]
    value = json.loads(json.dumps(result.to_json()))
    assert value["best_config"] == {"block": 2, "flag": "-O2"}
    assert value["history"][0] == {
        "config": {"block": 1, "flag": "-O2"},
        "seconds": 0.01,
        "message": "",
    }
    assert (value["measurements"], value["outcomes"], value["allowed"]) == (2, {"ok": 2}, 2)
    assert (value["default_seconds"], value["policy"], value["seed"]) == (0.01, "random", 0)


def test_a_single_config_is_measured_once():
    """A space of one is no reason to fail."""
    result = tune_function(lambda c: 1.5, {"a": ["only"]}, policy="random", default={"a": "only"})
    assert (result.measurements, result.best_seconds, result.default_seconds) == (1, 1.5, 1.5)


def test_a_hundred_knobs_are_no_trouble():
    """More than an array has dimensions; most have one value."""
    knobs = {f"k{i}": [1] for i in range(98)} | {"a": [1, 2, 3], "b": [1, 2]}
    result = tune_function(
        lambda c: c["a"] / c["b"], knobs, restrictions=["a != b"], policy="random"
    )
    assert result.measurements == result.allowed == 4
    assert result.best_seconds == 0.5


def test_finalists_are_measured_anew():
    """A measurer compares by asking again, in the order given."""
    tunables = Tunables.of({"a": [1, 2]}, where="knobs")
    space = DesignSpace("f", tunables.knobs())
    measurer = FunctionMeasurer(lambda c: c["a"], tunables, space, task="f")
    compared = measurer.compare(space.all_valid(), torch=False)
    assert [(m.purpose, m.seconds) for m in compared] == [
        (Purpose.FINALIST, 1.0),
        (Purpose.FINALIST, 2.0),
    ]


def test_the_package_offers_it_without_importing_what_is_heavy():
    """As `tune`: by name, when it is asked for."""
    assert {"tune_function", "FunctionResult", "Attempt"} <= set(chameleon_ray.__all__)
    assert chameleon_ray.FunctionResult.__name__ == "FunctionResult"
    assert chameleon_ray.Attempt._fields == ("config", "seconds", "message")
    code = (
        "import sys, chameleon_ray\n"
        "assert 'chameleon_ray.function_tuner' not in sys.modules\n"
        "chameleon_ray.tune_function\n"
        "print([m for m in ('ray', 'tvm', 'torch', 'xgboost', 'sklearn') if m in sys.modules])"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert found.stdout.strip() == "[]"


def matmul(*options, **environment):
    return subprocess.run(
        [sys.executable, ROOT / "examples" / "matmul.py", *options],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={**os.environ, **environment},
    )


@pytest.mark.skipif(
    not any(map(shutil.which, ("cc", "gcc", "clang"))), reason="no C compiler: cc, gcc, clang"
)
def test_the_example_tunes_a_matrix_product(tmp_path):
    """It compiles, checks and times, and what it finds is faster where both are timed in turns."""
    options = ["--run", tmp_path / "run"]
    done = matmul(*options, "--trials", "10", CC="")
    assert done.returncode == 0, done.stderr
    said = {line.split()[0]: float(line.split()[1]) for line in done.stdout.splitlines()[-4:]}
    assert list(said) == ["untuned", "tuned", "numpy", "ratio"]
    assert said["ratio"] == pytest.approx(said["untuned"] / said["tuned"], rel=0.1)
    assert said["ratio"] > 2
    assert "10 measurements" in done.stdout
    assert "failed" not in done.stdout
    records, _ = read_records(tmp_path / "run")
    assert len(records) == 10
    again = matmul(*options, "--trials", "11", CC="")
    assert again.returncode == 0, again.stderr
    assert len(read_records(tmp_path / "run")[0]) == 11


def test_the_example_says_when_there_is_no_such_compiler():
    """In one line."""
    done = matmul("--cc", "no-such-cc -m64")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "no-such-cc -m64: no such compiler; name another with --cc.\n"
    done = matmul("--policy", "random", "--size", "64", CC="false")
    assert done.returncode == 1
    assert "none of the first" in done.stderr


@pytest.mark.ray
@pytest.mark.slow
def test_a_ray_that_the_explorer_starts_ends_with_the_search(tmp_path):
    """PPO walks a space too large to go through, restrictions and all, with a worker process."""
    import ray

    policy = tmp_path / "walking.yaml"
    policy.write_text(
        "initial: 4\n"
        "explorer: {kind: ppo, episodes: 4, waves: 2, steps: 8, workers: 1}\n"
        "sampler: {kind: adaptive, variant: letter}\n"
    )
    knobs = {f"k{i}": [0.5, 1, 2, 4, 8] for i in range(10)}
    result = tune_function(
        lambda c: 1.0 + sum(c.values()),
        knobs,
        restrictions=["k0 <= k1", lambda c: c["k2"] < 8 or c["k3"] < 8],
        policy=str(policy),
        trials=16,
    )
    assert result.measurements == 16
    assert all(a.config["k0"] <= a.config["k1"] for a in result.history)
    assert not ray.is_initialized()
