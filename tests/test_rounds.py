"""Rounds: what the loop tells of them, and the journal that keeps each once."""

import dataclasses
import sys
from datetime import UTC, datetime
from unittest import mock

import numpy as np
import pytest
from contracts import a_space

from chameleon_ray import rounds
from chameleon_ray.cost_model import make_cost_model
from chameleon_ray.explorers import Candidates, WalkReport, report_of
from chameleon_ray.explorers.around import SparingExplorer
from chameleon_ray.measure import Measurement, Outcome, Purpose
from chameleon_ray.parts import PartStore
from chameleon_ray.phases import Phases
from chameleon_ray.records import Journal, Provenance, read_records
from chameleon_ray.rounds import _KIND, Round, RoundJournal, read_rounds
from chameleon_ray.sampling import make_sampler
from chameleon_ray.settings import AdaptiveSettings, CostModelSettings, GreedySettings, Policy
from chameleon_ray.task_tuner import TaskTuner
from chameleon_ray.tasks import NamedTask

SPACE = a_space()
TASK = NamedTask(key="a task")
ROUND = Round(
    task="a task",
    number=1,
    measured_before=9,
    evaluated=2000,
    candidates=812,
    best_score=0.97,
    points=((0, 1, 2), (3, 1, 0)),
    clusters=(1, 0),
    chosen=((0, 1, 1), (2, 2, 2)),
    seconds=(1.5e-3, None),
    wave_scores=(0.5, 0.6),
    steps=300,
    entropy=(8.8, 8.7),
    value_loss=(14.0, 5.0),
    policy_loss=(-0.02, -0.01),
    phase_seconds={"fit": 0.25, "explore": 1.5},
    ended_at=datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC),
)


class Walker:
    """An explorer that reports."""

    def __init__(self):
        self.report = None

    def explore(self, space, score, starts, rng):
        configs = space.random(64, rng)
        steps = len(configs)
        self.report = WalkReport(
            steps=steps, wave_scores=(0.5,), steps_by_worker={0: steps}, entropy=(8.0,)
        )
        return Candidates.ranked(space, configs, score(configs))

    def close(self):
        pass


class Halves:
    """Measures every config whose first choice is even; the others fail."""

    def submit(self, configs, *, purpose):
        for at, config in enumerate(configs):
            ok = config[0] % 2 == 0
            yield (
                at,
                Measurement(
                    task=TASK.key,
                    config=SPACE.describe(config),
                    purpose=Purpose.SEARCH,
                    outcome=Outcome.OK if ok else Outcome.RUN_ERROR,
                    repeat_seconds=(1e-3 * (1 + config.sum()),) if ok else (),
                ),
            )


def rounds_of(*, explorer, sampler, trials=40):
    """What a search tells of its rounds, and its history."""
    told, rng = [], np.random.default_rng(0)
    *_, history = TaskTuner(
        TASK,
        SPACE,
        first=SPACE.random(9, rng),
        explorer=explorer,
        sampler=make_sampler(Policy(sampler=sampler)),
        measurer=Halves(),
        cost_model=make_cost_model(CostModelSettings(), seed=0),
        budget=trials,
        rng=rng,
        phases=Phases(),
        observe=told.append,
    )
    return told, history


def test_each_round_is_told_once_with_what_was_measured():
    """Numbers count up, and the batches are the history after the first batch, in its order."""
    told, history = rounds_of(explorer=Walker(), sampler=GreedySettings(batch=8))
    assert [r.number for r in told] == [1, 2, 3, 4]
    assert [r.measured_before for r in told] == [9, 17, 25, 33]
    assert [c for r in told for c in r.chosen] == [tuple(c) for c in history.configs[9:].tolist()]
    seconds = [s for r in told for s in r.seconds]
    assert seconds == [m.seconds if m.ok else None for m in history.measurements[9:]]
    assert None in seconds
    assert {r.evaluated for r in told} == {64}
    assert told[0].entropy == (8.0,)
    assert told[0].clusters == ()
    assert len(told[0].points) == told[0].candidates


def test_clusters_come_with_their_points():
    """Adaptive sampling tells which candidates it clustered, and how."""
    told, _ = rounds_of(explorer=Walker(), sampler=AdaptiveSettings(), trials=30)
    for round_ in told:
        assert len(round_.clusters) == len(round_.points) <= 64
        assert len(set(round_.clusters)) > 1


def test_a_report_is_reached_through_the_explorers_around_it():
    """A round that walked reports; a spared one does not."""
    spared = SparingExplorer(Walker(), every=2)
    told, _ = rounds_of(explorer=spared, sampler=GreedySettings(batch=8))
    assert [bool(r.wave_scores) for r in told] == [True, False, True, False]
    assert [r.steps for r in told] == [64, 0, 64, 0]
    assert told[0].evaluated > 64  # the walks and what was scored after them


def test_what_is_no_report_is_none():
    """A plugin's attribute of the same name does not end a run."""
    plugin = Walker()
    plugin.report = "all went well"
    assert report_of(plugin) is None


def test_a_round_is_read_back_as_it_was(tmp_path):
    """Every field, to the microsecond; rounds come by task and number."""
    journal = RoundJournal(tmp_path)
    bare = dataclasses.replace(
        ROUND, number=2, clusters=(), wave_scores=(), entropy=(), points=(), chosen=(), seconds=()
    )
    journal.append(bare)
    journal.append(ROUND)
    assert read_rounds(tmp_path) == ([ROUND, bare], [])


def test_rounds_of_the_first_schema_are_read(tmp_path):
    """They did not tell the steps."""
    columns = {name: kind for name, kind in _KIND.columns().items() if name != "steps"}
    with mock.patch.object(rounds, "_columns", return_value=columns):
        older = dataclasses.replace(_KIND, version=1, columns=lambda: columns)
        PartStore(tmp_path, older).append(lambda first: [(first, ROUND)])
    assert read_rounds(tmp_path) == ([dataclasses.replace(ROUND, steps=0)], [])


def test_a_replayed_round_is_kept_once(tmp_path):
    """The same round again is not written; one that got further takes the place of the other."""
    RoundJournal(tmp_path).append(ROUND)
    resumed = RoundJournal(tmp_path)
    resumed.append(dataclasses.replace(ROUND, phase_seconds={"fit": 99.0}))
    resumed.append(dataclasses.replace(ROUND, chosen=ROUND.chosen[:1], seconds=(1.5e-3,)))
    assert read_rounds(tmp_path) == ([ROUND], [])
    assert len(list(tmp_path.glob("rounds-*.parquet"))) == 1
    further = dataclasses.replace(
        ROUND, chosen=(*ROUND.chosen, (9, 9, 9)), seconds=(*ROUND.seconds, 1e-3)
    )
    resumed.append(further)
    assert read_rounds(tmp_path) == ([further], [])


def test_many_rounds_are_merged_and_the_records_left_alone(tmp_path):
    """Both journals lie in one folder, and neither reads or merges the other's parts."""
    m = Measurement(task="t", config={"a": (1,)}, purpose=Purpose.SEARCH, outcome=Outcome.CRASHED)
    Journal(tmp_path, Provenance()).append([m] * 3)
    journal = RoundJournal(tmp_path)
    for number in range(1, 41):
        journal.append(dataclasses.replace(ROUND, number=number))
    rounds, damaged = read_rounds(tmp_path)
    assert [r.number for r in rounds] == list(range(1, 41))
    assert damaged == []
    assert len(list(tmp_path.glob("rounds-*.parquet"))) < 40
    assert len(read_records(tmp_path)[0]) == 3


def test_a_damaged_part_costs_its_rounds_alone(tmp_path):
    """Reading names it and leaves it; the next writer sets it aside and goes on counting."""
    journal = RoundJournal(tmp_path)
    for number in (1, 2):
        journal.append(dataclasses.replace(ROUND, number=number))
    victim = tmp_path / "rounds-00000002-00000002.parquet"
    victim.write_bytes(victim.read_bytes()[:100])
    rounds, damaged = read_rounds(tmp_path)
    assert [r.number for r in rounds] == [1]
    assert damaged == [victim.name]
    RoundJournal(tmp_path).append(dataclasses.replace(ROUND, number=2))
    rounds, damaged = read_rounds(tmp_path)
    assert [r.number for r in rounds] == [1, 2]
    assert damaged == [f"{victim.name}.damaged"]
    assert (tmp_path / "rounds-00000003-00000003.parquet").exists()


POLICY = """
initial: 4
neighbours: 0
explorer: {kind: ppo, episodes: 4, waves: 2, steps: 10}
sampler: {kind: adaptive}
"""


@pytest.mark.ray
@pytest.mark.usefixtures("shared_ray")
@pytest.mark.slow
def test_going_on_with_a_run_doubles_no_round(tmp_path):
    """A run of 20 that goes on to 30 keeps the rounds it had, and what PPO learned in them."""
    from chameleon_ray import tune

    policy = tmp_path / "small.yaml"
    policy.write_text(POLICY)
    run = tmp_path / "run"
    found = []
    for trials in (20, 30):
        tune("resnet18", env="simulated", policy=str(policy), layers=(1,), trials=trials, run=run)
        found.append(read_rounds(run)[0])
    first, second = found
    assert [r.number for r in second] == list(range(1, len(second) + 1))
    assert second[: len(first) - 1] == first[:-1]  # the last one may have gone further
    assert sum(len(r.chosen) for r in first) == 20 - first[0].measured_before
    assert sum(len(r.chosen) for r in second) == 30 - first[0].measured_before
    for round_ in second:
        waves = (round_.wave_scores, round_.entropy, round_.value_loss, round_.policy_loss)
        assert [len(w) for w in waves] == [2] * 4
        assert min(round_.entropy) > 0
        assert {"fit", "explore", "sample"} <= set(round_.phase_seconds)
        assert round_.clusters


def test_importing_the_report_command_is_cheap():
    """`--help` names the command without what it takes to carry it out."""
    import subprocess

    code = (
        "import sys, chameleon_ray.cli; "
        "sys.exit(bool({'jinja2', 'pyarrow', 'ray', 'numpy'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
