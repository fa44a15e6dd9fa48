"""Searches of settings with Ray Tune, on small spaces: found, kept, stopped, gone on with."""

import json
import subprocess
import sys
import threading
import time
from dataclasses import replace

import psutil
import pyarrow.parquet as pq
import pytest

from chameleon_ray.errors import RunFolderError
from chameleon_ray.policy_search.experiment import How, own_sample
from chameleon_ray.policy_search.plan import Asked, make_plan
from chameleon_ray.policy_search.results import write_results
from chameleon_ray.policy_search.samples import scored
from chameleon_ray.policy_search.search import search_policy
from chameleon_ray.presets import load_policy
from chameleon_ray.searches import SEARCHES, policy_digest
from chameleon_ray.session import ray_session

pytestmark = [pytest.mark.ray, pytest.mark.slow]

BASE = """
initial: 40
explorer: {kind: random, draws: 64}
sampler: {kind: greedy, batch: 8, epsilon: 0}
cost_model: {kind: forest, trees: 8}
"""
OVER = """
initial: [2, 6, 40]
sampler.batch: [1, 2, 8]
cost_model.clip: {range: [0.3, 1.0]}
"""


def valley(tmp_path, name, a, b):
    """A recorded space, smooth but for a gap: with a model its bottom is soon found."""
    cache = {}
    for x in range(16):
        for y in range(16):
            ms = 1.0 + (x - a) ** 2 + (y - b) ** 2
            cache[f"{x},{y}"] = {"x": x, "y": y, "time": "Failed" if x == y else ms}
    file = tmp_path / f"{name}.json"
    tune_params = {"x": list(range(16)), "y": list(range(16))}
    file.write_text(json.dumps({"tune_params": tune_params, "cache": cache}))
    return str(file)


@pytest.fixture(scope="module", autouse=True)
def _ray():
    """One for all tests: each would start its own."""
    with ray_session(address=None, cpus=2):
        yield


@pytest.fixture
def asked(tmp_path):
    """A question on three spaces of two kernels."""
    (tmp_path / "base.yaml").write_text(BASE)
    (tmp_path / "over.yaml").write_text(OVER)
    spaces = {"valley_one": (12, 3), "valley_two": (11, 2), "ridge_one": (2, 9)}
    return Asked(
        spaces=tuple(valley(tmp_path, name, *at) for name, at in spaces.items()),
        policy=str(tmp_path / "base.yaml"),
        over=tmp_path / "over.yaml",
        seeds=(0, 1, 2, 3),
        judge_seeds=tuple(range(10, 22)),
        trials=40,
        how=How(samples=8, scheduler="asha", searcher="random", at_once=2, seed=0),
        out=tmp_path / "out",
    )


def files(out):
    """The finished searches, and since when they lie there."""
    return {path.name: path.stat().st_mtime_ns for path in (out / SEARCHES).iterdir()}


def of_samples(out):
    """What the searches of samples are of: space, seed and settings."""
    table = pq.read_table(out / SEARCHES).to_pylist()
    return [
        (row["space"], row["policy_digest"], row["seed"])
        for row in table
        if row["policy"].startswith("sample-")
    ]


def test_a_better_setting_is_found_and_holds_where_it_was_not_chosen(asked):
    """The base policy draws all its 40 attempts at random; samples that learn are better."""
    told, lock = [], threading.Lock()  # which cannot be pickled

    def on_progress(what, done, total):
        with lock:
            told.append((what, done, total))

    found = search_policy(make_plan(asked), on_progress)
    assert not found.is_base
    assert found.winner.settings["initial"] < 40
    assert [fold.kernel for fold in found.folds] == ["valley", "ridge"]
    assert found.folds[0].spaces == ("valley_one", "valley_two")
    last = found.verdict[-1]
    assert last.space == "all spaces"
    assert last.rows[1].differences[-2].mean > 0.1
    assert last.rows[1].differences[-2].p < 0.05
    preset, page = write_results(found)
    assert load_policy(str(preset))[1] == replace(
        found.policy, description=load_policy(str(preset))[1].description
    )
    assert "are better than those of" in preset.read_text().replace("\n# ", " ")
    html = page.read_text()
    for part in ("Learning curves", "Every sample across", "chosen elsewhere", "without ridge"):
        assert part in html
    parts = {what for what, _, _ in told}
    assert {"all spaces", "without valley", "without ridge", "judging on ridge"} <= parts
    assert max(done for what, done, _ in told if what == "all spaces") == 8 * 4


def test_asha_stops_the_poor_and_the_best_go_all_the_way(asked):
    """The base policy's own settings are the first sample, and have all seeds in any case."""
    asked = replace(asked, judge_seeds=())
    plan = make_plan(asked)
    found = search_policy(plan)
    iterations = {s.sample: len(s.means) for s in scored(found.evaluations)}
    assert len(iterations) == 8
    assert min(iterations.values()) == 1
    assert max(iterations.values()) == 4
    own = own_sample(plan.base, plan.declared.ranges)
    (base,) = [s for s in scored(found.evaluations) if s.settings == own]
    assert base.sample == 0
    assert len(base.means) == 4
    assert base.mean < found.winner.mean
    assert len(found.winner.means) == 4
    assert found.verdict == []
    assert found.folds == ()


def test_nothing_is_searched_twice(asked):
    """Neither by the searches without a kernel, nor when asked again, nor with more samples."""
    asked = replace(asked, how=replace(asked.how, scheduler="none"), seeds=(0, 1))
    first = search_policy(make_plan(asked))
    searched = of_samples(asked.out)
    assert len(searched) == 8 * 2 * 3  # the searches without a kernel found theirs there
    assert len(set(searched)) == len(searched)
    before = files(asked.out)
    more = replace(asked, how=replace(asked.how, samples=10), judge_seeds=())
    found = scored(search_policy(make_plan(more)).evaluations)
    assert len(found) == 10
    assert found[:8] == scored(first.evaluations)
    assert before.items() <= files(asked.out).items()
    searched = of_samples(asked.out)
    assert len(set(searched)) == len(searched)
    with pytest.raises(RunFolderError, match="samples of another search"):
        search_policy(make_plan(replace(asked, seeds=(0, 2))))


def test_pbt_breeds_settings_that_nobody_drew(asked):
    """The worst of a population take settings near those of the best; all is scored in the end."""
    how = replace(asked.how, scheduler="pbt")
    plan = make_plan(replace(asked, how=how, judge_seeds=(), seeds=tuple(range(6))))
    found = search_policy(plan)
    drawn = json.loads((asked.out / "samples.json").read_text())["proposed"].values()
    assert len(drawn) == 4
    bred = [e for e in found.evaluations if e.settings not in drawn]
    assert len({json.dumps(dict(e.settings)) for e in bred}) > 1
    for e in found.evaluations:
        assert all(r.holds(e.settings[r.setting]) for r in plan.declared.ranges)
    assert len(found.winner.means) == 6
    assert found.winner.mean == max(s.mean for s in scored(found.evaluations) if len(s.means) == 6)


def test_optuna_learns_and_goes_on_with_what_it_proposed(asked):
    """Its first sample is random or the base's own, and more of them go on after the known ones."""
    pytest.importorskip("optuna")
    how = replace(asked.how, searcher="optuna", samples=6)
    asked = replace(asked, how=how, judge_seeds=())
    search_policy(make_plan(asked))
    first = json.loads((asked.out / "samples.json").read_text())["proposed"]
    assert len({json.dumps(settings) for settings in first.values()}) > 3
    before = files(asked.out)
    more = replace(asked, how=replace(how, samples=9))
    search_policy(make_plan(more))
    then = json.loads((asked.out / "samples.json").read_text())["proposed"]
    assert first.items() <= then.items()
    assert len(then) == 9
    assert before.items() <= files(asked.out).items()
    fresh = [settings for number, settings in then.items() if number not in first]
    assert not [settings for settings in fresh if settings in first.values()]


def command(asked):
    """The same as a process of its own."""
    line = [sys.executable, "-m", "chameleon_ray", "search-policy", "--json"]
    for space in asked.spaces:
        line += ["--space", space]
    line += ["--policy", asked.policy, "--over", str(asked.over), "--out", str(asked.out)]
    line += ["--samples", "8", "--trials", "40", "--seeds", "0-3", "--no-judge"]
    return subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def kill(process):
    """As the machine's last resort does; Ray's own agents take minutes to end, so they get none."""
    family = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.communicate()
    ours = [p for p in family if p.name() not in ("ray::DashboardAgent", "ray::RuntimeEnvAgent")]
    _, alive = psutil.wait_procs(ours, timeout=60)
    assert not alive


def test_killed_and_started_again_it_goes_on(asked):
    """kill -9 of what drives it: what was searched is kept as it was, the result is whole."""
    process = command(asked)
    while not (asked.out / SEARCHES).is_dir() or len(files(asked.out)) < 10:
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    kill(process)
    before = files(asked.out)
    process = command(asked)
    printed, said = process.communicate(timeout=250)
    assert process.returncode == 0, said
    after = files(asked.out)
    kept = {name: at for name, at in before.items() if name.endswith(".parquet")}
    assert kept.items() <= after.items()
    searched = of_samples(asked.out)
    assert len(set(searched)) == len(searched)
    result = json.loads(printed)
    policy = load_policy(result["preset"])[1]
    assert policy.initial == result["settings"]["initial"]
    assert policy_digest(policy) in {digest for _, digest, _ in searched}


def trainables():
    """The processes that score samples."""
    children = psutil.Process().children(recursive=True)
    return [p for p in children if p.name().startswith("ray::ResourceTra")]


def test_a_sample_s_process_that_dies_costs_what_it_was_searching(asked):
    """The sample goes on in another one, with what was kept."""
    killed = []

    def on_progress(what, done, total):
        if done >= 3 and not killed:
            killed.extend(trainables()[:1])
            killed[0].kill()

    how = replace(asked.how, scheduler="none", samples=4)
    found = search_policy(make_plan(replace(asked, how=how, judge_seeds=())), on_progress)
    assert killed
    assert {len(s.means) for s in scored(found.evaluations)} == {4}
    assert len(scored(found.evaluations)) == 4
    searched = of_samples(asked.out)
    assert len(set(searched)) == len(searched) == 4 * 4 * 3


@pytest.mark.timeout(600)
def test_layers_of_a_network_are_as_good_a_ground(tmp_path):
    """Runs on a simulated device, one after another; each layer is left out in turn."""
    (tmp_path / "over.yaml").write_text("{initial: [4, 16], sampler.batch: [4, 8]}")
    asked = Asked(
        network="resnet18",
        layers=(2, 5),
        env="simulated",
        over=tmp_path / "over.yaml",
        seeds=(0,),
        judge_seeds=(5,),
        trials=16,
        how=How(samples=2, scheduler="none", searcher="random", at_once=1, seed=0),
        out=tmp_path / "out",
    )
    found = search_policy(make_plan(asked))
    evaluations = {e.sample: e for e in found.evaluations}
    assert set(evaluations[0].scores) == {"resnet18-2", "resnet18-5"}
    assert [fold.kernel for fold in found.folds] == ["resnet18-2", "resnet18-5"]
    assert [t.space for t in found.verdict] == ["resnet18-2", "resnet18-5", "all spaces"]
    runs = [path for path in tmp_path.glob("out/resnet18-*-seed0") if path.is_dir()]
    assert len(runs) == len({json.dumps(dict(e.settings)) for e in found.evaluations} | {"base"})
    write_results(found)
