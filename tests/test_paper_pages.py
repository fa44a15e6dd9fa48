"""benchmarks/paper.py and paper_cpu.py: the paper's figures and tables, from tiny searches."""

import importlib
import json
import re
import sys
from contextlib import closing
from functools import partial
from itertools import product
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest
import yaml

from chameleon_ray.assembly import search
from chameleon_ray.measure.simulated import SimulatedMeasurer, simulated_seconds_of
from chameleon_ray.phases import Phases
from chameleon_ray.plan import make_plan
from chameleon_ray.records import Journal, Provenance
from chameleon_ray.results import NetworkResult
from chameleon_ray.rounds import RoundJournal
from chameleon_ray.session import ray_session
from chameleon_ray.templates import default_config, design_space

pytest.importorskip("matplotlib", reason="an optional dependency: pip install '.[figures]'")

ROOT = Path(__file__).parent.parent
BENCHMARKS = ROOT / "benchmarks"
SMALL = {  # part of a policy -> kind -> what makes it quick
    "explorer": {
        "annealing": {"chains": 8, "steps": 20, "early_stop": 5},
        "ppo": {"episodes": 4, "waves": 2, "steps": 10},
        "genetic": {"population": 8},
        "random": {"draws": 4},
    },
    "sampler": {
        "greedy": {"batch": 4},
        "adaptive": {"smallest": 2, "largest": 6},
    },
}


@pytest.fixture
def benchmark(monkeypatch):
    """Import a module of benchmarks/ by name."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module


@pytest.fixture
def lab(tmp_path, monkeypatch):
    """A folder to stand in, with quick policies under the names of the shipped ones."""
    (tmp_path / "policies").mkdir()
    (tmp_path / "docs").mkdir()
    for path in (ROOT / "policies").glob("*.yaml"):
        policy = yaml.safe_load(path.read_text())
        policy |= {"initial": 8, "candidates": 16}
        for part, kinds in SMALL.items():
            policy[part] |= kinds.get(policy[part]["kind"], {})
        if policy.get("cost_model", {}).get("kind") == "staged":
            policy["cost_model"] |= {"until": 12}
        (tmp_path / "policies" / path.name).write_text(yaml.safe_dump(policy))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def one_ray():
    """One Ray for all calls, which would each start their own; its workers know benchmarks/."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(BENCHMARKS))
        with ray_session(address=None, cpus=2):
            yield


def write_space(path, luck):
    """A recorded space of 60 configurations, some failing."""
    values = {"a": list(range(10)), "b": [1, 2, 4, 8, 16, 32]}
    rng, cache = np.random.default_rng(luck), {}
    for n, (a, b) in enumerate(product(*values.values())):
        time = "RuntimeFailedConfig" if n % 11 == 5 else 1 + rng.random() + abs(a - luck) / 3
        costs = {"compile_time": 2000, "verification_time": 0, "benchmark_time": 500}
        cache[f"{a},{b}"] = {"a": a, "b": b, "time": time, **costs}
    head = {"device_name": "a GPU", "kernel_name": path.stem.partition("_")[0]}
    path.write_text(json.dumps(head | {"tune_params": values, "cache": cache}))


def tune_here(network, *, inputs, env, policy, layers, trials, run, seed, on_progress, **learning):
    """What `tune` leaves behind, by searches in this process."""
    assert learning == {"learn_from": (), "use_prior": False, "cold": True}
    plan = make_plan(
        network,
        inputs=inputs,
        env=env,
        policy=policy,
        layers=layers,
        trials=trials,
        seed=seed,
    )
    journal = Journal(run, Provenance(machine="simulated device", compiler="none"))
    for layer in plan.layers:
        task, target = layer.task, plan.target
        space, kept = design_space(task, target), 0
        seconds = partial(simulated_seconds_of, task, target, space)
        rounds = search(
            task,
            space,
            plan.policy,
            measurer=SimulatedMeasurer(task.key, space, seconds),
            budget=trials,
            seed=seed,
            rng=np.random.default_rng([seed, layer.index]),
            phases=Phases(),
            default=default_config(task, target),
            observe=RoundJournal(run).append,
        )
        with closing(rounds):
            for history in rounds:
                journal.append(history.measurements[kept:])
                kept = len(history.measurements)
    return NetworkResult(
        network=network,
        env=env,
        policy=policy,
        seed=seed,
        device="simulated device",
        wall_seconds=100.0,
        startup_seconds=10.0,
        phase_seconds={"explore": 20.0, "build": 30.0, "run": 40.0, "other": 10.0},
        layers=(),
    )


def call(module, monkeypatch, *arguments):
    """What the command line does."""
    monkeypatch.setattr(sys, "argv", [module.__file__, *map(str, arguments)])
    module.main()


def section(page, title):
    """A section of a page, from its heading to the next."""
    (found,) = [part for part in page.split("\n## ") if part.startswith(title)]
    return found


def table_after(text, beginning):
    """The first table after a paragraph that begins so: first column -> column -> cell."""
    lines = text[text.index(beginning) :].splitlines()
    first = next(n for n, line in enumerate(lines) if line.startswith("|"))
    rows = []
    for line in lines[first:]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return {row[0]: dict(zip(rows[0], row, strict=True)) for row in rows[2:]}


def check_figures(page, docs, *, others=()):
    """Every picture that the page shows is there, well-formed, and none is left over."""
    shown = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", page)
    assert len(shown) == len(set(shown)) >= 8
    for name in [*shown, *others]:
        assert ET.parse(docs / name).getroot().tag == "{http://www.w3.org/2000/svg}svg"
    drawn = {path.relative_to(docs).as_posix() for path in (docs / "paper").iterdir()}
    assert drawn == {*shown, *others}


def check_commands(page, command):
    """The command stands at the top, and in each section that shows something."""
    titles = re.findall(r"^## (.+)$", page, re.MULTILINE)
    assert len(titles) == 7
    assert f"```sh\n{command}\n```" in page
    for title in titles[1:]:
        assert f"*Drawn by `{command}` from" in section(page, title)


def times(folder):
    """Since when each file is as it is."""
    return {p: p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()}


@pytest.mark.ray
@pytest.mark.slow
def test_the_page_of_recorded_spaces(benchmark, lab, one_ray, monkeypatch, capsys):
    """Figures, commands, numbers that agree; and what is searched already is not searched again."""
    paper, searching = benchmark("paper"), benchmark("chameleon_ray.compare")
    write_space(lab / "hill_one.json", 3)
    write_space(lab / "dale_one.json", 6)
    given = [lab / "hill_one.json", "dale_one.json", "--seeds", "0,1", "--trials", "24"]
    call(paper, monkeypatch, *given)
    page = (lab / "docs/paper.md").read_text()
    check_figures(page, lab / "docs", others=["paper/performance-mean.svg"])
    spaces = f"{lab / 'hill_one.json'} dale_one.json"
    check_commands(page, f'make paper SPACES="{spaces}" SEEDS=0,1 MEASUREMENTS=24')
    assert "(paper-cpu.md)" in page.split("\n## ")[0]
    assert " nan" not in page

    columns = benchmark("paper_text").COLUMNS
    third = table_after(page, "Table 3, ")
    assert list(third) == ["hill_one", "dale_one", "all spaces"]
    performance = section(page, "Performance against")
    heads = ["hill_one, 2 seeds", "dale_one, 2 seeds", "Mean over 2 spaces"]
    for space, head in zip(third, heads, strict=True):
        curves = table_after(performance, head)
        assert set(curves) >= {*columns.values(), "genetic", "random"}
        for label, policy in columns.items():
            assert third[space][label].split()[0] == curves[policy]["24"].split()[0]
    sampling = section(page, "Measurements with")
    rows = [line.split(" | ") for line in sampling.splitlines() if line.startswith("| hill_one")]
    curves = table_after(performance, "hill_one, 2 seeds")
    assert [row[3].split()[0] for row in rows] == [
        curves[policy]["to 95%"].split()[0] for policy in list(columns.values())[:4]
    ]

    before, same = times(lab / "runs"), []
    assert len([p for p in before if p.name.startswith("watched-")]) == 2 * 2 * 5
    with monkeypatch.context() as patch:
        patch.setattr(searching, "_in_tasks", lambda *_, **__: pytest.fail("it searches again"))
        call(paper, monkeypatch, *given)
    assert times(lab / "runs") == before
    assert (lab / "docs/paper.md").read_text() == page

    gone = next(p for p in before if p.name.startswith("watched-"))
    gone.unlink()
    call(paper, monkeypatch, *given)
    after = times(lab / "runs")
    same = [path for path in before if after[path] == before[path]]
    assert len(same) == len(before) - 2  # what was seen, and the search that it was seen of
    assert table_after((lab / "docs/paper.md").read_text(), "Table 3, ") == third
    assert "docs/paper.md" in capsys.readouterr().out


@pytest.mark.ray
@pytest.mark.slow
def test_the_page_of_live_layers(benchmark, lab, one_ray, monkeypatch):
    """The same figures from run folders, and no run is made again."""
    paper_cpu, tuning = benchmark("paper_cpu"), benchmark("chameleon_ray.network_tuner")
    monkeypatch.setattr(tuning, "tune", tune_here)
    monkeypatch.setattr(paper_cpu, "LAYERS", {"resnet18": (2, 5)})
    given = ["--env", "simulated", "--seeds", "0", "--trials", "24", "--out", "runs/some"]
    call(paper_cpu, monkeypatch, *given)
    page = (lab / "docs/paper-cpu.md").read_text()
    shown = re.findall(r"\((paper/[^)]+)\)", page)
    assert all(name.startswith("paper/cpu-") for name in shown)
    check_figures(page, lab / "docs")
    command = "python benchmarks/paper_cpu.py --seeds 0 --trials 24 --env simulated"
    check_commands(page, f"{command} --out runs/some --docs docs")
    assert "(paper.md)" in page.split("\n## ")[0]
    assert "for time" in section(page, "What differs")
    assert "Device: simulated device" in page

    for of_layer in table_after(section(page, "Search steps"), "| layer").values():
        assert float(of_layer["SA (AutoTVM)"]) > 0
        assert float(of_layer["AE"]) > 0  # its walks went again as they had gone

    columns = benchmark("paper_text").COLUMNS
    end = section(page, "Time and quality")
    milliseconds = table_after(end, "Table 3, ")["resnet18"]
    for label in columns:
        assert float(milliseconds[label]) >= float(milliseconds["fastest known"])
        quality = float(table_after(end, "The same as")["resnet18"][label])
        assert quality == pytest.approx(
            float(milliseconds["fastest known"]) / float(milliseconds[label]), abs=0.01
        )
        assert float(table_after(end, "Table 2, ")["resnet18"][label]) > 0

    before = times(lab / "runs")
    monkeypatch.setattr(tuning, "tune", lambda *_, **__: pytest.fail("it tunes again"))
    call(paper_cpu, monkeypatch, *given)
    assert times(lab / "runs") == before
    assert (lab / "docs/paper-cpu.md").read_text() == page


def test_a_command_can_be_given_again(benchmark):
    """Paths as they were given, quoted; what is empty is left out."""
    make = benchmark("paper_text").make_command
    assert make("paper", {"SPACES": "", "SEEDS": "0-9"}) == "make paper SEEDS=0-9"
    spaces = "/far/one.json ../two.json.gz"
    assert make("paper", {"SPACES": spaces}) == f'make paper SPACES="{spaces}"'


def test_an_estimate_is_told_with_its_interval(benchmark):
    """In brackets, without a leading nought; nothing where there is none."""
    text, numbers = benchmark("paper_text"), benchmark("paper_numbers")
    assert text.told(numbers.estimate([0.5]), ".2f") == "0.50"
    assert text.told(numbers.estimate([0.0, 1.0]), ".2f") == "0.50 [.00, 1.00]"
    assert text.told(numbers.estimate([0.0, 0.0]), ".0%") == "0%"
    assert text.told(numbers.estimate([0.0, 1.0]), ".0%") == "50% [0%, 100%]"
    assert text.told(numbers.estimate([-0.5, -0.001]), ".2f") == "-0.25 [-.50, .00]"
    assert text.told(numbers.estimate([]), ".2f") == "-"
    assert text.told(numbers.estimate([1.0, float("nan")]), ".2f") == "-"


def test_only_timed_neighbours_tell_how_alike_clusters_are(benchmark):
    """What is alone in its cluster says nothing."""
    numbers = benchmark("paper_numbers")
    clustered = numbers.Clustered(
        points=np.arange(3, dtype=np.int32)[:, None],
        labels=np.arange(3),
        seconds=np.array([1.0, 1.0, 2.0, 4.0, 9.0]),
        members=np.array([0, 0, 1, 1, 2]),
    )
    seconds, labels = clustered.alike
    assert seconds.tolist() == [1.0, 1.0, 2.0, 4.0]
    assert labels.tolist() == [0, 0, 1, 1]
    own, _, all_ = numbers.spread([clustered], np.random.default_rng(0)).values()
    assert own == pytest.approx([0, 0, 1 / 3, 1 / 3])
    assert all_ == pytest.approx([1 / 3, 1 / 3, 1 / 3, 5 / 3])
    share, chance = numbers.explained([clustered], np.random.default_rng(0))
    logs = np.log2(seconds)
    assert share == pytest.approx(1 - 0.5 / ((logs - logs.mean()) ** 2).sum())
    assert 0 < chance < share
    assert numbers.spread([], np.random.default_rng(0)) == {}


def test_a_blind_walk_ends_when_enough_knobs_stay(benchmark):
    """One knob of many choices stays one time in three; one of a single choice always does."""
    numbers, space = benchmark("paper_numbers"), benchmark("chameleon_ray.space")
    settings = benchmark("chameleon_ray.settings").PpoSettings(resample_unordered=False)
    wide = space.DesignSpace("wide", [space.options("a", tuple(range(10_000)))])
    assert numbers.blind_steps(wide, settings) == pytest.approx(3, abs=0.3)
    single = space.DesignSpace("single", [space.options("a", (1,))])
    assert numbers.blind_steps(single, settings) == 1
