"""Searches replayed on recorded spaces."""

import json
import math
import subprocess
import sys
from dataclasses import replace
from math import comb
from statistics import mean

import numpy as np
import pytest

from chameleon_ray import assembly
from chameleon_ray.cost_model import make_cost_model
from chameleon_ray.measure.recorded import load_recorded
from chameleon_ray.presets import load_policy
from chameleon_ray.replay import Replay, best_so_far, replay
from chameleon_ray.replay_report import heading, line, table
from chameleon_ray.settings import Policy, RandomSettings

SMALL = {"block": [16, 32, 64, 128], "tile": [1, 2, 4, 8], "layout": ["a", "b"], "one": [3]}


@pytest.fixture
def small(tmp_path):
    """A space of 31 configurations, some failing; the file."""
    rng = np.random.default_rng(0)
    entries = {}
    for n in range(31):
        block, tile, layout = n % 4, n // 4 % 4, n // 16
        config = {
            "block": SMALL["block"][block],
            "tile": SMALL["tile"][tile],
            "layout": SMALL["layout"][layout],
            "one": 3,
        }
        time = "RuntimeFailedConfig" if n % 7 == 3 else 1.0 + rng.random() + abs(block - 2) + layout
        entries[",".join(map(str, config.values()))] = config | {"time": time}
    path = tmp_path / "small.json"
    path.write_text(json.dumps({"device_name": "a [GPU]", "tune_params": SMALL, "cache": entries}))
    return path


POLICIES = [
    *["random", "genetic", "autotvm", "autotvm_diversity", "adaptive_sampling", "sweep"],
    "chameleon",
    pytest.param("adaptive_exploration", marks=pytest.mark.ray),
    pytest.param("chameleon_paper", marks=pytest.mark.ray),
]


@pytest.mark.parametrize("initial", [8, 100])
@pytest.mark.parametrize("name", POLICIES)
def test_a_whole_space_gives_its_optimum(small, name, initial):
    """With as many attempts as configurations, or more, all are tried, each once."""
    recorded = load_recorded(small)
    policy = replace(load_policy(name)[1], initial=initial)  # after 8 it explores, 100 are all
    found = replay(recorded, policy, name=name, trials=10**6, seed=1)
    assert len(found.best_seconds) == 31
    assert found.best_seconds[-1] == recorded.optimum_seconds
    assert found.final == 1.0
    assert found.outcomes == {"ok": 27, "RuntimeFailedConfig": 4}
    known = [best for best in found.best_seconds if best is not None]
    assert known == sorted(known, reverse=True)
    assert None not in found.best_seconds[found.best_seconds.index(known[0]) :]


@pytest.mark.ray
def test_chameleon_walks_what_it_does_not_enumerate(small):
    """The default policy where a space is too large to be scored whole: its PPO finds all 31."""
    policy = replace(load_policy("chameleon")[1], enumerate=0, explore_every=1)
    found = replay(load_recorded(small), policy, name="chameleon", trials=10**6, seed=1)
    assert len(found.best_seconds) == 31
    assert found.final == 1.0


def by_chance(recorded, trials):
    """The mean score of all choices of so many configurations: what uniform draws are worth."""
    scores = sorted(np.nan_to_num(recorded.optimum_seconds / recorded.seconds), reverse=True)
    n = len(scores)
    best = (score * comb(n - 1 - rank, trials - 1) for rank, score in enumerate(scores))
    return sum(best) / comb(n, trials)


def test_chameleon_beats_chance_on_a_recorded_gpu():
    """After 64 of 4,362 configurations: 0.91 on the mean over 20 seeds, and 0.79 by chance."""
    recorded, policy = load_recorded("convolution_A4000"), load_policy("chameleon")[1]
    searches = (
        replay(recorded, policy, name="chameleon", trials=64, seed=seed) for seed in range(20)
    )
    assert mean(found.final for found in searches) > by_chance(recorded, 64) + 0.05


@pytest.mark.parametrize(("features", "seen"), [("knobs", 4), ("derived", 5)])
def test_a_cost_model_sees_the_features_that_the_policy_names(small, monkeypatch, features, seen):
    """The values of four knobs, or besides the one product of two of them that are sizes."""
    made = []

    def kept(settings, *, seed):
        made.append(make_cost_model(settings, seed=seed))
        return made[-1]

    monkeypatch.setattr(assembly, "make_cost_model", kept)
    policy = replace(load_policy("autotvm")[1], initial=8, features=features)
    replay(load_recorded(small), policy, name="autotvm", trials=12, seed=0)
    (model,) = made
    assert model.score()._loaded.num_features() == seen


def test_same_seed_same_answer(small):
    """And another seed another one."""
    recorded = load_recorded(small)
    policy = load_policy("autotvm")[1]
    one, two, other = (
        replay(recorded, policy, name="a", trials=12, seed=seed).best_seconds for seed in (3, 3, 4)
    )
    assert len(one) == 12
    assert one == two
    assert one != other


def test_where_everything_fails_but_one(tmp_path):
    """A search without a success for long goes on, and says so with null."""
    entries = {str(n): {"n": n, "time": 1.0 if n == 77 else "InvalidConfig"} for n in range(100)}
    path = tmp_path / "hard.json"
    path.write_text(json.dumps({"tune_params": {"n": list(range(100))}, "cache": entries}))
    recorded = load_recorded(path)
    policy = Policy(initial=1, explorer=RandomSettings())
    found = replay(recorded, policy, name="random", trials=100, seed=0)
    assert found.final == 1.0
    assert found.best_seconds[0] is None
    assert json.loads(json.dumps(found.to_json()))["outcomes"] == {"InvalidConfig": 99, "ok": 1}
    none = replay(recorded, policy, name="random", trials=1, seed=0)
    assert none.best_seconds == (None,)
    assert none.final == 0.0


def test_the_device_is_recorded(small, tmp_path):
    """Every output says that nothing was measured here."""
    recorded = load_recorded(small)
    found = replay(recorded, load_policy("random")[1], name="random", trials=4, seed=0)
    assert found.device == found.to_json()["device"] == "recorded: a [GPU]"
    nameless = tmp_path / "nameless.json"
    nameless.write_text(small.read_text().replace("a [GPU]", ""))
    assert "recorded: a device that" in heading(load_recorded(nameless))
    assert "recorded: a [GPU]" in heading(recorded)


def test_policies_that_need_no_ray():
    """The default and those without PPO run without importing Ray, TVM or torch."""
    code = (
        "import sys\n"
        "from chameleon_ray.measure.recorded import load_recorded\n"
        "from chameleon_ray.presets import load_policy\n"
        "from chameleon_ray.replay import replay\n"
        "space = load_recorded('convolution_A4000')\n"
        "for name in ('chameleon', 'autotvm', 'adaptive_sampling', 'random', 'genetic'):\n"
        "    replay(space, load_policy(name)[1], name=name, trials=70, seed=0)\n"
        "print(*{'ray', 'tvm', 'torch', 'matplotlib'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_best_so_far_of_nothing():
    """No measurements, no bests."""
    assert best_so_far([]) == []


def a_replay(best_seconds, seed=0):
    """A search of a space whose optimum is one second."""
    return Replay(
        space="small",
        policy="p",
        seed=seed,
        device="recorded: x",
        optimum_seconds=1.0,
        best_seconds=tuple(best_seconds),
        outcomes={"ok": len(best_seconds)},
        phase_seconds={"fit": 0.5},
    )


def cells(recorded, found, trials):
    """The heads and the cells of each row."""
    made = table(recorded, found, trials=trials)
    heads = [str(column.header) for column in made.columns]
    return [heads, *zip(*([str(cell) for cell in c.cells] for c in made.columns), strict=True)]


def test_table(small):
    """Means over the seeds; no columns beyond the budget; the median of the attempts needed."""
    recorded = load_recorded(small)
    good, slow, never = [4.0] * 15 + [1.0] * 24, [4.0] * 31 + [1.05] * 8, [4.0] * 39
    heads, fast, stuck = cells(
        recorded,
        {
            "fast": [a_replay(good), a_replay(slow)],
            "[stuck]": [a_replay(good), a_replay(never), a_replay(never), a_replay([None])],
        },
        trials=40,
    )
    assert heads == ["policy", "seeds", "after 16", "after 32", "after 40", "median to 95%"]
    assert fast == ("fast", "2", "0.625", "0.976", "0.976", "24")
    assert stuck == ("[stuck]", "4", "0.375", "0.375", "0.375", ">40")


def test_line(small):
    """One search in a line, found something or not."""
    found = a_replay([None, 2.0])
    assert line(found, trials=9) == (
        "small, p, seed 0: best 2000.0 ms, 0.500 of the optimum after 2 attempts (0 failed); "
        "0.5 s of searching"
    )
    assert "best - ms, 0.000 of the optimum" in line(a_replay([None]), trials=9)
    assert not math.isnan(found.final)
