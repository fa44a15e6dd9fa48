"""Whole runs: tuned, resumed, killed, interrupted and refused."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter

import psutil
import pytest

from chameleon_ray import history, tune
from chameleon_ray.errors import MachineError, RunFolderError, SettingsError, UnknownNameError
from chameleon_ray.measure import Purpose
from chameleon_ray.records import read_records
from chameleon_ray.results import shares_of_wall

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("shared_ray")]

SMALL_POLICY = """
initial: 8
explorer: {kind: ppo, episodes: 8, waves: 2, steps: 40}
sampler: {kind: adaptive, variant: authors}
"""


@pytest.fixture
def policy(tmp_path):
    """A policy whose rounds are short."""
    path = tmp_path / "small.yaml"
    path.write_text(SMALL_POLICY)
    return str(path)


def jobs(folder):
    """How often each job stands in the journal of a run."""
    records, _ = read_records(folder)
    return Counter(
        (m.task, m.purpose, json.dumps(m.config, sort_keys=True))
        for m in (record.measurement for record in records)
    )


def test_a_layer_is_really_tuned_on_this_cpu(tmp_path, policy):
    """Real kernels: the winner was checked against torch and is no slower than the default."""
    seen = []
    result = tune(
        "resnet18",
        policy=policy,
        layers=[2],
        trials=20,
        run=tmp_path / "run",
        on_progress=seen.append,
    )
    (layer,) = result.layers
    assert layer.measurements == 20
    assert sum(layer.outcomes.values()) == 20
    assert 0 < layer.best_seconds <= layer.default_seconds
    assert layer.torch_seconds > 0
    assert layer.default_won == (layer.best_seconds == layer.default_seconds)
    records, _ = read_records(tmp_path / "run")
    winners = [
        r.measurement
        for r in records
        if r.measurement.purpose.counted and dict(r.measurement.config) == dict(layer.best_config)
    ]
    assert [w.ok and w.error < 1e-5 for w in winners] == [True]
    assert sum(result.phase_seconds.values()) == pytest.approx(result.wall_seconds, rel=0.05)
    assert seen[-1].layers[0].doing == "done"
    assert seen[-1].layers[0].measurements == 20
    assert "simulated" not in result.device


def test_a_finished_run_is_answered_by_its_journal_and_may_go_further(tmp_path, policy):
    """Nothing is measured twice, and the same seed finds the same."""
    folder = tmp_path / "run"
    arguments = {"env": "simulated", "policy": policy, "layers": [1, 2], "run": folder}
    first = tune("resnet18", trials=24, **arguments)
    before = jobs(folder)
    again = tune("resnet18", trials=24, **arguments)
    assert jobs(folder) == before
    assert [x.best_config for x in again.layers] == [x.best_config for x in first.layers]
    assert again.phase_seconds["fit"] == again.phase_seconds["explore"] == 0
    assert again.finished
    one_more = tune("resnet18", trials=24, **arguments | {"layers": [1, 2, 3]})
    assert [x.best_seconds for x in one_more.layers[:2]] == [x.best_seconds for x in first.layers]
    assert one_more.layers[2].measurements == 24
    assert {key[0] for key in (jobs(folder) - before)} == {one_more.layers[2].layer.task.key}
    seen = []
    further = tune("resnet18", trials=40, on_progress=seen.append, **arguments)
    assert min(row.measurements for progress in seen for row in progress.layers) == 24
    assert all(row.best_seconds for row in seen[0].layers)
    assert [x.measurements for x in further.layers] == [40, 40]
    assert "simulated" in further.device
    searched = [key for key in jobs(folder) if key[1] in (Purpose.SEARCH, Purpose.DEFAULT)]
    assert max(jobs(folder)[key] for key in searched) == 1


def test_a_policy_may_not_know_the_default(tmp_path):
    """`default: apart`: it takes nothing of the budget, and stands among the finalists even so."""
    policy = tmp_path / "apart.yaml"
    policy.write_text(SMALL_POLICY + "default: apart\n")
    folder = tmp_path / "run"
    result = tune(
        "resnet18", env="simulated", policy=str(policy), layers=[2], trials=16, run=folder
    )
    (layer,) = result.layers
    by_purpose = Counter()
    for (_, purpose, _), times in jobs(folder).items():
        by_purpose[purpose] += times
    assert by_purpose[Purpose.DEFAULT] == 0
    assert by_purpose[Purpose.SEARCH] == layer.measurements == 16
    assert by_purpose[Purpose.BASELINE] == 1
    assert layer.best_seconds <= layer.default_seconds
    shown = history.load(folder).result.layers[0]
    assert (shown.default_seconds, shown.default_won) == (layer.default_seconds, layer.default_won)
    assert shown.measurements == 16


@pytest.fixture
def tuned(tmp_path):
    """Layers tuned on one of the backends of `faulty_backend`, in the folder `run`."""

    def tuned(backend, policy, *, trials, layers=(2,)):
        env = tmp_path / "faulty.yaml"
        env.write_text(f"measurer: 'faulty_backend:{backend}'\n")
        run = tmp_path / "run"
        return tune(
            "resnet18", env=str(env), policy=policy, layers=layers, trials=trials, run=run
        ).layers

    return tuned


def test_a_default_that_the_search_does_not_know_wins_where_nothing_else_works(tuned):
    """The search gives up after 32 failures; its message stands beside the result."""
    (layer,) = tuned("only_default", "random", trials=80)
    assert layer.default_won
    assert layer.best_seconds == layer.default_seconds
    assert 32 <= layer.measurements < 80
    assert "is valid" in layer.message


def test_a_first_failure_does_not_end_a_search(tmp_path, tuned):
    """A policy may begin with a single random config."""
    (layer,) = tuned("one_in_five", "random", trials=20)
    records, _ = read_records(tmp_path / "run")
    assert not records[0].measurement.ok
    assert layer.measurements == 20
    assert layer.outcomes["ok"] >= 1


def test_another_seed_or_env_is_refused_by_name(tmp_path, policy):
    """A journal is never taken for that of other settings."""
    arguments = {"policy": policy, "layers": [2], "run": tmp_path / "run"}
    tune("resnet18", env="simulated", trials=10, **arguments)
    before = jobs(tmp_path / "run")
    with pytest.raises(RunFolderError, match="seed is 0 there and 3 here"):
        tune("resnet18", env="simulated", trials=10, seed=3, **arguments)
    with pytest.raises(RunFolderError, match=r"env_settings\.measurer is 'simulated' there"):
        tune("resnet18", trials=10, **arguments)
    assert jobs(tmp_path / "run") == before


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"network": "resnet81"}, UnknownNameError, "resnet18"),
        ({"network": "resnet18", "layers": [13]}, UnknownNameError, "12"),
        ({"network": "resnet18", "env": "tpu"}, UnknownNameError, "simulated"),
        ({"network": "resnet18", "trials": 0}, SettingsError, "--trials"),
        ({"network": "resnet18", "trials": 2.5}, SettingsError, "--trials: 2.5 is not a whole"),
        ({"network": "resnet18", "seed": -1}, SettingsError, "--seed"),
        ({"network": "resnet18", "seed": 10**20}, SettingsError, "--seed.*4294967295"),
        ({"network": "resnet18", "address": "garbage"}, MachineError, "not HOST:PORT"),
        ({"network": "resnet18", "address": "127.0.0.1:1"}, MachineError, "nobody answers"),
        ({"network": "resnet18", "time_budget_seconds": -1}, SettingsError, "--time-budget"),
    ],
)
def test_bad_input_is_refused_before_anything_starts(tmp_path, arguments, error, message):
    """No folder is made."""
    with pytest.raises(error, match=message):
        tune(**arguments, run=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_more_cores_than_there_are_is_refused(tmp_path):
    """A kernel with more threads than cores is no measurement."""
    env = tmp_path / "many.yaml"
    env.write_text("cores: 4096\n")
    with pytest.raises(MachineError, match="4096"):
        tune("resnet18", env=str(env), run=tmp_path / "run")


def test_an_instruction_set_above_the_machines_is_refused(tmp_path):
    """The child finds out, and the driver says it; no folder stays."""
    env = tmp_path / "wrong.yaml"
    env.write_text("model: not-a-cpu\n")
    with pytest.raises(MachineError, match="not-a-cpu"):
        tune("resnet18", env=str(env), layers=[2], run=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_layer_without_anything_valid_is_stopped_and_the_others_go_on(tuned, policy):
    """Its result says why, with the histogram and a whole message."""
    layers = tuned("backend", policy, trials=9, layers=(2, 5))
    assert len(layers) == 2
    for layer in layers:
        assert layer.best_seconds is None
        assert layer.outcomes == {"build_error": 9}
        assert "9 build_error" in layer.message
        assert "KeyError" in layer.message


def test_finalists_that_cannot_be_compared_leave_the_searchs_times(tuned, policy):
    """A layer keeps its result, and the result says where it is from."""
    (layer,) = tuned("alone", policy, trials=20)
    assert layer.best_seconds
    assert "no two at once" in layer.message
    assert "search's times" in layer.message


def test_torch_that_fails_beside_the_finalists_takes_none_of_them_along(tuned, policy):
    """They are timed in turns without it."""
    (layer,) = tuned("torch_fails", policy, trials=20)
    assert layer.best_seconds
    assert layer.torch_seconds is None
    assert layer.message == ""


def test_damaged_journal_files_are_told_and_measured_again(tmp_path, policy):
    """What is whole is kept; damaged files of both journals are set aside and named."""
    arguments = {"env": "simulated", "policy": policy, "layers": [2], "trials": 20}
    tune("resnet18", **arguments, run=tmp_path / "run")
    parts = [max((tmp_path / "run").glob(f"{kind}-*.parquet")) for kind in ("records", "rounds")]
    for part in parts:
        part.write_bytes(part.read_bytes()[:100])
    result = tune("resnet18", **arguments, run=tmp_path / "run")
    assert {f"{part.name}.damaged" for part in parts} <= set(result.damaged)
    state = history.load(tmp_path / "run")  # its finalists were timed once more
    assert state.result.finished
    assert state.result.layers[0].default_seconds
    assert result.layers[0].measurements == 20
    assert len([key for key in jobs(tmp_path / "run") if key[1] is Purpose.SEARCH]) == 19


def test_a_part_of_ones_own_that_is_not_there_is_refused_before_anything_starts(tmp_path):
    """The message names it, and where it is looked for."""
    policy = tmp_path / "own.yaml"
    policy.write_text("explorer: {kind: 'nowhere:Explorer'}\n")
    with pytest.raises(SettingsError, match=r"nowhere:Explorer.*PYTHONPATH"):
        tune("resnet18", policy=str(policy), run=tmp_path / "run")
    policy.write_text("explorer: {kind: 'json:dumps'}\n")
    with pytest.raises(SettingsError, match=r"json:dumps.* has no explore"):
        tune("resnet18", policy=str(policy), run=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_time_budget_gives_every_layer_its_share(tmp_path, policy):
    """It ends unfinished, and no layer is left without measurements."""
    result = tune(
        "resnet18",
        env="simulated",
        policy=policy,
        layers=[1, 2, 3, 4],
        trials=100_000,
        time_budget_seconds=60,
        run=tmp_path / "run",
    )
    assert not result.finished
    assert all(0 < layer.measurements < 100_000 for layer in result.layers)
    assert all(layer.best_seconds for layer in result.layers)


def test_rollout_workers_explore_within_a_trial(tmp_path):
    """Each layer has its own, and the placement group holds them."""
    policy = tmp_path / "remote.yaml"
    policy.write_text(SMALL_POLICY.replace("waves: 2", "waves: 2, workers: 1"))
    result = tune(
        "resnet18",
        env="simulated",
        policy=str(policy),
        layers=[1, 2],
        trials=20,
        run=tmp_path / "r",
    )
    assert [layer.measurements for layer in result.layers] == [20, 20]


def test_a_full_disk_ends_the_run_with_what_was_measured(tmp_path, policy):
    """The message names the folder and the remedy; what was recorded stays."""
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", str(small)]
    if (
        not shutil.which("mount")
        or subprocess.run(mount, check=False, capture_output=True).returncode
    ):
        pytest.skip("needs the right to mount a small file system")
    try:
        with pytest.raises(RunFolderError, match=r"small/run.*No space left"):
            tune("resnet18", env="simulated", policy=policy, layers=[1], run=small / "run")
        assert len(jobs(small / "run")) > 10
    finally:
        subprocess.run(["umount", str(small)], check=True)


# A shell that runs the tests in the background has their children ignore SIGINT.
OBEYING_SIGINT = """
import runpy, signal
signal.signal(signal.SIGINT, signal.default_int_handler)
runpy.run_module("chameleon_ray", run_name="__main__", alter_sys=True)
"""


def start(folder, policy, *, trials=64, env="simulated"):
    """A run in a process of its own."""
    command = [sys.executable, "-c", OBEYING_SIGINT, "tune", "resnet18", "--env", env]
    command += ["--policy", policy, "--layers", "1,2,3", "--trials", str(trials), "--json"]
    command += ["--run", str(folder)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for_records(process, folder, n):
    """Until the journal holds at least n records."""
    while process.poll() is None:
        if folder.exists() and sum(1 for _ in folder.glob("*.parquet")) and len(jobs(folder)) >= n:
            return
        time.sleep(0.02)
    pytest.fail(f"the run ended too early: {process.communicate()}")


def ours(process):
    """The processes of a run, but for Ray's two agents: after kill -9 Ray itself takes minutes."""
    family = psutil.Process(process.pid).children(recursive=True)
    return [p for p in family if p.name() not in ("ray::DashboardAgent", "ray::RuntimeEnvAgent")]


def test_a_killed_run_loses_nothing_and_goes_on(tmp_path, policy):
    """kill -9 of the driver, twice; the third run finishes, and nothing was measured twice."""
    folder = tmp_path / "run"
    for records in (12, 60):
        process = start(folder, policy)
        wait_for_records(process, folder, records)
        family = ours(process)
        process.kill()
        process.wait()
        _, alive = psutil.wait_procs(family, timeout=30)
        assert not alive
        assert len(jobs(folder)) >= records
    last = start(folder, policy)
    out, err = last.communicate(timeout=120)
    assert last.returncode == 0, err
    result = json.loads(out)
    assert [layer["measurements"] for layer in result["layers"]] == [64, 64, 64]
    counted = jobs(folder)
    searched = [key for key in counted if key[1] in (Purpose.SEARCH, Purpose.DEFAULT)]
    assert len(searched) == 3 * 64
    assert {counted[key] for key in searched} == {1}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_a_signal_ends_a_run_with_everything_on_disk_and_no_orphans(tmp_path, policy, number):
    """Code 130, and every process is gone."""
    folder = tmp_path / "run"
    process = start(folder, policy, trials=4096)
    wait_for_records(process, folder, 20)
    family = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert not out
    assert f"--run {folder}" in err
    _, alive = psutil.wait_procs(family, timeout=10)
    assert not alive
    assert len(jobs(folder)) >= 20
    assert os.access(folder / "run.json", os.R_OK)


def test_shares_of_the_wall_add_up():
    """A running kernel has all cores; the other phases have one each."""
    shares = shares_of_wall({"explore": 4.0, "build": 8.0, "run": 3.0}, 20.0, cores=4)
    assert shares == {
        "explore": 1.0, "sample": 0.0, "fit": 0.0, "build": 2.0, "run": 3.0, "other": 14.0
    }  # fmt: skip
