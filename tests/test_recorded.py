"""Recorded spaces: files read, refused and replayed."""

import gzip
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest

from chameleon_ray.errors import SettingsError, UnknownNameError
from chameleon_ray.measure import Outcome, Purpose
from chameleon_ray.measure.recorded import RecordedMeasurer, load_recorded, shipped
from chameleon_ray.tasks import Conv2d

PARAMS = {"block": [32, 16, 64], "layout": ["nhwc", "nchw"], "share": [0.5], "pad": [True, False]}
SPACES = Path(__file__).parent.parent / "chameleon_ray" / "spaces"


def cache(times, params=PARAMS, **fields):
    """A cache of Kernel Tuner with these times, of the first configurations of the product."""
    grids = np.meshgrid(*[np.arange(len(v)) for v in params.values()], indexing="ij")
    rows = np.stack([grid.ravel() for grid in grids], axis=1)
    entries = {}
    for row, time in zip(rows, times, strict=False):
        config = {name: values[i] for (name, values), i in zip(params.items(), row, strict=True)}
        entries[",".join(map(str, config.values()))] = config | {"time": time}
    head = {"device_name": "a GPU", "kernel_name": "k", "tune_params_keys": list(params)}
    return head | {"tune_params": params, "cache": entries} | fields


@pytest.fixture
def write(tmp_path):
    """Writes a value, text or bytes as a file, and says where."""

    def to(value, name="space.json"):
        path = tmp_path / name
        data = json.dumps(value) if isinstance(value, dict | list) else value
        data = data.encode() if isinstance(data, str) else data
        path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
        return path

    return to


def measured(recorded, configs=None):
    """What the measurer answers, in order."""
    measurer = RecordedMeasurer(recorded)
    configs = recorded.configs if configs is None else configs
    found = dict(measurer.submit(configs, purpose=Purpose.SEARCH))
    return [found[row] for row in range(len(configs))]


@pytest.mark.parametrize("name", ["space.json", "space.json.gz"])
def test_every_configuration_comes_back(write, name):
    """Times and names of failures are those of the file, in seconds."""
    times = [4.0, 2.5, "CompilationFailedConfig", 1, "RuntimeFailedConfig", "InvalidConfig", "Odd"]
    recorded = load_recorded(write(cache(times), name))
    found = measured(recorded)
    assert [m.seconds * 1e3 if m.ok else m.message for m in found] == pytest.approx(times)
    assert [m.outcome for m in found if not m.ok] == [
        Outcome.BUILD_ERROR,
        Outcome.RUN_ERROR,
        Outcome.INVALID_STATIC,
        Outcome.RUN_ERROR,
    ]
    assert (recorded.name, recorded.device, recorded.kernel) == ("space", "a GPU", "k")
    assert recorded.optimum_seconds == pytest.approx(1e-3)
    assert recorded.task.key == "space"
    assert recorded.default is None
    assert recorded.complete


def test_values_come_back():
    """Each configuration of a shipped space stands under the values that the file gives it."""
    found = json.loads(gzip.decompress(shipped()["convolution_A4000"].read_bytes()))
    recorded = load_recorded("convolution_A4000")
    for config, entry, m in zip(
        recorded.configs, found["cache"].values(), measured(recorded), strict=True
    ):
        plain = recorded.tunables.plain(config)
        assert plain == {name: entry[name] for name in found["tune_params_keys"]}
        assert m.seconds == entry["time"] * 1e-3 if m.ok else m.message == entry["time"]


def test_a_measurer_like_any_other(write):
    """Two batches at once, each with its own rows; nothing is lost."""
    recorded = load_recorded(write(cache([3.0, 2.0, 1.0])))
    measurer = RecordedMeasurer(recorded)
    first = measurer.submit(recorded.configs[:2], purpose=Purpose.SEARCH)
    found = [*measurer.submit(recorded.configs[2:], purpose=Purpose.DEFAULT), *first]
    assert [row for row, _ in found] == [0, 0, 1]
    assert [m.seconds for _, m in found] == pytest.approx([1e-3, 3e-3, 2e-3])
    assert [m.purpose for _, m in found] == [Purpose.DEFAULT] + [Purpose.SEARCH] * 2
    compared = measurer.compare(recorded.configs[::-1], torch=True)
    assert [m.seconds for m in compared] == pytest.approx([1e-3, 2e-3, 3e-3])
    assert {m.purpose for m in compared} == {Purpose.FINALIST}


def test_what_is_not_in_the_file(write):
    """A configuration that nobody measured fails by that name, and is not in the space."""
    recorded = load_recorded(write(cache([3.0, 2.0])))
    missing = np.array([[0, 1, 0, 1]], dtype=np.int32)
    assert not recorded.space.valid(missing)[0]
    (m,) = measured(recorded, missing)
    assert (m.outcome, m.message) == (Outcome.RUN_ERROR, "NotRecorded")


def test_sleeping(write, monkeypatch):
    """Each success takes its recorded time, once; a failure takes none."""
    slept = []
    monkeypatch.setattr("chameleon_ray.measure.recorded.time.sleep", slept.append)
    recorded = load_recorded(write(cache([3.0, "InvalidConfig"])))
    measurer = RecordedMeasurer(recorded, sleep=True)
    list(measurer.submit(recorded.configs, purpose=Purpose.SEARCH))
    assert sum(slept) == pytest.approx(3e-3)


@pytest.mark.parametrize(
    "time", [math.nan, math.inf, -math.inf, 0, -1.5, 1e20, 10**400, None, True, "", [1.0], {}]
)
def test_times_that_cannot_be(write, time):
    """They are failures with a name, and never numbers."""
    recorded = load_recorded(write(cache([2.0, time])))
    good, bad = measured(recorded)
    assert good.seconds == pytest.approx(2e-3)
    assert (bad.outcome, bad.message) == (Outcome.RUN_ERROR, "NoTime")
    assert recorded.optimum_seconds == pytest.approx(2e-3)


def test_newer_caches_name_failures_apart(write):
    """Kernel Tuner 1.5 writes `__error__`, with or without a time."""
    value = cache([2.0, 3.0, 4.0])
    entries = list(value["cache"].values())
    entries[1]["__error__"] = "CompilationFailedConfig"
    entries[2] = {**entries[2], "__error__": "RuntimeFailedConfig"}
    del entries[2]["time"]
    value["cache"] = dict(zip(value["cache"], entries, strict=True))
    recorded = load_recorded(write(value))
    assert [m.message for m in measured(recorded)] == [
        "",
        "CompilationFailedConfig",
        "RuntimeFailedConfig",
    ]


def test_unknown_fields_are_ignored(write):
    """In the file and in its entries; a field of ours that makes no sense is one of them."""
    value = cache([2.0, 3.0], chameleon_ray={"task": 5, "lanes": "many"}, odd={"a": []})
    for entry in value["cache"].values():
        entry |= {"outcome": "odd", "times": "none", "GFLOP/s": math.nan}
    recorded = load_recorded(write(value))
    assert recorded.live is None
    assert recorded.seconds == pytest.approx([2e-3, 3e-3])


def test_keys_may_be_missing(write):
    """Without tune_params_keys the order is that of tune_params; strange keys are refused."""
    value = cache([2.0, 3.0])
    del value["tune_params_keys"]
    assert list(load_recorded(write(value)).tunables.values) == list(PARAMS)
    for keys in ([], "block", ["block", "blok"], ["block", "block"], [["block"]], None):
        with pytest.raises(SettingsError, match=r"space\.json: tune_params_keys .*block"):
            load_recorded(write(value | {"tune_params_keys": keys}))


def test_one_choice_and_one_configuration(write):
    """A space of a single configuration is a space."""
    recorded = load_recorded(write(cache([2.0], params={"block": [16], "layout": ["nchw"]})))
    assert recorded.space.size == 1
    assert len(recorded.space.random(8, np.random.default_rng(0))) == 1


def test_a_stated_value_may_repeat(write):
    """A value that the file states twice is one choice."""
    recorded = load_recorded(
        write(cache([2.0, 3.0]) | {"tune_params": PARAMS | {"share": [0.5] * 2}})
    )
    assert recorded.tunables.values["share"] == (0.5,)


def test_spaces_beyond_a_number(write):
    """More configurations in the product than an int64 counts: only those listed matter."""
    rng = np.random.default_rng(0)
    params = {f"p{i}": list(range(16)) for i in range(20)}
    configs = np.unique(rng.integers(0, 16, (200, 20)), axis=0)
    entries = {
        ",".join(map(str, row)): {f"p{i}": int(v) for i, v in enumerate(row)} | {"time": n + 1}
        for n, row in enumerate(configs)
    }
    recorded = load_recorded(write({"tune_params": params, "cache": entries}))
    assert recorded.space.size > 2**62
    assert [m.seconds * 1e3 for m in measured(recorded)] == pytest.approx(range(1, 201))
    again = recorded.space.random(500, rng)
    assert len(again) == 200
    assert len(recorded.space.random(500, rng, avoid=again[:150])) == 50


def t4(results, **fields):
    """A file in the T4 results format."""
    return {"schema_version": "1.0.0", "results": results} | fields


def t4_result(block, time=None, *, invalidity="correct", unit="ms", **fields):
    """One result."""
    measurements = [{"name": "GFLOP/s", "value": 9.0, "unit": ""}]
    if time is not None:
        measurements.append({"name": "time", "value": time, "unit": unit})
    config = {"block": block, "layout": "nchw"}
    return {
        "configuration": config,
        "invalidity": invalidity,
        "correctness": 1,
        "measurements": measurements,
        "objectives": ["time"],
        "times": {"compilation": 3.0, "runtimes": []},
    } | fields


def test_t4_round_trip(write):
    """What a cache says, said in T4, gives the same space, times and kinds of failures."""
    value = cache([4.0, "CompilationFailedConfig", 2.0, "RuntimeFailedConfig"])
    invalidity = {"CompilationFailedConfig": "compile", "RuntimeFailedConfig": "runtime"}
    results = []
    for entry in value["cache"].values():
        config = {name: entry[name] for name in PARAMS}
        failure = invalidity.get(entry["time"])
        one = t4_result(0, None if failure else entry["time"], invalidity=failure or "correct")
        results.append(one | {"configuration": config})
    one, other = load_recorded(write(value)), load_recorded(write(t4(results), "t4.json.gz"))
    assert [m.outcome for m in measured(one)] == [m.outcome for m in measured(other)]
    assert [m.message for m in measured(other)] == ["", "compile", "", "runtime"]
    assert np.array_equal(one.seconds, other.seconds, equal_nan=True)
    plain = [[r.tunables.plain(c) for c in r.configs] for r in (one, other)]
    assert plain[0] == plain[1]


def test_t4_units_and_places(write):
    """Seconds, milliseconds by default, the mean of the runtimes, another objective's name."""
    results = [
        t4_result(1, 0.004, unit="seconds"),
        t4_result(2, 4.0, unit=""),
        t4_result(3, times={"runtimes": [3.0, 5.0]}),
        t4_result(4, objectives=["GFLOP/s"], measurements=[{"name": "GFLOP/s", "value": 4.0}]),
        t4_result(5, objectives=["t"], measurements=[{"name": "t", "value": 4000, "unit": "us"}]),
        t4_result(6, math.nan),
        t4_result(7, invalidity="timeout"),
        t4_result(8, measurements="none", objectives=5, times=[]),
    ]
    found = measured(load_recorded(write(t4(results))))
    assert [m.seconds * 1e3 if m.ok else m.message for m in found] == pytest.approx(
        [4.0, 4.0, 4.0, "NoTime", 4.0, "NoTime", "timeout", "NoTime"]
    )
    assert found[6].outcome is Outcome.RUN_TIMEOUT
    plain = t4([t4_result(1, 4.0, unit="")], metadata={"timeunit": "microseconds"})
    assert measured(load_recorded(write(plain)))[0].seconds == pytest.approx(4e-6)


def deep(brackets):
    """JSON that is nested too deeply."""
    return '{"cache": ' + "[" * brackets


WHOLE = json.dumps(cache([2.0, 3.0, 4.0]))
GZIPPED = gzip.compress(WHOLE.encode())
TWICE = cache([2.0, 3.0])
TWICE["cache"]["again"] = next(iter(TWICE["cache"].values()))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        *[(WHOLE[:n], "the file is cut off. Copy it again") for n in (1, 40, 150, 300, -1, -2)],
        (WHOLE[: WHOLE.index('"time": 3') + 9] + ",", "the file is cut off"),
        *[(GZIPPED[:n], "gzip file is cut off or damaged") for n in (3, 30, -20, -8, -1)],
        (GZIPPED[:40] + b"\0" * 20 + GZIPPED[60:], "gzip file is cut off or damaged"),
        (b"", "the file is empty"),
        ("[1, 2]", "not a JSON object"),
        ("block,time\n16,2.0\n", "not JSON"),
        ("{'cache': {}}", "not JSON"),
        (WHOLE.encode("utf-16"), "not a text file in UTF-8"),
        (b'{"cache": "\xff\xfe"}', "not a text file in UTF-8"),
        (deep(100_000), "cannot be read|cut off|not a cache"),
        ('{"cache": ' + "1" * 5000 + "}", "not a cache that can be read"),
        ({"tune_params": {}}, "neither Kernel Tuner's cache format .* nor the T4"),
        (cache([]), "holds no configuration"),
        ({"results": []}, "holds no configuration"),
        (cache(["InvalidConfig", math.nan]), "all of its 2 configurations failed"),
        (TWICE, "the configuration again stands in it twice"),
        ('{"cache": {"16": {"time": 2}, "16": {"time": 3}}}', "'16' stands twice in one object"),
        (cache([2.0, 3.0]) | {"tune_params": PARAMS | {"block": [16]}}, "block of .* 32.* among"),
        (cache([2.0]) | {"tune_params": PARAMS | {"block": 16}}, "values of block are not a list"),
        (cache([2.0]) | {"tune_params": PARAMS | {"block": [[16]]}}, "values of block are not"),
        (cache([2.0]) | {"tune_params": PARAMS | {"block": [None]}}, "block: None is neither"),
        ({"cache": cache([2.0])["cache"]}, "has no 'tune_params'"),
        (cache([2.0]) | {"cache": {"16": 2.0}}, "the configuration 16 has no 'time'"),
        (cache([2.0]) | {"cache": {"16": {"block": 16}}}, "the configuration 16 has no 'time'"),
        (cache([2.0]) | {"cache": {"16": {"time": 2.0}}}, "has no block; its values"),
        (t4([5]), "result 0 has no 'configuration'"),
        (t4([t4_result(1, 2.0), {"configuration": {"block": 1}}]), "has no layout"),
    ],
)
def test_files_that_cannot_be_used(write, data, message):
    """Each is refused in one line that names the file and what to do."""
    path = write(data)
    with pytest.raises(SettingsError, match=re.escape(str(path)) + f".*({message})") as caught:
        load_recorded(path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


def test_no_file_at_all(tmp_path, monkeypatch):
    """A folder, a file that is not there, a name that nothing is shipped under."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SettingsError, match=r"Is a directory.*\.json"):
        load_recorded(tmp_path)
    with pytest.raises(SettingsError, match=r"no\.json: cannot be read: No such file.*shipped"):
        load_recorded("no.json")
    with pytest.raises(UnknownNameError, match=r"'convolution_A400'.*'convolution_A4000'\?.*gemm"):
        load_recorded("convolution_A400")


@pytest.mark.parametrize(
    ("name", "configs", "failed", "near", "device"),
    [
        ("convolution_A4000", 4362, 161, 11, "NVIDIA RTX A4000"),
        ("gemm_RTX_2080_Ti", 17956, 0, 10, "NVIDIA GeForce RTX 2080 Ti"),
    ],
)
def test_shipped_spaces(name, configs, failed, near, device):
    """They are what their README says, and their licence lies beside them."""
    recorded = load_recorded(name)
    assert len(recorded.configs) == configs
    assert np.isnan(recorded.seconds).sum() == failed
    assert (recorded.seconds <= recorded.optimum_seconds / 0.95).sum() == near
    assert recorded.device == device
    page = (SPACES / "README.md").read_text()
    assert f"| `{name}` |" in page
    assert f"| {configs:,} | {failed} | {near} |" in page
    assert "Copyright (c) 2025 AutoTuningAssociation" in (SPACES / "LICENSE").read_text()
    assert set(shipped()) == {"convolution_A4000", "gemm_RTX_2080_Ti"}


def test_a_task_that_has_another_template_is_no_live_one(write):
    """A file of ours whose template or knobs are not this version's is a file like any other."""
    task = Conv2d(in_channels=4, out_channels=8, height=4, width=4, kernel_height=1, kernel_width=1)
    own = {"task": task.key, "template": "cpu_conv2d/1", "lanes": 4, "cores": 1, "complete": False}
    for odd in ({}, {"template": "other/9"}, {"lanes": 0}, {"task": "odd"}, {"cores": None}):
        recorded = load_recorded(write(cache([2.0, 3.0], chameleon_ray=own | odd)))
        assert recorded.live is None
        assert not recorded.complete
