"""Presets as YAML gives them become settings, or an error that names file, key and remedy."""

import dataclasses
import pickle

import pytest
import yaml

from chameleon_ray.cost_model import make_cost_model
from chameleon_ray.env_settings import Env, RepeatSettings
from chameleon_ray.errors import SettingsError, UnknownNameError
from chameleon_ray.explorers import make_explorer
from chameleon_ray.parsing import parse
from chameleon_ray.sampling import make_sampler
from chameleon_ray.settings import (
    AdaptiveSettings,
    AnnealingSettings,
    CostModelSettings,
    ForestSettings,
    GaussianSettings,
    GeneticSettings,
    GreedySettings,
    Policy,
    PpoSettings,
    RandomSettings,
    StagedSettings,
    ThompsonSettings,
)


def policy(text):
    """A policy from the text of its file."""
    return parse(Policy, yaml.safe_load(text), where="policies/mine.yaml")


def env(text):
    """An env from the text of its file."""
    return parse(Env, yaml.safe_load(text), where="envs/mine.yaml")


def test_an_empty_file_is_all_defaults():
    """A preset states only what differs."""
    assert policy("") == Policy()
    assert env("# nothing but a comment") == Env()


def test_nested_settings_are_read():
    """Values at any depth replace the defaults, and the others stay."""
    found = policy("{candidates: 32, explorer: {kind: ppo, steps: 50}, cost_model: {rounds: 9}}")
    assert found.candidates == 32
    assert found.explorer == PpoSettings(steps=50)
    assert found.cost_model.rounds == 9
    assert env("repeats: {least: 5}").repeats == RepeatSettings(least=5)


@pytest.mark.parametrize(
    ("text", "explorer", "sampler"),
    [
        ("{explorer: {kind: annealing}}", AnnealingSettings(), AdaptiveSettings()),
        ("{sampler: {kind: greedy}}", PpoSettings(), GreedySettings()),
        (
            "{explorer: {kind: random}, sampler: {kind: adaptive, variant: letter}}",
            RandomSettings(),
            AdaptiveSettings(variant="letter"),
        ),
    ],
)
def test_kind_chooses_the_part(text, explorer, sampler):
    """The explorer and the sampler are what their `kind` says."""
    found = policy(text)
    assert (found.explorer, found.sampler) == (explorer, sampler)


@pytest.mark.parametrize(
    ("read", "text", "words"),
    [
        (policy, "candidats: 3", ["policies/mine.yaml", "'candidats'", "'candidates'"]),
        (policy, "cost_model: {depth: 3}", ["'cost_model.depth'", "cost_model.max_depth"]),
        (policy, "explorer: {kind: ppo, step: 3}", ["'explorer.step'", "'explorer.steps'"]),
        (policy, "sampler: {kind: greedy, epsilom: 1}", ["'sampler.epsilom'", "sampler.batch"]),
        (env, "repeats: {most_of: 3}", ["envs/mine.yaml", "'repeats.most_of'", "repeats.most"]),
    ],
)
def test_an_unknown_key_is_named_with_the_known_ones(read, text, words):
    """A key that nobody reads is an error, not a silent default."""
    with pytest.raises(UnknownNameError) as caught:
        read(text)
    assert all(word in str(caught.value) for word in words), caught.value


@pytest.mark.parametrize(
    ("read", "text", "words"),
    [
        (
            policy,
            "candidates: 0",
            ["policies/mine.yaml", "candidates: 0 is too small", "above 0", "it is 64"],
        ),
        (policy, "candidates: many", ["candidates", "'many' is not a whole number", "it is 64"]),
        (
            policy,
            "cost_model: {learning_rate: -1}",
            ["cost_model.learning_rate: -1 is too small; give a number above 0"],
        ),
        (policy, "explorer: {kind: ppo, waves: 7}", ["explorer", "waves (7) must divide"]),
        (
            policy,
            "sampler: {kind: adaptive, threshold: 1}",
            ["sampler.threshold: 1 is too small", "above 1", "it is 2.5"],
        ),
        (
            policy,
            "sampler: {kind: greedy, epsilon: 1.5}",
            ["sampler.epsilon: 1.5 is too large", "at most 1", "it is 0.05"],
        ),
        (env, "memory_bytes: 1000", ["memory_bytes", "268435456"]),
        (env, "devices: 9999", ["devices: 9999 is too large", "at most 4096"]),
        (env, "cores: 1.5", ["cores: 1.5 is not a whole number"]),
        (env, "measurement_seconds: .inf", ["measurement_seconds: inf is not finite"]),
        (env, "sleep: 3", ["sleep: 3 is neither true nor false", "it is false"]),
        (env, "model: 5", ["model: 5 is not a text", "quotes"]),
        (env, "keep_variables: HOME", ["keep_variables: 'HOME' is not a list", "[A, B]"]),
        (env, "repeats: 3", ["repeats: 3 is not a mapping"]),
        (policy, "initial:", ["initial: nothing is not a whole number"]),
        (policy, "explorer: {kind: 'a:B', options: {x: [1]}}", ["explorer.options: [1]", "plain"]),
        (env, "[1, 2]", ["envs/mine.yaml", "the whole file"]),
    ],
)
def test_a_bad_value_is_named_with_its_limit(read, text, words):
    """The message names file, key, limit and what was found."""
    with pytest.raises(SettingsError) as caught:
        read(text)
    assert all(word in str(caught.value) for word in words), caught.value


@pytest.mark.parametrize(
    ("read", "text", "words"),
    [
        (env, "measurer: simulatd", ["measurer 'simulatd'", "mean 'simulated'?", "tvm, simulated"]),
        (env, "measurer: fpga", ["measurer 'fpga'", "recorded, package.module:function"]),
        (env, "measurer: 3", ["measurer '3'", "tvm"]),
        (env, "target: rocm", ["target 'rocm'", "Known: llvm, cuda."]),
        (policy, "start: spred", ["start 'spred'", "mean 'spread'?", "random, spread"]),
        (policy, "explorer: {kind: 'a b:C'}", ["explorer.kind 'a b:C'", "package.module:Class"]),
    ],
)
def test_a_value_that_is_no_choice_is_named_with_the_choices(read, text, words):
    """As a name is that no preset has."""
    with pytest.raises(UnknownNameError) as caught:
        read(text)
    assert all(word in str(caught.value) for word in words), caught.value
    assert "pydantic" not in str(caught.value)


def numbers(kind):
    """The keys of settings that want a number."""
    for field in dataclasses.fields(kind):
        if type(field.default) in (int, float):
            yield kind, field.name


@pytest.mark.parametrize(
    ("kind", "key"),
    [
        pair
        for kind in (
            *[Policy, Env, RepeatSettings, PpoSettings, AnnealingSettings, GeneticSettings],
            *[RandomSettings, AdaptiveSettings, GreedySettings, ThompsonSettings],
            *[CostModelSettings, ForestSettings, GaussianSettings, StagedSettings],
        )
        for pair in numbers(kind)
    ],
)
@pytest.mark.parametrize("value", ["yes", "off"])
def test_a_boolean_is_no_number(kind, key, value):
    """Python takes true for 1; a file in which `initial: yes` stands means something else."""
    with pytest.raises(SettingsError, match=f"{key}: (true|false) is no number; give a"):
        parse(kind, yaml.safe_load(f"{key}: {value}"), where="mine.yaml")


@pytest.mark.parametrize("kind", [Policy, Env])
def test_settings_travel_and_cannot_be_changed(kind):
    """Actors receive settings as they are: picklable and frozen."""
    made = kind()
    assert pickle.loads(pickle.dumps(made)) == made
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.description = "other"


@pytest.mark.parametrize(
    ("text", "known"),
    [
        ("explorer: {kind: dqn}", "ppo, annealing, genetic, random"),
        ("sampler: {kind: all}", "adaptive, greedy, thompson"),
        ("cost_model: {kind: gnn}", "xgb, forest, gaussian, staged, measured"),
    ],
)
def test_an_unknown_kind_is_named_with_the_known_ones(text, known):
    """Also that a class of one's own may be named."""
    with pytest.raises(UnknownNameError, match=f"{known}, package.module:Class"):
        policy(text)


@pytest.mark.parametrize("text", ["explorer: 5", "explorer: ppo", "sampler: [1]"])
def test_a_part_that_is_no_mapping_is_told_how_to_write_it(text):
    """The message shows the form."""
    with pytest.raises(SettingsError, match=r"must be a mapping such as \{kind: "):
        policy(text)


@pytest.mark.parametrize(
    ("text", "make"),
    [
        ("explorer: {kind: 'own_parts:Own', options: {reach: 3}}", make_explorer),
        ("cost_model: {kind: 'own_parts:Own', options: {reach: 3}}", make_cost_model),
    ],
)
def test_a_part_of_ones_own_is_made_with_its_options(text, make, tmp_path, monkeypatch):
    """The class is found on Python's path; a name that is not there is an error that says so."""
    (tmp_path / "own_parts.py").write_text(
        "class Own:\n    def __init__(self, *, reach):\n        self.reach = reach\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    settings = policy(text)
    chosen = settings.explorer if make is make_explorer else settings.cost_model
    assert make(chosen, seed=0).reach == 3
    with pytest.raises(SettingsError, match=r"no_such_module.*PYTHONPATH"):
        make(dataclasses.replace(chosen, kind="no_such_module:Own"), seed=0)


def test_a_sampler_of_ones_own_is_made_with_its_options(tmp_path, monkeypatch):
    """As explorers and cost models are."""
    (tmp_path / "own_sampler.py").write_text(
        "class Own:\n    def __init__(self, *, reach):\n        self.reach = reach\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    settings = policy("sampler: {kind: 'own_sampler:Own', options: {reach: 3}}")
    assert make_sampler(settings).reach == 3


def test_many_devices_make_batches_larger_and_never_smaller():
    """Where the sampler has a batch; the policy itself is not changed."""
    policy = Policy(sampler=GreedySettings(batch=8))
    assert policy.busy_enough(12).sampler.batch == 12
    assert policy.busy_enough(4) is policy
    assert policy.sampler.batch == 8
    clustered = Policy(sampler=AdaptiveSettings())
    assert clustered.busy_enough(12) is clustered
