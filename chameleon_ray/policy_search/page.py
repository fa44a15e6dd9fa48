"""The page of a search of settings: verdict, winner, importance, parallel coordinates, curves."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path

from chameleon_ray.page import charts
from chameleon_ray.page.charts import Bar, Series
from chameleon_ray.page.figures import Figure
from chameleon_ray.page.parallel import Axis, Strand, parallel
from chameleon_ray.page.scales import Scale, number
from chameleon_ray.page.tables import Table
from chameleon_ray.page.write import write_page
from chameleon_ray.policy_search.declared import value_of
from chameleon_ray.policy_search.experiment import own_sample
from chameleon_ray.policy_search.importance import Importance, importance
from chameleon_ray.policy_search.ranges import Choice, Range, Settings, Value
from chameleon_ray.policy_search.samples import Scored, scored
from chameleon_ray.policy_search.search import Found
from chameleon_ray.policy_search.words import notes, verdict_in_words, written
from chameleon_ray.score_report import cells, difference_in_words, title

_BASE, _WINNER, _GREY = 0, 1, 7  # colours


def write_search_page(found: Found) -> list[Path]:
    """Write the page and its figures into the folder of the search.

    Raises:
        SettingsError: They cannot be written.
    """
    figures = [f for f in (_importance(found), _coordinates(found), _curves(found)) if f]
    values = {
        "base": found.plan.base_name,
        "notes": notes(found),
        "judged": verdict_in_words(found),
        "verdict": _verdict(found),
        "chosen": _chosen(found),
        "figures": figures,
    }
    page = found.plan.out / "report.html"
    return write_page(page, "policy_search.html.j2", figures, values, remedy="--out")


def _verdict(found: Found) -> list[Table]:
    tables = []
    for table in found.verdict:
        heads = [f"after {n}" for n in table.points]
        rows = []
        for row in table.rows:
            rows.append((row.policy, *cells(row)))
            if row.differences:
                told = [difference_in_words(d, ".3f") for d in row.differences[:-1]]
                told += [difference_in_words(d, ".0f") for d in row.differences[-1:]]
                rows.append(("difference", *told))
        columns = ("policy", *heads, f"to {table.share:.0%}")
        tables.append(Table(caption=title(table), columns=columns, rows=rows))
    return tables


def _chosen(found: Found) -> Table:
    """The winner's settings beside the base policy's and those chosen without each kernel."""
    plan = found.plan
    rows = []
    for r in plan.declared.ranges:
        chosen = [found.winner, *(fold.chosen for fold in found.folds)]
        values = [written(s.settings[r.setting]) for s in chosen]
        base = written(value_of(plan.base, r.setting))
        rows.append((r.setting, _in_words(r), base, *values))
    for name, value in plan.declared.fixed.items():
        rows.append(
            (
                name,
                "the same in all samples",
                written(value_of(plan.base, name)),
                *[written(value)] * (1 + len(found.folds)),
            )
        )
    return Table(
        caption="Settings: what was searched, what the base policy has, what was chosen",
        columns=(
            "setting",
            "searched",
            plan.base_name,
            "on all spaces",
            *(f"without {fold.kernel}" for fold in found.folds),
        ),
        rows=rows,
        differing=frozenset(n for n, row in enumerate(rows) if row[2] != row[3]),
    )


def _in_words(r: Range) -> str:
    """A range, short."""
    if isinstance(r, Choice):
        return ", ".join(written(v) for v in r.values)
    return f"{number(r.low)} to {number(r.high)}{', by its logarithm' if r.log else ''}"


def _importance(found: Found) -> Figure | None:
    plan = found.plan
    told = importance(plan.declared.ranges, scored(found.evaluations), plan.how.seed)
    if told is None:
        return None
    ordered = sorted(told.drops.items(), key=lambda item: -item[1])
    bars = [
        Bar(name=name, parts=[(0, max(0.0, drop))], label=f"{drop:.2f}") for name, drop in ordered
    ]
    caption = "How much each setting matters"
    description = _importance_in_words(told, ordered[0][0])
    return Figure(
        name="importance",
        title=caption,
        caption=caption,
        description=description,
        svg=charts.bars(
            "importance",
            caption,
            description,
            bars,
            x_label="variance of scores that is lost when it is shuffled",
        ),
        table=Table(
            caption=caption,
            columns=("setting", "importance"),
            rows=[(name, f"{drop:.3f}") for name, drop in ordered],
        ),
    )


def _importance_in_words(told: Importance, first: str) -> str:
    if told.explained <= 0:
        return (
            "A forest fitted to the samples foretells the scores of others no better than their "
            "mean does: with so many samples no setting can be seen to matter, and the bars below "
            "are noise."
        )
    return (
        f"A forest fitted to the samples foretells {told.explained:.0%} of the variance of "
        f"scores of samples that it has not seen, most of it by {first}. Permutation importance on "
        "samples held out, five folds; what is near 0 or below it is noise."
    )


def _coordinates(found: Found) -> Figure:
    plan, samples = found.plan, scored(found.evaluations)
    ranges = plan.declared.ranges
    level = Scale.over([s.mean for s in samples], start=0, end=1)
    own = own_sample(plan.base, ranges)
    strands = [
        Strand(
            places=[*(r.place(s.settings[r.setting]) for r in ranges), level.place(s.mean)],
            colour=_colour(found, own, s),
            name=_name(found, own, s),
            faint=not _name(found, own, s),
        )
        for s in sorted(samples, key=lambda s: (bool(_name(found, own, s)), s.mean))
    ]
    axes = [Axis(name=r.setting, ticks=_ticks(r)) for r in ranges]
    axes.append(Axis(name="score", ticks=[(level.place(t), number(t)) for t in level.ticks()]))
    caption = "Every sample across all settings"
    description = (
        f"{len(samples)} settings, a line each; the last axis is the mean score over the seeds "
        "that the sample had, which are fewer where it was stopped."
    )
    return Figure(
        name="coordinates",
        title=caption,
        caption=caption,
        description=description,
        svg=parallel("coordinates", caption, description, axes, strands),
        table=Table(
            caption=caption,
            columns=("sample", *(r.setting for r in ranges), "iterations", "score"),
            rows=[
                (
                    str(s.sample),
                    *(written(s.settings[r.setting]) for r in ranges),
                    str(len(s.means)),
                    f"{s.mean:.4f}",
                )
                for s in sorted(samples, key=lambda s: (-len(s.means), -s.mean))
            ],
        ),
    )


def _ticks(r: Range) -> list[tuple[float, str]]:
    values: Sequence[Value] = r.values if isinstance(r, Choice) else r.ends()
    return [(r.place(v), written(v)) for v in values]


def _curves(found: Found) -> Figure:
    plan, samples = found.plan, scored(found.evaluations)
    own = own_sample(plan.base, plan.declared.ranges)
    named = [bool(_name(found, own, s)) for s in samples]
    series, rows = [], []
    for s, _ in sorted(zip(samples, named, strict=True), key=lambda pair: pair[1]):
        numbers = sorted(s.means)
        means = [
            total / n
            for n, total in enumerate(accumulate(s.means[number] for number in numbers), start=1)
        ]
        points = [(float(n), mean) for n, mean in zip(numbers, means, strict=True)]
        name = _name(found, own, s)
        series.append(
            Series(name=name, colour=_colour(found, own, s), points=points, faint=not name)
        )
        rows.append((str(s.sample), *(f"{m:.3f}" for m in means), *[""] * _missing(found, numbers)))
    caption = "Learning curves"
    stopped = sum(max(s.means) < len(plan.seeds) for s in samples)
    description = (
        f"Mean score over the seeds that a sample has had, seed after seed; {stopped} of "
        f"{len(samples)} settings ended before the last."
    )
    numbers_had = (str(n) for n in range(1, len(plan.seeds) + 1))
    return Figure(
        name="curves",
        title=caption,
        caption=caption,
        description=description,
        svg=charts.lines(
            "curves", caption, description, series, x_label="seeds", y_label="mean score"
        ),
        table=Table(caption=caption, columns=("sample", *numbers_had), rows=rows),
    )


def _missing(found: Found, numbers: Sequence[int]) -> int:
    return len(found.plan.seeds) - len(numbers)


def _name(found: Found, own: Settings | None, sample: Scored) -> str:
    if sample.settings == found.winner.settings:
        return "winner"
    return found.plan.own_name if sample.settings == own else ""


def _colour(found: Found, own: Settings | None, sample: Scored) -> int:
    if sample.settings == found.winner.settings:
        return _WINNER
    return _BASE if sample.settings == own else _GREY
