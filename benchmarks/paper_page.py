"""docs/paper.md, section by section: what `paper.py` searched, as figures, tables and sentences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import paper_figures as figures
import paper_numbers as numbers
import paper_sections as sections
from paper_numbers import Run
from paper_searches import Values
from paper_text import (
    ANNEALING,
    COLUMNS,
    OURS,
    PAPER,
    Place,
    bars_table,
    markdown_table,
    told,
    unit_of,
)

from chameleon_ray.compare import curves
from chameleon_ray.measure.recorded import RecordedSpace
from chameleon_ray.scores import EVERYWHERE, Table, tabulate
from chameleon_ray.searches import Search

MEAN = "mean of the spaces"
DIVERSITY = "autotvm_diversity"
OTHERS = (DIVERSITY, "genetic", "random")  # policies that are no columns
DIFFERS = """\
- **The device.** The paper measures convolutions of AlexNet, VGG-16 and ResNet-18 on a Titan Xp.
  Here kernels that somebody else measured whole, on the GPUs named above, answer from a file. So
  the true optimum is known, and there are no networks: where the paper has a network, here is a
  space.
- **The spaces** have thousands of configurations and not 10^8; a search here can meet a good part
  of one. Restrictions are known beforehand, so few attempts fail.
- **Time.** Exploring, sampling and fitting are timed on the machine that ran the command, in one
  thread beside other searches. Compiling and running are the seconds that whoever recorded the
  space noted for each configuration, one at a time.
- **The paper's columns share** cost model, features and first batch, so that they differ in what
  they are named after. `genetic` stands for TensorComprehensions, as in the paper. `chameleon` is
  this package's default, which the paper does not have.
- **Everything is a mean over all seeds**, with its 95% interval in brackets; the paper's numbers
  are of one or a few runs."""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Everything that was searched.

    Attributes:
        spaces: Path or name -> space.
        searches: Of all policies and peers, all seeds.
        runs: Those of the columns, as they were watched: policy -> runs.
        trials: Measurements of each.
    """

    spaces: Mapping[str, RecordedSpace]
    searches: Sequence[Search]
    runs: Mapping[str, Sequence[Run]]
    trials: int

    @cached_property
    def names(self) -> list[str]:
        """Of the spaces."""
        return [space.name for space in self.spaces.values()]

    @cached_property
    def tables(self) -> list[Table]:
        """All policies on each space, and on their mean."""
        rng = np.random.default_rng(0)
        return tabulate(curves(self.searches), trials=self.trials, rng=rng)

    @cached_property
    def means(self) -> dict[str, dict[str, Values]]:
        """Space, and their mean at last -> policy -> mean score after each attempt."""
        found: dict[str, dict[str, Values]] = {}
        for space in self.spaces.values():
            of_space = [s for s in self.searches if s.key.space == space.name]
            found[space.name] = {
                policy: numbers.mean_scores(
                    [s for s in of_space if s.key.policy == policy], self.trials
                )
                for policy in dict.fromkeys(s.key.policy for s in of_space)
            }
        if len(found) > 1:
            policies = next(iter(found.values()))
            found[MEAN] = {
                p: np.mean([panel[p] for panel in list(found.values())], axis=0) for p in policies
            }
        return found

    def of(self, policy: str, space: str) -> list[Run]:
        """The searches of a space by a policy, one for each seed."""
        return [run for run in self.runs[policy] if run.recorded.name == space]

    @cached_property
    def panels(self) -> dict[str, dict[str, list[numbers.Seen]]]:
        """Space -> column -> what the rounds tell."""
        return {
            space: {label: [run.seen for run in self.of(p, space)] for label, p in COLUMNS.items()}
            for space in self.names
        }


def page(found: Evaluation, place: Place) -> Iterator[str]:
    """docs/paper.md, paragraph by paragraph; its figures are drawn on the way."""
    yield from _beginning(found, place)
    yield from sections.performance(place, found.means, found.tables)
    last = dict(list(found.means.items())[-1:])
    figures.quality(last, place.file("performance-mean"))
    if not any(s.key.policy.startswith("KT ") for s in found.searches):
        yield "Kernel Tuner was not installed, so its strategies are missing here."
    walked = {space.name: space.space for space in found.spaces.values()}
    yield from sections.steps(place, found.panels, walked)
    yield from sections.sampling(place, found.panels, found.tables, diversity=DIVERSITY)
    yield from _time(found, place)
    yield from sections.clusters(
        place,
        found.panels,
        times="Each search gives the round in its middle, and times are recorded ones: all "
        "candidates have one that do not fail, measured by the search or not.",
    )
    yield from _end_to_end(found, place)


def _beginning(found: Evaluation, place: Place) -> Iterator[str]:
    spaces = "; ".join(
        f"{s.name} ({s.device or 'device not named'}, {len(s.configs):,} configurations)"
        for s in found.spaces.values()
    )
    seeds = len({s.key.seed for s in found.searches})
    yield "# The paper's evaluation, reproduced"
    yield (
        "Ahn et al., CHAMELEON (ICLR 2020), section 4, on recorded spaces. The same live, on the "
        "layers of the paper's Table 5 and a CPU: [paper-cpu.md](paper-cpu.md). Everything below "
        f"was written by\n\n```sh\n{place.command}\n```\n\nwhich goes on where it stopped if it "
        "is stopped."
    )
    yield (
        f"Spaces: {spaces}. {found.trials} measurements of each search, {seeds} "
        f"seed{'' if seeds == 1 else 's'}; every number and figure rests on all of them."
    )
    yield "## What differs from the paper"
    yield DIFFERS


def _time(found: Evaluation, place: Place) -> Iterator[str]:
    """Figures 2 and 11."""
    labels = (ANNEALING, PAPER, OURS)
    parts = {
        (space, label): [numbers.breakdown(run) for run in found.of(COLUMNS[label], space)]
        for space in found.names
        for label in labels
    }
    unit, size = unit_of(max(sum(b.values()) for of in parts.values() for b in of))
    bars = {
        f"{space}, {label}": {part: float(np.mean([b[part] for b in of])) / size for part in of[0]}
        for (space, label), of in parts.items()
    }
    figures.stacked(bars, place.file("time"), unit)
    yield place.heading("Where the time goes (figures 2 and 11)")
    yield place.picture("time", f"{unit.capitalize()} of {found.trials} measurements by phase")
    names = list(dict.fromkeys(part for bar in bars.values() for part in bar))
    rows = []
    for ((space, label), of), bar in zip(parts.items(), bars.values(), strict=True):
        totals = numbers.estimate([sum(b.values()) / size for b in of])
        measuring = [b["compile"] + b["run"] if "run" in b else np.nan for b in of]
        shares = [m / sum(b.values()) for m, b in zip(measuring, of, strict=True)]
        cells = [*(f"{bar.get(part, 0.0):.2f}" for part in names), told(totals, ".2f")]
        rows.append([space, label, *cells, told(numbers.estimate(shares), ".1%")])
    yield markdown_table(["space", "column", *names, "all", "share of measuring"], rows, texts=2)
    yield (
        f"In {unit}. `compile` and `run` are the recorder's, on the recorder's machine and one "
        "after another; the rest is ours. A failure's compile time counts where the file has it."
    )
    yield from _without_costs(found)


def _end_to_end(found: Evaluation, place: Place) -> Iterator[str]:
    """Figure 10, tables 2 and 3."""
    seconds = {
        space: {
            label: [numbers.seconds_to(run) for run in found.of(policy, space)]
            for label, policy in COLUMNS.items()
        }
        for space in found.names
    }
    unit, size = unit_of(max(s for bar in seconds.values() for of in bar.values() for s in of))
    times = {
        space: {label: numbers.estimate([s / size for s in of]) for label, of in bar.items()}
        for space, bar in seconds.items()
    }
    quality = {
        table.space: {
            label: row.scores[-1]
            for label, policy in COLUMNS.items()
            if (row := numbers.row_of([table], table.space, policy)) is not None
        }
        for table in found.tables
    }
    yield from sections.end_to_end(place, times, quality, unit=unit)
    yield from sections.table_2(
        "space",
        times,
        what=f"{unit} to 95% of the optimum (a search that never gets there: all of its)",
    )
    yield from _without_costs(found)
    over = "; the last row's intervals are over kernels" if EVERYWHERE in quality else ""
    yield (
        f"Table 3, optimum over best found after {found.tables[0].points[-1]} measurements, as in "
        f"the tables of the performance{over}:"
    )
    yield bars_table("space", quality, ".3f")
    yield from _same_rounds(found, unit, size)


def _same_rounds(found: Evaluation, unit: str, size: float) -> Iterator[str]:
    """Time and quality after equally many rounds, as the paper counts."""
    rounds = min(len(run.watched.rounds) for of in found.runs.values() for run in of)
    if not rounds:
        return
    yield (
        "The paper gives every column the same number of rounds and not of measurements. After the "
        f"first batch and {rounds} round{'' if rounds == 1 else 's'}, as many as every search has "
        "here:"
    )
    rows = []
    for space in found.names:
        for label, policy in COLUMNS.items():
            after = [numbers.after_rounds(run, rounds) for run in found.of(policy, space)]
            attempts, took, scores = zip(*after, strict=True)
            told_ = [
                told(numbers.estimate(attempts), ".0f"),
                told(numbers.estimate([seconds / size for seconds in took]), ".2f"),
                told(numbers.estimate(scores), ".3f"),
            ]
            rows.append([space, label, *told_])
    yield markdown_table(["space", "column", "measurements", unit, "optimum / best"], rows, texts=2)


def _without_costs(found: Evaluation) -> Iterator[str]:
    """Says of which spaces only a part of the time is known."""
    missing = {r.recorded.name for of in found.runs.values() for r in of if r.costs is None}
    if missing:
        yield (
            f"**Not known** of {', '.join(sorted(missing))}: what compiling and running took. "
            "Their times are those of the search alone, the small part of the whole. The benchmark "
            "hub's own files have both."
        )
