"""A run folder is used by one process, for one kind of run."""

import json
import multiprocessing
from dataclasses import replace

import pytest

from chameleon_ray.env_settings import Env
from chameleon_ray.errors import RunFolderError
from chameleon_ray.run_folder import Manifest, RunFolder
from chameleon_ray.settings import CostModelSettings, Policy

MANIFEST = Manifest(
    network="resnet18",
    env="cpu",
    policy="chameleon",
    seed=0,
    env_settings=Env(),
    policy_settings=Policy(),
    machine="znver4, 2 cores",
    compiler="tvm 0.27",
    template="cpu_conv2d/1",
)


def begin(path, manifest=MANIFEST, layers=(1,)):
    folder = RunFolder(path)
    try:
        folder.begin(manifest, layers=layers)
        (path / "records-00000001-00000001.parquet").touch()  # something was measured
    finally:
        folder.close()


def test_the_same_settings_go_on_and_may_go_further(tmp_path):
    """Layers add up; the description of a preset is no setting."""
    begin(tmp_path / "run", layers=(4,))
    begin(tmp_path / "run", replace(MANIFEST, env_settings=Env(description="mine")), layers=(1, 4))
    assert json.loads((tmp_path / "run" / "run.json").read_text())["layers"] == [1, 4]


def test_a_model_goes_on_whatever_is_said_of_what_is_not_tuned(tmp_path):
    """Reasons are words, layers are what is measured."""
    model = {"layers": [[1, "a", 1]], "untuned": [["softmax", "", 1]]}
    begin(tmp_path / "run", replace(MANIFEST, model=model))
    begin(tmp_path / "run", replace(MANIFEST, model={**model, "untuned": []}))
    with pytest.raises(RunFolderError, match=r"model\.layers"):
        begin(tmp_path / "run", replace(MANIFEST, model={**model, "layers": []}))


@pytest.mark.parametrize(
    ("other", "named"),
    [
        (replace(MANIFEST, seed=1), "seed is 0 there and 1 here"),
        (replace(MANIFEST, machine="znver5, 2 cores"), "machine is 'znver4, 2 cores' there"),
        (replace(MANIFEST, compiler="tvm 0.28"), "compiler is 'tvm 0.27' there"),
        (replace(MANIFEST, template="cpu_conv2d/2"), "template is"),
        (
            replace(MANIFEST, policy_settings=Policy(cost_model=CostModelSettings(max_depth=4))),
            r"policy_settings\.cost_model\.max_depth is 3 there and 4 here",
        ),
    ],
)
def test_other_settings_are_refused_by_name(tmp_path, other, named):
    """What differs is named with both values; the folder keeps its own."""
    begin(tmp_path / "run")
    before = (tmp_path / "run" / "run.json").read_text()
    with pytest.raises(RunFolderError, match=named):
        begin(tmp_path / "run", other)
    assert (tmp_path / "run" / "run.json").read_text() == before


def _hold(path, ready, release):
    folder = RunFolder(path)
    ready.set()
    release.wait(30)
    folder.close()


def test_a_folder_in_use_is_refused(tmp_path):
    """Two processes never write one journal."""
    context = multiprocessing.get_context("spawn")
    ready, release = context.Event(), context.Event()
    other = context.Process(target=_hold, args=(tmp_path / "run", ready, release))
    other.start()
    assert ready.wait(30)
    with pytest.raises(RunFolderError, match="in use"):
        RunFolder(tmp_path / "run")
    release.set()
    other.join()
    begin(tmp_path / "run")
    assert (tmp_path / "run" / "run.json").exists()


def test_other_peoples_folders_and_files_are_refused(tmp_path):
    """Nothing is written where something else lives."""
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(RunFolderError, match=r"not a run folder.*thesis\.tex"):
        RunFolder(tmp_path)
    with pytest.raises(RunFolderError, match="is a file"):
        RunFolder(tmp_path / "thesis.tex")
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_run_that_never_began_leaves_nothing(tmp_path):
    """An error before the first measurement leaves no folder, with a manifest or without."""
    RunFolder(tmp_path / "run").close()
    assert not (tmp_path / "run").exists()
    folder = RunFolder(tmp_path / "run")
    folder.begin(MANIFEST, layers=(1,))
    folder.close()
    assert not (tmp_path / "run").exists()


def test_a_damaged_manifest_is_an_error(tmp_path):
    """It is not taken for an empty folder."""
    begin(tmp_path / "run")
    (tmp_path / "run" / "run.json").write_text("{")
    with pytest.raises(RunFolderError, match="cannot be read"):
        begin(tmp_path / "run")
