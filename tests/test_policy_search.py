"""Searches of settings without Ray: what is declared, refused, kept, chosen, written and said."""

import json
import xml.etree.ElementTree as ET
from dataclasses import replace

import numpy as np
import pytest
import yaml

from chameleon_ray.errors import ChameleonError, RunFolderError, SettingsError, UnknownNameError
from chameleon_ray.policy_search.declared import (
    Declared,
    check,
    read_declared,
    value_of,
    with_settings,
)
from chameleon_ray.policy_search.experiment import How, own_sample
from chameleon_ray.policy_search.grounds import score_of
from chameleon_ray.policy_search.importance import LEAST, importance
from chameleon_ray.policy_search.judging import CHOSEN, as_chosen, left_out, verdict
from chameleon_ray.policy_search.plan import Asked, make_plan
from chameleon_ray.policy_search.preset import write_preset
from chameleon_ray.policy_search.ranges import Between, Choice, drawn, perturbed, tidied
from chameleon_ray.policy_search.results import write_results
from chameleon_ray.policy_search.samples import Evaluation, Journal, Scored, finalists, scored
from chameleon_ray.policy_search.search import Found
from chameleon_ray.policy_search.usual import usual
from chameleon_ray.policy_search.words import changes, conclusion, notes
from chameleon_ray.presets import known, load_policy
from chameleon_ray.searches import Search, SearchKey
from chameleon_ray.settings import PluginSettings, Policy

RATE = Between(setting="explorer.learning_rate", low=1e-4, high=1e-2, log=True)
SHARE = Between(setting="cost_model.then.temper", low=0.1, high=0.9)
STEPS = Between(setting="explorer.steps", low=1, high=5, whole=True)
BATCH = Choice(setting="sampler.batch", values=(2, 4, 8))
STOP = Choice(setting="explorer.early_stop", values=(None, 0.5, 0.75))
RANGES = (RATE, SHARE, STEPS, BATCH, STOP)


@pytest.fixture
def chameleon():
    """The default policy."""
    return load_policy("chameleon")[1]


@pytest.mark.parametrize("r", RANGES, ids=lambda r: r.setting)
def test_what_is_drawn_lies_in_the_range(r):
    """And so does what lies near it; both reach the whole of it."""
    rng = np.random.default_rng(0)
    found = [r.draw(rng) for _ in range(300)]
    near = [r.near(value, rng) for value in found]
    for values in (found, near):
        assert all(r.holds(value) for value in values)
        places = [r.place(value) for value in values]
        assert min(places) < 0.06
        assert max(places) > 0.94
    assert found != near
    assert [r.tidy(value) for value in found] == found


def test_a_whole_number_has_as_many_draws_as_any_other():
    """Both ends too."""
    rng = np.random.default_rng(0)
    counts = np.bincount([STEPS.draw(rng) for _ in range(5000)])[1:]
    assert len(counts) == 5
    assert all(850 < count < 1150 for count in counts)


def test_by_its_logarithm_the_middle_is_the_geometric_mean():
    """Half of the draws are below it."""
    rng = np.random.default_rng(0)
    assert np.median([RATE.draw(rng) for _ in range(2000)]) == pytest.approx(1e-3, rel=0.15)


def test_near_is_nearer_than_anywhere():
    """On the mean, for numbers."""
    rng = np.random.default_rng(0)
    far = [abs(SHARE.place(SHARE.draw(rng)) - 0.5) for _ in range(500)]
    near = [abs(SHARE.place(SHARE.near(0.5, rng)) - 0.5) for _ in range(500)]
    assert np.mean(near) < 0.8 * np.mean(far)


def test_a_perturbed_sample_differs_and_keeps_some():
    """Each time at least one setting may move; none is lost."""
    rng = np.random.default_rng(0)
    sample = drawn(RANGES, rng)
    others = [perturbed(RANGES, sample, rng) for _ in range(50)]
    assert all(other.keys() == sample.keys() for other in others)
    kept = [sum(other[k] == sample[k] for k in sample) for other in others]
    assert 1 < np.mean(kept) < 4.5


def test_numbers_are_written_with_four_digits():
    """As a person would write them in a preset; ends are not passed."""
    told = {RATE.setting: 0.0012345678, SHARE.setting: 0.95, STEPS.setting: 3.2}
    ranges = (RATE, SHARE, STEPS)
    assert tidied(ranges, told) == {RATE.setting: 0.001235, SHARE.setting: 0.9, STEPS.setting: 3}


def over(tmp_path, text):
    """A file of ranges."""
    path = tmp_path / "over.yaml"
    path.write_text(text)
    return path


def test_a_file_says_what_is_searched(tmp_path, chameleon):
    """Flat or nested as a preset; 1e-4 is a number here though YAML takes it for a text."""
    text = """
        enumerate: 0
        explorer.learning_rate: {log: [1e-4, 1e-2]}
        explorer: {steps: {range: [1, 5]}, early_stop: [null, 0.5, 0.75]}
        cost_model.then.temper: {range: [0.1, 0.9]}
        sampler.batch: [2, 4, 8]
    """
    declared = read_declared(over(tmp_path, text), chameleon)
    assert set(declared.ranges) == set(RANGES)
    assert declared.fixed == {"enumerate": 0}
    assert declared.all_of({"initial": 4}) == {"enumerate": 0, "initial": 4}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("sampler.bach: [2, 4]", "unknown key 'sampler.bach'. Did you mean 'sampler.batch'?"),
        ("explorr.steps: [2, 4]", "unknown key 'explorr'. Did you mean 'explorer'?"),
        ("sampler.threshold: [2, 3]", "unknown key 'sampler.threshold'"),
        ("initial.more: [2, 3]", "initial: "),
        ("samplr: {batch: [2, 3]}", "unknown key 'samplr'"),
        ("sampler.batch: [0, 4]", "sampler.batch: 0 is too small; give a whole number above 0"),
        ("sampler.batch: [2, many]", "sampler.batch: 'many' is not a whole number"),
        ("sampler.batch: {range: [2, 3.5]}", "sampler.batch: it is a whole number"),
        ("cost_model.then.temper: {range: [0.5, 1.5]}", "1.5 is too large; give a number of at mo"),
        ("cost_model.then.temper: {range: [0.9, 0.1]}", "the smaller one first"),
        ("cost_model.then.temper: {range: [0.9]}", "is not two numbers"),
        ("cost_model.then.temper: {range: 0.9}", "is not two numbers"),
        ("cost_model.then.temper: {range: [a, b]}", "is not two numbers"),
        ("cost_model.then.temper: {log: [0, 1]}", "0 has no logarithm"),
        ("cost_model.then.temper: {log: [0.1, 1], range: [0, 1]}", "is no range"),
        ("cost_model.then.products: {range: [0, 1]}", "it is no number (now True)"),
        ("start: {range: [0, 1]}", "it is no number (now 'random')|it is no number (now 'spread')"),
        ("start: [spread, nearby]", "unknown start 'nearby'. Known: random, spread"),
        ("sampler.batch: [4]", "is no choice: give two plain values or more"),
        ("sampler.batch: [4, 4]", "each once"),
        ("sampler.batch: [[4], 5]", "is no choice"),
        ("sampler.kind: [greedy, thompson]", "a kind decides which other settings there are"),
        ("sampler.batch: 4", "nothing is searched"),
        ("sampler.batch: -4", "sampler.batch: -4 is too small"),
        ("explorer.waves: [8, 48]", "must divide episodes"),
        ("{explorer.waves: [8, 16], explorer.episodes: {range: [64, 128]}}", "must divide"),
        ("[1, 2]", "no settings"),
        ("", "it is empty"),
        ("a: [", "not valid YAML"),
    ],
)
def test_what_cannot_be_searched_is_refused(tmp_path, chameleon, text, told):
    """With file, setting and remedy, before anything is started."""
    with pytest.raises(ChameleonError) as caught:
        read_declared(over(tmp_path, text), chameleon)
    assert any(part in str(caught.value) for part in told.split("|")), str(caught.value)
    assert "over.yaml" in str(caught.value)


def test_settings_change_what_they_name_and_nothing_else(chameleon):
    """However deep they lie."""
    found = with_settings(chameleon, {"cost_model.then.temper": 0.7, "initial": 5}, where="x")
    then = replace(chameleon.cost_model.then, temper=0.7)
    assert found == replace(
        chameleon, initial=5, cost_model=replace(chameleon.cost_model, then=then)
    )
    assert value_of(found, "cost_model.then.temper") == 0.7
    assert value_of(found, "nothing.there") is None
    with pytest.raises(UnknownNameError, match="x: unknown key"):
        with_settings(chameleon, {"cost_model.when.temper": 0.7}, where="x")


@pytest.mark.parametrize("name", known("policies"))
@pytest.mark.parametrize("walks", [True, False])
def test_every_policy_has_usual_ranges(name, walks):
    """All of whose values it can have, together too."""
    policy = load_policy(name)[1]
    declared = usual(policy, walks=walks, default=True, trials=64)
    check(declared, policy, where=name)
    own = own_sample(policy, declared.ranges)
    assert with_settings(policy, own, where=name) == policy
    explored = [r for r in declared.ranges if r.setting.startswith("explorer.")]
    assert bool(explored) == walks


def test_the_paper_s_settings_are_searched_where_an_agent_walks(chameleon):
    """Table 9, the episode of Table 7, and what samples."""
    names = {r.setting for r in usual(chameleon, walks=True, default=False, trials=64).ranges}
    table9 = ("learning_rate", "discount", "gae", "epochs", "clip")
    coefficients = ("value_coefficient", "entropy_coefficient")
    of_agent = {f"explorer.{k}" for k in (*table9, *coefficients, "episodes", "steps")}
    assert of_agent <= names
    assert "sampler.batch" in names
    assert "neighbours" not in names
    paper = load_policy("chameleon_paper")[1]
    assert "sampler.threshold" in {
        r.setting for r in usual(paper, walks=True, default=True, trials=64).ranges
    }


@pytest.mark.parametrize(("trials", "most"), [(1, 8), (8, 8), (64, 32), (512, 64)])
def test_no_more_than_half_of_a_search_is_blind(chameleon, trials, most):
    """But as the policy itself has it: all attempts made blindly, no other setting matters."""
    declared = usual(chameleon, walks=False, default=False, trials=trials)
    (initial,) = [r for r in declared.ranges if r.setting == "initial"]
    assert max(initial.values) == most


def test_the_own_sample_of_a_policy_is_the_policy(chameleon):
    """None where its settings are not among those searched."""
    declared = usual(chameleon, walks=True, default=True, trials=64)
    own = own_sample(chameleon, declared.ranges)
    assert with_settings(chameleon, own, where="x") == chameleon
    odd = replace(chameleon, initial=7)
    assert own_sample(odd, declared.ranges) is None


def space(tmp_path, name="line_cpu", n=20):
    """A recorded space of a few configs."""
    cache = {str(a): {"a": a, "time": 1.0 + abs(a - 7)} for a in range(n)}
    file = tmp_path / f"{name}.json"
    file.write_text(json.dumps({"tune_params": {"a": list(range(n))}, "cache": cache}))
    return str(file)


def asked(tmp_path, **changes):
    """A small question."""
    how = How(samples=4, scheduler="asha", searcher="random", at_once=1, seed=0)
    usually = {
        "spaces": (space(tmp_path),),
        "seeds": (0, 1),
        "judge_seeds": (2, 3),
        "trials": 8,
        "how": how,
        "out": tmp_path / "out",
    }
    return Asked(**usually | changes)


def test_ppo_is_not_searched_where_it_does_not_walk(tmp_path):
    """A small space is scored whole: the usual ranges leave PPO out, and a file's are refused."""
    plan = make_plan(asked(tmp_path))
    assert not [r for r in plan.declared.ranges if r.setting.startswith("explore")]
    path = over(tmp_path, "explorer.learning_rate: {log: [1e-4, 1e-2]}")
    with pytest.raises(SettingsError, match=r"learning_rate does nothing here.*enumerate: 0"):
        make_plan(asked(tmp_path, over=path))
    path.write_text("{enumerate: 0, explorer.learning_rate: {log: [1e-4, 1e-2]}}")
    fixed = make_plan(asked(tmp_path, over=path))
    assert fixed.declared.fixed == {"enumerate": 0}
    assert (plan.own_name, fixed.own_name) == ("chameleon", "chameleon with the fixed settings")
    path.write_text("neighbours: [0, 8]")
    with pytest.raises(SettingsError, match="no space has a default"):
        make_plan(asked(tmp_path, over=path))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"judge_seeds": (1, 5)}, "--judge-seeds: 1 is among --seeds too"),
        ({"policy": "nonesuch"}, "unknown policy"),
        ({"spaces": ("nowhere.json",)}, "nowhere.json"),
    ],
)
def test_bad_questions(tmp_path, changes, told):
    """Are refused before anything is started."""
    with pytest.raises(ChameleonError, match=told):
        make_plan(asked(tmp_path, **changes))


def test_one_space_twice(tmp_path):
    """Results are told apart by name."""
    one = space(tmp_path)
    with pytest.raises(SettingsError, match="line_cpu stands twice"):
        make_plan(asked(tmp_path, spaces=(one, one)))


def test_pbt_proposes_itself():
    """So no searcher goes with it."""
    how = How(samples=4, scheduler="pbt", searcher="optuna", at_once=1, seed=0)
    with pytest.raises(SettingsError, match="--search random"):
        how.check()


def test_a_missing_optuna_is_told(monkeypatch):
    """With what to install."""
    how = How(samples=4, scheduler="asha", searcher="optuna", at_once=1, seed=0)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(SettingsError, match=r"chameleon-ray\[search\]"):
        how.check()


def test_the_question_is_all_that_scores_depend_on(tmp_path):
    """More samples or fewer at once are the same one."""
    one = make_plan(asked(tmp_path))
    more = replace(one, how=replace(one.how, samples=99, at_once=2))
    assert more.question == one.question
    for other in (
        replace(one, seeds=(0, 2)),
        replace(one, base=replace(one.base, initial=99)),
        replace(one, how=replace(one.how, scheduler="none")),
        replace(one, declared=Declared(ranges=one.declared.ranges[1:], fixed={})),
        replace(one, ground=replace(one.ground, trials=9)),
    ):
        assert other.question != one.question


def test_a_score_is_the_mean_over_the_points_of_compare():
    """16, 32 and 64 of 64 attempts; 0 before anything succeeded."""
    best = (None,) * 16 + (4.0,) * 16 + (2.0,) * 32
    assert score_of(best, 1.0, 64) == pytest.approx((0 + 0.25 + 0.5) / 3)


def evaluation(sample, number, mean, **settings):
    """One sample with one seed on two spaces."""
    scores = {"a": mean - 0.1, "b": mean + 0.1}
    return Evaluation(sample=sample, number=number, settings=settings, scores=scores)


def test_equal_settings_are_scored_together():
    """Whichever members of a population had them, and the last iteration says who is left."""
    told = [
        evaluation(1, 1, 0.4, x=2),
        evaluation(0, 1, 0.5, x=1),
        evaluation(0, 2, 0.7, x=1),
        evaluation(1, 2, 0.9, x=1),
        evaluation(2, 2, 0.1, x=3),
    ]
    found = scored(told)
    assert [(s.settings["x"], s.sample) for s in found] == [(1, 0), (2, 1), (3, 2)]
    assert found[0].means == {1: pytest.approx(0.5), 2: pytest.approx(0.9)}
    assert found[0].mean == pytest.approx(0.7)
    assert [s.settings["x"] for s in finalists(told)] == [1, 3]
    assert [s.settings["x"] for s in finalists(told, {"x": 2})] == [1, 2, 3]


def test_a_journal_proposes_again_what_it_proposed(tmp_path):
    """In the same order; of another question it is refused, and so is a damaged one."""
    path = tmp_path / "out" / "samples.json"
    journal = Journal.open(path, "q")
    journal.propose(1, {"x": None})  # samples may begin in any order
    journal.propose(0, {"x": 1})
    journal.propose(0, {"x": 9})  # goes on, is not begun
    journal.tell(evaluation(0, 1, 0.5, x=1))
    again = Journal.open(path, "q")
    assert again.proposed == {0: {"x": 1}, 1: {"x": None}}
    assert again.evaluations == []
    with pytest.raises(RunFolderError, match="samples of another search"):
        Journal.open(path, "other")
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(RunFolderError, match="Remove it"):
        Journal.open(path, "q")


@pytest.mark.parametrize("name", known("policies"))
def test_a_preset_is_the_policy(tmp_path, name):
    """As read again, whatever the policy."""
    policy = replace(load_policy(name)[1], initial=17)
    path = tmp_path / "p" / "policy.yaml"
    write_preset(path, policy, ["Where it comes from: " + "words " * 40, "And more."])
    assert load_policy(str(path))[1] == policy
    assert all(len(line) < 100 for line in path.read_text().splitlines())


def test_a_preset_states_what_differs(tmp_path):
    """And the kinds of its parts; plugins and nothing at all are no trouble."""
    path = tmp_path / "policy.yaml"
    write_preset(path, Policy(initial=5), ["x"])
    assert yaml.safe_load(path.read_text()) == {"initial": 5}
    part = PluginSettings(kind="mine:Walk", options={"n": 3})
    write_preset(path, Policy(explorer=part), ["x"])
    found = yaml.safe_load(path.read_text())
    assert found == {"explorer": {"kind": "mine:Walk", "options": {"n": 3}}}


def samples(score, n=60):
    """Samples of two settings, with a score that is a function of them and a little noise."""
    rng = np.random.default_rng(0)
    found = []
    for number in range(n):
        settings = drawn((SHARE, BATCH), rng)
        mean = score(settings) + float(rng.normal(0, 0.01))
        found.append(Scored(sample=number, settings=settings, means={1: mean}))
    return found


def test_what_matters_is_important():
    """A setting that decides the score, beside one that does not."""
    found = importance((SHARE, BATCH), samples(lambda s: s[SHARE.setting]), seed=0)
    assert found.explained > 0.8
    assert found.drops[SHARE.setting] > 0.5
    assert abs(found.drops[BATCH.setting]) < 0.1


def test_of_noise_nothing_is_explained():
    """So that nobody reads the bars of it; of a handful of samples nothing is said."""
    assert importance((SHARE, BATCH), samples(lambda s: 0.5), seed=0).explained < 0.1
    assert importance((SHARE, BATCH), samples(lambda s: 0.5)[: LEAST - 1], seed=0) is None


def test_members_of_a_population_are_compared_within_an_iteration():
    """An easy seed makes no setting good."""
    rng, members = np.random.default_rng(0), []
    for number in range(60):
        settings, iteration = drawn((SHARE, BATCH), rng), number % 2 + 1
        mean = 0.1 * settings[SHARE.setting] + 0.5 * iteration
        members.append(Scored(sample=number, settings=settings, means={iteration: mean}))
    assert importance((SHARE, BATCH), members, seed=0).explained > 0.7


def test_whole_kernels_are_left_out():
    """One kernel alone leaves no others."""
    kernels = {"conv_A": "conv", "gemm_A": "gemm", "conv_B": "conv"}
    assert left_out(kernels) == {"conv": ("conv_A", "conv_B"), "gemm": ("gemm_A",)}
    assert left_out({"conv_A": "conv", "conv_B": "conv"}) == {}


def searches(kernel, base, chosen, seeds=20):
    """Searches of one space: how much slower than the optimum each ends."""
    rng = np.random.default_rng(1)
    found = []
    for name, slower in (("base", base), (f"chosen without {kernel}", chosen)):
        for seed in range(seeds):
            key = SearchKey(
                space=f"{kernel}_A",
                space_digest="1",
                policy=name,
                policy_digest="2",
                seed=seed,
                trials=16,
            )
            found.append(
                Search(
                    key=key,
                    kernel=kernel,
                    reference_seconds=1.0,
                    best_seconds=(slower + float(rng.random()) * 0.01,),
                    outcomes={},
                    phase_seconds={},
                )
            )
    return found


@pytest.mark.parametrize(
    ("chosen", "told"), [(1.1, "are better"), (1.5, "are WORSE"), (1.3, "No difference")]
)
def test_the_verdict_is_of_what_was_left_out(chosen, told):
    """Under one name, whatever was chosen for each kernel; paired by seed."""
    found = [
        one
        for kernel in ("conv", "gemm")
        for one in as_chosen(searches(kernel, 1.3, chosen), base="base")
    ]
    tables = verdict(found, base="base", trials=16)
    assert [t.space for t in tables] == ["conv_A", "gemm_A", "all spaces"]
    assert [row.policy for row in tables[-1].rows] == ["base", CHOSEN]
    assert tables[-1].rows[1].differences[0].n == 20
    assert told in conclusion(tables[-1], "base")


@pytest.fixture
def found(tmp_path):
    """What a search of twelve samples came to, without one."""
    plan = make_plan(asked(tmp_path))
    rng, ranges = np.random.default_rng(0), plan.declared.ranges
    told = [
        Evaluation(
            sample=sample,
            number=number,
            settings=settings,
            scores={"line_cpu": float(rng.random())},
        )
        for sample in range(12)
        for settings in [own_sample(plan.base, ranges) if sample == 0 else drawn(ranges, rng)]
        for number in range(1, 3 if sample < 4 else 2)
    ]
    winner = max(finalists(told), key=lambda s: s.mean)
    return Found(
        plan=plan,
        evaluations=told,
        winner=winner,
        policy=with_settings(plan.base, plan.declared.all_of(winner.settings), where="x"),
        is_base=winner.sample == 0,
        folds=(),
        verdict=(),
        seconds={},
    )


def test_the_page_shows_every_sample(found):
    """A line each in both charts, the winner's and the base policy's by name; XML throughout."""
    preset, page = write_results(found)
    svgs = {path.stem: ET.parse(path).getroot() for path in page.with_suffix("").glob("*.svg")}
    assert set(svgs) == {"importance", "coordinates", "curves"}
    tag = "{http://www.w3.org/2000/svg}"
    for name in ("coordinates", "curves"):
        texts = [text.text for text in svgs[name].iter(f"{tag}text")]
        assert {"winner", "chameleon"} <= set(texts)
        faint = [p for p in svgs[name].iter(f"{tag}path") if "faint" in p.get("class")]
        assert len(faint) == 10
    rows = [text.text for text in svgs["coordinates"].iter(f"{tag}text")]
    assert [r.setting for r in found.plan.declared.ranges if r.setting not in rows] == []
    html = page.read_text()
    assert "all spaces are of one kernel" in html
    assert "http://" not in html.replace("http://www.w3.org/2000/svg", "")
    assert load_policy(str(preset))[1].cost_model == found.policy.cost_model


def test_a_winner_that_is_the_base_is_told(found):
    """And nothing is said of settings that it does not change."""
    own = own_sample(found.plan.base, found.plan.declared.ranges)
    same = replace(found, winner=replace(found.winner, settings=own), is_base=True)
    assert "chameleon itself" in " ".join(notes(same))
    assert changes(same) == "no other settings"
    assert "against" in " ".join(notes(replace(found, is_base=False)))
