"""Whole runs on GPUs that are not there (`gpus.py`): a host for each, builders beside it."""

import time
from dataclasses import replace
from pathlib import Path

import pytest
import ray
from ray.cluster_utils import Cluster

from chameleon_ray import tune
from chameleon_ray.errors import MachineError
from chameleon_ray.machine import usable_cores
from chameleon_ray.measure.pool import HostsWanted, Node, _places
from chameleon_ray.presets import load_env
from chameleon_ray.ray_access import guard_ray
from chameleon_ray.records import read_records
from chameleon_ray.tasks import Target

POLICY = """
initial: 8
neighbours: 4
explorer: {kind: random}
sampler: {kind: greedy, batch: 8}
"""


@pytest.fixture
def settings(tmp_path, monkeypatch):
    """A quick policy, and the env of GPUs on a fake driver."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    monkeypatch.setenv("CHAMELEON_SPOILS", "8")
    (tmp_path / "policy.yaml").write_text(POLICY)
    (tmp_path / "env.yaml").write_text(
        "measurer: gpus:backend\ntarget: cuda\nlayers_at_once: 2\nfinalists: 2\n"
    )
    return {"env": str(tmp_path / "env.yaml"), "policy": str(tmp_path / "policy.yaml")}


@pytest.fixture
def hangs(settings, monkeypatch):
    """What else would spoil its context never ends."""
    monkeypatch.setenv("CHAMELEON_HANGS", "8")
    monkeypatch.delenv("CHAMELEON_SPOILS")


@pytest.fixture
def cluster(settings):  # after it: workers have the PYTHONPATH of their cluster
    """One machine with two GPUs, as far as Ray knows."""
    guard_ray()
    started = Cluster(initialize_head=True, head_node_args={"num_cpus": 4, "num_gpus": 2})
    yield started
    started.shutdown()


@pytest.mark.ray
@pytest.mark.slow
def test_every_gpu_measures_and_a_candidate_that_breaks_its_context_costs_itself_only(
    cluster, settings, tmp_path
):
    """Each has work; what spoils a process is `crashed`, and all others have times."""
    result = tune(
        "resnet18", layers=[1, 2], trials=16, run=tmp_path / "run", address=cluster.address,
        **settings,
    )  # fmt: skip
    assert "NVIDIA Fake sm_90, 4 SMs" in result.device
    measured = [r.measurement for r in read_records(tmp_path / "run")[0]]
    counted = [m for m in measured if m.purpose.counted]
    assert len(counted) == 32
    assert {m.device.rpartition(" ")[2] for m in counted} == {"gpu:0", "gpu:1"}
    spoilt = [m for m in counted if m.config["tile_f"][2] == 8]
    assert {m.outcome for m in spoilt} == {"crashed"}
    assert "ILLEGAL_ADDRESS" in spoilt[0].message
    assert {m.outcome for m in counted if m not in spoilt} == {"ok"}
    assert all(layer.best_config["tile_f"][2] != 8 for layer in result.layers)


@pytest.mark.ray
@pytest.mark.slow
def test_a_kernel_that_never_ends_costs_itself_only(hangs, cluster, settings, tmp_path):
    """The runner is killed with its context, and a new one measures the others."""
    env = tmp_path / "env.yaml"
    env.write_text(env.read_text() + "run_timeout_seconds: 3\n")
    tune(
        "resnet18", layers=[1, 2], trials=16, run=tmp_path / "run", address=cluster.address,
        **settings,
    )  # fmt: skip
    measured = [r.measurement for r in read_records(tmp_path / "run")[0]]
    counted = [m for m in measured if m.purpose.counted]
    hung = [m for m in counted if m.config["tile_f"][2] == 8]
    assert {m.outcome for m in hung} == {"run_timeout"}
    assert {m.outcome for m in counted if m not in hung} == {"ok"}
    assert len(counted) == 32


@pytest.mark.ray
@pytest.mark.slow
def test_a_gpu_that_does_not_come_back_is_given_up(settings, tmp_path, monkeypatch):
    """With the last of them, the run ends and says why; what was measured is kept."""
    monkeypatch.setenv("CHAMELEON_LEAVES", str(tmp_path / "left"))
    guard_ray()
    alone = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "num_gpus": 1})
    try:
        with pytest.raises(MachineError, match="fell off the bus"):
            tune(
                "resnet18", layers=[1], trials=64, run=tmp_path / "run", address=alone.address,
                **settings,
            )  # fmt: skip
    finally:
        alone.shutdown()
    outcomes = {r.measurement.outcome for r in read_records(tmp_path / "run")[0]}
    assert "ok" in outcomes


@pytest.mark.ray
@pytest.mark.slow
def test_gpus_that_another_run_has_are_waited_for_but_not_for_ever(settings, tmp_path):
    """The message names them, and the other run can be looked at."""
    env = tmp_path / "env.yaml"
    env.write_text(env.read_text() + "start_timeout_seconds: 12\n")
    guard_ray()
    alone = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "num_gpus": 1})
    try:
        ray.init(address=alone.address)
        holder = ray.remote(lambda: time.sleep(600)).options(num_gpus=1, num_cpus=0).remote()
        with pytest.raises(MachineError, match=r"gpu:0: has not started.*status"):
            tune("resnet18", layers=[1], trials=8, run=tmp_path / "run", **settings)
        ray.cancel(holder, force=True)
        del holder  # a reference that outlives its Ray is nobody's
    finally:
        ray.shutdown()
        alone.shutdown()


@pytest.mark.ray
@pytest.mark.slow
def test_without_a_gpu_the_message_says_how_ray_finds_one(settings, tmp_path):
    """Nothing is started on the CPU instead."""
    with pytest.raises(MachineError, match=r"no GPU.*nvidia-smi.*--env cpu"):
        tune("resnet18", layers=[1], trials=8, run=tmp_path / "run", **settings)


def test_cores_are_divided_among_gpus():
    """A host for each GPU, with its share of the builders; the CPU is none."""
    _, env = load_env("cuda")
    node = Node(id="1", name="box", gpus=4)
    hosts = HostsWanted(env=env, seed=0).on(node)
    assert [host.name for host in hosts] == [f"box gpu:{i}" for i in range(4)]
    assert {(host.places, host.gpus) for host in hosts} == {(0, 4)}
    shares = [_places(Target(kind="cuda"), replace(hosts[0], gpus=n)) for n in (1, 2, 10**6)]
    assert shares == [usable_cores(), max(1, usable_cores() // 2), 1]
    assert HostsWanted(env=env, seed=0).on(Node(id="1", name="box", gpus=0)) == []
