"""What a run is doing, asked from outside while it goes on."""

import io
import json
import subprocess
import sys
import time

import pytest
from rich.console import Console

from chameleon_ray.errors import MachineError
from chameleon_ray.networks import network
from chameleon_ray.results import HostStatus, LayerProgress, RunStatus
from chameleon_ray.status import print_runs, runs


def test_a_table_tells_of_layers_and_hosts():
    """What is measured by what, how fast, and what failed."""
    layer = network("resnet18")[0]
    found = RunStatus(
        run="/runs/mine",
        device="AMD EPYC",
        hosts=(HostStatus(name="cpu:0", places=2, in_hand=3, done=41, failed=4),),
        left_out=("other: is a pocket calculator",),
        waiting=5,
        measured=44,
        failed=4,
        per_second=3.25,
        layers=(LayerProgress(layer=layer, trials=64, measurements=44, doing="measuring"),),
    )
    console = Console(file=io.StringIO(), width=100)
    print_runs([found], console)
    text = console.file.getvalue()
    assert "/runs/mine, on AMD EPYC" in text
    assert "44/64" in text
    assert "measuring" in text
    assert "3.25/s" in text
    assert "about 6.2 s left" in text
    assert "pocket calculator" in text
    (host,) = [line.split() for line in text.splitlines() if "cpu:0" in line]
    assert host == ["cpu:0", "2", "3", "41", "4"]


def test_without_a_cluster_it_says_how_to_find_one():
    """Nobody answers at the address."""
    with pytest.raises(MachineError, match="--address"):
        runs("127.0.0.1:1")


@pytest.mark.ray
def test_a_run_is_found_while_it_goes_on(tmp_path):
    """By the command, in another process; afterwards it is not there any more."""
    env = tmp_path / "slow.yaml"
    env.write_text("measurer: simulated\ndevices: 3\nmeasurement_seconds: 0.2\n")
    tool, run = [sys.executable, "-m", "chameleon_ray"], tmp_path / "run"
    command = [*tool, "tune", "resnet18", "--env", str(env), "--policy", "random"]
    command += ["--layers", "1,2", "--trials", "4000", "--run", str(run), "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        deadline, found = time.monotonic() + 60, []
        while time.monotonic() < deadline and process.poll() is None:
            asked = subprocess.run([*tool, "status", "--json"], capture_output=True, check=False)
            told = json.loads(asked.stdout)["runs"] if asked.returncode == 0 else []
            found = [one for one in told if one["run"] == str(run) and one["measured"] > 10]
            if found:
                break
            time.sleep(0.5)
        process.terminate()
        process.communicate()
    (status,) = found
    assert [host["places"] for host in status["hosts"]] == [3]
    assert status["per_second"] > 0
    assert "simulated" in status["device"]
