"""Live comparisons, as processes that are killed."""

import json
import subprocess
import sys
import time
from collections import Counter

import psutil
import pytest

from chameleon_ray.measure import Purpose
from chameleon_ray.records import read_records

LAYERS, TRIALS = "2,5", 192


def start(out):
    """Two runs of two layers, one after the other, in a process of its own."""
    command = [sys.executable, "-m", "chameleon_ray", "compare", "--network", "resnet18"]
    command += ["--layers", LAYERS, "--env", "simulated", "--policy", "random"]
    command += ["--policy", "genetic", "--seeds", "0", "--trials", str(TRIALS)]
    command += ["--out", str(out), "--json"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def kill(process):
    """As the machine's last resort does; Ray's own agents take minutes to end, so they get none."""
    family = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.communicate()
    ours = [p for p in family if p.name() not in ("ray::DashboardAgent", "ray::RuntimeEnvAgent")]
    _, alive = psutil.wait_procs(ours, timeout=30)
    assert not alive


def jobs(run):
    """How often each config of each layer stands in the journal of a run, as part of a search."""
    measured = [record.measurement for record in read_records(run)[0]]
    return Counter(
        (m.task, json.dumps(m.config, sort_keys=True))
        for m in measured
        if m.purpose is Purpose.SEARCH
    )


def files(*folders):
    """What lies in some folders, and since when."""
    paths = [path for folder in folders for path in folder.rglob("*.parquet")]
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in paths}


@pytest.mark.ray
@pytest.mark.slow
def test_a_killed_comparison_goes_on_and_measures_nothing_twice(tmp_path):
    """kill -9 in the middle of the second run: the first is kept as it is, the second goes on."""
    out = tmp_path / "out"
    process = start(out)
    second = None
    while second is None or len(jobs(second)) < 64:
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
        second = next(out.glob("resnet18-genetic-*-seed0"), None)
    kill(process)
    (first,) = out.glob("resnet18-random-*-seed0")
    finished = files(first, out / "searches")
    assert len(list((out / "searches").iterdir())) == 2  # the first run's layers
    begun = jobs(second)
    assert 64 <= begun.total() < 2 * TRIALS
    last = start(out)
    printed, said = last.communicate(timeout=200)
    assert last.returncode == 0, said
    assert json.loads(printed)["searches"] == 4
    assert finished.items() <= files(out).items()
    for run in (first, second):
        counted = jobs(run)
        assert counted.total() == 2 * TRIALS
        assert set(counted.values()) == {1}
    assert begun <= jobs(second)
    whole = {run: json.loads((out / f"{run.name}.json").read_text()) for run in (first, second)}
    assert [whole[run]["wall_is_whole"] for run in (first, second)] == [True, False]
