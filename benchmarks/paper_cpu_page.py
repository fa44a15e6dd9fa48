"""docs/paper-cpu.md, section by section: what `paper_cpu.py` tuned."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import paper_figures as figures
import paper_numbers as numbers
import paper_sections as sections
from paper_live import LiveRun, Network
from paper_numbers import Seen
from paper_searches import Values
from paper_text import COLUMNS, Place, bars_table, markdown_table, told, unit_of

from chameleon_ray.compare import curves
from chameleon_ray.scores import tabulate
from chameleon_ray.searches import Search
from chameleon_ray.space import DesignSpace

DIFFERS = """\
- **The device** is the CPU named above and not a Titan Xp, the templates are this package's for
  CPUs, and a space has up to 5 million configurations. Only ratios can be set beside the paper's.
- **The reference** is the fastest of all runs. Whatever a search held for its best at any moment is
  timed once more, in turns with all the others; curves, time to 95% and table 3 are made of these
  times. Where it says optimum, it is the fastest known.
- **The paper's columns** do not know the default configuration of a layer, as in the paper;
  `chameleon` begins with it.
- **Layers.** ResNet-18's layer 4 is here besides the eight of Table 5.
- **A network's time** is the sum over the layers tuned here, each as often as the network has it;
  the paper's is that of the whole network.
- **A run tunes all layers of its network at once**, so that time is told of networks and not of
  layers."""


def page(found: Mapping[str, Network], place: Place, *, trials: int) -> Iterator[str]:
    """docs/paper-cpu.md, paragraph by paragraph; its figures are drawn on the way."""
    searches = [search for network in found.values() for search in network.live.searches]
    tables = tabulate(curves(searches), trials=trials, rng=np.random.default_rng(0))
    panels: dict[str, Mapping[str, Sequence[Seen]]] = {}
    spaces: dict[str, DesignSpace] = {}
    for network in found.values():
        panels |= network.panels
        spaces |= network.spaces
    yield from _beginning(found, place, trials, device=searches[0].device)
    yield from sections.performance(place, _means(searches, trials), tables)
    yield from sections.steps(place, panels, spaces)
    yield from sections.sampling(place, panels, tables)
    yield from _time(found, place, trials)
    yield from sections.clusters(
        place,
        panels,
        times="The first figure shows one round of each layer, the numbers are of all of them. Few "
        "candidates of a round are measured themselves; so what any round of any run measured "
        "counts as a member of the cluster that its two knobs lie in. Times of different runs "
        "differ by up to 10% for the same configuration.",
    )
    yield from _end_to_end(found, place)


def _beginning(
    found: Mapping[str, Network], place: Place, trials: int, *, device: str
) -> Iterator[str]:
    runs = [run for network in found.values() for run in network.runs.values()]
    seeds = len({seed for network in found.values() for _, seed in network.runs})
    minutes = np.mean([run.result["wall_seconds"] for run in runs]) / 60
    more = seeds * len(found)
    yield "# The layers of Table 5, on a CPU"
    yield (
        "Ahn et al., CHAMELEON (ICLR 2020), section 4, live. On recorded GPUs, with more policies "
        "and Kernel Tuner: [paper.md](paper.md). Everything below was written by\n\n"
        f"```sh\n{place.command}\n```\n\nwhich goes on where it stopped if it is stopped."
    )
    yield (
        f"Device: {device}. {trials} measurements of each layer, {seeds} "
        f"seed{'' if seeds == 1 else 's'}; every number and figure rests on all of them, intervals "
        "in brackets are 95%, by bootstrap over the seeds."
    )
    yield "## What differs from the paper"
    yield (
        f"{DIFFERS}\n- **Policies.** Only the columns of tables 2 and 3 are run, not "
        f"`autotvm_diversity`, `genetic` and `random`. That is for time: each would add "
        f"{more} run{'' if more == 1 else 's'} of {minutes:.1f} minutes, during which nothing else "
        "may run."
    )


def _means(searches: Sequence[Search], trials: int) -> dict[str, dict[str, Values]]:
    """Layer -> policy -> mean score after each attempt."""
    grouped: dict[str, dict[str, list[Search]]] = {}
    for search in searches:
        grouped.setdefault(search.key.space, {}).setdefault(search.key.policy, []).append(search)
    return {
        space: {policy: numbers.mean_scores(of, trials) for policy, of in panel.items()}
        for space, panel in grouped.items()
    }


def _time(found: Mapping[str, Network], place: Place, trials: int) -> Iterator[str]:
    """Figures 2 and 11."""
    runs: dict[tuple[str, str], list[LiveRun]] = {
        (name, label): [run for run in network.of_policy(policy).values() if run.whole]
        for name, network in found.items()
        for label, policy in COLUMNS.items()
    }
    known = {key: of for key, of in runs.items() if of}
    yield place.heading("Where the time goes (figures 2 and 11)")
    yield from _torn(found)
    if not known:
        return
    bars = {
        f"{name}, {label}": {
            phase: float(np.mean([run.phases[phase] for run in of])) / 60 for phase in of[0].phases
        }
        for (name, label), of in known.items()
    }
    figures.stacked(bars, place.file("time"), "minutes")
    yield place.picture("time", f"Minutes of {trials} measurements of each layer by phase")
    phases = list(next(iter(bars.values())))
    rows = []
    for ((name, label), of), bar in zip(known.items(), bars.values(), strict=True):
        totals = numbers.estimate([sum(run.phases.values()) / 60 for run in of])
        shares = [(r.phases["build"] + r.phases["run"]) / sum(r.phases.values()) for r in of]
        cells = [*(f"{bar[phase]:.2f}" for phase in phases), told(totals, ".2f")]
        rows.append([name, label, *cells, told(numbers.estimate(shares), ".0%")])
    head = ["network", "column", *phases, "all", "share of measuring"]
    yield markdown_table(head, rows, texts=2)
    yield (
        "In minutes of a run, means over the seeds. A core at work counts as its share of the "
        "machine; only `run` has all cores. Measuring is `build` and `run`; `other` is the rest: "
        "starting Ray, idle cores, and what is not of the search."
    )


def _end_to_end(found: Mapping[str, Network], place: Place) -> Iterator[str]:
    """Figure 10, tables 2 and 3."""
    seconds = {
        name: {label: network.seconds_to(policy) for label, policy in COLUMNS.items()}
        for name, network in found.items()
    }
    every = [s for bar in seconds.values() for of in bar.values() for s in of]
    unit, size = unit_of(max(every, default=0.0))
    times = {
        name: {label: numbers.estimate([s / size for s in of]) for label, of in bar.items()}
        for name, bar in seconds.items()
    }
    finals = {
        name: {label: network.final_seconds(policy) for label, policy in COLUMNS.items()}
        for name, network in found.items()
    }
    quality = {
        name: {
            label: numbers.estimate([found[name].reference_seconds / s for s in of])
            for label, of in bar.items()
        }
        for name, bar in finals.items()
    }
    yield from sections.end_to_end(place, times, quality, unit=unit)
    yield from sections.table_2(
        "network",
        times,
        what=f"{unit} from the command until the layers tuned, each as often as the network has "
        "it, are within 95% of the fastest known (a run that never gets there: all of its)",
    )
    yield from _torn(found)
    yield "Table 3, milliseconds of the layers tuned, each as often as the network has it:"
    rows = [
        [
            name,
            *(told(numbers.estimate([s * 1e3 for s in of]), ".3f") for of in bar.values()),
            f"{found[name].reference_seconds * 1e3:.3f}",
        ]
        for name, bar in finals.items()
    ]
    yield markdown_table(["network", *COLUMNS, "fastest known"], rows)
    yield "The same as optimum over best found:"
    yield bars_table("network", quality, ".3f")


def _torn(found: Mapping[str, Network]) -> Iterator[str]:
    """Says that runs which were stopped and gone on with are left out, if there are any."""
    runs = [run for network in found.values() for run in network.runs.values()]
    torn = sum(not run.whole for run in runs)
    if torn:
        yield (
            f"{torn} of {len(runs)} runs were stopped and gone on with; their times are left out "
            "here."
        )
