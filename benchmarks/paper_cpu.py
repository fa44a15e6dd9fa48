"""The layers of the paper's Table 5, live on this CPU: `make paper-cpu`, docs/paper-cpu.md.

Tunes each of three networks with each policy and seed, one run after another, in the folders of
`chameleon-ray compare --network`; goes on where it stopped. Let nothing else run meanwhile.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import paper_figures as figures
import paper_numbers as numbers
from paper_page import COLUMNS, markdown_table
from rich.console import Console

from chameleon_ray.cli_shared import parse_seeds
from chameleon_ray.compare import Standing, curves
from chameleon_ray.compare_network import LiveComparison, compare_network
from chameleon_ray.errors import ChameleonError
from chameleon_ray.rounds import Round, read_rounds
from chameleon_ray.score_report import legend, markdown, title
from chameleon_ray.scores import tabulate

# Those of Table 5, and layer 4 of ResNet-18, to have four of the network that is compared most.
LAYERS = {"alexnet": (1, 4), "vgg16": (1, 2, 4), "resnet18": (4, 6, 9, 11)}

DIFFERS = """\
- **The device** is the CPU named above and not a Titan Xp, the templates are this package's for
  CPUs, and a space has up to 5 million configurations. Only ratios can be set beside the paper's.
- **The reference** is the fastest of all runs. Whatever a search held for its best at any moment is
  timed once more, in turns with all the others; curves are made of these times, and table 3 of the
  last of each search.
- **The paper's columns** do not know the default configuration of a layer, as in the paper;
  `chameleon` begins with it.
- **Layers.** ResNet-18's layer 4 is here besides the eight of Table 5.
- **A network's time** is the sum over the layers tuned here, each as often as the network has it;
  the paper's is that of the whole network.
- **A run tunes all layers of its network at once**, so that wall time is that of the run."""


def page(found: Mapping[str, LiveComparison], options: argparse.Namespace) -> Iterator[str]:
    """docs/paper-cpu.md, paragraph by paragraph; its figures are drawn on the way."""
    folder = options.docs / "paper"
    searches = [s for live in found.values() for s in live.searches]
    yield "# The layers of Table 5, on a CPU"
    yield (
        f"Device: {searches[0].device}. Seeds {options.seeds}, "
        f"{options.trials} measurements of each layer. Written by\n\n```sh\n"
        f"make paper-cpu CPU_SEEDS={options.seeds} CPU_MEASUREMENTS={options.trials}\n```"
    )
    yield DIFFERS
    yield "## Performance against measurements (figures 9 and 12 to 14)"
    panels: dict[str, dict[str, Any]] = {}
    for search in searches:
        panels.setdefault(search.key.space, {}).setdefault(search.key.policy, []).append(search)
    means = {
        space: {p: numbers.mean_scores(of, options.trials) for p, of in panel.items()}
        for space, panel in panels.items()
    }
    figures.quality(means, folder / "cpu-performance.svg")
    yield "![Score against measurements, a panel for each layer](paper/cpu-performance.svg)"
    tables = tabulate(curves(searches), trials=options.trials, rng=np.random.default_rng(0))
    for table in tables:
        yield f"{title(table)}:\n\n{markdown(table)}"
    yield "\n\n".join(list(legend(tables))[:2])
    yield from _rounds(found)
    yield from _times(found)


def _rounds(found: Mapping[str, LiveComparison]) -> Iterator[str]:
    """Figures 7 and 8, and 2 and 11: from the journals of the rounds."""
    yield "## Rounds: steps, measurements, time (figures 2, 7, 8 and 11)"
    rows = []
    for network, live in found.items():
        for label, policy in COLUMNS.items():
            folders = [f for (name, _), f in live.folders.items() if name == policy]
            rounds: list[Round] = [r for f in folders for r in read_rounds(f)[0]]
            results = [_result(folder) for folder in folders]
            phases = {
                phase: np.mean([r["phase_seconds"].get(phase) or 0.0 for r in results]) / 60
                for phase in ("explore", "sample", "fit", "build", "run")
            }
            steps = f"{np.mean([r.evaluated for r in rounds]):,.0f}" if rounds else "-"
            batch = f"{np.mean([len(r.chosen) for r in rounds]):.1f}" if rounds else "-"
            rows.append([network, label, steps, batch, *(f"{v:.2f}" for v in phases.values())])
    head = ["network", "column", "configs scored", "measured", "explore", "sample", "fit"]
    yield markdown_table([*head, "build", "run"], rows)
    yield "Scored and measured: of a round, on average. The phases are minutes of a run." + _torn(
        found
    )


def _times(found: Mapping[str, LiveComparison]) -> Iterator[str]:
    """Tables 2 and 3."""
    yield "## Time and quality, all columns (figure 10, tables 2 and 3)"
    hours, speeds = [], []
    for network, live in found.items():
        hour, speed = [network], [network]
        uses_of = {space: layer.uses for space, layer in live.layers.items()}
        for policy in COLUMNS.values():
            results = [_result(f) for (name, _), f in live.folders.items() if name == policy]
            hour.append(f"{np.mean([r['wall_seconds'] for r in results]) / 60:.1f}")
            total = sum(
                uses * np.mean(_last(live, policy, space)) for space, uses in uses_of.items()
            )
            speed.append(f"{total * 1e3:.3f}")
        hours.append(hour)
        speeds.append(speed)
    head = ["network", *COLUMNS]
    yield "Table 2, minutes of a run, equal measurements:" + _torn(found)
    yield markdown_table(head, hours)
    yield "Table 3, milliseconds of the layers tuned, each as often as the network has it:"
    yield markdown_table(head, speeds)


def _last(live: LiveComparison, policy: str, space: str) -> list[float]:
    """What each search of a layer held for its best in the end, in seconds; NaN for nothing."""
    searches = [s for s in live.searches if (s.key.policy, s.key.space) == (policy, space)]
    return [s.best_seconds[-1] or np.nan for s in searches] or [np.nan]


def _torn(found: Mapping[str, LiveComparison]) -> str:
    """What the minutes of runs that were stopped and gone on with are; empty if there are none."""
    folders = [folder for live in found.values() for folder in live.folders.values()]
    torn = sum(not _result(folder)["wall_is_whole"] for folder in folders)
    if not torn:
        return ""
    return (
        f" {torn} of {len(folders)} runs were stopped and gone on with: of those, building, "
        "running and the whole count from when they went on, and the search is played again from "
        "the start."
    )


def _result(folder: Path) -> dict[str, Any]:
    path = folder.parent / f"{folder.name}.json"
    result: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return result


def main() -> None:
    """Tune, draw, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", default="0-4", help="such as 0-4")
    parser.add_argument("--trials", type=int, default=128, help="measurements of each layer")
    parser.add_argument("--env", default="cpu", help="what is measured")
    parser.add_argument("--out", type=Path, default=Path("runs/paper-cpu"), help="run folders")
    parser.add_argument("--docs", type=Path, default=Path("docs"), help="where the page goes")
    options = parser.parse_args()
    screen, found = Console(stderr=True), dict[str, LiveComparison]()
    try:
        for network, layers in LAYERS.items():

            def tell(standing: Standing, network: str = network) -> None:
                screen.print(f"{network}: {standing.done} of {standing.total} runs")

            found[network] = compare_network(
                network,
                tuple(COLUMNS.values()),
                env=options.env,
                layers=layers,
                seeds=parse_seeds(options.seeds),
                trials=options.trials,
                out=options.out,
                on_progress=tell,
            )
    except ChameleonError as error:
        sys.exit(f"paper_cpu: {error}")
    text = "\n\n".join(page(found, options))
    (options.docs / "paper-cpu.md").write_text(text + "\n", encoding="utf-8")
    print(options.docs / "paper-cpu.md")


if __name__ == "__main__":
    main()
