"""What stands on the report's page: machine by machine, since their times don't compare."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from chameleon_ray.page import figures
from chameleon_ray.page.charts import printable
from chameleon_ray.page.figures import Figure
from chameleon_ray.page.runs import Run
from chameleon_ray.page.tables import (
    Entry,
    Table,
    gain_table,
    outcome_table,
    rounds_table,
    runs_table,
    settings_table,
    versions_table,
)
from chameleon_ray.storage import Place, open_folder

_ANSI = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """One example of a kind of failure, with the whole of what was said about it."""

    outcome: str
    where: str
    config: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Best:
    """A configuration to copy; the page's ids of it begin with `name`."""

    name: str
    title: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Figures under a heading of their own."""

    title: str
    figures: Sequence[Figure]


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """All runs of one machine.

    Attributes:
        name: Prefix of the names of its figures.
        machine: What the times were taken on.
        runs: A row each.
        empty: Whether nothing is measured yet.
        notes: What a reader should know first, a line each.
        gained: Over the default and over torch.
        gains: The same as a table.
        progress: A figure for each layer.
        time: Where it went.
        rounds: A table for each layer and run.
        outcomes: How measurements ended; None if all are valid.
        counts: The same as a table.
        failures: One for each run and kind.
        sampled: Rounds on a plane, for each layer and run.
        learned: What the agent learned, layer by layer; without one, the best scores.
        walked: Whether an agent did.
        best: For each layer and run.
        settings: Every one.
        versions: Likewise.
    """

    name: str
    machine: str
    runs: Table
    empty: bool
    notes: Sequence[str]
    gained: Sequence[Figure]
    gains: Table
    progress: Sequence[Figure]
    time: Figure | None
    rounds: Sequence[Table]
    outcomes: Figure | None
    counts: Table
    failures: Sequence[Failure]
    sampled: Sequence[Group]
    learned: Sequence[Group]
    walked: bool
    best: Sequence[Best]
    settings: Table
    versions: Table

    @property
    def figures(self) -> list[Figure]:
        """All of them, in the order of the page."""
        single = [figure for figure in (self.time, self.outcomes) if figure]
        grouped = [f for group in (*self.sampled, *self.learned) for f in group.figures]
        return [*self.gained, *self.progress, *single, *grouped]


def sections(runs: Sequence[Run]) -> list[Section]:
    """One for each machine, in the order of the runs."""
    machines = dict.fromkeys(run.machine for run in runs)
    return [
        _section(f"machine-{n}", machine, [run for run in runs if run.machine == machine])
        for n, machine in enumerate(machines, start=1)
    ]


def _section(name: str, machine: str, runs: Sequence[Run]) -> Section:
    labelled = dict(zip(_labels(runs), runs, strict=True))
    entries = [
        Entry(label=label, run=run, subject=subject)
        for label, run in labelled.items()
        for subject in run.subjects
    ]
    by_layer = {key: [e for e in entries if e.subject.key == key] for key in _keys(entries)}
    ordered = [entry for same in by_layer.values() for entry in same]
    measured = {
        k: same for k, same in by_layer.items() if any(e.subject.measurements for e in same)
    }
    gained = [
        figures.gain(f"{name}-gain-{over}", ordered, over=over) for over in ("default", "torch")
    ]
    layers = [(f"{name}-layer-{n}", same) for n, same in enumerate(measured.values(), start=1)]
    return Section(
        name=name,
        machine=machine or "a machine that nothing is known of",
        runs=runs_table(labelled),
        empty=not measured,
        notes=[note for run in runs for note in _notes(run)],
        gained=[figure for figure in gained if figure],
        gains=gain_table(ordered),
        progress=[figures.progress(f"{layer}-progress", same) for layer, same in layers],
        time=figures.time_spent(f"{name}-time", ordered),
        rounds=[rounds_table(entry) for entry in ordered if entry.subject.rounds],
        outcomes=figures.outcomes(f"{name}-outcomes", ordered),
        counts=outcome_table(ordered),
        failures=[f for label, run in labelled.items() for f in _failures(label, run)],
        sampled=[group for layer, same in layers for group in _sampled(layer, same)],
        learned=[group for layer, same in layers for group in _learned(layer, same)],
        walked=any(r.wave_scores for entry in entries for r in entry.subject.rounds),
        best=[b for n, entry in enumerate(ordered, 1) for b in _best(f"{name}-best-{n}", entry)],
        settings=settings_table(labelled),
        versions=versions_table(labelled),
    )


def _labels(runs: Sequence[Run]) -> list[str]:
    """Nothing for one run alone; the folders' names, or their paths where names are equal."""
    if len(runs) == 1:
        return [""]
    names = [run.title for run in runs]
    unique = len(set(names)) == len(names)
    return names if unique else [run.path for run in runs]


def _keys(entries: Sequence[Entry]) -> list[str]:
    """The layers in the order of their names' numbers, those of one network together."""
    return list(dict.fromkeys(entry.subject.key for entry in entries))


def _notes(run: Run) -> list[str]:
    notes = []
    if run.going:
        notes.append(
            f"{run.path} is still going on: {run.measurements} measurements so far. Write the "
            "report again to see more."
        )
    elif not run.measurements:
        notes.append(f"{run.path}: nothing is measured yet.")
    elif run.state.startswith("ended early"):
        notes.append(
            f"{run.path} {run.state}; the command that began it goes on with --run {run.path}"
        )
    notes += [f"{run.path}: {name} is damaged, and what it held is lost." for name in run.damaged]
    notes += [f"{run.path}: {line}" for line in run.drifts]
    return notes


def _sampled(layer: str, entries: Sequence[Entry]) -> list[Group]:
    """The first round, the one in the middle and the last, of each run."""
    found = []
    for at, entry in enumerate(entries, start=1):
        rounds = [r for r in entry.subject.rounds if len(r.points) > 1]
        shown = sorted({0, len(rounds) // 2, len(rounds) - 1}) if rounds else []
        run = f"-run-{at}" if len(entries) > 1 else ""
        drawn = [
            figures.sampled(f"{layer}{run}-round-{rounds[n].number}", entry, rounds[n])
            for n in shown
        ]
        found += [Group(title=entry.name, figures=drawn)] if drawn else []
    return found


def _learned(layer: str, entries: Sequence[Entry]) -> list[Group]:
    drawn = figures.learned(layer, entries)
    return [Group(title=entries[0].subject.name, figures=drawn)] if drawn else []


def _failures(label: str, run: Run) -> list[Failure]:
    """The first of each kind."""
    found: dict[str, Failure] = {}
    for subject in run.subjects:
        for m in subject.measurements:
            if not m.ok and m.outcome not in found:
                found[m.outcome] = Failure(
                    outcome=str(m.outcome),
                    where=f"{subject.name}, {label}" if label else subject.name,
                    config=json.dumps(subject.values(m.config)),
                    message=readable(m.message),
                )
    return list(found.values())


def readable(message: str) -> str:
    """A message without terminal colours and other control characters; whole otherwise."""
    return printable(_ANSI.sub("", message)).strip("\n") or "(no message)"


def _best(name: str, entry: Entry) -> list[Best]:
    config: Mapping[str, object] = entry.subject.best_config
    if not config:
        return []
    lines = ",\n".join(f'  "{knob}": {json.dumps(choice)}' for knob, choice in config.items())
    return [Best(name=name, title=entry.name, text=f"{{\n{lines}\n}}")]


def default_place(runs: Sequence[Place]) -> Path:
    """Where the page goes if nobody says: beside the journal of one run, if that lies here."""
    folder = open_folder(runs[0]).path if len(runs) == 1 else None
    return (folder or Path()) / "report.html"
