"""The command line: what is parsed, printed and refused, and with which exit code."""

import json
import os
import subprocess
import sys
import types
from pathlib import Path

import pytest

import chameleon_ray
from chameleon_ray import cli
from chameleon_ray.errors import NothingValidError, RunFolderError
from chameleon_ray.measure import Measurement, Outcome, Purpose
from chameleon_ray.networks import choose_layers, network
from chameleon_ray.presets import load_env, load_policy
from chameleon_ray.records import Journal, Provenance
from chameleon_ray.results import LayerProgress, LayerResult, NetworkResult, Progress

ROOT = Path(__file__).parent.parent
HEAVY = {"ray", "torch", "tvm", "xgboost", "sklearn", "numpy", "yaml", "pyarrow", "rich"}


class StubTuner(types.ModuleType):
    """Stands in for `network_tuner`: validates as it does, measures nothing."""

    def __init__(self):
        super().__init__("chameleon_ray.network_tuner")
        self.calls = []
        self.error = None
        self.device = "stub (simulated)"

    def tune(self, network_name, *, env, policy, layers, on_progress, run, **rest):
        """Remember the call; write on stdout below Python, as compilers do."""
        chosen = choose_layers(network(network_name), layers)
        load_env(env), load_policy(policy)
        self.calls.append({"layers": layers, "run": run, **rest})
        rows = tuple(LayerProgress(layer=layer, trials=4, measurements=1) for layer in chosen)
        on_progress(Progress(layers=rows, elapsed_seconds=1.0, device="stub"))
        sys.stdout.write("noise from Python\n")
        os.write(1, b"noise from below Python\n")
        if self.error:
            raise self.error
        return NetworkResult(
            network=network_name,
            env=env,
            policy=policy,
            seed=rest["seed"],
            device=self.device,
            wall_seconds=2.0,
            startup_seconds=1.0,
            phase_seconds={"run": 1.0},
            layers=tuple(stub_result(layer) for layer in chosen),
            run=str(run),
        )


def stub_result(layer):
    """A layer that became twice as fast."""
    return LayerResult(
        layer=layer,
        space_size=100,
        measurements=4,
        outcomes={"ok": 4},
        default_seconds=2e-3,
        best_seconds=1e-3,
        torch_seconds=None,
        default_won=False,
        best_config={"tile_f": (1, 2, 3)},
    )


def stopped_result(layer):
    """A layer of which nothing worked."""
    return LayerResult(
        layer=layer,
        space_size=100,
        measurements=4,
        outcomes={"crashed": 4},
        default_seconds=None,
        best_seconds=None,
        torch_seconds=None,
        default_won=False,
        best_config={},
        message="nothing valid",
    )


@pytest.fixture
def tuner(tmp_path, monkeypatch):
    """The stub in place of the tuner; the user stands in an empty folder."""
    stub = StubTuner()
    monkeypatch.setitem(sys.modules, "chameleon_ray.network_tuner", stub)
    monkeypatch.setattr(chameleon_ray, "network_tuner", stub, raising=False)
    monkeypatch.chdir(tmp_path)
    return stub


def test_tune_passes_everything_on(tuner, call, tmp_path):
    """Every option arrives, with its type."""
    code, out, err = call(
        *["tune", "resnet18", "--env", "simulated", "--policy", "random", "--layers", "11, 4"],
        *["--trials", "8", "--time-budget", "1.5h", "--run", tmp_path / "run", "--seed", "3"],
        *["--address", "auto", "--device", "EPYC", "--input", "1x3x8x8", "--trust"],
        *["--learn-from", "gemm_RTX_2080_Ti", "--no-prior"],
    )
    assert code == 0
    (made,) = tuner.calls
    assert [s.name for s in made.pop("learn_from").sources] == ["gemm_RTX_2080_Ti"]
    assert tuner.calls == [
        {
            "inputs": "1x3x8x8",
            "trust": True,
            "layers": (11, 4),
            "run": str(tmp_path / "run"),
            "trials": 8,
            "time_budget_seconds": 5400.0,
            "seed": 3,
            "address": "auto",
            "device": "EPYC",
            "use_prior": False,
            "cold": False,
        }
    ]
    assert "geometric mean" in out
    assert "2.00x" in out
    assert "noise" not in out
    assert "noise from Python" in err
    assert "noise from below Python" in err


def test_tune_names_a_run_folder_of_its_own(tuner, call):
    """Without --run there is a new folder under runs/."""
    assert call("tune", "vgg16")[0] == 0
    (made,) = tuner.calls
    assert made["run"].startswith("runs/vgg16-")
    assert made["trials"] is None
    assert made["time_budget_seconds"] is None


def test_json_is_one_line_on_stdout(tuner, call):
    """Everything else, the table too, is on stderr."""
    code, out, err = call("tune", "resnet18", "--layers", "4", "--json")
    assert code == 0
    assert out.count("\n") == 1
    value = json.loads(out)
    assert value["network"] == "resnet18"
    assert value["layers"][0]["layer"] == 4
    assert "geometric mean" in err


def test_ctrl_c(tuner, call, tmp_path):
    """One line says how to go on, and the exit code is the shell's for Ctrl-C."""
    tuner.error = KeyboardInterrupt()
    code, out, err = call("tune", "resnet18", "--run", tmp_path / "run")
    assert code == 130
    assert not out
    assert f"--run {tmp_path / 'run'} goes on" in err.splitlines()[-1]


@pytest.mark.parametrize(("load", "told"), [(0.2, False), (9.5, True)])
def test_a_busy_machine_is_told(tuner, call, monkeypatch, load, told):
    """Times taken beside other work are not to be trusted, and the user should know."""
    tuner.device = "a box"
    monkeypatch.setattr(cli.os, "getloadavg", lambda: (load, 0.0, 0.0))
    _, _, err = call("tune", "resnet18", "--layers", "4")
    assert ("the machine was busy" in err) is told


def test_nothing_tuned_is_no_success(tuner, call, monkeypatch):
    """If every layer was stopped, the table says why and the exit code is 2."""
    monkeypatch.setitem(globals(), "stub_result", stopped_result)
    code, out, _ = call("tune", "resnet18", "--layers", "4")
    assert code == 2
    assert ": nothing valid" in out


@pytest.mark.parametrize("error", [RunFolderError("runs/a: in use"), NothingValidError("nothing")])
def test_errors_are_a_message(tuner, call, error):
    """What a user can mend has no traceback and exit code 2."""
    tuner.error = error
    code, out, err = call("tune", "resnet18", "--json")
    assert code == 2
    assert not out
    assert err.splitlines()[-1] == f"chameleon-ray: {error}"
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["resnet19"], ["network", "'resnet19'", "alexnet, resnet18, vgg16"]),
        (["resnet18", "--layers", "13"], ["--layers", "'13'", "1, 2, 3", "12"]),
        (["resnet18", "--layers", ""], ["--layers: no layer is named", "leave --layers out"]),
        (["resnet18", "--layers", " "], ["--layers: no layer is named"]),
        (["resnet18", "--layers", "4,4"], ["--layers", "twice"]),
        (["resnet18", "--layers", "4,x"], ["--layers", "'x'", "chameleon-ray layers"]),
        (["resnet18", "--env", "gpu"], ["env", "'gpu'", "cuda, cuda_gemm, cuda_tensor"]),
        (["resnet18", "--policy", "chamelon"], ["policy", "'chamelon'", "'chameleon'?", "autotvm"]),
        (["resnet18", "--policy", "no.yaml"], ["no.yaml", "no such file", "autotvm"]),
        (
            ["resnet18", "--policy", "./key.yaml"],
            ["key.yaml", "'initail'", "'initial'?", "explorer"],
        ),
        (["resnet18", "--policy", "./value.yaml"], ["value.yaml", "initial", "0 is too small"]),
        (["resnet18", "--policy", "./broken.yaml"], ["broken.yaml", "line 2", "not valid YAML"]),
        (["resnet18", "--time-budget", "10"], ["--time-budget", "'10'", "90s, 10m, 1.5h"]),
        (["resnet18", "--time-budget", "1d"], ["--time-budget", "'1d'", "s, m or h"]),
        (["resnet18", "--trials", "0"], ["--trials", "'0'", "at least 1"]),
        (["resnet18", "--trials", "many"], ["--trials", "'many'"]),
        (["resnet18", "--seed", "-1"], ["--seed", "'-1'", "at least 0"]),
        (["resnet18", "--frobnicate"], ["--frobnicate"]),
        ([], ["NETWORK"]),
    ],
)
def test_bad_input(tuner, call, tmp_path, arguments, parts):
    """Exit code 2, a message with the thing and the known choices, and nothing left behind."""
    (tmp_path / "key.yaml").write_text("initail: 4\n")
    (tmp_path / "value.yaml").write_text("initial: 0\n")
    (tmp_path / "broken.yaml").write_text("initial: [\n")
    before = sorted(tmp_path.iterdir())
    code, out, err = call("tune", *arguments)
    assert code == 2
    assert not out
    assert [part for part in parts if part not in err] == []
    assert "Traceback" not in err
    assert sorted(tmp_path.iterdir()) == before


def test_layers(call):
    """A row per layer, with the size of its space here."""
    code, shown, _ = call("layers", "resnet18")
    assert code == 0
    assert "256->512 3x3 s2 @14" in shown
    code, out, _ = call("layers", "resnet18", "--json")
    value = json.loads(out)
    assert [row["layer"] for row in value["layers"]] == list(range(1, 13))
    assert value["layers"][3]["uses"] == 3
    lines = [line.split() for line in shown.splitlines()[2:]]
    for row, line in zip(value["layers"], lines, strict=True):
        assert 1000 < row["valid"] < row["space_size"]
        assert row["valid_is_exact"] == (row["space_size"] <= 1_000_000)
        mark = "" if row["valid_is_exact"] else "~"
        assert line[-2:] == [f"{mark}{row['valid']:,}", f"{row['space_size']:,}"]


def test_layers_of_an_unknown_network(call):
    """The known networks are named."""
    code, _, err = call("layers", "resnet")
    assert code == 2
    assert "'resnet18'?" in err


@pytest.fixture
def run_folder(tmp_path):
    """A run of two layers, of which one is finished."""
    done, begun = choose_layers(network("resnet18"), [4, 11])
    config = {"tile_f": (1, 2, 8)}

    def measured(layer, seconds, purpose, **changes):
        values = {"outcome": Outcome.OK, "repeat_seconds": (seconds,), "config": config}
        return Measurement(task=layer.task.key, purpose=purpose, **(values | changes))

    failed = {"outcome": Outcome.CRASHED, "repeat_seconds": (), "message": "SIGSEGV"}
    Journal(tmp_path, Provenance(machine="a box, 2 cores")).append(
        [
            measured(done, 4e-3, Purpose.DEFAULT),
            measured(done, 1e-3, Purpose.SEARCH, config={"tile_f": (2, 2, 4)}),
            measured(done, 1e-3, Purpose.SEARCH, **failed),
            measured(begun, 5e-3, Purpose.DEFAULT),
            measured(done, 4e-3, Purpose.FINALIST),
            measured(done, 2e-3, Purpose.FINALIST, config={"tile_f": (2, 2, 4)}),
            measured(done, 3e-3, Purpose.TORCH, config={}),
        ]
    )
    manifest = {
        "network": "resnet18",
        "env": "cpu",
        "policy": "random",
        "seed": 0,
        "layers": [4, 11],
    }
    (tmp_path / "run.json").write_text(json.dumps(manifest))
    return tmp_path


def test_show(call, run_folder):
    """The best so far of each layer, finalists' times first, and how far the run is."""
    code, out, _ = call("show", run_folder)
    assert code == 0
    assert "a box, 2 cores" in out
    row = next(line.split() for line in out.splitlines() if line.strip().startswith("4 "))
    assert row[4:10] == ["3", "3", "4.000", "2.000", "115.6", "2.00x"]
    assert "1 of 4 measurements failed: 1 crashed." in out
    assert "1 of 2 layers are finished" in out


def test_show_as_json(call, run_folder):
    """The keys of `tune --json`, and what is not known is null."""
    code, out, _ = call("show", run_folder, "--json")
    assert code == 0
    value = json.loads(out)
    assert value["ended_layers"] == [4]
    assert value["finished"] is False
    assert value["wall_seconds"] is None
    first, second = value["layers"]
    assert (first["torch_seconds"], first["best_seconds"], first["default_won"]) == (
        3e-3,
        2e-3,
        False,
    )
    assert (second["best_seconds"], second["default_won"]) == (5e-3, True)


def test_show_tells_damage(call, run_folder):
    """What is whole is shown, what is damaged is named."""
    (run_folder / "records-00000008-00000008.parquet").write_bytes(b"PAR1 no more")
    _, out, _ = call("show", run_folder)
    assert "records-00000008-00000008.parquet is damaged" in out
    assert "1 of 4 measurements failed" in out


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        (None, "no run.json"),
        ("{", "cannot be read"),
        ("{}", "not the manifest"),
        ("[]", "manifest"),
    ],
)
def test_show_what_is_not_a_run(call, tmp_path, manifest, message):
    """Exit code 2 and the reason."""
    if manifest is not None:
        (tmp_path / "run.json").write_text(manifest)
    code, _, err = call("show", tmp_path)
    assert code == 2
    assert message in err
    assert "Traceback" not in err


def test_show_without_a_folder(call, tmp_path):
    """A name that is no folder at all."""
    code, _, err = call("show", tmp_path / "no")
    assert code == 2
    assert "there is no such folder" in err


def test_version(call):
    """The installed version."""
    assert call("--version") == (0, f"{chameleon_ray.__version__}\n", "")


def test_package_has_nothing_else():
    """A misspelt attribute is an error, as of any module."""
    with pytest.raises(AttributeError, match="no attribute 'tuen'"):
        _ = chameleon_ray.tuen


def test_package_gives_tune_late(tuner):
    """`from chameleon_ray import tune` is the tuner's."""
    assert chameleon_ray.tune == tuner.tune


def python(*arguments, cwd):
    """Runs Python in a folder."""
    return subprocess.run(
        [sys.executable, *map(str, arguments)], cwd=cwd, capture_output=True, text=True, check=False
    )


def test_help_is_light(tmp_path):
    """`--help` imports nothing that is slow."""
    code = (
        "import sys\nfrom chameleon_ray.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit: print('IMPORTED', *{m.partition('.')[0] for m in sys.modules})"
    )
    for command in ([], ["tune"], ["show"], ["doctor"]):
        done = python("-c", code, *command, "--help", cwd=tmp_path)
        imported = set(done.stdout.split("IMPORTED")[1].split())
        assert "Usage: chameleon-ray" in done.stdout
        assert not imported & HEAVY


def test_script_is_the_same_as_tune(tmp_path):
    """`tune_network.py` works from another folder, as `ray submit` calls it."""
    (tmp_path / "tune_network.py").write_text((ROOT / "tune_network.py").read_text())
    done = python("tune_network.py", "resnet18", "--layers", "99", cwd=tmp_path)
    assert done.returncode == 2
    assert "unknown layer '99'" in done.stderr
    helped = python("tune_network.py", "--help", cwd=tmp_path)
    assert "Usage: chameleon-ray tune" in helped.stdout


def test_script_tunes_resnet18_by_default(tuner, monkeypatch):
    """Without arguments there is still something to see."""
    import runpy

    monkeypatch.setattr(sys, "argv", ["tune_network.py"])
    with pytest.raises(SystemExit):
        runpy.run_path(str(ROOT / "tune_network.py"), run_name="__main__")
    assert len(tuner.calls) == 1


def test_an_output_that_is_full_is_told(tmp_path):
    """No traceback when the disk behind stdout has no space left."""
    code = "from chameleon_ray.cli import main; main(['layers', 'resnet18', '--json'])"
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=tmp_path,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("chameleon-ray: no space left")
    assert "Traceback" not in done.stderr
