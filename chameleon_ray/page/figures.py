"""Figures of the report: each an SVG, what is to be seen in it, and its data as a table."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from chameleon_ray.page import charts
from chameleon_ray.page.charts import Bar, Point, Series
from chameleon_ray.page.runs import PHASES, Subject
from chameleon_ray.page.scales import finite, number
from chameleon_ray.page.tables import Entry, Table, outcome_table
from chameleon_ray.replay import best_so_far
from chameleon_ray.rounds import Round
from chameleon_ray.text import duration, geometric_mean, milliseconds, ratio

_DRAWN = 200  # so many of a round's candidates are drawn
_WAVES = 240  # more waves than that are drawn as means of as many blocks
_GREY = 7

Plane = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One figure.

    Attributes:
        name: Of its file, and prefix of its ids.
        title: What it shows.
        caption: The same, where a heading has said of what.
        description: What is to be seen in it, for those who don't.
        svg: Its source.
        table: Its data.
    """

    name: str
    title: str
    caption: str
    description: str
    svg: str
    table: Table


def progress(name: str, entries: Sequence[Entry]) -> Figure:
    """Best so far against measurements, of one layer in one or more runs."""
    subject = entries[0].subject
    title = f"Progress of {subject.name}"
    series, told, rows = [], [], []
    for at, entry in enumerate(entries):
        s, colour = entry.subject, at % charts.COLOURS
        best = best_so_far(list(s.measurements))
        points = [(n, s.speed(t)) for n, t in enumerate(best, start=1) if t is not None]
        label = f"{entry.label}: " if entry.label else ""
        series.append(Series(name=f"{label}best so far", colour=colour, points=points, steps=True))
        for what, seconds, dashes in (
            ("default", s.default_seconds, "7 4"),
            ("torch", s.torch_seconds, "2 3"),
        ):
            if seconds:
                own = colour if entry.label else (_GREY if what == "default" else 1)
                level = s.speed(seconds)
                series.append(Series(name=label + what, colour=own, level=level, dashes=dashes))
        told.append(_told_progress(entry, points))
        rows += [
            (str(n), *([entry.label] if entry.label else []), milliseconds(t), number(s.speed(t)))
            for n, t in _changes(best)
        ]
    columns = ["after measurement", *(["run"] if entries[0].label else []), "best ms"]
    return Figure(
        name=name,
        title=title,
        caption=subject.name,
        description=" ".join(told),
        svg=charts.lines(
            name,
            title,
            " ".join(told),
            series,
            x_label="measurements",
            y_label=subject.speed_unit,
            zero=True,
        ),
        table=Table(
            caption=f"{title}: each improvement",
            columns=(*columns, subject.speed_unit),
            rows=rows,
        ),
    )


def _told_progress(entry: Entry, points: Sequence[tuple[float, float]]) -> str:
    s = entry.subject
    who = f"{entry.label}: from" if entry.label else "From"
    if not points:
        return f"{who} {len(s.measurements)} measurements no valid one."
    first, last = number(points[0][1]), number(points[-1][1])
    text = f"{who} {first} to {last} {s.speed_unit} in {len(s.measurements)} measurements."
    times = {"best": s.best_seconds, "default": s.default_seconds, "torch": s.torch_seconds}
    speeds = ", ".join(f"{what} {number(s.speed(t))}" for what, t in times.items() if t)
    return f"{text} Timed again at the end, in turns: {speeds}." if s.ended else text


def _changes(best: Sequence[float | None]) -> Iterator[tuple[int, float]]:
    """Where the best so far improves, and the end."""
    previous = None
    for n, seconds in enumerate(best, start=1):
        if seconds is not None and (seconds != previous or n == len(best)):
            yield n, seconds
        previous = seconds


def gain(name: str, entries: Sequence[Entry], *, over: str) -> Figure | None:
    """How many times faster than the default or than torch; None where neither time is known."""
    rows, bars, gains = [], [], []
    runs = list(dict.fromkeys(entry.label for entry in entries))
    for entry in entries:
        s = entry.subject
        other = s.default_seconds if over == "default" else s.torch_seconds
        if other and s.best_seconds:
            times = ratio(other, s.best_seconds)
            gains.append(other / s.best_seconds)
            colour = runs.index(entry.label) % charts.COLOURS
            bars.append(Bar(name=entry.name, parts=[(colour, gains[-1])], label=times))
            rows.append((entry.name, milliseconds(other), milliseconds(s.best_seconds), times))
    if not bars:
        return None
    title = f"Gain over {'the default' if over == 'default' else 'torch'}"
    mean = geometric_mean(gains) or 0.0
    told = f"From {min(gains):.2f}x to {max(gains):.2f}x; geometric mean {mean:.2f}x."
    return Figure(
        name=name,
        title=title,
        caption=title,
        description=told,
        svg=charts.bars(
            name, title, told, bars, x_label=f"{over} time / best time; the line is 1", one=True
        ),
        table=Table(caption=title, columns=("layer", f"{over} ms", "best ms", "gain"), rows=rows),
    )


def time_spent(name: str, entries: Sequence[Entry]) -> Figure | None:
    """Seconds by phase, a bar for each layer; None before anything took time."""
    bars, rows = [], []
    for entry in entries:
        seconds = entry.subject.phase_seconds
        total = math.fsum(seconds.values())
        parts = [(at, seconds[phase]) for at, phase in enumerate(PHASES)]
        bars.append(Bar(name=entry.name, parts=parts, label=duration(total)))
        rows.append((entry.name, *(f"{seconds[p]:.1f}" for p in PHASES), f"{total:.1f}"))
    if not any(length for bar in bars for _, length in bar.parts):
        return None
    title = "Where the time went"
    all_seconds = [entry.subject.phase_seconds for entry in entries]
    told = _shares({p: math.fsum(seconds[p] for seconds in all_seconds) for p in PHASES})
    return Figure(
        name=name,
        title=title,
        caption=title,
        description=told,
        svg=charts.bars(name, title, told, bars, x_label="seconds of work", legend=PHASES),
        table=Table(
            caption="Seconds of work by phase", columns=("layer", *PHASES, "all"), rows=rows
        ),
    )


def outcomes(name: str, entries: Sequence[Entry]) -> Figure | None:
    """How the measurements ended, a bar for each layer; None if all of them are valid."""
    table = outcome_table(entries)
    kinds = table.columns[1:]
    if set(kinds) <= {"ok"}:
        return None
    bars = []
    for entry in entries:
        counts = [entry.subject.outcomes.get(kind, 0) for kind in kinds]
        failed = sum(counts) - entry.subject.outcomes.get("ok", 0)
        parts = [(at, float(count)) for at, count in enumerate(counts)]
        bars.append(Bar(name=entry.name, parts=parts, label=f"{failed} failed"))
    title = "How the measurements ended"
    told = _shares({k: float(sum(e.subject.outcomes[k] for e in entries)) for k in kinds})
    svg = charts.bars(name, title, told, bars, x_label="measurements", legend=kinds)
    return Figure(name=name, title=title, caption=title, description=told, svg=svg, table=table)


def _shares(amounts: Mapping[str, float]) -> str:
    """Of all layers together, in words."""
    total = math.fsum(amounts.values()) or 1.0
    return "Altogether " + ", ".join(f"{k} {v / total:.1%}" for k, v in amounts.items()) + "."


def sampled(name: str, entry: Entry, round_: Round) -> Figure:
    """A round's candidates, their clusters, and what was chosen of them, on a plane."""
    candidates = np.array(round_.points[:_DRAWN], dtype=np.float64)
    chosen = np.array(round_.chosen, dtype=np.float64).reshape(len(round_.chosen), -1)
    (points, picks), shares = project(candidates, chosen)
    labels = round_.clusters[: len(points)] or (None,) * len(points)
    marks = [
        Point(x=x, y=y, colour=(label or 0) % charts.COLOURS, cluster=label)
        for (x, y), label in zip(points, labels, strict=True)
    ]
    marks += [
        Point(x=x, y=y, colour=0, mark="cross" if seconds is None else "diamond")
        for (x, y), seconds in zip(picks, round_.seconds, strict=True)
    ]
    title = f"Round {round_.number} of {entry.name}"
    clusters = f" in {len(set(round_.clusters))} clusters" if round_.clusters else ""
    failed = sum(seconds is None for seconds in round_.seconds)
    of_them = f", of which {failed} failed" if failed else ""
    told = (
        f"{len(points)} of {round_.candidates} candidates{clusters}; {len(picks)} configurations "
        f"were measured{of_them}. The plane shows {sum(shares):.0%} of the "
        "variance of the candidates' choice indices."
    )
    svg = charts.points(
        name,
        title,
        told,
        marks,
        x_label=f"first principal component ({shares[0]:.0%} of the variance)",
        y_label=f"second principal component ({shares[1]:.0%})",
        legend=("candidate", "measured", *(["failed"] if failed else [])),
    )
    return Figure(
        name=name,
        title=title,
        caption=f"Round {round_.number}",
        description=told,
        svg=svg,
        table=_sampled_table(title, round_, (points, picks), labels),
    )


def _sampled_table(
    title: str, round_: Round, planes: tuple[Plane, Plane], labels: Sequence[int | None]
) -> Table:
    points, picks = planes
    rows = [
        ("measured", f"{x:.1f}", f"{y:.1f}", "-", "failed" if s is None else milliseconds(s))
        for (x, y), s in zip(picks, round_.seconds, strict=True)
    ]
    rows += [
        ("candidate", f"{x:.1f}", f"{y:.1f}", "-" if label is None else str(label), "-")
        for (x, y), label in zip(points, labels, strict=True)
    ]
    return Table(caption=title, columns=("what", "first", "second", "cluster", "ms"), rows=rows)


def project(points: Plane, others: Plane) -> tuple[tuple[Plane, Plane], tuple[float, float]]:
    """Principal components of `points` `(n, knobs)`, and `others` on the same plane.

    Distances are between choice indices as they are, as adaptive sampling takes them.

    Returns:
        Both as `(n, 2)`, and the shares of the variance that the two axes show.
    """
    middle = points.mean(axis=0)
    _, sizes, axes = np.linalg.svd(points - middle, full_matrices=False)
    plane = np.zeros((2, points.shape[1]))
    plane[: len(axes[:2])] = axes[:2]
    largest = np.abs(plane).argmax(axis=1)
    plane *= np.where(plane[np.arange(2), largest] < 0, -1.0, 1.0)[:, None]
    squares = np.concatenate([np.square(sizes), np.zeros(2)])
    shares = squares[:2] / max(float(squares.sum()), 1e-12)
    return ((points - middle) @ plane.T, (others - middle) @ plane.T), (shares[0], shares[1])


_LEARNED = (  # attribute of Round, title, axis, logarithmic
    ("wave_scores", "Mean predicted score", "predicted fitness", False),
    ("entropy", "Entropy of the agent's directions", "nats, over all knobs", False),
    ("value_loss", "Value error", "mean squared error", True),
    ("policy_loss", "Policy loss", "clipped loss", False),
)


def learned(name: str, entries: Sequence[Entry]) -> list[Figure]:
    """What the agent learned on one layer, wave by wave; without an agent, the best scores."""
    found = []
    for attribute, what, axis, log in _LEARNED:
        waves = [_waves(entry.subject, attribute) for entry in entries]
        if any(waves):
            figure = f"{name}-{attribute.replace('_', '-')}"
            found.append(
                _over_time(figure, entries, waves, (what, axis, "waves of walks"), log=log)
            )
    scores = [[r.best_score for r in entry.subject.rounds] for entry in entries]
    if any(scores):
        words = ("Best predicted score", "predicted fitness", "rounds")
        found.append(_over_time(f"{name}-best-score", entries, scores, words, log=False))
    return found


def _waves(subject: Subject, attribute: str) -> list[float]:
    return [value for r in subject.rounds for value in getattr(r, attribute)]


def _over_time(
    name: str,
    entries: Sequence[Entry],
    values: Sequence[Sequence[float]],
    words: tuple[str, str, str],
    *,
    log: bool,
) -> Figure:
    what, axis, x_label = words
    title = f"{what}, {entries[0].subject.name}"
    series, told, rows = [], [], []
    for at, (entry, numbers) in enumerate(zip(entries, values, strict=True)):
        drawn = _blocks(finite(numbers))
        who = f"{entry.label}: from" if entry.label else "From"
        series.append(Series(name=entry.label or what, colour=at % charts.COLOURS, points=drawn))
        if drawn:
            told.append(f"{who} {number(drawn[0][1])} to {number(drawn[-1][1])}.")
        rows += [(f"{x:.0f}", *([entry.label] if entry.label else []), number(y)) for x, y in drawn]
    return Figure(
        name=name,
        title=title,
        caption=what,
        description=" ".join(told),
        svg=charts.lines(
            name, title, " ".join(told), series, x_label=x_label, y_label=axis, log=log
        ),
        table=Table(
            caption=title,
            columns=(x_label, *(["run"] if entries[0].label else []), axis),
            rows=rows,
        ),
    )


def _blocks(values: Sequence[float]) -> list[tuple[float, float]]:
    """Numbered from 1; many of them as means of blocks, at the blocks' ends."""
    blocks = np.array_split(np.array(values), min(len(values), _WAVES)) if values else []
    ends = np.cumsum([len(block) for block in blocks])
    return [(float(n), float(block.mean())) for n, block in zip(ends, blocks, strict=True)]
