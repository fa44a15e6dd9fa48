"""A second network, cold and after a first: how many measurements until it is as fast.

    python benchmarks/next_network.py --out runs/next

The first network is tuned once a seed. The second is tuned without anything (`cold`), with what its
layers learn of each other (`alone`), and with the first network's run as well (`after`). No way
has the prior that ships. A run's curve is the time of its network, the best known time of each
layer by its uses, after each measurement; before a layer's first, its default counts.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import typer
from rich.console import Console
from rich.table import Table

from chameleon_ray import NetworkResult, tune
from chameleon_ray.records import read_records

_WITHIN = (1.0, 1.01, 1.02, 1.05)  # of the network time that a cold run ends with


def main(
    out: Path,
    first: str = "torchvision:resnet18",
    second: str = "torchvision:resnet50",
    trials: Annotated[int, typer.Option(help="Measurements per layer.")] = 64,
    seeds: Annotated[int, typer.Option(help="0 and up.")] = 2,
) -> None:
    """Tune, and print each way's measurements to what a cold run ends with."""
    curves: dict[str, list[list[float]]] = {"cold": [], "alone": [], "after": []}
    for seed in range(seeds):
        taught = str(out / f"first-{seed}")
        tune(first, trials=trials, seed=seed, run=taught, use_prior=False)
        ways: dict[str, dict[str, Any]] = {
            "cold": {"cold": True},
            "alone": {"use_prior": False},
            "after": {"use_prior": False, "learn_from": [taught]},
        }
        for way, how in ways.items():
            run = out / f"{way}-{seed}"
            began = time.monotonic()
            result = tune(second, trials=trials, seed=seed, run=str(run), **how)
            curves[way].append(curve(result, run).tolist())
            print(f"{way}, seed {seed}: {time.monotonic() - began:.0f} s", flush=True)
    (out / "curves.json").write_text(json.dumps(curves))
    Console().print(_table({way: [np.array(x) for x in found] for way, found in curves.items()}))


def curve(result: NetworkResult, run: Path) -> npt.NDArray[np.float64]:
    """Seconds of the network after each counted measurement, by job."""
    uses = {layer.layer.task.key: layer.layer.uses for layer in result.layers}
    counted = [
        record.measurement
        for record in read_records(run)[0]
        if record.measurement.purpose.counted and record.measurement.task in uses
    ]
    best: dict[str, float] = {}
    for one in counted:
        if one.ok:
            best.setdefault(one.task, one.seconds)
    found = []
    for one in counted:
        if one.ok:
            best[one.task] = min(best[one.task], one.seconds)
        found.append(sum(uses[task] * seconds for task, seconds in best.items()))
    return np.array(found)


def _table(curves: dict[str, list[npt.NDArray[np.float64]]]) -> Table:
    """Per way: how many measurements, by seed, until within so much of the cold run's end."""
    table = Table(title="measurements until the network is as fast as a cold run's end, by seed")
    table.add_column("way")
    for within in _WITHIN:
        table.add_column(f"x {within:.2f}", justify="right")
    table.add_column("ms at the end", justify="right")
    for way, found in curves.items():
        ends = [cold[-1] for cold in curves["cold"]]
        cells = []
        for within in _WITHIN:
            reached = [_until(one, end * within) for one, end in zip(found, ends, strict=True)]
            cells.append(", ".join(reached))
        last = ", ".join(f"{one[-1] * 1e3:.2f} of {len(one)}" for one in found)
        table.add_row(way, *cells, last)
    return table


def _until(one: npt.NDArray[np.float64], seconds: float) -> str:
    there = np.flatnonzero(one <= seconds)
    return str(there[0] + 1) if len(there) else "never"


if __name__ == "__main__":
    typer.run(main)
