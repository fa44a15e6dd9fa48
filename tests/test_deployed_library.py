"""The library of a deployed model: its size, what it prepares when it is loaded, and C++."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import tvm
from small_models import small, square
from tvm import relax

from chameleon_ray.deploy.bench import bench, some_input
from chameleon_ray.deploy.build import deploy
from chameleon_ray.deploy.folder import DESCRIPTION, EXAMPLE, EXAMPLE_IN_CPP, LIBRARY, read
from chameleon_ray.deploy.loading import loaded
from chameleon_ray.errors import SettingsError
from chameleon_ray.measure.reference import relative_error
from chameleon_ray.measure.tvm import resolve_target, tvm_target
from chameleon_ray.networks.source import Input
from chameleon_ray.tasks import Conv2d, Target
from chameleon_ray.templates import cpu_winograd
from chameleon_ray.templates.cpu_winograd_filters import stored, transformation, transformed_shape

TARGET = resolve_target(Target(cores=1))
LANES = TARGET.lanes
SHAPES = {"small": (1, 3, 16, 16), "square": (1, 64, 22, 22)}


@pytest.fixture(scope="module", params=["small", "square"])
def folder(request, tmp_path_factory):
    """A deployed model without Winograd's layers, and one with them."""
    out = tmp_path_factory.mktemp("deployed") / request.param
    deploy(
        f"small_models:{request.param}", out, inputs="x".join(map(str, SHAPES[request.param])),
        threads=1,
    )  # fmt: skip
    return out


def library(folder):
    """As TVM loads it."""
    return tvm.runtime.load_module(str(folder / LIBRARY))


@pytest.mark.parametrize("form", ["winograd2", "winograd4"])
def test_filters_are_transformed_as_they_are_for_measurements(form):
    """But for the last bit of few: the order of sums is another."""
    task = Conv2d(
        in_channels=3 * LANES, out_channels=2 * LANES, height=8, width=8,
        kernel_height=3, kernel_width=3, padding=1, block=LANES, form=form,
    )  # fmt: skip
    weight = some_input(Input(shape=(2 * LANES, 3 * LANES, 3, 3)))
    right = cpu_winograd.packed(weight, task)
    assert stored(weight, task).nbytes == weight.nbytes
    assert transformed_shape(task) == right.shape
    function = transformation(task).with_attr("global_symbol", "main")
    code = tvm.compile(tvm.IRModule({"main": function}), target=tvm_target(TARGET))
    found = tvm.runtime.tensor(np.zeros_like(right))
    code["main"](tvm.runtime.tensor(stored(weight, task)), found)
    np.testing.assert_array_almost_equal_nulp(found.numpy(), right, nulp=1)


def test_a_library_is_used_in_one_way(folder):
    """`prepare`, then `main`; nothing is prepared where no layer is Winograd's."""
    machine = relax.VirtualMachine(library(folder), tvm.cpu())
    prepared = machine["prepare"]()
    tasks = [
        Conv2d.from_key(layer.task) for layer in read(folder).layers for _ in range(layer.uses)
    ]
    shapes = [transformed_shape(task) for task in tasks if task.form != "direct"]
    assert sorted(tuple(one.shape) for one in prepared) == sorted(shapes)
    assert len(shapes) == {"small": 0, "square": 4}[folder.name]
    data = some_input(Input(shape=SHAPES[folder.name]))
    given = tvm.runtime.tensor(data)
    found = machine["main"](given, prepared).numpy()
    model = loaded(library(folder))
    for _ in range(2):
        np.testing.assert_array_equal(model(given).numpy(), found)
    with torch.inference_mode():
        right = {"small": small, "square": square}[folder.name]()(torch.tensor(data)).numpy()
    assert relative_error(found, right) < 5e-6


def test_torch_compile_prepares_what_it_calls():
    """In its own process, nothing is written."""
    module = square()
    data = torch.tensor(some_input(Input(shape=SHAPES["square"])))
    with torch.inference_mode():
        found = torch.compile(module, backend="chameleon", options={"threads": 1})(data)
        assert relative_error(found.numpy(), module(data).numpy()) < 5e-6


def test_a_library_is_as_large_as_the_weights(folder):
    """And its code."""
    module = {"small": small, "square": square}[folder.name]()
    weights = sum(one.nbytes for one in module.state_dict().values())
    assert (folder / LIBRARY).stat().st_size < 1.1 * weights + 1e6


@pytest.mark.skipif(shutil.which("g++") is None, reason="there is no g++")
def test_its_examples_use_the_threads_that_it_was_made_for(folder):
    """Unless the environment says otherwise."""
    assert 'setenv("TVM_NUM_THREADS", "1", 0)' in (folder / "run.cc").read_text()
    assert 'setdefault("TVM_NUM_THREADS", "1")' in (folder / "run.py").read_text()


def test_its_example_in_cpp_computes_what_python_does(folder, tmp_path):
    """Compiled by the commands in its head."""
    source = (folder / EXAMPLE_IN_CPP).read_text()
    commands = "\n".join(
        line.removeprefix("//   ") for line in source.splitlines() if line.startswith("//   ")
    )
    for name in (EXAMPLE_IN_CPP, LIBRARY):
        (tmp_path / name).symlink_to(folder / name)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-e", "-c", commands], cwd=tmp_path, capture_output=True, text=True, check=False,
        env={**os.environ, "PATH": path},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    numbers, times = done.stdout.splitlines()
    zeros = tvm.runtime.tensor(np.zeros(SHAPES[folder.name], dtype=np.float32))
    right = loaded(library(folder))(zeros).numpy().ravel()[:5]
    np.testing.assert_allclose(np.array(numbers.split(), dtype=np.float32), right, rtol=1e-5)
    assert "first call" in times


def test_its_example_in_python_takes_tvm_and_numpy_alone(folder):
    """And runs, in another process."""
    source = (folder / EXAMPLE).read_text()
    assert "chameleon" not in source
    done = subprocess.run(
        [sys.executable, folder / EXAMPLE], capture_output=True, text=True, check=True
    )
    assert "[[" in done.stdout


def test_a_folder_of_another_format_is_refused(folder, tmp_path):
    """Its library would be called in another way."""
    found = json.loads((folder / DESCRIPTION).read_text())
    (tmp_path / DESCRIPTION).write_text(json.dumps(found | {"format": 1}))
    for use in (read, bench):
        with pytest.raises(SettingsError, match=r"format is 1, and this version reads 2.*anew"):
            use(tmp_path)
