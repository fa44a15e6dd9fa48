"""A cluster of several nodes: one that joins is used, one that is lost costs little."""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from journals import rows
from ray.cluster_utils import Cluster

from chameleon_ray import tune
from chameleon_ray.errors import MachineError
from chameleon_ray.ray_access import guard_ray
from chameleon_ray.records import read_records
from chameleon_ray.status import runs

pytestmark = pytest.mark.ray

POLICY = """
initial: 8
explorer: {kind: random}
sampler: {kind: greedy, batch: 8}
"""
LAYERS, TRIALS = [1, 2, 3], 64


@pytest.fixture
def cluster():
    """A head, and whatever a test adds."""
    guard_ray()
    started = Cluster(initialize_head=True, head_node_args={"num_cpus": 3, "num_gpus": 0})
    yield started
    started.shutdown()


@pytest.fixture
def settings(tmp_path):
    (tmp_path / "policy.yaml").write_text(POLICY)
    (tmp_path / "env.yaml").write_text(
        "measurer: simulated\ndevices: 2\nmeasurement_seconds: 0.2\nlayers_at_once: 3\n"
    )
    known = {"env": str(tmp_path / "env.yaml"), "policy": str(tmp_path / "policy.yaml")}
    return known | {"cold": True}  # what layers learn of each other depends on who is first


def until(true, seconds=60):
    """Seconds until something is true."""
    start = time.monotonic()
    while not true():
        assert time.monotonic() < start + seconds, "it did not come true"
        time.sleep(0.1)
    return time.monotonic() - start


def test_a_node_that_joins_is_used_and_one_that_is_lost_costs_what_it_had_in_hand(
    cluster, settings, tmp_path
):
    """Nothing is lost or measured twice: the rows are those of a run on one node."""
    alone, disturbed = tmp_path / "alone", tmp_path / "disturbed"
    tune("resnet18", layers=LAYERS, trials=TRIALS, run=alone, **settings)
    seen, results = [], []

    def run():
        results.append(
            tune(
                "resnet18",
                layers=LAYERS,
                trials=TRIALS,
                run=disturbed,
                address=cluster.address,
                on_progress=seen.append,
                **settings,
            )
        )

    def working():
        """The names of hosts that have measured something."""
        (status,) = runs(cluster.address)
        return [host.name for host in status.hosts if host.done]

    tuning = threading.Thread(target=run)
    tuning.start()
    until(lambda: seen and sum(layer.measurements for layer in seen[-1].layers) > 10)
    assert len(working()) == 1
    node = cluster.add_node(num_cpus=1, num_gpus=0)
    assert until(lambda: len(working()) == 2) < 30
    cluster.remove_node(node, allow_graceful=False)
    tuning.join(120)
    (result,) = results
    assert [layer.measurements for layer in result.layers] == [TRIALS] * len(LAYERS)
    assert rows(disturbed) == rows(alone)
    assert set(rows(disturbed).values()) == {1}


def test_kinds_of_devices_are_tuned_side_by_side_and_never_mixed(tmp_path, monkeypatch):
    """A run measures on the kind that it names; who names none has the first node's."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    guard_ray()
    cluster = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 3, "num_gpus": 0, "env_vars": {"KIND": "alpha"}},
    )
    cluster.add_node(num_cpus=1, num_gpus=0, env_vars={"KIND": "beta"})
    env, policy = tmp_path / "env.yaml", tmp_path / "policy.yaml"
    env.write_text("measurer: two_kinds:backend\nkeep_variables: [KIND]\nlayers_at_once: 1\n")
    policy.write_text(POLICY)
    settings = {"env": str(env), "policy": str(policy), "layers": [1], "trials": 16}
    try:
        others = subprocess.Popen(
            [
                *[sys.executable, "-m", "chameleon_ray", "tune", "resnet18", "--json"],
                *["--env", env, "--policy", policy, "--layers", "1", "--trials", "16"],
                *["--address", cluster.address, "--device", "BETA", "--run", tmp_path / "beta"],
            ],
            stdout=subprocess.PIPE,
            env=os.environ,
        )
        first = tune("resnet18", run=tmp_path / "alpha", address=cluster.address, **settings)
        second = json.loads(others.communicate(timeout=120)[0])
        assert "alpha" in first.device
        assert "beta" in second["device"]
        for kind in ("alpha", "beta"):
            records, _ = read_records(tmp_path / kind)
            assert {kind in record.provenance.machine for record in records} == {True}
            assert sum(record.measurement.purpose.counted for record in records) == 16
        with pytest.raises(MachineError, match=r"'gamma'.*(alpha.*beta|beta.*alpha)"):
            tune(
                *["resnet18"],
                run=tmp_path / "gamma",
                address=cluster.address,
                device="gamma",
                **settings,
            )
    finally:
        cluster.shutdown()
