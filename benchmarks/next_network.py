r"""A second network after a first: its time after so many measurements of each layer.

    chameleon-ray tune torchvision:resnet18 --cold --trials 64 --run runs/first
    chameleon-ray compare --network torchvision:resnet50 --trials 64 --seeds 0 --policy chameleon \
        --learn-from runs/first --out runs/second
    python benchmarks/next_network.py runs/second torchvision:resnet50

The times are those of `compare`: whatever a search held for its best at some moment was timed once
more, in turns with what the other searches held.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np
import numpy.typing as npt
import typer
from rich.console import Console
from rich.table import Table

from chameleon_ray.listing import examined
from chameleon_ray.searches import SEARCHES, Searches

_SHOWN = (1, 2, 4, 6, 8, 12, 16, 24, 32, 48, 64)
_WITHIN = (1.0, 1.01, 1.02, 1.05)  # of the first way's time at the end

Curve = npt.NDArray[np.float64]


def main(folder: Path, network: str) -> None:
    """Print the network's time by way and seed, and how soon each is as fast as the first ends."""
    curves = network_curves(folder, network)
    (_, first), *_ = curves
    counts = [n for n in _SHOWN if n <= len(first)]
    ways = [f"{way}, seed {seed}" for (way, seed), _ in curves]
    table = Table("measurements each", *ways, title="ms of the network")
    for n in counts:
        table.add_row(str(n), *(f"{curve[n - 1] * 1e3:.2f}" for _, curve in curves))
    soon = Table("", *ways, title="measurements each, until as fast as the first way ends")
    ends = {seed: curve[-1] for (_, seed), curve in reversed(curves)}
    for within in _WITHIN:
        until = (_until(curve, ends[seed] * within) for (_, seed), curve in curves)
        soon.add_row(f"x {within:.2f}", *until)
    console = Console()
    console.print(table)
    console.print(soon)


def network_curves(folder: Path, network: str) -> list[tuple[tuple[str, int], Curve]]:
    """Seconds of the network after so many measurements of each layer, by way and seed.

    The cold way is the first of each seed. A layer counts as often as the network has it.
    """
    uses = {layer.index: layer.uses for layer in examined(network, "", trust=False).layers}
    found: dict[tuple[str, int], list[Curve]] = defaultdict(list)
    for search in Searches(folder / SEARCHES).all():
        seconds = np.array([one or np.nan for one in search.best_seconds])
        layer = int(search.key.space.rpartition("-")[2])
        found[search.key.policy, search.key.seed].append(uses[layer] * seconds)
    return [(way, np.sum(layers, axis=0)) for way, layers in sorted(found.items())]


def _until(curve: Curve, seconds: float) -> str:
    there = np.flatnonzero(curve <= seconds)
    return str(there[0] + 1) if len(there) else "never"


if __name__ == "__main__":
    typer.run(main)
