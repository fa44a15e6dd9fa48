"""Tables of the report: what was gained, how measurements ended, every round, every setting."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from chameleon_ray.page.runs import Run, Subject
from chameleon_ray.page.scales import number
from chameleon_ray.text import milliseconds, ratio, speed

Row = tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Text in rows; the first column names the row.

    Attributes:
        differing: Numbers of the rows whose values are not all equal, where that matters.
    """

    caption: str
    columns: Row
    rows: Sequence[Row]
    differing: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A layer, or a function, in one of the runs shown together.

    Attributes:
        label: Of the run; empty where there is one run alone.
    """

    label: str
    run: Run
    subject: Subject

    @property
    def name(self) -> str:
        """The subject, and the run where there are several."""
        return f"{self.subject.name}, {self.label}" if self.label else self.subject.name


def runs_table(runs: Mapping[str, Run]) -> Table:
    """A row for each run, by its label."""
    columns = ("run", "what", "policy", "env", "seed", "measurements", "first", "latest", "state")
    rows = [
        (
            run.path,
            run.what,
            run.policy,
            run.env or "-",
            str(run.seed),
            str(run.measurements),
            f"{run.began:%Y-%m-%d %H:%M:%S}" if run.began else "-",
            f"{run.latest:%Y-%m-%d %H:%M:%S}" if run.latest else "-",
            run.state,
        )
        for run in runs.values()
    ]
    return Table(caption="The runs; times are UTC", columns=columns, rows=rows)


def gain_table(entries: Sequence[Entry]) -> Table:
    """What was gained over the default and over torch."""
    columns = ("layer", "uses", "measured", "default ms", "best ms", "GFLOP/s", "gain")
    rows = [_gain_row(entry) for entry in entries]
    for label in dict.fromkeys(entry.label for entry in entries):
        of_run = [entry.subject for entry in entries if entry.label == label]
        if len(of_run) > 1:
            rows.append(_total_row(of_run, label))
    return Table(
        caption="Times of one execution; a star marks layers on which the default won",
        columns=(*columns, "torch ms", "against torch"),
        rows=rows,
    )


def _gain_row(entry: Entry) -> Row:
    s = entry.subject
    return (
        entry.name,
        str(s.uses),
        str(len(s.measurements)),
        milliseconds(s.default_seconds),
        milliseconds(s.best_seconds) + ("*" if s.default_won else ""),
        speed(s.flop, s.best_seconds) if s.flop else "-",
        ratio(s.default_seconds, s.best_seconds),
        milliseconds(s.torch_seconds),
        ratio(s.torch_seconds, s.best_seconds),
    )


def _total_row(subjects: Sequence[Subject], label: str) -> Row:
    """Every use of every layer; a dash where a layer has no time."""
    times = [(s.default_seconds, s.best_seconds, s.torch_seconds) for s in subjects]
    default, best, torch = (
        math.fsum(t * s.uses for t, s in zip(column, subjects, strict=True) if t)
        if all(column)
        else None
        for column in zip(*times, strict=True)
    )
    return (
        f"All, by uses, {label}" if label else "All, by uses",
        str(sum(s.uses for s in subjects)),
        str(sum(len(s.measurements) for s in subjects)),
        milliseconds(default),
        milliseconds(best),
        speed(sum((s.flop or 0) * s.uses for s in subjects), best),
        ratio(default, best),
        milliseconds(torch),
        ratio(torch, best),
    )


def outcome_table(entries: Sequence[Entry]) -> Table:
    """How often the measurements ended how."""
    kinds = sorted({kind for entry in entries for kind in entry.subject.outcomes})
    kinds.sort(key=lambda kind: kind != "ok")
    rows = [
        (entry.name, *(str(entry.subject.outcomes.get(kind, 0)) for kind in kinds))
        for entry in entries
    ]
    return Table(caption="How the measurements ended", columns=("layer", *kinds), rows=rows)


def rounds_table(entry: Entry) -> Table:
    """Each round of one layer."""
    columns = ("round", "after", "scored", "candidates", "measured", "best ms", "best predicted")
    rows = [
        (
            str(r.number),
            str(r.measured_before),
            str(r.evaluated),
            str(r.candidates),
            str(len(r.chosen)),
            milliseconds(min((s for s in r.seconds if s is not None), default=None)),
            number(r.best_score),
            *(f"{r.phase_seconds.get(phase, 0.0):.2f}" for phase in ("explore", "sample", "fit")),
        )
        for r in entry.subject.rounds
    ]
    return Table(
        caption=f"Rounds of {entry.name}",
        columns=(*columns, "explore s", "sample s", "fit s"),
        rows=rows,
    )


def settings_table(runs: Mapping[str, Run]) -> Table:
    """Every setting, a column for each run."""
    flat = {label: dict(_flat(run.settings)) for label, run in runs.items()}
    return _compared("Every setting, as the run began with it", "setting", flat)


def versions_table(runs: Mapping[str, Run]) -> Table:
    """Every package's version, a column for each run."""
    versions = {label: dict(sorted(run.versions.items())) for label, run in runs.items()}
    return _compared("Versions", "package", versions)


def _compared(caption: str, name: str, columns: Mapping[str, Mapping[str, str]]) -> Table:
    keys = list(dict.fromkeys(key for column in columns.values() for key in column))
    rows = [(key, *(column.get(key, "-") for column in columns.values())) for key in keys]
    return Table(
        caption=caption,
        columns=(name, *(label or "value" for label in columns)),
        rows=rows,
        differing=frozenset(n for n, row in enumerate(rows) if len(set(row[1:])) > 1),
    )


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            plain = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            yield prefix + key, plain
