"""Presets: where they are found, and what is said about a file that cannot be used."""

import dataclasses
import re
from pathlib import Path

import pytest
import yaml

from chameleon_ray import presets
from chameleon_ray.env_settings import Env, RepeatSettings
from chameleon_ray.errors import SettingsError, UnknownNameError
from chameleon_ray.settings import (
    AdaptiveSettings,
    AnnealingSettings,
    CostModelSettings,
    ForestSettings,
    GaussianSettings,
    GeneticSettings,
    GreedySettings,
    MeasuredSettings,
    PluginSettings,
    Policy,
    PpoSettings,
    RandomSettings,
    StagedSettings,
    ThompsonSettings,
)

SHIPPED_POLICIES = [
    "adaptive_exploration",
    "adaptive_sampling",
    "autotvm",
    "autotvm_diversity",
    "chameleon",
    "chameleon_paper",
    "genetic",
    "random",
    "sweep",
]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The user stands in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_shipped_ones_are_known_and_load(folder):
    """Every shipped preset can be used from anywhere."""
    assert presets.known("envs") == [
        "cpu",
        "cuda",
        "cuda_gemm",
        "cuda_tensor",
        "recorded",
        "simulated",
    ]
    assert presets.known("policies") == SHIPPED_POLICIES
    shipped = ["aws", "gcp", "kubernetes", "local", "one_box", "ssh"]
    assert presets.known("clusters") == shipped
    for name in presets.known("policies"):
        assert presets.load_policy(name)[0] == name
    for name in presets.known("envs"):
        assert presets.load_env(name)[1].description


def test_own_folder_comes_before_the_shipped_one(folder):
    """A file of the user's own wins over the shipped one of the same name."""
    (folder / "policies").mkdir()
    (folder / "policies" / "chameleon.yaml").write_text("initial: 3\n")
    (folder / "policies" / "mine.yaml").write_text("initial: 4\n")
    assert presets.load_policy("chameleon")[1].initial == 3
    assert presets.load_policy("mine")[1].initial == 4
    assert presets.known("policies") == sorted([*SHIPPED_POLICIES, "mine"])


@pytest.mark.parametrize("name", ["mine.yaml", "./mine.yaml", "mine.yml", "sub/mine"])
def test_paths(folder, name):
    """A slash or a YAML ending means a path, and the path is the name in reports."""
    (folder / "sub").mkdir()
    (folder / name).write_text("candidates: 7\n")
    assert presets.load_policy(name) == (name, Policy(candidates=7))


def test_an_empty_file_is_all_defaults(folder):
    """A preset states only what differs."""
    (folder / "mine.yaml").write_text("# nothing\n")
    assert presets.load_policy("mine.yaml")[1] == Policy()


def test_unknown_name_tells_the_known_ones(folder):
    """A misspelt name is answered with the nearest known one."""
    with pytest.raises(UnknownNameError, match=r"policy 'chamelon'.*'chameleon'\?.*autotvm"):
        presets.load_policy("chamelon")
    with pytest.raises(
        UnknownNameError, match=r"env 'gpu'.*cpu, cuda, cuda_gemm, cuda_tensor, recorded, simulated"
    ):
        presets.load_env("gpu")


def test_missing_file(folder):
    """A path where no file is."""
    with pytest.raises(SettingsError, match=r"no/such: no such file.*autotvm"):
        presets.load_policy("no/such")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("initial: 4\nexplorer: {kind: ppo\n", r"mine\.yaml, line 3: not valid YAML"),
        ("initial: 4\ninitial: 5\n", r"mine\.yaml, line 2: .*'initial' stands twice"),
        ("- 1\n- 2\n", r"mine\.yaml: \(the whole file\)"),
        ("initial: many\n", r"mine\.yaml: initial: .*'many'"),
        ("initial: 0\n", r"mine\.yaml: initial: 0 is too small; give a whole number above 0"),
        ("explorer: {kind: ppo, steps: -1}\n", r"mine\.yaml: explorer\.steps: -1 is too small"),
        ("a: !!python/object:os.system {}\n", r"mine\.yaml, line 1: not valid YAML"),
    ],
)
def test_bad_files(folder, text, message):
    """Each message names file, line or key, and what is wrong."""
    (folder / "mine.yaml").write_text(text)
    with pytest.raises(SettingsError, match=message):
        presets.load_policy("mine.yaml")


def test_not_text(folder):
    """A file that is not text at all."""
    (folder / "mine.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SettingsError, match=r"mine\.yaml: not a text file"):
        presets.load_policy("mine.yaml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("initail: 4\n", r"key 'initail'.*'initial'\?.*candidates"),
        ("explorer: {kind: ppo, wave: 4}\n", r"key 'explorer\.wave'.*explorer\.waves"),
    ],
)
def test_unknown_key(folder, text, message):
    """A key that is not known is answered with the known ones."""
    (folder / "mine.yaml").write_text(text)
    with pytest.raises(UnknownNameError, match=message):
        presets.load_policy("mine.yaml")


def test_what_each_policy_is(folder):
    """The shipped policies differ in the parts that their names stand for."""
    ours, paper, autotvm, random = (
        presets.load_policy(n)[1] for n in ("chameleon", "chameleon_paper", "autotvm", "random")
    )
    assert isinstance(ours.explorer, PpoSettings)
    assert isinstance(paper.explorer, PpoSettings)
    assert paper.explorer.waves == paper.explorer.episodes == 128
    assert (paper.explorer.batch, paper.explorer.minibatch) == ("draw", 32)
    assert (paper.explorer.starts, paper.explorer.resample_unordered) == ("random", False)
    assert isinstance(autotvm.explorer, AnnealingSettings)
    assert autotvm.sampler.kind == "greedy"
    assert isinstance(random.explorer, RandomSettings)
    assert random.sampler.epsilon == 0


@pytest.mark.parametrize("name", ["local", "one_box", "ssh"])
def test_cluster_file_ends_no_ray(name):
    """`ray up` with the shipped file must not stop what the user already runs."""
    cluster = presets.read(presets.find("clusters", name))
    assert cluster["provider"]["type"] == "local"
    assert "ray stop" not in yaml.safe_dump(cluster)


def told_of(kind):
    """What docs/presets.md says of settings: the passage of their kind; else the whole page."""
    page = (Path(__file__).parent.parent / "docs" / "presets.md").read_text()
    name = next((field.default for field in dataclasses.fields(kind) if field.name == "kind"), None)
    if name is None:
        return page
    start = r"\*\*A part of your own\*\*"
    if name is not dataclasses.MISSING:
        start = rf"\*\*`\w+: \{{kind: {name}\}}`\*\*"
    (passage,) = re.findall(rf"{start}.*?(?=\*\*[`A]|\n#|\Z)", page, re.DOTALL)
    return passage


@pytest.mark.parametrize(
    "kind",
    [
        *[Policy, PpoSettings, AnnealingSettings, GeneticSettings, RandomSettings],
        *[AdaptiveSettings, GreedySettings, ThompsonSettings, CostModelSettings, ForestSettings],
        *[GaussianSettings, StagedSettings, MeasuredSettings, PluginSettings],
        *[Env, RepeatSettings],
    ],
)
def test_every_key_is_documented(kind):
    """docs/presets.md tells what each key does, where it tells of that kind of part."""
    keys = [field.name for field in dataclasses.fields(kind)]
    passage = told_of(kind)
    missing = [key for key in keys if not re.search(rf"`(\w+\.)?{key}\b", passage)]
    assert [key for key in missing if key != "kind"] == []
