"""benchmarks/gpu.py and gpu_measure.py: sources go to a GPU's machine, measurements come back."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from chameleon_ray.measure.recorded import load_recorded
from chameleon_ray.networks import network
from chameleon_ray.tasks import Target
from chameleon_ray.templates import design_space

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
TARGET = Target(kind="cuda", model="sm_90", lanes=32, cores=4)
TASKS = [layer.task for layer in network("alexnet")[:2]]


@pytest.fixture
def gpu(monkeypatch):
    """The two scripts; what they start finds a GPU that is not there."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    path = os.pathsep.join(map(str, (BENCHMARKS, Path(__file__).parent)))
    monkeypatch.setenv("PYTHONPATH", path)
    import gpu
    import gpu_measure

    env = replace(gpu_measure.ENV, measurer="gpu_archive:backend")
    monkeypatch.setattr(gpu_measure, "ENV", env)
    monkeypatch.setenv("CHAMELEON_ARCHIVE", "")  # for `measure` to set and pytest to take back
    return gpu, gpu_measure


def rows_of(run):
    """What `gpu_table.py` tells of a run's layers."""
    told = subprocess.run(
        [sys.executable, "gpu_table.py", run, "--json"],
        cwd=BENCHMARKS,
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(told.stdout)["layers"]


@pytest.mark.slow
@pytest.mark.parametrize("template", ["direct", "gemm_float16"])
def test_an_archive_is_measured_in_several_goes_and_comes_home_as_a_run(
    gpu, tmp_path, call, template
):
    """The second go makes what the first had no time for; a line that was cut off is made again."""
    pack, measure, target = gpu[0].pack, gpu[1].measure, replace(TARGET, template=template)
    archive, out = tmp_path / "sources.tar.xz", tmp_path / "out"
    assert pack(TASKS, target, 6, archive) < 10**6
    device, first = measure(archive, out, 60.0, builders=2)
    assert (device.machine, first) == ("NVIDIA Fake sm_90, 4 SMs", 12)
    file = out / f"{TASKS[0].key}.jsonl"
    file.write_text(file.read_text()[:-30])
    assert measure(archive, out, 0.0, builders=1)[1] == 0
    assert measure(archive, out, 60.0, builders=1)[1] == 1
    assert len(gpu[1].lines(out, TASKS[0].key)) == 6

    run = tmp_path / "run"
    assert gpu[0].record(out, run) == {"alexnet": 12}
    assert gpu[0].record(out, run) == {"alexnet": 12}
    code, shown, _ = call("show", run / "alexnet")
    assert code == 0
    assert "NVIDIA Fake sm_90, 4 SMs" in shown
    assert [one["measurements"] for one in rows_of(run / "alexnet")] == [6, 6]
    assert call("record", "--run", run / "alexnet", "--out", tmp_path / "spaces")[0] == 0
    spaces = sorted((tmp_path / "spaces").iterdir())
    assert len(spaces) == len(TASKS)
    live = {load_recorded(space).live.task: load_recorded(space).live.space for space in spaces}
    for task in TASKS:
        assert live[task].feature_names == design_space(task, target).feature_names
    code, said, _ = call("replay", spaces[0], "--policy", "random", "--trials", 6, "--json")
    assert (code, said.count("\n")) == (0, 1)


@pytest.mark.slow
def test_what_measures_imports_neither_tvm_nor_ray():
    """The GPU's machine has none."""
    code = "import gpu_measure, sys; print({'tvm', 'ray', 'pyarrow', 'xgboost'} & {*sys.modules})"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=BENCHMARKS, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "set()"
