"""Runs in which something dies: it costs what it had in hand, and the rows stay the same."""

import itertools
import os
import signal
import time

import psutil
import pytest
from journals import rows

from chameleon_ray import tune
from chameleon_ray.records import read_records

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("shared_ray")]

POLICY = """
initial: 8
explorer: {kind: ppo, episodes: 8, waves: 2, steps: 40}
sampler: {kind: adaptive, variant: authors}
"""
LAYERS, TRIALS = [1, 2, 3], 40


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    """A policy with short rounds, and devices that take long enough to be disturbed.

    Cold: what layers learn of each other depends on which of them is first.
    """
    folder = tmp_path_factory.mktemp("settings")
    (folder / "small.yaml").write_text(POLICY)
    (folder / "slow.yaml").write_text(
        "measurer: simulated\ndevices: 4\nmeasurement_seconds: 0.05\n"
    )
    return {
        "env": str(folder / "slow.yaml"),
        "policy": str(folder / "small.yaml"),
        "cold": True,
    }


@pytest.fixture(scope="module")
def undisturbed(settings, tmp_path_factory):
    """What is measured if nothing dies."""
    run = tmp_path_factory.mktemp("undisturbed") / "run"
    tune("resnet18", layers=LAYERS, trials=TRIALS, run=run, **settings)
    return rows(run)


class Killing:
    """Kills the processes of a name, once so many measurements are made; on_progress of a run."""

    def __init__(self, name, after=20):
        self.name, self.after, self.killed = name, after, []

    def __call__(self, progress):
        made = sum(layer.measurements for layer in progress.layers)
        if not self.killed and made >= self.after:
            self.killed = [p for p in self._family() if self.name in " ".join(p.cmdline())]
            for process in self.killed:
                os.kill(process.pid, signal.SIGKILL)

    def _family(self):
        for process in psutil.Process().children(recursive=True):
            try:
                process.cmdline()
            except psutil.Error:
                continue
            yield process


@pytest.mark.parametrize("name", ["ray::HostActor", "ray::Coordinator", "Trainable"])
def test_what_dies_costs_what_it_had_in_hand(settings, undisturbed, tmp_path, name):
    """A host, the coordinator, the processes of the layers: the rows are those undisturbed."""
    killing, run = Killing(name), tmp_path / "run"
    result = tune(
        "resnet18", layers=LAYERS, trials=TRIALS, run=run, on_progress=killing, **settings
    )
    assert killing.killed
    assert [layer.measurements for layer in result.layers] == [TRIALS] * len(LAYERS)
    assert rows(run) == undisturbed
    assert set(rows(run).values()) == {1}


@pytest.mark.parametrize("name", ["ray::Learner", "ray::HostActor", "Trainable"])
def test_what_dies_while_layers_learn_of_each_other_costs_no_measurement(settings, tmp_path, name):
    """The learner too: all is measured, and nothing twice."""
    killing, run = Killing(name), tmp_path / "run"
    how = settings | {"cold": False}
    result = tune("resnet18", layers=LAYERS, trials=TRIALS, run=run, on_progress=killing, **how)
    assert killing.killed
    assert [layer.measurements for layer in result.layers] == [TRIALS] * len(LAYERS)
    assert set(rows(run).values()) == {1}


def test_builders_that_somebody_kills_cost_nothing(settings, tmp_path):
    """The processes that build and run candidates: what they had in hand is measured again."""
    env = tmp_path / "children.yaml"
    env.write_text("measurer: two_kinds:backend\ncores: 2\nmeasurement_seconds: 0.05\n")
    runs = {name: tmp_path / name for name in ("calm", "killed")}
    killing = Killing("multiprocessing.forkserver")
    common = settings | {"layers": LAYERS, "trials": TRIALS, "env": str(env)}
    tune("resnet18", run=runs["calm"], **common)
    tune("resnet18", run=runs["killed"], on_progress=killing, **common)
    assert len(killing.killed) > 1
    assert rows(runs["killed"]) == rows(runs["calm"])
    assert set(rows(runs["killed"]).values()) == {1}
    assert {outcome for _, _, outcome, _ in rows(runs["killed"])} == {"ok"}


def test_a_killed_rollout_worker_costs_nothing(settings, tmp_path):
    """What it leaves of a wave is walked by its layer's process; the rows are those undisturbed."""
    policy = tmp_path / "workers.yaml"
    policy.write_text(POLICY.replace("waves: 2", "waves: 2, workers: 1"))
    killing, runs = Killing("ray::WalkRunner"), {name: tmp_path / name for name in ("a", "b")}
    common = {"layers": [1, 2], "trials": TRIALS} | settings | {"policy": str(policy)}
    tune("resnet18", run=runs["a"], **common)
    tune("resnet18", run=runs["b"], on_progress=killing, **common)
    assert killing.killed
    assert rows(runs["b"]) == rows(runs["a"])
    assert set(rows(runs["b"]).values()) == {1}


def test_a_lost_host_is_back_soon(settings, tmp_path):
    """Measuring goes on after seconds; the others do not wait for it."""
    killing, run = Killing("ray::HostActor"), tmp_path / "run"
    start = time.time()
    tune("resnet18", layers=[1], trials=TRIALS, run=run, on_progress=killing, **settings)
    times = sorted(record.measured_at.timestamp() for record in read_records(run)[0])
    assert killing.killed
    assert times[0] > start
    assert max(b - a for a, b in itertools.pairwise(times)) < 30
