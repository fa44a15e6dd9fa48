"""What a run measured, and a layer measured whole, as recorded spaces."""

import gzip
import json
from dataclasses import replace

import numpy as np
import pytest

from chameleon_ray import record
from chameleon_ray.errors import RunFolderError, SettingsError, UnknownNameError
from chameleon_ray.function_tuner import tune_function
from chameleon_ray.learning.journal import sources_of_run
from chameleon_ray.learning.sources import of_recorded
from chameleon_ray.measure import Measurement, Outcome, Purpose
from chameleon_ray.measure.recorded import RecordedMeasurer, load_recorded
from chameleon_ray.networks import choose_layers, network
from chameleon_ray.presets import load_policy
from chameleon_ray.records import Journal, Provenance
from chameleon_ray.replay import replay
from chameleon_ray.settings import Policy, RandomSettings
from chameleon_ray.tasks import Target
from chameleon_ray.templates import default_config, design_space, template_version

LAYERS = choose_layers(network("resnet18"), (2, 3))
TARGET = Target(lanes=512, cores=2)  # wide registers make a space of 810 configs


def space_of(layer):
    """A layer's space on the made-up machine."""
    return design_space(layer.task, TARGET)


def measurements(layer, configs, *, purpose=Purpose.SEARCH, factor=1.0):
    """Every ninth fails; the others take a time that depends on the config."""
    space = space_of(layer)
    found = []
    for n, config in enumerate(configs):
        failed = n % 9 == 8
        outcome = [Outcome.BUILD_TIMEOUT, Outcome.CRASHED][n % 2] if failed else Outcome.OK
        seconds = factor * 1e-3 * (1 + float(config @ np.arange(1, 9)))
        found.append(
            Measurement(
                task=layer.task.key,
                config=space.describe(config),
                purpose=purpose,
                outcome=outcome,
                message="first line\nit said why" if failed else "",
                repeat_seconds=() if failed else (seconds, seconds * 0.9, seconds * 2),
                build_seconds=0.5,
            )
        )
    return found


def a_run(folder, *parts, machine="Some CPU, 2 cores, 512 lanes", template=None):
    """A run folder with these measurements."""
    provenance = Provenance(
        machine=machine,
        compiler="LLVM 1",
        template=template_version(TARGET) if template is None else template,
        env="cpu",
        policy="random",
    )
    folder.mkdir(exist_ok=True)
    manifest = {"network": "resnet18", "env": "cpu", "policy": "random", "seed": 0}
    (folder / "run.json").write_text(json.dumps(manifest | {"layers": [2, 3]}))
    journal = Journal(folder, provenance)
    for part in parts:
        journal.append(part)
    return folder


def test_a_run_becomes_a_file_per_layer(tmp_path):
    """Each measured configuration comes back with its time or its outcome, and nothing else."""
    default = default_config(LAYERS[0].task, TARGET)
    configs = space_of(LAYERS[0]).random(30, np.random.default_rng(0), avoid=default[None, :])
    first = measurements(LAYERS[0], default[None, :], purpose=Purpose.DEFAULT)
    found = measurements(LAYERS[0], configs)
    again = measurements(LAYERS[0], configs[:5], purpose=Purpose.FINALIST, factor=0.1)
    other = measurements(LAYERS[1], space_of(LAYERS[1]).random(4, np.random.default_rng(0)))
    run = a_run(tmp_path / "run", first, found, other, again)
    one, two = record.write_run(run, tmp_path / "out" / "deep")
    assert (one.configs, one.failed, one.damaged) == (31, 3, ())
    assert one.path.name == "resnet18_layer2.json.gz"
    assert (two.path.name, two.configs) == ("resnet18_layer3.json.gz", 4)
    recorded = load_recorded(one.path)
    measurer = RecordedMeasurer(recorded)
    answers = measurer.submit(recorded.configs, purpose=Purpose.SEARCH)
    for (_, got), meant in zip(answers, [*first, *found], strict=True):
        assert dict(got.config) == dict(meant.config)
        assert got.outcome is meant.outcome
        assert got.seconds == pytest.approx(meant.seconds) if got.ok else got.message == got.outcome
    assert recorded.device == "Some CPU, 2 cores, 512 lanes, LLVM 1"
    assert not recorded.complete


def test_a_search_there_is_one_on_the_live_space(tmp_path):
    """Same knobs in the same order, same features, same work, same default first."""
    layer = LAYERS[0]
    live = space_of(layer)
    default = default_config(layer.task, TARGET)
    everything = live.all_valid()
    order = np.random.default_rng(0).permutation(len(everything))
    run = a_run(tmp_path / "run", measurements(layer, everything[order]))
    (written,) = record.write_run(run, tmp_path)
    assert written.configs == written.valid == len(everything)
    recorded = load_recorded(written.path)
    (own,), _ = sources_of_run(run, name="run")
    assert of_recorded(recorded).same_as(own)
    other = np.random.default_rng(1).uniform(1, 2, len(own.seconds)) * own.seconds
    elsewhere = replace(own, device="Another CPU, 4 cores, 8 lanes", seconds=other)
    assert not of_recorded(recorded).same_as(elsewhere)
    assert recorded.complete
    assert recorded.space.knobs == live.knobs
    assert recorded.space.feature_names == live.feature_names
    assert np.array_equal(recorded.space.features(everything), live.features(everything))
    assert recorded.space.valid(everything).all()
    assert np.array_equal(recorded.default, default)
    assert recorded.task.flop == layer.task.flop
    policy = Policy(initial=2, neighbours=3, explorer=RandomSettings())
    found = replay(recorded, policy, name="random", trials=1, seed=5)
    (row,) = np.flatnonzero((recorded.configs == default).all(axis=1))
    seconds = recorded.seconds[row]
    assert found.best_seconds == ((None if np.isnan(seconds) else seconds),)
    whole = replay(recorded, load_policy("genetic")[1], name="g", trials=10**6, seed=0)
    assert whole.final == 1.0
    assert len(whole.best_seconds) == len(everything)


def test_a_file_of_another_version(tmp_path):
    """Of a template that has changed since, the values that occur are the choices."""
    configs = space_of(LAYERS[0]).random(20, np.random.default_rng(0))
    found = measurements(LAYERS[0], configs)
    run = a_run(tmp_path / "run", found, template="cpu_conv2d/0")
    (written,) = record.write_run(run, tmp_path)
    assert written.valid is None
    recorded = load_recorded(written.path)
    assert (recorded.live, recorded.default, recorded.complete) == (None, None, False)
    assert [len(knob.choices[0]) for knob in recorded.space.knobs] == [3, 3, 3, 2, 2, 2, 1, 1]
    assert all(knob.ordered or len(knob) == 1 for knob in recorded.space.knobs[:6])
    described = [recorded.space.describe(config) for config in recorded.configs]
    assert described == [dict(m.config) for m in found]


def test_other_tuners_can_read_it(tmp_path):
    """Kernel Tuner's schema 1.1.0: its fields, its names of failures, milliseconds."""
    configs = space_of(LAYERS[0]).random(18, np.random.default_rng(0))
    run = a_run(tmp_path / "run", measurements(LAYERS[0], configs))
    (written,) = record.write_run(run, tmp_path)
    value = json.loads(gzip.decompress(written.path.read_bytes()))
    assert value["schema_version"] == "1.1.0"
    assert value["objective"] == "time"
    assert value["tune_params_keys"] == list(value["tune_params"])
    for key, entry in value["cache"].items():
        config = [entry[name] for name in value["tune_params_keys"]]
        assert key == ",".join(map(str, config))
        assert all(
            v in value["tune_params"][n] for n, v in zip(value["tune_params"], config, strict=True)
        )
        for name in ("compile_time", "verification_time", "benchmark_time", "timestamp"):
            assert name in entry
        assert entry["compile_time"] == 500.0
        if not isinstance(entry["time"], str):
            assert entry["time"] == pytest.approx(np.median(entry["times"]))
    failures = [entry for entry in value["cache"].values() if isinstance(entry["time"], str)]
    assert [(f["time"], f["outcome"]) for f in failures] == [
        ("CompilationFailedConfig", "build_timeout"),
        ("RuntimeFailedConfig", "crashed"),
    ]
    assert {f["message"] for f in failures} == {"it said why"}


def test_only_what_was_measured_where_it_was_measured_last(tmp_path):
    """A lost device says nothing about a config; another machine's times are not mixed in."""
    configs = space_of(LAYERS[0]).random(6, np.random.default_rng(0))
    run = a_run(
        tmp_path / "run", measurements(LAYERS[0], configs), machine="Old CPU, 2 cores, 512 lanes"
    )
    new = measurements(LAYERS[0], configs[:3], factor=3.0)
    lost = Measurement(
        task=LAYERS[0].task.key,
        config=space_of(LAYERS[0]).describe(configs[4]),
        purpose=Purpose.SEARCH,
        outcome=Outcome.DEVICE_LOST,
    )
    a_run(run, new, [lost])
    (written,) = record.write_run(run, tmp_path)
    assert (written.configs, written.failed) == (3, 0)
    assert written.best_seconds == min(m.seconds for m in new)


@pytest.mark.parametrize("of", ["nothing", "failures", "no run"])
def test_runs_without_a_time(tmp_path, of):
    """They are refused, and no file is left."""
    run = tmp_path / "run"
    config = space_of(LAYERS[0]).random(9, np.random.default_rng(0))
    if of == "failures":
        a_run(run, measurements(LAYERS[0], config)[8:])
    elif of == "nothing":
        a_run(run)
    with pytest.raises(
        RunFolderError, match=r"run: (nothing in it has a time yet|not a run folder)"
    ):
        record.write_run(run, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_damaged_parts_are_told(tmp_path):
    """What can be read is written; what cannot is named."""
    configs = space_of(LAYERS[0]).random(6, np.random.default_rng(0))
    parts = [measurements(LAYERS[0], configs[:3]), measurements(LAYERS[0], configs[3:])]
    run = a_run(tmp_path / "run", *parts)
    bad = max(run.glob("*.parquet"))
    bad.write_bytes(bad.read_bytes()[:-20])
    (written,) = record.write_run(run, tmp_path)
    assert written.configs == 3
    assert written.damaged == (bad.name,)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"out": "x.txt"}, SettingsError, r"x\.txt must end in \.json or \.json\.gz"),
        ({"out": "folder.json"}, SettingsError, r"folder\.json is a folder"),
        ({"out": "file/x.json"}, SettingsError, r"file/x\.json cannot be written"),
        ({"layer": 7}, SettingsError, r"layer 7 .* configurations, too many .*--limit N"),
        ({"layer": 99}, UnknownNameError, "unknown layer '99'"),
        ({"network": "resnet19"}, UnknownNameError, "resnet18"),
        ({"env": "gpu"}, UnknownNameError, "cuda, cuda_gemm, cuda_tensor, recorded"),
        ({"limit": 10**7}, SettingsError, "--trials: 10000000"),
    ],
)
def test_sweeps_that_are_refused(tmp_path, monkeypatch, options, error, message):
    """Before Ray is started, and before a run folder is made."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.json").mkdir()
    (tmp_path / "file").write_text("")
    given = {"network": "resnet18", "layer": 2, "env": "simulated", "out": "x.json.gz"} | options
    network_name, layer, out = given.pop("network"), given.pop("layer"), given.pop("out")
    with pytest.raises(error, match=message):
        record.sweep(network_name, layer, out=tmp_path / out, run=tmp_path / "run", **given)
    assert not (tmp_path / "run").exists()


def test_a_sweep_learns_from_nothing(tmp_path, monkeypatch):
    """On a real CPU, too: what it measures is to be everything, or drawn at random."""
    asked = {}

    def tune(*_network, **options):
        asked.update(options)
        raise KeyboardInterrupt

    monkeypatch.setattr("chameleon_ray.network_tuner.tune", tune)
    with pytest.raises(KeyboardInterrupt):
        record.sweep("resnet18", 2, env="cpu", out=tmp_path / "x.json", run=tmp_path / "run")
    assert asked["cold"] is True


@pytest.mark.ray
@pytest.mark.slow
def test_a_sweep_goes_on_where_it_stopped(tmp_path):
    """A larger limit measures only what is new, and the file is a space to search."""
    run, out = tmp_path / "run", tmp_path / "space.json.gz"
    shared = {"env": "simulated", "out": out, "run": run}
    few = record.sweep("resnet18", 2, limit=6, **shared)
    assert (few.configs, few.failed) == (6, 0)
    before = load_recorded(out)
    more = record.sweep("resnet18", 2, limit=15, **shared)
    assert more.configs == 15
    after = load_recorded(out)
    assert np.array_equal(after.configs[:6], before.configs)
    assert np.array_equal(after.seconds[:6], before.seconds)
    assert np.array_equal(after.configs[0], after.default)
    assert "simulated" in after.device
    assert replay(after, load_policy("random")[1], name="r", trials=99, seed=0).final == 1.0


def test_a_run_of_a_function_becomes_a_file(tmp_path):
    """Values of every kind come back, and failures; its name becomes that of the file."""

    def measure(config):
        if config["fused"] and config["block"] == 64:
            raise ValueError("does not fit")
        return 1e-3 * config["block"] * config["scale"] + (config["order"] == "kij")

    knobs = {
        "block": [32, 64],
        "scale": [0.5, 1.5],
        "fused": [False, True],
        "order": ["ijk", "kij"],
    }
    run = tmp_path / "run"
    result = tune_function(measure, knobs, policy="random", trials=16, run=run)
    (written,) = record.write_run(run, tmp_path / "out")
    assert (written.configs, written.failed, written.valid) == (16, 4, None)
    assert written.path.name.endswith("measure.json.gz")
    assert "<" not in written.path.name
    recorded = load_recorded(written.path)
    assert not recorded.complete
    found = {
        tuple(recorded.tunables.plain(config).items()): float(seconds)
        for config, seconds in zip(recorded.configs, recorded.seconds, strict=True)
    }
    for attempt in result.history:
        seconds = attempt.seconds if attempt.seconds is not None else np.nan
        assert found[tuple(attempt.config.items())] == pytest.approx(seconds, nan_ok=True)
