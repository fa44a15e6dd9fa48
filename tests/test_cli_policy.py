"""`search-policy` on the command line: what is parsed, refused, passed on, printed."""

import json
from types import SimpleNamespace

import pytest

from chameleon_ray.policy_search.experiment import How
from chameleon_ray.policy_search.samples import Scored


@pytest.fixture
def path(tmp_path):
    """A recorded space of twenty configs."""
    cache = {str(a): {"a": a, "time": 1.0 + abs(a - 7)} for a in range(20)}
    file = tmp_path / "line_cpu.json"
    file.write_text(json.dumps({"tune_params": {"a": list(range(20))}, "cache": cache}))
    return file


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--space", "x.json", "--network", "resnet18"], "one of them"),
        (["--layers", "1"], "--layers and --env belong to --network"),
        (["--network", "resnet18", "--layers", ""], "--layers: no layer is named"),
        (["--network", "resnet19"], "unknown network"),
        (["--space", "nowhere.json"], "nowhere.json"),
        (["--space", "PATH", "--space", "PATH"], "line_cpu stands twice"),
        (["--space", "PATH", "--policy", "nonesuch"], "unknown policy 'nonesuch'"),
        (["--space", "PATH", "--seeds", "5-1"], "upside down"),
        (["--space", "PATH", "--seeds", ""], "--seeds: '' is no seed"),
        (["--space", "PATH", "--seeds", "0-101"], "--judge-seeds: 100 is among --seeds"),
        (["--space", "PATH", "--over", "nowhere.yaml"], "nowhere.yaml"),
        (["--space", "PATH", "--over", "OVER"], "unknown key 'sampler.bach'"),
        (["--space", "PATH", "--scheduler", "pbt", "--search", "optuna"], "--search random"),
        (["--space", "PATH", "--scheduler", "hyperband"], "hyperband"),
        (["--space", "PATH", "--samples", "0"], "0"),
        (["--space", "PATH", "--at-once", "9999"], "--at-once: 9999 samples on"),
        (["--space", "PATH", "--out", "PATH"], "line_cpu.json"),
    ],
)
def test_bad_input(call, tmp_path, path, arguments, told):
    """Is a message and code 2, and nothing is made."""
    over = tmp_path / "over.yaml"
    over.write_text("sampler.bach: [2, 4]")
    given = [{"PATH": str(path), "OVER": str(over)}.get(a, a) for a in arguments]
    if "--out" not in given:
        given += ["--out", str(tmp_path / "out")]
    code, out, err = call("search-policy", *given)
    assert code == 2
    assert told in " ".join(err.split())
    assert "Traceback" not in err
    assert out == ""
    assert not (tmp_path / "out").exists()


@pytest.fixture
def searcher(monkeypatch, tmp_path):
    """Stands in for the search; what it was asked is kept."""
    asked = []

    def search(plan, on_progress):
        asked.append(plan)
        on_progress("all spaces", 1, 2)
        winner = Scored(sample=1, settings={"initial": 4}, means={1: 0.5})
        return SimpleNamespace(
            plan=plan,
            winner=winner,
            is_base=False,
            verdict=[],
            folds=[],
            seconds={"all spaces": 1.0},
            evaluations=[],
        )

    monkeypatch.setattr("chameleon_ray.policy_search.search.search_policy", search)
    written = (tmp_path / "policy.yaml", tmp_path / "report.html")
    monkeypatch.setattr("chameleon_ray.policy_search.results.write_results", lambda found: written)
    return asked


def test_everything_is_passed_on(call, searcher, path, tmp_path):
    """And what is not said has its default."""
    code, out, err = call(
        "search-policy", "--space", path, "--samples", 5, "--trials", 9, "--seeds", "0-2",
        "--judge-seeds", "7,9", "--scheduler", "pbt", "--at-once", 1, "--seed", 3,
        "--policy", "random", "--out", tmp_path / "out", "--json",
    )  # fmt: skip
    assert code == 0, err
    (plan,) = searcher
    assert plan.how == How(samples=5, scheduler="pbt", searcher="random", at_once=1, seed=3)
    assert (plan.seeds, plan.judge_seeds, plan.trials) == ((0, 1, 2), (7, 9), 9)
    assert (plan.base_name, plan.out) == ("random", tmp_path / "out")
    told = json.loads(out)
    assert told["settings"] == {"initial": 4}
    assert told["preset"] == str(tmp_path / "policy.yaml")
    call("search-policy", "--space", path, "--no-judge", "--out", tmp_path / "other")
    assert searcher[1].judge_seeds == ()
    assert searcher[1].seeds == tuple(range(16))


def test_ctrl_c(call, monkeypatch, searcher, path, tmp_path):
    """Tells how to go on."""

    def interrupted(plan, on_progress):
        raise KeyboardInterrupt

    monkeypatch.setattr("chameleon_ray.policy_search.search.search_policy", interrupted)
    code, _, err = call("search-policy", "--space", path, "--out", tmp_path / "out")
    assert code == 130
    assert "goes on" in err
