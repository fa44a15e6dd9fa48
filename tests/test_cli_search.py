"""The commands `replay` and `record`: what they print, and what they refuse."""

import json
import subprocess
import sys

import pytest

from chameleon_ray import record
from chameleon_ray.errors import RunFolderError

SPACE = "convolution_A4000"


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    """What a command leaves in its folder is nobody's."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def small(tmp_path):
    """A small space; its path."""
    entries = {str(n): {"n": n, "time": "InvalidConfig" if n == 3 else 1.0 + n} for n in range(20)}
    value = {"device_name": "a GPU", "tune_params": {"n": list(range(20))}, "cache": entries}
    path = tmp_path / "small.json"
    path.write_text(json.dumps(value))
    return path


def test_a_line_for_each_search(call, small):
    """One object on a line for each space, policy and seed, in that order."""
    code, out, err = call(
        *["replay", small, "convolution_A4000", "--policy", "random", "--policy", "genetic"],
        *["--trials", "30", "--seeds", "0,2-3", "--json"],
    )
    rows = [json.loads(text) for text in out.splitlines()]
    assert code == 0
    assert [(row["space"], row["policy"], row["seed"]) for row in rows] == [
        (space, policy, seed)
        for space in ("small", SPACE)
        for policy in ("random", "genetic")
        for seed in (0, 2, 3)
    ]
    assert {tuple(row) for row in rows} == {
        (
            *("space", "policy", "seed", "device", "optimum_seconds", "best_seconds"),
            *("outcomes", "phase_seconds"),
        )
    }
    for row in rows[:6]:
        assert row["best_seconds"][-1] == row["optimum_seconds"] == pytest.approx(1e-3)
        assert row["outcomes"] == {"ok": 19, "InvalidConfig": 1}
        assert row["device"] == "recorded: a GPU"
    assert [len(row["best_seconds"]) for row in rows] == [20] * 6 + [30] * 6
    assert len(err.splitlines()) == 12
    assert "small, genetic, seed 3: best 1.000 ms, 1.000 of the optimum after 20 attempts" in err


def test_a_table_for_each_space(call, small):
    """Policies and numbers of attempts; it says that the device is recorded."""
    code, out, _ = call("replay", small, "--policy", "random", "--trials", "18", "--seeds", "0-1")
    assert code == 0
    assert "recorded: a GPU" in out
    assert "optimum 1.000 ms" in out
    head, row = out.splitlines()[-2:]
    assert head.split() == ["policy", "seeds", "after", "16", "after", "18", "median", "to", "95%"]
    assert row.split()[:2] == ["random", "2"]


def test_lines_appear_as_searches_end(call, small, monkeypatch):
    """When a search is interrupted, those before it have been printed, and so is a table."""
    from chameleon_ray import replay as replays

    real, calls = replays.replay, []

    def interrupted(*args, **kwargs):
        calls.append(args)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(*args, **kwargs)

    monkeypatch.setattr(replays, "replay", interrupted)
    arguments = ["replay", small, "--policy", "random", "--seeds", "0-5"]
    code, out, _ = call(*arguments, "--json")
    assert (code, len(out.splitlines())) == (130, 2)
    calls.clear()
    code, out, err = call(*arguments)
    assert code == 130
    assert out.splitlines()[-1].split()[:2] == ["random", "2"]
    assert err.splitlines()[-1] == "Stopped."


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--seeds", "9-3"], "'9-3' is upside down"),
        (["--seeds", "a-b"], "'a-b' is no seed"),
        (["--seeds", "-3"], "'-3' is no seed"),
        (["--seeds", ""], "'' is no seed"),
        (["--seeds", "0,1,0"], "0 stands twice"),
        (["--seeds", "0-99999999999999"], "at most 10000 seeds"),
        (["--seeds", "4294967296"], "below 4294967296"),
        (["--trials", "0"], "whole number of at least 1"),
        (["--trials", "many"], "whole number of at least 1"),
        (["--policy", "chamelon"], "Did you mean 'chameleon'?"),
        (["--policy", "random", "--policy", "random"], "--policy: random stands twice"),
        (["--policy", "broken.yaml"], "'nowhere:Explorer' cannot be imported"),
        (["convolution_A400"], "Did you mean 'convolution_A4000'? Known: convolution_A4000, gemm"),
        (["cut.json"], "cut.json, line 1: the file is cut off"),
        (["."], ". is a folder; name the .json or .json.gz files in it"),
        (["--policy", "function.yaml"], "sampler: 'os.path:join' has no choose()"),
        (["small.json"], "SPACE: small stands twice"),
        (["--env", "cpu"], "chameleon-ray tune NETWORK --env cpu"),
        (["--env", "simulated"], "has the measurer 'simulated'"),
        (["--env", "gpu"], "Known: cpu, cuda, cuda_gemm, cuda_tensor"),
    ],
)
def test_input_is_refused_before_the_first_search(call, small, monkeypatch, arguments, message):
    """All files, policies, seeds and trials are looked at first: one line, exit code 2."""
    monkeypatch.setattr("chameleon_ray.replay.replay", None)
    (small.parent / "cut.json").write_text(small.read_text()[:-30])
    (small.parent / "broken.yaml").write_text("explorer: {kind: 'nowhere:Explorer'}\n")
    (small.parent / "function.yaml").write_text("sampler: {kind: 'os.path:join'}\n")
    code, out, err = call("replay", small, *arguments)
    assert code == 2
    assert out == ""
    assert message in " ".join(err.replace("│", " ").split())
    assert "Traceback" not in err


def test_an_env_that_sleeps(call, small, tmp_path, monkeypatch):
    """`sleep: true` takes the recorded time of each attempt that has one."""
    slept = []
    monkeypatch.setattr("chameleon_ray.measure.recorded.time.sleep", slept.append)
    (tmp_path / "slow.yaml").write_text("measurer: recorded\nsleep: true\n")
    assert call("replay", small, "--policy", "random", "--env", "slow.yaml")[0] == 0
    assert sum(slept) == pytest.approx(sum(range(1, 21)) * 1e-3 - 4e-3)


def test_tune_points_to_replay(call, tmp_path):
    """A recorded space has no layers: `tune` and `record` say where to go."""
    (tmp_path / "mine.yaml").write_text("measurer: recorded\n")
    for command in (["tune", "resnet18"], ["record", "resnet18", "--layer", "2"]):
        for env in ("recorded", "mine.yaml"):
            code, _, err = call(*command, "--env", env)
            assert code == 2
            assert "recorded devices have spaces and no networks" in err
            assert f"env '{env}'" in err
            assert "chameleon-ray replay SPACE" in err
    assert not (tmp_path / "runs").exists()


def test_a_shipped_space_from_anywhere(call):
    """A search in seconds, in an empty folder."""
    code, out, _ = call("replay", SPACE, "--policy", "genetic", "--trials", "16")
    assert code == 0
    assert "recorded: NVIDIA RTX A4000" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give NETWORK and --layer N to measure a layer whole, or --run RUN alone"),
        (["--run", "runs/x", "--layer", "2"], "or --run RUN alone"),
        (["resnet18"], "give --layer N; `chameleon-ray layers resnet18`"),
        (["resnet18", "--layer", "99"], "--layer: unknown layer '99'. Known: 1, 2, 3"),
        (["resnet18", "--layer", "0"], "not a whole number of at least 1"),
        (["resnet18", "--layer", "2", "--limit", "0"], "not a whole number of at least 1"),
        (["--run", "runs/x"], "not a run folder: there is no such folder"),
        (["--run", "file"], "not a run folder: it is a file"),
        (["--run", "runs/x", "-o", "a.json.gz"], "one file for each layer; name their folder"),
    ],
)
def test_record_is_refused(call, arguments, message, tmp_path):
    """What is missing is named."""
    (tmp_path / "file").write_text("")
    code, _, err = call("record", *arguments)
    assert code == 2
    assert message in " ".join(err.split())


def written(path, **options):
    """What a recording came to."""
    made = {"configs": 1500, "failed": 3, "valid": 2000, "best_seconds": 1e-3, "damaged": ()}
    return record.Written(path=path, **(made | options))


def test_record_a_run(call, monkeypatch, tmp_path):
    """A line for each file; damaged parts on stderr."""
    asked = []

    def write_run(run, out):
        asked.append((str(run), str(out)))
        return [written(out / "a.json.gz"), written(out / "b", valid=None, damaged=("records-1",))]

    monkeypatch.setattr(record, "write_run", write_run)
    code, out, err = call("record", "--run", "runs/x")
    assert code == 0
    assert call("record", "--run", "runs/x", "-o", "there")[0] == 0
    assert asked == [("runs/x", "spaces"), ("runs/x", "there")]
    assert out.splitlines() == [
        "spaces/a.json.gz: 1,500 configurations of 2,000, 3 failed, best 1.000 ms",
        "spaces/b: 1,500 configurations of a larger space, 3 failed, best 1.000 ms",
    ]
    assert "records-1 of the journal is damaged" in err


def test_record_a_layer(call, monkeypatch):
    """The same command means the same run folder, so that it goes on."""
    asked = []

    def sweep(network, layer, *, on_progress, **options):
        asked.append((network, layer, {k: str(v) for k, v in options.items()}))
        sys.stdout.write("noise")
        return written(options["out"])

    monkeypatch.setattr(record, "sweep", sweep)
    code, out, _ = call("record", "resnet18", "--layer", "2", "--env", "simulated", "--limit", 5)
    assert code == 0
    assert asked == [
        (
            "resnet18",
            2,
            {
                "out": "resnet18_layer2_simulated.json.gz",
                "env": "simulated",
                "limit": "5",
                "run": "runs/record-resnet18_layer2_simulated",
            },
        )
    ]
    assert len(out.splitlines()) == 1


@pytest.mark.parametrize(("error", "code"), [(KeyboardInterrupt, 130), (RunFolderError, 2)])
def test_a_sweep_that_ends_early(call, monkeypatch, error, code):
    """Ctrl-C tells how to go on; an error is a line."""

    def sweep(*args, **options):
        raise error("told")

    monkeypatch.setattr(record, "sweep", sweep)
    found, _, err = call("record", "resnet18", "--layer", "2", "--env", "simulated")
    assert found == code
    expected = "the same command goes on from runs/record-resnet18_layer2_simulated."
    assert (expected if code == 130 else "chameleon-ray: told") in err


def test_help_is_light():
    """Asking what there is imports nothing heavy."""
    code = (
        "import sys\nfrom chameleon_ray import cli\n"
        "for command in ('replay', 'record'):\n"
        "    try:\n        cli.main([command, '--help'])\n"
        "    except SystemExit:\n        pass\n"
        "print(*{'ray', 'tvm', 'torch', 'xgboost', 'sklearn', 'pyarrow', 'numpy', 'matplotlib'}"
        " & set(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "--seeds" in done.stdout
    assert "--limit" in done.stdout
    assert done.stderr.split() == []
