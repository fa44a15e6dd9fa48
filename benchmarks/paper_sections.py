"""The sections that docs/paper.md and docs/paper-cpu.md have in common, paragraph by paragraph."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import paper_figures as figures
import paper_numbers as numbers
from paper_numbers import Panels, Seen
from paper_searches import Values
from paper_text import (
    ANNEALING,
    ANNEALING_SAMPLED,
    COLUMNS,
    EXPLORING,
    OURS,
    PAPER,
    Bars,
    Place,
    bars_table,
    markdown_table,
    told,
)

from chameleon_ray.networks import network
from chameleon_ray.presets import load_policy
from chameleon_ray.score_report import legend, markdown, title
from chameleon_ray.scores import Table
from chameleon_ray.settings import AnnealingSettings, PpoSettings
from chameleon_ray.space import DesignSpace
from chameleon_ray.templates.cuda_knobs import direct_space
from chameleon_ray.text import geometric_mean


def performance(
    place: Place, means: Mapping[str, Mapping[str, Values]], tables: Sequence[Table]
) -> Iterator[str]:
    """Figures 9 and 12 to 14.

    Args:
        place: Where figures go.
        means: Space or layer -> policy -> mean score after each attempt.
        tables: Of the same searches.
    """
    figures.quality(means, place.file("performance"))
    yield place.heading("Performance against measurements (figures 9 and 12 to 14)")
    yield place.picture(
        "performance",
        "Optimum over best found against the number of measurements, a panel for each "
        f"{place.row}; a line for each policy",
    )
    for table in tables:
        yield f"{title(table)}:\n\n{markdown(table)}"
    yield "\n\n".join(list(legend(tables))[:2])


def steps(place: Place, panels: Panels, spaces: Mapping[str, DesignSpace]) -> Iterator[str]:
    """Figure 7 (a).

    Args:
        place: Where figures go.
        panels: What the rounds tell.
        spaces: Of the same keys: what was walked.
    """
    annealing, walking = _walkers()
    taken = {
        panel: {
            ANNEALING: numbers.chain_steps(of[ANNEALING], annealing.chains),
            EXPLORING: numbers.walk_steps(of[EXPLORING], walking.episodes),
        }
        for panel, of in panels.items()
    }
    bars = {
        panel: {label: numbers.estimate([numbers.mean(r) for r in of]) for label, of in bar.items()}
        for panel, bar in taken.items()
    }
    blind = {panel: numbers.blind_steps(spaces[panel], walking) for panel in panels}
    figures.grouped(bars, place.file("steps"), "steps of a walker in a round")
    yield place.heading("Search steps (figure 7 (a))")
    yield place.picture(
        "steps", f"Steps of a chain of annealing and of a walk of RL, for each {place.row}"
    )
    rounds = max(len(seed) for bar in taken.values() for of in bar.values() for seed in of)
    ends = {"first round": 0, "last round": -1} if rounds > 1 else {}
    rows = []
    for panel, bar in taken.items():
        cells = [told(bars[panel][label], ".0f") for label in bar]
        ratios = [_steps_ratio([bar], at) for at in (None, *ends.values())]
        rows.append([panel, *cells, *ratios, f"{blind[panel]:.1f}"])
    head = [place.row, *next(iter(taken.values())), "ratio", *ends, "steps of a blind walk"]
    yield markdown_table(head, rows)
    ratios = [_steps_ratio(list(taken.values()), at) for at in (None, *ends.values())]
    first_and_last = f" ({ratios[1]} in the first round, {ratios[2]} in the last)" if ends else ""
    yield (
        f"A chain of annealing takes {ratios[0]} times as many steps in a round as a walk of RL"
        f"{first_and_last}, geometric means; the paper says 2.88."
    )
    yield from _how_walkers_end(annealing, walking, rounds)


def _steps_ratio(bars: Sequence[Mapping[str, Sequence[Sequence[float]]]], at: int | None) -> str:
    """Annealing's steps over RL's in one round, or in all; the geometric mean of several bars."""
    ratios = []
    for bar in bars:
        of = {
            label: numbers.mean([numbers.mean(seed) if at is None else seed[at] for seed in seeds])
            for label, seeds in bar.items()
            if all(seeds)
        }
        if len(of) == len(bar) and of[EXPLORING] > 0:
            ratios.append(of[ANNEALING] / of[EXPLORING])
    mean = geometric_mean(ratios)
    return "-" if mean is None else f"{mean:.1f}"


def _how_walkers_end(
    annealing: AnnealingSettings, walking: PpoSettings, rounds: int
) -> Iterator[str]:
    """What makes the ratio."""
    paper = numbers.blind_steps(direct_space(network("vgg16")[7].task), walking)
    yield (
        "The ratio is made by the rules that end a round, not by how soon either has found "
        f"something. The {annealing.chains} chains stop when their best 64 have not changed for "
        f"{annealing.early_stop} steps (AutoTVM's code), a walk when {walking.early_stop or 1:.0%} "
        "of the knobs stay or press a bound (the authors' code, which the paper does not mention), "
        f"both after {walking.steps} steps at the latest (the paper's Tables 7 and 8). An agent "
        "that knows nothing stops soon: the last column is of walks whose directions are drawn; in "
        f"the paper's space of VGG-16's eighth layer they have {paper:.0f} steps. Walks get longer "
        "from round to round, for the agent is kept and each step earns the score of the "
        "configuration that it reaches. So the ratio falls with the number of rounds: here there "
        f"{'is' if rounds == 1 else 'are'} {rounds} after the first batch, in the paper 15."
    )
    yield (
        "How the paper counts, it does not say. With equally many scored configurations, what both "
        "lead to cannot be told apart ([explorers.md](explorers.md))."
    )


def _walkers() -> tuple[AnnealingSettings, PpoSettings]:
    """How the columns' two explorers walk."""
    annealing = load_policy(COLUMNS[ANNEALING])[1].explorer
    walking = load_policy(COLUMNS[EXPLORING])[1].explorer
    assert isinstance(annealing, AnnealingSettings)  # noqa: S101 - they are the paper's columns
    assert isinstance(walking, PpoSettings)  # noqa: S101
    return annealing, walking


def sampling(
    place: Place, panels: Panels, tables: Sequence[Table], *, diversity: str | None = None
) -> Iterator[str]:
    """Figures 7 (b) and 8.

    Args:
        place: Where figures go.
        panels: What the rounds tell.
        tables: Of the same searches, with those of the same keys among them.
        diversity: The policy that samples as AutoTVM does for diversity, if it was run.
    """
    labels = [label for label in COLUMNS if label != OURS]
    bars = {p: {label: numbers.batch(of[label]) for label in labels} for p, of in panels.items()}
    figures.grouped(bars, place.file("sampling"), "measurements of a round")
    yield place.heading("Measurements with and without adaptive sampling (figures 7 (b) and 8)")
    yield place.picture("sampling", f"Measurements of a round, by column and {place.row}")
    rows = []
    for panel, bar in bars.items():
        for label in labels:
            row = numbers.row_of(tables, panel, COLUMNS[label])
            needed = [told(row.attempts, ".0f"), f"{row.reached:.0%}"] if row else ["-", "-"]
            rows.append([panel, label, told(bar[label], ".1f"), *needed])
    head = [place.row, "column", "measurements a round", "to 95%", "reached"]
    yield markdown_table(head, rows, texts=2)
    saved = [_ratio(bars, *pair) for pair in ((ANNEALING, ANNEALING_SAMPLED), (EXPLORING, PAPER))]
    yield (
        f"Adaptive sampling measures {saved[0]} times fewer configurations a round after "
        f"annealing and {saved[1]} times fewer after RL; the paper says 1.98 and 2.33, of all "
        "rounds of a search. Whether that is a saving depends on the rounds that are needed: "
        "*to 95%* is what a search measures until it has found that share of the optimum; one that "
        "never gets there counts as its budget."
    )
    yield _figure_8(panels, tables, diversity)


def _figure_8(panels: Panels, tables: Sequence[Table], diversity: str | None) -> str:
    """What adaptive sampling and AutoTVM's diversity do to what is found."""

    def gain(policy: str, over: str) -> str:
        ratios = []
        for panel in panels:
            pair = [numbers.row_of(tables, panel, name) for name in (policy, over)]
            ends = [row.scores[-1].mean for row in pair if row]
            ratios += [ends[0] / ends[1]] if len(ends) == 2 and ends[1] else []
        mean = geometric_mean(ratios)
        return "-" if mean is None else f"{mean - 1:+.1%}"

    after = tables[0].points[-1]
    annealed = gain(COLUMNS[ANNEALING_SAMPLED], COLUMNS[ANNEALING])
    explored = gain(COLUMNS[PAPER], COLUMNS[EXPLORING])
    found = (
        f"After {after} measurements adaptive sampling changes the score by {annealed} after "
        f"annealing and {explored} after RL (geometric mean; the paper says +13.5% and +19.0%)"
    )
    if diversity is None:
        return f"{found}; AutoTVM's own way to be diverse was not run here."
    return f"{found}; AutoTVM's own way to be diverse, by {gain(diversity, COLUMNS[ANNEALING])}."


def _ratio(bars: Bars, first: str, second: str) -> str:
    """One column over another: the geometric mean over the panels that have both."""
    pairs = [(bar[first], bar[second]) for bar in bars.values()]
    ratios = [one.mean / other.mean for one, other in pairs if one and other and other.mean]
    mean = geometric_mean(ratios)
    return "-" if mean is None else f"{mean:.2f}"


def clusters(place: Place, panels: Panels, *, times: str) -> Iterator[str]:
    """Figures 5 and 6.

    Args:
        place: Where figures go.
        panels: What the rounds tell.
        times: Where the times of candidates come from, in a sentence.
    """
    yield place.heading("Clusters, and how alike their members are (figures 5 and 6)")
    runs = {panel: [s for s in of[PAPER] if s.clustered] for panel, of in panels.items()}
    runs = {panel: of for panel, of in runs.items() if of}
    if not runs:
        yield "No round was clustered."
        return
    rng = np.random.default_rng(0)
    shown = {panel: _middle(of[0]) for panel, of in runs.items()}
    figures.clusters(shown, place.file("clusters"))
    yield place.picture(
        "clusters",
        f"The candidates of one round of each {place.row}, in the middle of a search, in two "
        "principal components, with their clusters",
    )
    pooled = [clustered for of in runs.values() for s in of for clustered in s.clustered]
    samples = numbers.spread(pooled, rng)
    if samples:
        figures.distribution(samples, place.file("alike"), "difference in time to the median, %")
        yield place.picture(
            "alike",
            "Cumulative distribution of the difference between times and the median of their "
            "cluster, beside those to random clusters and to all of the round",
        )
    rows = []
    for panel, of in runs.items():
        pairs = [numbers.explained(s.clustered, rng) for s in of]
        known = [pair for pair in pairs if np.isfinite(pair[0])]
        apart = [float(np.mean([numbers.silhouette(c) for c in s.clustered])) for s in of]
        rows.append(
            [
                panel,
                told(numbers.estimate([a for a in apart if np.isfinite(a)]), ".2f"),
                told(numbers.estimate([share for share, _ in known]), ".0%"),
                told(numbers.estimate([chance for _, chance in known]), ".0%"),
                f"{sum(len(c.alike[0]) for s in of for c in s.clustered):,}",
            ]
        )
    head = [place.row, "silhouette", "variance explained", "by random clusters", "times"]
    yield markdown_table(head, rows)
    yield (
        f"Of rounds by `{COLUMNS[PAPER]}`, which clusters by the two knobs with the most choices "
        "(the authors' code), so that in all knobs, those of the figure and the silhouette, "
        "clusters lie over each other. Variance explained: the share of the variance of log time "
        "that lies between clusters; clusters of the same sizes drawn at random explain some as "
        f"well, and only what is above that is similarity. {times} Who is alone in a cluster does "
        "not count."
    )


def _middle(seen: Seen) -> numbers.Clustered:
    return seen.clustered[len(seen.clustered) // 2]


def end_to_end(place: Place, times: Bars, quality: Bars, *, unit: str) -> Iterator[str]:
    """Figure 10: what it took to get near the optimum, and what was found in the end.

    Args:
        place: Where figures go.
        times: Space or network -> column -> in `unit`.
        quality: The same -> column -> optimum over best found.
        unit: Of time.
    """
    figures.grouped(times, place.file("end-to-end"), f"{unit} to 95% of the optimum")
    figures.dots(quality, place.file("quality"), "optimum / best found")
    yield place.heading("Time and quality, all columns (figure 10, tables 2 and 3)")
    yield place.picture("end-to-end", f"{unit.capitalize()} to 95% of the optimum, by column")
    yield place.picture("quality", "Optimum over best found in the end, by column")


def table_2(first: str, times: Bars, *, what: str) -> Iterator[str]:
    """Table 2, and how many times less time the columns take than AutoTVM."""
    yield f"Table 2, {what}:"
    yield bars_table(first, times, ".2f")
    yield (
        f"{ANNEALING} takes {_ratio(times, ANNEALING, PAPER)} times as long as {PAPER} and "
        f"{_ratio(times, ANNEALING, OURS)} times as long as {OURS} (geometric means). The paper "
        "says 4.45 times of the former, of 16 rounds for every column whatever each had found."
    )
