"""Pretraining: exercises, training, agent files, and the command."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import ray
from contracts_explorer import peak, space
from safetensors.numpy import save
from typer.testing import CliRunner

from chameleon_ray.agent_training import train_agent
from chameleon_ray.cli import app
from chameleon_ray.devices import Device, open_device
from chameleon_ray.environment import Moves
from chameleon_ray.errors import SettingsError, UnknownNameError
from chameleon_ray.exercises import MEASURED, draw_exercise, visit
from chameleon_ray.explorers import make_explorer
from chameleon_ray.learning.agent_file import VERSION, AgentFile, load_agent, save_agent
from chameleon_ray.measure.recorded import find_recorded
from chameleon_ray.pretraining import PretrainSettings, pretrain
from chameleon_ray.ray_access import start_ray
from chameleon_ray.settings import PpoSettings
from chameleon_ray.space import DesignSpace, options
from chameleon_ray.tasks import NamedTask
from chameleon_ray.token_agent import first_weights

FEW = PretrainSettings(iterations=2, visits=3, walkers=4, steps=(10,), exercises=1, hidden=8)


def seconds_of(configs):
    """A bowl: fastest where each index is 3."""
    return 1e-3 * (1 + ((configs - 3) ** 2).sum(axis=1).astype(np.float64))


def failing(configs):
    """Nothing works."""
    return np.full(len(configs), np.nan)


def device(name, knobs=3, seconds=seconds_of):
    """A device whose space has so many knobs."""
    grid = DesignSpace(name, [options(f"k{i}", (1, 2, 4, 8, 16, 32)) for i in range(knobs)])
    return Device(name=name, label="toy", task=NamedTask(key=name), space=grid, seconds=seconds)


class TestLessons:
    """Models such as a search would meet."""

    def test_a_lesson_knows_the_best_of_what_it_measured(self):
        """The best configs, the best first, and their seconds; the model ranks them likewise."""
        exercise = draw_exercise([device("toy")], 0, np.random.default_rng(0), measured=24)
        times = seconds_of(exercise.best)
        assert (np.diff(times) >= 0).all()
        assert len(exercise.best) == 24
        assert exercise.seconds == times[0]
        scores = exercise.score(exercise.best)
        assert scores[:4].mean() > scores[-4:].mean()

    def test_the_number_of_measurements_is_drawn(self):
        """From `MEASURED`, and a space may have fewer."""
        rng = np.random.default_rng(0)
        assert {draw_exercise([device("toy")], 0, rng).measured for _ in range(20)} <= set(MEASURED)
        tiny = draw_exercise([device("tiny", knobs=1)], 0, rng, measured=128)
        assert len(tiny.best) == 6

    def test_a_quarter_of_the_walks_starts_at_the_best(self):
        """The others start anywhere."""
        toy = device("toy")
        exercise = draw_exercise([toy], 0, np.random.default_rng(0), measured=16)
        made = visit(exercise, Moves(toy.space), np.random.default_rng(1), walkers=40, steps=5)
        assert toy.space.contains(exercise.best, made.starts[:10]).all()
        assert not toy.space.contains(exercise.best, made.starts[10:]).all()
        assert len(made.seeds) == 40

    def test_a_space_where_nothing_works_is_refused(self):
        """In words."""
        with pytest.raises(SettingsError, match="nothing that was drawn from it works"):
            draw_exercise([device("bad", seconds=failing)], 0, np.random.default_rng(0))


@pytest.mark.ray
class TestPretraining:
    """RLlib on several spaces at once."""

    def test_it_learns_weights_from_spaces_of_any_width(self):
        """They differ from the first ones, and so do they for another seed."""
        devices = [device("one", knobs=1), device("four", knobs=4)]
        trained, told = pretrain(devices, FEW), []
        assert trained.steps == 2 * 3 * 4 * 10
        first = first_weights(hidden=8, seed=0)
        assert set(trained.weights) == set(first)
        assert any((trained.weights[name] != first[name]).any() for name in first)
        again = pretrain(devices, FEW, lambda *progress: told.append(progress))
        for name in first:
            np.testing.assert_array_equal(trained.weights[name], again.weights[name])
        assert told == [(1, trained.worth[0]), (2, trained.worth[1])]

    @pytest.fixture
    def cluster(self, monkeypatch):
        """A Ray with room for two workers, which find this module."""
        ray.shutdown()
        monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
        start_ray(cpus=3)
        yield
        ray.shutdown()

    @pytest.mark.slow
    @pytest.mark.usefixtures("cluster")
    def test_workers_change_nothing(self):
        """Two rollout workers walk what one process would, and the learner sees one order."""
        devices = [device("one", knobs=1), device("four", knobs=4)]
        alone, shared = pretrain(devices, FEW), pretrain(devices, replace(FEW, workers=2))
        assert alone.worth == shared.worth
        for name, weight in alone.weights.items():
            np.testing.assert_array_equal(weight, shared.weights[name])

    @pytest.mark.slow
    def test_walks_come_to_be_worth_more(self):
        """On bowls, dozens of updates are enough to walk better than at first."""
        settings = PretrainSettings(iterations=40, visits=4, walkers=16, steps=(12,), exercises=2)
        worth = pretrain([device("three"), device("five", knobs=5)], settings).worth
        assert np.mean(worth[-10:]) > np.mean(worth[:10])

    def test_a_file_says_where_its_agent_comes_from(self, tmp_path):
        """Spaces with the digests of their files, settings, seed, steps, scores, command."""
        path = tmp_path / "agent.safetensors"
        spaces, held = ["convolution_A4000"], ["cpu:alexnet:3"]
        made = train_agent(spaces, held, FEW, path, command="chameleon-ray pretrain")
        read = load_agent(path)
        assert read.card == json.loads(json.dumps(made.card))
        (data,) = read.card["data"]
        assert (data["space"], data["what"]) == ("convolution_A4000", "recorded")
        assert len(data["sha256"]) == 64
        assert read.card["steps"] == 240
        assert read.card["settings"]["iterations"] == 2
        assert set(read.card["scores"]["cpu:alexnet:3"]) == {"untrained", "trained"}
        assert path.stat().st_size < 20_000
        for name, weight in made.weights.items():
            np.testing.assert_array_equal(read.weights[name], weight)

    def test_an_explorer_begins_with_it(self):
        """Carried weights walk otherwise than first ones, and the same as themselves."""
        settings = PpoSettings(episodes=4, steps=20, waves=2, agent="tokens")
        carried = {n: 3 * w for n, w in first_weights(hidden=8, seed=7).items()}
        found = []
        for weights in (None, carried, carried):
            explorer = make_explorer(settings, seed=0, weights=weights)
            starts = space().random(3, np.random.default_rng(1))
            rng = np.random.default_rng(2)
            found.append(explorer.explore(space(), peak(space()), starts, rng).configs.tolist())
            explorer.close()
        assert found[0] != found[1] == found[2]


def test_the_papers_own_agent_takes_no_weights():
    """It is made for one space's knobs; the message says which agent does."""
    with pytest.raises(SettingsError, match="set agent: tokens"):
        make_explorer(PpoSettings(), seed=0, weights=first_weights(hidden=8, seed=0))


class TestFile:
    """What is refused, in words."""

    @pytest.fixture
    def path(self, tmp_path):
        path = tmp_path / "agent.safetensors"
        save_agent(path, AgentFile(weights=first_weights(hidden=8, seed=0), card={"seed": 0}))
        return path

    def test_what_is_written_is_read(self, path):
        """Weights bit for bit, and the card."""
        read = load_agent(path)
        assert (read.card, read.version, read.hidden) == ({"seed": 0}, VERSION, 8)
        for name, weight in first_weights(hidden=8, seed=0).items():
            np.testing.assert_array_equal(read.weights[name], weight)

    def test_another_version(self, path):
        """It says which, and what to do."""
        old = AgentFile(weights=load_agent(path).weights, card={}, version=VERSION + 1)
        save_agent(path, old)
        with pytest.raises(SettingsError, match=f"an agent of version {VERSION + 1}.*pretrain"):
            load_agent(path)

    def test_no_file(self, tmp_path):
        """Nor a folder."""
        for path in (tmp_path / "none.safetensors", tmp_path):
            with pytest.raises(SettingsError, match="no such agent file"):
                load_agent(path)

    @pytest.mark.parametrize("damage", ["cut", "text", "empty"])
    def test_a_damaged_file(self, path, damage):
        """Cut off, something else, or empty."""
        whole = path.read_bytes()
        path.write_bytes(
            {"cut": whole[: len(whole) // 2], "text": b"weights", "empty": b""}[damage]
        )
        with pytest.raises(SettingsError, match="not a readable agent file"):
            load_agent(path)

    def test_tensors_of_somebody_else(self, path):
        """A safetensors file without our card, and one with half of the layers."""
        tensors = dict(load_agent(path).weights)
        path.write_bytes(save(tensors))
        with pytest.raises(SettingsError, match="no agent of chameleon-ray"):
            load_agent(path)
        tensors.pop("heads.weight")
        save_agent(path, AgentFile(weights=tensors, card={}))
        with pytest.raises(SettingsError, match="not the agent's layers"):
            load_agent(path)

    @pytest.mark.parametrize(
        ("changes", "card", "message"),
        [
            ({"heads.weight": np.zeros((3, 7), np.float32)}, {}, "not the agent's layers"),
            ({"token.bias": np.zeros(0, np.float32)}, {}, "not the agent's layers"),
            ({"value.bias": np.full(1, np.nan, np.float32)}, {}, "no numbers"),
            ({}, ["x"], "its card"),
            ({}, {"data": [{"file": "x"}]}, "its card"),
        ],
    )
    def test_what_cannot_be_an_agents(self, path, changes, card, message):
        """Of other shapes, with NaN, or with a card that does not say where it was trained."""
        weights = {**load_agent(path).weights, **changes}
        save_agent(path, AgentFile(weights=weights, card=card))
        with pytest.raises(SettingsError, match=message):
            load_agent(path)


class TestDevices:
    """Names of spaces."""

    @pytest.mark.parametrize("name", ["cpu:resnet18:0", "cuda:vgg16:99", "cpu:alexnet:x"])
    def test_a_layer_that_is_not_there(self, name):
        """The numbers that are known are named."""
        with pytest.raises(SettingsError, match="name a layer by its number"):
            open_device(name)

    def test_an_unknown_space(self):
        """Shipped ones are named."""
        with pytest.raises(UnknownNameError, match="convolution_A4000"):
            open_device("convolution_A4001")


def interrupted_after_two(iteration, _worth):
    """As Ctrl-C would."""
    if iteration == 2:
        raise KeyboardInterrupt


@pytest.mark.ray
def test_one_that_is_interrupted_keeps_what_it_has_learned(tmp_path):
    """The file can be learned from, and its card says how far it came."""
    out = tmp_path / "agent.safetensors"
    settings = replace(FEW, iterations=50)
    train_agent(
        ["cpu:vgg16:1"],
        ["cpu:alexnet:1"],
        settings,
        out,
        command="",
        progressed=interrupted_after_two,
    )
    card = load_agent(str(out)).card
    assert card["iterations"] == 2
    assert card["scores"] == {}
    assert card["steps"] == 2 * FEW.visits * FEW.walkers * FEW.steps[0]


class TestCommand:
    """`chameleon-ray pretrain`."""

    def refused(self, *arguments):
        """What it says."""
        result = CliRunner().invoke(app, ["pretrain", *map(str, arguments)])
        assert result.exit_code != 0
        return str(result.exception or result.output)

    def test_bad_input_is_refused_before_anything_is_walked(self, tmp_path):
        """A space on both sides, also under two names, a file that cannot be, an unknown space."""
        out = tmp_path / "agent.safetensors"
        both = ["--space", "cpu:vgg16:1", "--held-out", "cpu:vgg16:1", "--out", out]
        assert "walked in training too" in self.refused(*both)
        copy = tmp_path / "copy.json.gz"
        copy.write_bytes(find_recorded("convolution_A4000").read_bytes())
        twice = ["--space", "convolution_A4000", "--held-out", copy, "--out", out]
        assert "walked in training too" in self.refused(*twice)
        assert "must end in .safetensors" in self.refused("--space", "x", "--out", tmp_path / "a")
        (tmp_path / "b.safetensors").mkdir()
        assert "folder" in self.refused("--space", "x", "--out", tmp_path / "b.safetensors")
        assert "unknown space" in self.refused("--space", "nowhere", "--out", out)
        many = ["--space", "cpu:vgg16:1", "--workers", "100000", "--out", out]
        assert "--workers: 100000 rollout workers on" in self.refused(*many)
        assert not out.exists()
