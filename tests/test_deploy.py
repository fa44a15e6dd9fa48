"""A model in, a library out: it computes what torch does, and says what it is made of."""

import io
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from small_models import attending, crooked, mobile, odd, residual, small, uneven, waving

from chameleon_ray import tune
from chameleon_ray.deploy.bench import bench, some_input
from chameleon_ray.deploy.best import SHIPPED, best_configs, best_of
from chameleon_ray.deploy.build import deploy
from chameleon_ray.deploy.database import (
    Entry,
    entries_of,
    merged,
    read_database,
    write_database,
)
from chameleon_ray.deploy.folder import EXAMPLE, LIBRARY, read
from chameleon_ray.deploy.loading import loaded
from chameleon_ray.deploy.shown import print_comparison
from chameleon_ray.errors import RunFolderError, SettingsError, UnsupportedError
from chameleon_ray.measure.reference import relative_error
from chameleon_ray.measure.tvm import TvmBuilder, resolve_target
from chameleon_ray.networks import NETWORKS, network
from chameleon_ray.networks.source import Input
from chameleon_ray.tasks import Conv2d, Matmul, Target, task_from_key
from chameleon_ray.templates import (
    default_config,
    design_space,
    template_version,
    with_best_form,
)
from chameleon_ray.templates.cpu_tiling import columns_of

TARGET = resolve_target(Target(cores=1))
LANES = TARGET.lanes
PLAIN = Conv2d(
    in_channels=5, out_channels=20, height=9, width=12, kernel_height=3, kernel_width=3, padding=1
)
BLOCKS = replace(PLAIN, in_channels=2 * LANES, out_channels=LANES, block=LANES, batch=2)
ENTERING = replace(PLAIN, out_channels=2 * LANES, block=LANES, nchw="in", stride=2)
LEAVING = replace(PLAIN, in_channels=2 * LANES, block=LANES, nchw="out")
GROUPS = replace(BLOCKS, in_channels=4 * LANES, out_channels=2 * LANES, groups=2)
MERGED = replace(GROUPS, in_channels=2 * LANES, groups=LANES, stride=2)  # two filters in a group
DEPTHWISE = replace(
    BLOCKS, in_channels=2 * LANES, out_channels=2 * LANES, groups=2 * LANES, stride=2
)
WINOGRAD = [
    replace(BLOCKS, form="winograd2", stride=1),
    replace(BLOCKS, form="winograd4", stride=1, height=14, padding=0),
    replace(BLOCKS, form="winograd2", stride=1, height=10, width=10, padding=0),  # whole tiles
]
EPILOGUES = [
    (),
    ("bias",),
    ("bias", "add", "relu"),
    ("bias", "clip6"),
    ("relu", "add"),
    ("bias", "silu"),
    ("add", "bias", "relu"),
]


def check(task, configs=3):
    """Random configs and the default compute what torch does."""
    assert task_from_key(task.key) == task
    builder, space = TvmBuilder(TARGET, seed=0), design_space(task, TARGET)
    default = default_config(task, TARGET)[None, :]
    assert space.valid(default).all()
    rows = np.concatenate([default, space.random(configs, np.random.default_rng(0))])
    assert np.isfinite(space.features(rows)).all()
    for config in rows:
        kernel = builder.build(task, space.describe(config))
        assert kernel.error() < (1e-4 if "winograd4" in task.key else 1e-5)
        assert kernel.time(2) > 0


@pytest.mark.parametrize("epilogue", EPILOGUES)
@pytest.mark.parametrize(
    "task",
    [PLAIN, BLOCKS, ENTERING, LEAVING, GROUPS, MERGED, DEPTHWISE, *WINOGRAD],
    ids=[
        "plain",
        "blocks",
        "entering",
        "leaving",
        "groups",
        "merged",
        "depthwise",
        "F2",
        "F4",
        "whole",
    ],
)
def test_a_layer_is_measured_with_its_epilogue(task, epilogue):
    """In either layout; torch's own kernel beside it has the same epilogue."""
    whole = replace(task, epilogue=epilogue)
    check(whole)
    assert TvmBuilder(TARGET, seed=0).build(whole, {}).time(2) > 0


@pytest.mark.parametrize("epilogue", [(), ("bias", "gelu"), ("bias", "add"), ("bias", "relu")])
@pytest.mark.parametrize(
    "task",
    [
        Matmul(rows=17, inner=24, columns=3 * LANES),
        Matmul(rows=24, inner=7, columns=2 * LANES + 3, batch=3),
        Matmul(rows=19, inner=16, columns=2 * LANES + 3, batch=3, constant=False),
        Matmul(rows=2, inner=16, columns=LANES, constant=False),
        Matmul(rows=1, inner=40, columns=2 * LANES),
    ],
    ids=str,
)
def test_a_product_is_measured_with_its_epilogue(task, epilogue):
    """Weights packed before, and a right side that the kernel packs; batches; odd sizes."""
    whole = replace(task, epilogue=epilogue)
    check(whole, configs=5)
    assert TvmBuilder(TARGET, seed=0).build(whole, {}).time(2) > 0


@pytest.mark.parametrize(
    "task",
    [
        replace(PLAIN, width=19),
        replace(PLAIN, width=37, padding=0, stride=2),
        replace(BLOCKS, width=17, epilogue=("bias", "add")),
        replace(DEPTHWISE, width=37, epilogue=("bias", "relu")),
        replace(DEPTHWISE, width=21, kernel_height=5, kernel_width=5, padding=0, stride=1),
        replace(DEPTHWISE, width=21, padding=2, stride=1),
    ],
    ids=str,
)
def test_columns_that_cannot_be_cut_evenly_get_more_that_are_thrown_away(task):
    """What is written is the output and nothing beside it."""
    assert columns_of(task) >= task.out_width
    check(task)


def test_the_paper_s_layers_are_cut_as_they_are():
    """So their spaces are as before."""
    tasks = [layer.task for name in NETWORKS for layer in network(name)]
    assert all(columns_of(task) == task.out_width for task in tasks)


@pytest.mark.parametrize(
    ("task", "message"),
    [
        (replace(BLOCKS, block=LANES // 2), "blocks are not of"),
        (replace(PLAIN, out_channels=35, groups=5), "in groups has no template"),
        (replace(PLAIN, in_channels=20, groups=20), "in groups has no template"),
    ],
)
def test_what_has_no_template_is_refused(task, message):
    """By its name."""
    with pytest.raises(UnsupportedError, match=message):
        design_space(task, TARGET)


def run(folder, data):
    """The output of a deployed model."""
    import tvm

    model = loaded(tvm.runtime.load_module(str(folder / LIBRARY)))
    return model(tvm.runtime.tensor(data)).numpy()


@pytest.mark.parametrize(
    ("name", "module", "shape"),
    [
        ("small", small, (1, 3, 16, 16)),
        ("residual", residual, (2, 8, 17, 15)),
        ("mobile", mobile, (1, 32, 14, 19)),
        ("attending", attending, (1, 16, 8, 12)),
        ("uneven", uneven, (1, 32, 14, 12)),
        ("odd", odd, (2, 3, 4, 8)),
        ("crooked", crooked, (1, 4, 3, 4)),
        ("waving", waving, (1, 8, 4, 9)),
    ],
)
def test_a_deployed_model_computes_what_torch_does(tmp_path, name, module, shape):
    """What has a template, and what is compiled by rule: groups, dilation, products, means."""
    out = tmp_path / "out"
    deployed = deploy(f"small_models:{name}", out, inputs="x".join(map(str, shape)), threads=1)
    data = some_input(Input(shape=shape))
    with torch.inference_mode():
        right = module()(torch.tensor(data)).numpy()
    assert relative_error(run(out, data), right) < 1e-5
    assert deployed.by_rule == deployed.layers
    if name == "mobile":  # all of it in blocks
        assert all(Conv2d.from_key(layer.task).block == LANES for layer in deployed.layers)
    assert read(out) == json_round_trip(deployed)


def json_round_trip(deployed):
    """As a file of JSON has it: knob values are lists there."""
    layers = json.loads(json.dumps(deployed.to_json()))["layers"]
    configs = [layer["config"] for layer in layers]
    pairs = zip(deployed.layers, configs, strict=True)
    return replace(deployed, layers=tuple(replace(x, config=config) for x, config in pairs))


def test_its_example_runs(tmp_path):
    """Five lines, as the folder has them, in another process."""
    deploy("small_models:small", tmp_path / "out", inputs="1x3x16x16", threads=1)
    done = subprocess.run(
        [sys.executable, tmp_path / "out" / EXAMPLE], capture_output=True, text=True, check=True
    )
    assert "[[" in done.stdout
    assert len(done.stdout.replace("[", " ").replace("]", " ").split()) >= 5


@pytest.mark.ray
@pytest.mark.slow
def test_a_run_is_deployed_with_its_best_configs(tmp_path, monkeypatch):
    """Tuned on this CPU, deployed from its run folder, and run; the paper's shapes count, too."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    run_folder = tmp_path / "run"
    result = tune(
        "small_models:residual", inputs="1x8x16x16", policy="random", trials=6, run=run_folder
    )
    deployed = deploy(str(run_folder), tmp_path / "out")
    assert not deployed.by_rule
    found = {layer.task: layer for layer in deployed.layers}
    for layer in result.layers:
        assert found[layer.layer.task.key].config == layer.best_config
        assert found[layer.layer.task.key].seconds == layer.best_seconds
    data = some_input(Input(shape=(1, 8, 16, 16)))
    with torch.inference_mode():
        right = residual()(torch.tensor(data)).numpy()
    assert relative_error(run(tmp_path / "out", data), right) < 1e-5
    if deployed.target.cores > 1:
        with pytest.raises(RunFolderError, match=r"cores.*Tune on this machine.*--threads"):
            deploy(str(run_folder), tmp_path / "one", threads=1)
    entries = entries_of(run_folder)
    write_database(merged([*entries, *entries]), tmp_path / "best.parquet")
    assert sorted(entries, key=lambda e: e.task) == read_database(tmp_path / "best.parquet")
    again = deploy(
        "small_models:residual", tmp_path / "again", inputs="1x8x16x16",
        records=[tmp_path / "best.parquet"],
    )  # fmt: skip
    assert again.layers == deployed.layers


@pytest.mark.slow
def test_contenders_are_timed_in_turns(tmp_path, monkeypatch):
    """Ours and torch's, with what they compute held together; one that cannot says why."""
    deploy("small_models:small", tmp_path / "out", inputs="1x3x16x16", threads=1)
    names = ("chameleon", "torch_eager", "torch_folded", "torch_compile")
    monkeypatch.setenv("CXX", "no-such-compiler")
    compared = bench(tmp_path / "out", turns=3, names=names)
    assert not compared.blind
    found = {one.name: one for one in compared.timed}
    assert set(found) == set(names)
    without = found.pop("torch_compile")
    assert (without.seconds, "no-such-compiler" in without.reason) == (None, True)
    for one in found.values():
        assert 0 < one.low <= one.seconds <= one.high
        assert one.error < 1e-5
        assert one.peak_bytes > 10**7
        assert one.start_seconds > 0


@pytest.mark.slow
def test_errors_of_a_model_that_ignores_its_input_are_said_to_tell_nothing(tmp_path):
    """Such as one whose head has not been trained yet."""
    deploy("small_models:headless", tmp_path / "out", inputs="1x3x16x16", threads=1)
    compared = bench(tmp_path / "out", turns=2, names=("chameleon", "torch_eager"))
    assert compared.blind
    console = Console(file=io.StringIO(), width=200)
    print_comparison(compared, console)
    assert "the errors tell nothing" in console.file.getvalue()


def test_what_cannot_be_deployed_is_refused(tmp_path):
    """Before anything is compiled; each with the remedy."""
    (tmp_path / "there").mkdir()
    with pytest.raises(SettingsError, match="there exists"):
        deploy("torchvision:resnet18", tmp_path / "there")
    with pytest.raises(SettingsError, match="torchvision:resnet18"):
        deploy("resnet18", tmp_path / "out")
    tune("resnet18", env="simulated", policy="random", layers=(2,), trials=2, run=tmp_path / "run")
    with pytest.raises(SettingsError, match=r"shapes without weights.*Tune a model"):
        deploy(str(tmp_path / "run"), tmp_path / "out")
    with pytest.raises(RunFolderError, match="simulated"):
        deploy(
            "small_models:small", tmp_path / "out", inputs="1x3x16x16",
            records=[tmp_path / "run"], threads=1,
        )  # fmt: skip
    with pytest.raises(SettingsError, match="not a folder that"):
        read(tmp_path / "run")
    assert not (tmp_path / "out").exists()


def entry(**changes):
    """What a database may hold."""
    known = {
        "task": PLAIN.key,
        "kind": "llvm",
        "model": "znver4",
        "lanes": LANES,
        "cores": 1,
        "template": template_version(TARGET),
        "compiler": "tvm",
        "config": {"tile_f": (1, 2), "unroll_explicit": (0,)},
        "seconds": 1e-3,
        "cold_weights": True,
        "default_seconds": None,
        "machine": "some CPU",
        "run": "runs/mine",
    }
    return Entry(**(known | changes))


def test_a_database_has_the_fastest_of_each_machine(tmp_path, call):
    """Exported and merged on the command line, and listed."""
    slow, fast, other = entry(seconds=2e-3), entry(), entry(model="haswell")
    assert merged([slow, other, fast, slow]) == [other, fast]
    warm = entry(seconds=1e-4, cold_weights=False)  # less than it takes in a network
    assert merged([warm, fast]) == merged([fast, warm]) == [fast]
    write_database([slow, other], tmp_path / "a.parquet")
    write_database([fast], tmp_path / "b.parquet")
    both = tmp_path / "both.parquet"
    files = [tmp_path / "a.parquet", tmp_path / "b.parquet"]
    code, out, _ = call("database", "merge", *files, "-o", both)
    assert (code, "2 layers" in out) == (0, True)
    assert read_database(both) == [other, fast]
    code, out, _ = call("database", "list", both, "--json")
    assert code == 0
    assert [found["model"] for found in json.loads(out)["entries"]] == ["haswell", "znver4"]
    assert "5->20 3x3 @9" in call("database", "list", both)[1]


def test_databases_that_cannot_be_are_refused(tmp_path, call):
    """Damaged, of other templates or machines, with a wrong name."""
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 cut off")
    with pytest.raises(SettingsError, match="not a database"):
        read_database(tmp_path / "bad.parquet")
    with pytest.raises(SettingsError, match="no such file"):
        read_database(tmp_path / "gone.parquet")
    write_database([entry(template="cpu_conv2d/0")], tmp_path / "old.parquet")
    with pytest.raises(RunFolderError, match=r"templates are cpu_conv2d/0.*cpu_conv2d/1"):
        best_configs([tmp_path / "old.parquet"], TARGET)
    write_database([entry(lanes=4)], tmp_path / "narrow.parquet")
    with pytest.raises(RunFolderError, match=r"some CPU.*this is for 1 cores"):
        best_configs([tmp_path / "narrow.parquet"], TARGET)
    code, _, err = call("database", "merge", tmp_path / "old.parquet", "-o", tmp_path / "out.txt")
    assert (code, "ends in .parquet" in err) == (2, True)


def test_a_layer_of_equal_shape_serves_one_with_another_epilogue():
    """If there is none of its own."""
    own, other = entry(seconds=2e-3), entry(task=replace(PLAIN, epilogue=("bias",)).key)
    found = {other.task: other}
    assert best_of(PLAIN, found) == other
    assert best_of(PLAIN, found | {own.task: own}) == own
    assert best_of(BLOCKS, found) is None


@pytest.mark.parametrize(
    ("channels", "size", "form"),
    [
        (64, 56, "winograd4"),
        (128, 28, "winograd4"),
        (256, 14, "winograd2"),
        (512, 7, "direct"),  # its transformed filters would take longer to read
    ],
)
def test_the_form_of_a_layer_is_chosen_by_arithmetic(channels, size, form):
    """As these layers of ResNet-18 were measured on a core with AVX-512."""
    task = Conv2d(
        in_channels=channels, out_channels=channels, height=size, width=size,
        kernel_height=3, kernel_width=3, padding=1, block=16,
    )  # fmt: skip
    assert with_best_form(task).form == form
    assert with_best_form(replace(task, stride=2)).form == "direct"
    assert with_best_form(replace(task, block=1)).form == "direct"
    assert with_best_form(replace(task, kernel_width=1)).form == "direct"


def test_a_form_that_does_not_fit_is_refused():
    """Tiles whose number nothing divides, and other filters."""
    for task in (replace(BLOCKS, height=33, width=2), replace(BLOCKS, kernel_height=1)):
        with pytest.raises(UnsupportedError, match="no such form"):
            design_space(replace(task, form="winograd2"), TARGET)


@pytest.mark.slow
def test_the_command_line_deploys_and_times(tmp_path, call):
    """Tables for people, objects for programs; what cannot be, by its message."""
    out = tmp_path / "out"
    model = ["small_models:mobile", "--input", "1x32x14x14"]
    code, text, _ = call("deploy", *model, "-o", out, "--json")
    assert code == 0
    assert json.loads(text)["network"] == "small_models:mobile"
    code, text, _ = call("bench", out, "--turns", 2, "--json")
    found = json.loads(text)["contenders"]
    assert code == 0
    assert found["chameleon"]["seconds"] > 0
    assert found["torch_eager"]["error"] == 0
    code, _, err = call("deploy", *model, "-o", out)
    assert (code, "exists" in err) == (2, True)
    assert "by rule" in call("deploy", *model, "-o", tmp_path / "again")[1].lower()
    code, _, err = call("deploy", tmp_path / "nowhere", "-o", tmp_path / "new")
    assert (code, f"unknown run folder or model '{tmp_path}/nowhere'" in err) == (2, True)
    code, _, err = call("deploy", tmp_path, "-o", tmp_path / "new")
    assert (code, "not a run folder: it has no run.json" in err) == (2, True)


def test_the_shipped_database_is_for_the_templates_of_now():
    """All that is in it could be deployed; what is measured here goes before it."""
    entries = read_database(SHIPPED)
    targets = {Target(lanes=e.lanes, cores=e.cores) for e in entries}
    for target in targets:
        known = best_configs([], target)
        assert known
        for key, best in known.items():
            space = design_space(Conv2d.from_key(key), target)
            assert space.broken(space.config(best.config)) == []


def test_what_was_measured_here_goes_before_what_is_shipped(tmp_path):
    """Though it took longer here."""
    shipped = read_database(SHIPPED)[0]
    target = Target(lanes=shipped.lanes, cores=shipped.cores)
    write_database([replace(shipped, seconds=1.0, run="mine")], tmp_path / "mine.parquet")
    found = best_configs([tmp_path / "mine.parquet"], target)
    assert found[shipped.task].run == "mine"
    assert len(found) > 1
