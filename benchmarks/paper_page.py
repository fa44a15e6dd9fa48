"""docs/paper.md, section by section: what `paper.py` searched, as figures, tables and sentences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import paper_figures as figures
import paper_numbers as numbers
from paper_numbers import Run
from paper_searches import Values

from chameleon_ray.compare import curves
from chameleon_ray.measure.recorded import RecordedSpace
from chameleon_ray.score_report import legend, markdown, title
from chameleon_ray.scores import tabulate
from chameleon_ray.searches import Search

COLUMNS = {  # of Tables 2 and 3, and ours
    "SA (AutoTVM)": "autotvm",
    "AE": "adaptive_exploration",
    "SA + AS": "adaptive_sampling",
    "AE + AS (CHAMELEON)": "chameleon_paper",
    "chameleon (ours)": "chameleon",
}
UNIT = "minutes"
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
- **Curves** are means over seeds; the paper's are of one or a few runs."""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Everything that was searched.

    Attributes:
        spaces: Path or name -> space.
        searches: Of all policies and peers, all seeds.
        runs: The watched ones: policy -> runs.
    """

    spaces: Mapping[str, RecordedSpace]
    searches: Sequence[Search]
    runs: Mapping[str, Sequence[Run]]
    trials: int

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
            found["mean of the spaces"] = {
                p: np.mean([panel[p] for panel in list(found.values())], axis=0) for p in policies
            }
        return found

    def of(self, policy: str, space: str) -> list[Run]:
        """The watched searches of a space by a policy."""
        return [run for run in self.runs[policy] if run.recorded.name == space]


def page(found: Evaluation, command: str, folder: Path) -> Iterator[str]:
    """docs/paper.md, paragraph by paragraph; its figures are drawn on the way."""
    yield from _beginning(found, command)
    yield from _performance(found, folder)
    yield from _steps(found, folder)
    yield from _sampling(found, folder)
    yield from _time(found, folder)
    yield from _clusters(found, folder)
    yield from _end_to_end(found, folder)


def _beginning(found: Evaluation, command: str) -> Iterator[str]:
    spaces = "; ".join(
        f"{s.name} ({s.device or 'device not named'}, {len(s.configs):,} configurations)"
        for s in found.spaces.values()
    )
    seeds = len({s.key.seed for s in found.searches})
    yield "# The paper's evaluation, reproduced"
    yield (
        "Ahn et al., CHAMELEON (ICLR 2020), section 4, on recorded spaces. Everything below was "
        f"written by\n\n```sh\n{command}\n```\n\nand goes on where it stopped if it is stopped."
    )
    yield (
        f"Spaces: {spaces}. {seeds} seeds, {found.trials} measurements of each search. What "
        "rests on watching a search round by round (all but figures 9 and 12 to 14) rests on "
        f"the first {max(map(len, found.runs.values())) // len(found.spaces)} of them."
    )
    yield "## What differs from the paper"
    yield DIFFERS


def _performance(found: Evaluation, folder: Path) -> Iterator[str]:
    figures.quality(found.means, folder / "performance.svg")
    last = dict(list(found.means.items())[-1:])
    figures.quality(last, folder / "performance-mean.svg")
    yield "## Performance against measurements (figures 9 and 12 to 14)"
    yield (
        "![Optimum over best found against the number of measurements, one panel for each space "
        "and one for their mean; a line for each policy](paper/performance.svg)"
    )
    tables = tabulate(curves(found.searches), trials=found.trials, rng=np.random.default_rng(0))
    for table in tables:
        yield f"{title(table)}:\n\n{markdown(table)}"
    yield "\n\n".join(list(legend(tables))[:2])
    if not any(s.key.policy.startswith("KT ") for s in found.searches):
        yield "Kernel Tuner was not installed, so its strategies are missing here."


def _steps(found: Evaluation, folder: Path) -> Iterator[str]:
    names = {label: p for label, p in COLUMNS.items() if label in ("SA (AutoTVM)", "AE")}
    bars = {
        space: {label: numbers.evaluated(found.of(p, space)) for label, p in names.items()}
        for space in _names(found)
    }
    figures.grouped(bars, folder / "steps.svg", "configs scored in a round")
    yield "## Search steps (figure 7)"
    yield "![Configurations scored in a round by annealing and by RL](paper/steps.svg)"
    yield markdown_table(
        ["space", *names], [[s, *(f"{v:,.0f}" for v in b.values())] for s, b in bars.items()]
    )
    ratios = [b["SA (AutoTVM)"] / b["AE"] for b in bars.values()]
    yield (
        f"Annealing scores {float(np.exp(np.mean(np.log(ratios)))):.2f} times as many "
        "configurations as RL (geometric mean over the spaces); the paper says 2.88. A step is a "
        "configuration asked of the cost model, until the search ends its round by its own rule: "
        "annealing when its best 64 have not changed for 50 steps, a walk of the agent when three "
        "quarters of the knobs stay or press a bound. Both walk with 128 walkers, so that the "
        "ratio is the same for each of them."
    )


def _sampling(found: Evaluation, folder: Path) -> Iterator[str]:
    labels = [label for label in COLUMNS if not label.startswith("chameleon")]
    yield "## Measurements with and without adaptive sampling (figure 8)"
    rows, bars = [], {}
    for space in _names(found):
        runs = {label: found.of(COLUMNS[label], space) for label in labels}
        bars[space] = {label: numbers.batch(of) for label, of in runs.items()}
        for label, of in runs.items():
            needed = [numbers.until(run) for run in of]
            reached = sum(there for *_, there in needed)
            mean = np.mean([attempts for attempts, *_ in needed])
            rows.append(
                [
                    space,
                    label,
                    f"{bars[space][label]:.1f}",
                    f"{mean:.0f}",
                    f"{reached} of {len(of)}",
                ]
            )
    figures.grouped(bars, folder / "sampling.svg", "measurements of a round")
    yield "![Measurements of a round, by policy and space](paper/sampling.svg)"
    head = ["space", "policy", "measurements a round", "to 95% of the optimum", "got there"]
    yield markdown_table(head, rows)
    saved = [
        np.mean([b["SA (AutoTVM)"] / b["SA + AS"] for b in bars.values()]),
        np.mean([b["AE"] / b["AE + AS (CHAMELEON)"] for b in bars.values()]),
    ]
    yield (
        f"Adaptive sampling measures {saved[0]:.2f} times fewer configurations a round after "
        f"annealing and {saved[1]:.2f} times fewer after RL; the paper says 1.98 and 2.33. "
        "Whether that is a saving depends on the rounds that are needed: the third column. A "
        "search that does not get there counts as its budget."
    )


def _time(found: Evaluation, folder: Path) -> Iterator[str]:
    yield "## Where the time goes (figures 2 and 11)"
    bars: dict[str, dict[str, float]] = {}
    for space in _names(found):
        for label in ("SA (AutoTVM)", "chameleon (ours)"):
            of = [numbers.breakdown(run) for run in found.of(COLUMNS[label], space)]
            bars[f"{space}, {label}"] = {
                part: float(np.mean([b[part] for b in of])) / 60 for part in of[0]
            }
    figures.stacked(bars, folder / "time.svg", UNIT)
    yield f"![Minutes of {found.trials} measurements by phase](paper/time.svg)"
    parts = list(dict.fromkeys(part for bar in bars.values() for part in bar))
    head = ["search", *parts, "share of measuring"]
    rows = []
    for name, bar in bars.items():
        measuring = sum(bar.get(part, 0.0) for part in ("compile", "run"))
        share = f"{measuring / sum(bar.values()):.0%}" if measuring else "not recorded"
        rows.append([name, *(f"{bar.get(p, 0.0):.2f}" for p in parts), share])
    yield markdown_table(head, rows)
    yield (
        f"In {UNIT}. `compile` and `run` are the recorder's, on the recorder's machine and one "
        "after another; the rest is ours. A failure's compile time counts where the file has it."
    )
    yield from _without_costs(found)


def _clusters(found: Evaluation, folder: Path) -> Iterator[str]:
    runs = [r for r in found.runs["chameleon_paper"] if r.watched.clusters]
    yield "## Clusters, and how alike their members are (figures 5 and 6)"
    if not runs:
        yield "No round was clustered."
        return
    first = {run.recorded.name: run for run in reversed(runs)}
    figures.clusters([first[s] for s in _names(found) if s in first], folder / "clusters.svg")
    spreads = [pair for run in runs if (pair := numbers.spread(run)) is not None]
    samples = {
        "to the cluster's median": np.concatenate([own for own, _ in spreads]),
        "to the median of all": np.concatenate([of_all for _, of_all in spreads]),
    }
    figures.distribution(samples, folder / "alike.svg", "difference in time, %")
    yield (
        "![The candidates of one round in the middle of a search, in two principal components, "
        "with their clusters](paper/clusters.svg)"
    )
    yield (
        "![Cumulative distribution of the difference in time between a candidate and the median "
        "of its cluster, beside that to the median of all](paper/alike.svg)"
    )
    rng, rows = np.random.default_rng(0), []
    for space in _names(found):
        of = [run for run in runs if run.recorded.name == space]
        shares = [pair for run in of if (pair := numbers.explained(run, rng)) is not None]
        apart = [value for run in of if (value := numbers.silhouette(run)) is not None]
        rows.append(
            [
                space,
                _mean(apart, ".2f"),
                _mean([share for share, _ in shares], ".0%"),
                _mean([chance for _, chance in shares], ".0%"),
            ]
        )
    yield markdown_table(["space", "silhouette", "variance explained", "by random clusters"], rows)
    yield (
        "Of a round in the middle of each search by `chameleon_paper`. Variance explained: the "
        "share of the variance of log time that lies between clusters; clusters of the same sizes "
        "drawn at random explain some as well, and only what is above that is similarity. The "
        "times are recorded ones of all candidates, measured by the search or not."
    )


def _end_to_end(found: Evaluation, folder: Path) -> Iterator[str]:
    yield "## Time and quality, all columns (figure 10, tables 2 and 3)"
    rounds = min(len(run.watched.rounds) for run in found.runs["autotvm"])
    times: dict[str, dict[str, float]] = {}
    rows2, rows3, same = [], [], []
    for space in _names(found):
        of = {label: found.of(p, space) for label, p in COLUMNS.items()}
        times[space] = {
            label: float(np.mean([numbers.until(r)[1] for r in runs])) / 60
            for label, runs in of.items()
        }
        rows2.append([space, *(f"{value:.2f}" for value in times[space].values())])
        final = [np.mean([numbers.scores(r.search)[-1] for r in runs]) for runs in of.values()]
        rows3.append([space, *(f"{value:.3f}" for value in final)])
        for label, runs in of.items():
            after = np.mean([numbers.after_rounds(r, rounds) for r in runs], axis=0)
            same.append(
                [space, label, f"{after[0]:.0f}", f"{after[1] / 60:.2f}", f"{after[2]:.3f}"]
            )
    figures.grouped(times, folder / "end-to-end.svg", f"{UNIT} to 95% of the optimum")
    yield f"![{UNIT.capitalize()} to 95% of the optimum, by column and space](paper/end-to-end.svg)"
    head = ["space", *COLUMNS]
    yield f"Table 2, {UNIT} to 95% of the optimum (a search that never gets there: all of its):"
    yield markdown_table(head, rows2)
    yield from _without_costs(found)
    yield f"Table 3, optimum over best found after {found.trials} measurements:"
    yield markdown_table(head, rows3)
    yield (
        f"The paper gives every column the same number of rounds and not of measurements. After "
        f"the first batch and {rounds} rounds, as many as AutoTVM has here:"
    )
    yield markdown_table(["space", "column", "measurements", UNIT, "optimum / best"], same)


def _without_costs(found: Evaluation) -> Iterator[str]:
    """Says of which spaces only a part of the time is known."""
    missing = {r.recorded.name for r in found.runs["autotvm"] if r.costs is None}
    if missing:
        yield (
            f"**Not known** of {', '.join(sorted(missing))}: what compiling and running took. "
            "Their times are those of the search alone, the small part of the whole. The benchmark "
            "hub's own files have both."
        )


def _names(found: Evaluation) -> list[str]:
    return [space.name for space in found.spaces.values()]


def _mean(values: Sequence[float], form: str) -> str:
    return f"{np.mean(values):{form}}" if values else "-"


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table whose first column is text."""
    rule = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [head, rule, *rows])
