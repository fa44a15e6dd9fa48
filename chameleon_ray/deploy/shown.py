"""What `deploy` and `bench` print."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from chameleon_ray import report
from chameleon_ray.deploy.bench import Comparison, Timed
from chameleon_ray.deploy.database import Entry
from chameleon_ray.deploy.folder import LIBRARY, Deployed
from chameleon_ray.tasks import Layer, task_from_key
from chameleon_ray.text import duration, milliseconds, ratio


def print_deployed(deployed: Deployed, out: Path, console: Console) -> None:
    """What was made of a model, and what of it is not tuned."""
    layers, by_rule = deployed.layers, deployed.by_rule
    size = (out / LIBRARY).stat().st_size / 1e6
    of = f"{deployed.network} for {deployed.target.model}, {deployed.target.cores} threads"
    lines = [
        f"{of}: {out}, {size:.1f} MB, {duration(deployed.build_seconds)}.",
        f"{len(layers) - len(by_rule)} of {len(layers)} layers have a config that was measured.",
    ]
    if by_rule:
        named = ", ".join(layer.name for layer in by_rule)
        lines.append(
            f"By rule, since they were not measured: {named}. Tune them: chameleon-ray tune "
            f"{deployed.network} --input {','.join(deployed.inputs)} (with an env of cores: "
            f"{deployed.target.cores})"
        )
    lines += report.untuned(deployed.untuned)
    lines.append(f"Time it: chameleon-ray bench {out}; run it: python {out / 'run.py'}")
    for line in lines:
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def print_entries(entries: Sequence[Entry], console: Console) -> None:
    """What a database holds: a row for each task on each kind of machine."""
    table = Table(box=None, padding=(0, 1))
    for head in ("layer", "machine", "ms", "gain"):
        table.add_column(head, justify="right" if head in ("ms", "gain") else "left", no_wrap=True)
    for entry in entries:
        name = Layer(index=1, task=task_from_key(entry.task), uses=1).name
        gain = ratio(entry.default_seconds, entry.seconds)
        table.add_row(name, entry.machine, milliseconds(entry.seconds), gain)
    if not console.is_terminal:
        console.width = max(console.width, report.WIDTH)
    console.print(table)


def print_comparison(found: Comparison, console: Console) -> None:
    """A row for each contender."""
    ours = next(one for one in found.timed if one.name == "chameleon")
    title = f"{found.deployed.network}, {','.join(found.deployed.inputs)}, {found.threads} threads"
    table = Table(title=title, title_justify="left", box=None, padding=(0, 1))
    for head in ("", "ms", "95% interval", "vs ours", "start s", "peak MiB", "error"):
        table.add_column(head, justify="left" if not head else "right", no_wrap=True)
    for one in found.timed:
        table.add_row(*_cells(one, ours))
    if not console.is_terminal:
        console.width = max(console.width, report.WIDTH)
    console.print(table)
    if found.blind:
        console.print(
            "The outputs hardly depend on the input, so the errors tell nothing.", highlight=False,
            soft_wrap=True,
        )  # fmt: skip
    for one in found.timed:
        if one.reason:
            console.print(
                f"{one.name} does not run: {one.reason}", highlight=False, markup=False,
                soft_wrap=True,
            )  # fmt: skip


def _cells(one: Timed, ours: Timed) -> list[str]:
    if one.seconds is None:
        return [one.name, "-", "", "", "", "", ""]
    return [
        one.name,
        milliseconds(one.seconds),
        f"{milliseconds(one.low)} to {milliseconds(one.high)}",
        "" if one is ours or ours.seconds is None else f"{one.seconds / ours.seconds:.2f}x",
        f"{one.start_seconds:.1f}",
        f"{(one.peak_bytes or 0) / 2**20:.0f}",
        "" if one.error is None else f"{one.error:.1g}",
    ]


def comparison_to_json(found: Comparison) -> dict[str, object]:
    """As plain values."""
    return {
        "network": found.deployed.network,
        "threads": found.threads,
        "blind": found.blind,
        "contenders": {
            one.name: {
                "seconds": one.seconds,
                "low": one.low,
                "high": one.high,
                "start_seconds": one.start_seconds,
                "peak_bytes": one.peak_bytes,
                "error": one.error,
                "reason": one.reason,
            }
            for one in found.timed
        },
    }
