"""Whole runs whose journal is at a URL: killed, gone on with, refused, shown and fetched."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from journals import rows

from chameleon_ray import history, tune, tune_function
from chameleon_ray.errors import RunFolderError, SettingsError
from chameleon_ray.fetch import fetch
from chameleon_ray.page.runs import load_run
from chameleon_ray.ray_access import guard_ray
from chameleon_ray.records import read_records
from chameleon_ray.storage import open_folder

POLICY = """
initial: 8
explorer: {kind: random}
sampler: {kind: greedy, batch: 8}
"""
LAYERS, TRIALS = [1, 2], 128
KNOBS = {"a": list(range(20)), "b": list(range(20))}


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    """A quick policy, and devices that take long enough to be disturbed."""
    folder = tmp_path_factory.mktemp("settings")
    (folder / "policy.yaml").write_text(POLICY)
    (folder / "env.yaml").write_text("measurer: simulated\ndevices: 2\nmeasurement_seconds: 0.1\n")
    known = {"env": str(folder / "env.yaml"), "policy": str(folder / "policy.yaml")}
    return known | {"cold": True}  # what layers learn of each other depends on who is first


@pytest.fixture(scope="module")
def undisturbed(settings, tmp_path_factory):
    """What is measured if nothing dies."""
    run = tmp_path_factory.mktemp("undisturbed") / "run"
    tune("resnet18", layers=LAYERS, trials=TRIALS, run=run, **settings)
    return rows(run)


def start(run, settings, *more):
    """A run in a process of its own."""
    command = [sys.executable, "-m", "chameleon_ray", "tune", "resnet18", "--run", str(run)]
    command += ["--env", settings["env"], "--policy", settings["policy"], "--cold", "--json"]
    command += ["--layers", "1,2", "--trials", str(TRIALS), *more]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for_records(process, run, n):
    """Until the journal holds at least n records."""
    while process.poll() is None:
        if len(read_records(run)[0]) >= n:
            return
        time.sleep(0.1)
    pytest.fail(f"the run ended too early: {process.communicate()}")


@pytest.mark.ray
@pytest.mark.slow
def test_a_killed_run_goes_on_from_the_store_and_comes_home(
    store, settings, undisturbed, tmp_path, call
):
    """kill -9 of the driver; the same command waits for its lease, and the rows are those alone.

    While the first is alive, a second is refused. What comes home is shown and gone on with there.
    """
    run, home = store.url("runs/mine"), tmp_path / "home"
    first = start(run, settings)
    wait_for_records(first, run, 16)
    with pytest.raises(RunFolderError, match=r"runs/mine.* in use by process \d+ of"):
        tune("resnet18", layers=LAYERS, trials=TRIALS, run=run, **settings)
    first.kill()
    first.wait()
    assert len(read_records(run)[0]) < TRIALS * len(LAYERS)
    second = start(run, settings)
    out, err = second.communicate(timeout=200)
    assert second.returncode == 0, err
    assert "a process has this run, or died with it; looking which, for 30 s at most" in err
    assert json.loads(out)["run"] == run
    assert rows(run) == undisturbed
    assert set(rows(run).values()) == {1}
    assert "run.lease" not in open_folder(run).names()

    code, out, _ = call("fetch", run, home)
    assert (code, len(read_records(home)[0])) == (0, len(read_records(run)[0]))
    assert f"{home}: {len(read_records(home)[0])} measurements" in out
    assert call("show", home)[1].count("\n") == call("show", run)[1].count("\n") > 3
    again = tune("resnet18", layers=LAYERS, trials=TRIALS, run=home, **settings)
    assert [layer.measurements for layer in again.layers] == [TRIALS] * len(LAYERS)
    assert rows(home) == undisturbed


@pytest.fixture
def shared(request, tmp_path, store):
    """Where a journal outlives a head node."""
    return {"folder": tmp_path / "shared" / "run", "store": store.url("run")}[request.param]


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize("shared", ["folder", "store"], indirect=True)
def test_a_head_node_is_lost_and_another_goes_on_from_shared_storage(shared, settings, undisturbed):
    """Every process of the first Ray is killed at once, the driver's and the coordinator's too."""
    from ray.cluster_utils import Cluster

    def cluster():
        guard_ray()
        return Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "num_gpus": 0})

    others = set(psutil.Process().children(recursive=True))
    head = cluster()
    driver = start(shared, settings, "--address", head.address)
    wait_for_records(driver, shared, 32)
    lost = set(psutil.Process().children(recursive=True)) - others
    assert {"raylet", "gcs_server"} <= {process.name() for process in lost}
    assert any("Coordinator" in process.name() for process in lost)
    for process in lost:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
    driver.communicate()
    kept = len(read_records(shared)[0])
    assert 32 <= kept < TRIALS * len(LAYERS)
    head.shutdown()

    another = cluster()
    try:
        driver = start(shared, settings, "--address", another.address)
        _, err = driver.communicate(timeout=200)
    finally:
        another.shutdown()
    assert driver.returncode == 0, err
    assert rows(shared) == undisturbed
    assert set(rows(shared).values()) == {1}


@pytest.mark.ray
@pytest.mark.slow
def test_a_store_that_is_lost_ends_the_run_with_what_was_measured(store, settings):
    """The message names the URL and the remedy; the same command goes on once it answers."""
    run, seen = store.url("runs/mine"), []

    def lose(progress):
        if not seen and sum(layer.measurements for layer in progress.layers) > 16:
            seen.append(progress)
            store.stop()

    with pytest.raises(RunFolderError, match=r"s3://measured/runs/mine.*network") as caught:
        tune("resnet18", layers=[1], trials=96, run=run, on_progress=lose, **settings)
    assert seen, "the run ended before its store was lost"
    assert "same command" in str(caught.value)
    store.start()
    kept = sum(rows(run).values())
    assert kept > 8
    assert set(rows(run).values()) == {1}
    assert open_folder(run).read("run.lease")


@pytest.mark.ray
@pytest.mark.slow
def test_a_run_whose_folder_another_took_ends(store, settings):
    """Within seconds, wherever it is; the other's lease is left alone."""
    run, taken = store.url("runs/mine"), b'{"owner": "process 7 of elsewhere"}'

    def take(progress):
        if sum(layer.measurements for layer in progress.layers) > 16:
            open_folder(run).write("run.lease", taken)

    with pytest.raises(RunFolderError, match="process 7 of elsewhere has its lease now"):
        tune("resnet18", layers=[1], trials=400, run=run, on_progress=take, **settings)
    assert 16 < sum(rows(run).values()) < 400
    assert open_folder(run).read("run.lease") == taken


def seconds(config):
    """Some formula."""
    return 1e-3 * (1 + (config["a"] - 7) ** 2 + (config["b"] - 3) ** 2)


def test_a_function_is_tuned_to_a_url_and_shown_from_there(store, tmp_path, call, monkeypatch):
    """Going on measures nothing twice; `report` and `record` read it there, `fetch` copies it."""
    run, calls = store.url("runs/function"), []

    def measure(config):
        calls.append(config)
        return seconds(config)

    arguments = {"policy": "random", "run": run}
    first = tune_function(measure, KNOBS, trials=20, **arguments)
    again = tune_function(measure, KNOBS, trials=30, **arguments)
    assert len(calls) == 30
    assert again.history[:20] == first.history
    assert again.run == run
    monkeypatch.chdir(tmp_path)
    assert call("report", run)[0] == 0
    assert (tmp_path / "report.html").stat().st_size > 1000
    code, out, err = call("record", "--run", run, "--out", "spaces")
    assert (code, "30 configurations" in out) == (0, True), err
    assert call("fetch", run)[0] == 0
    assert load_run(Path("runs/function")).measurements == 30
    assert load_run(run).title == "function"


def test_a_function_whose_folder_another_took_ends(store):
    """Nothing more is written there."""
    run = store.url("runs/function")

    def measure(config):
        taken = {"owner": "process 7 of elsewhere"}
        open_folder(run).write("run.lease", json.dumps(taken).encode())
        time.sleep(1.0)
        return seconds(config)

    with pytest.raises(RunFolderError, match="process 7 of elsewhere has its lease now"):
        tune_function(measure, KNOBS, trials=20, policy="random", run=run)
    assert open_folder(run).read("run.lease") == b'{"owner": "process 7 of elsewhere"}'


def test_what_cannot_be_fetched(store, tmp_path):
    """No run, a folder with something in it, a place that cannot be written; nothing is left."""
    run = store.url("runs/mine")
    with pytest.raises(RunFolderError, match=r"runs/mine.*not a run folder: there is no such"):
        fetch(run, tmp_path / "home")
    tune_function(seconds, KNOBS, trials=5, policy="random", run=run)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").touch()
    with pytest.raises(SettingsError, match=r"full is there already.*fetch s3://.* FOLDER"):
        fetch(run, tmp_path / "full")
    with pytest.raises(SettingsError, match=r"thesis\.tex/home cannot be written"):
        fetch(run, tmp_path / "full" / "thesis.tex" / "home")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["full"]
    assert fetch(run, tmp_path / "home") == (tmp_path / "home", 5)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["full", "home"]


def test_a_run_that_merges_while_it_is_fetched(store, tmp_path, monkeypatch):
    """A part that vanishes between listing and reading is looked for again."""
    run = store.url("runs/mine")
    tune_function(seconds, KNOBS, trials=5, policy="random", run=run)
    folder = open_folder(run)
    listed = [*folder.names(), "records-00000000-00000000.parquet"]
    true_names, answers = type(folder).names, iter([listed])
    monkeypatch.setattr(type(folder), "names", lambda self: next(answers, None) or true_names(self))
    assert fetch(run, tmp_path / "home")[1] == 5


def test_show_of_a_url_without_a_run(store):
    """As for a folder."""
    with pytest.raises(RunFolderError, match=r"runs/mine.*not a run folder: there is no such"):
        history.load(store.url("runs/mine"))
