"""What came of a run: a table for people, one object for programs."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from chameleon_ray.networks import Untuned
from chameleon_ray.results import PHASES, LayerResult, NetworkResult
from chameleon_ray.text import duration, geometric_mean, milliseconds, ratio, speed

_COLUMNS = (
    "#",
    "layer",
    "uses",
    "measured",
    "default ms",
    "best ms",
    "GFLOP/s",
    "gain",
    "torch ms",
    "vs torch",
    "share",
)
_NARROW = 105  # columns of a terminal; with fewer, what others say too is left out
_NOT_NEEDED = ("measured", "default ms", "GFLOP/s", "torch ms")
WIDTH = 110  # of the table where there is no terminal to ask


def report(result: NetworkResult, console: Console) -> None:
    """Print the table of a run and what to know about it."""
    print_table(result, console)
    for line in _summary(result):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def print_table(result: NetworkResult, console: Console) -> None:
    """Print the table alone: a row per layer, and totals."""
    if not console.is_terminal:
        console.width = max(console.width, WIDTH)
    console.print(_table(result, narrow=console.width < _NARROW))


def to_json(result: NetworkResult) -> dict[str, object]:
    """The run as plain values, finite numbers only: what is missing is None."""
    return {
        "network": result.network,
        "env": result.env,
        "policy": result.policy,
        "seed": result.seed,
        "device": result.device,
        "wall_seconds": _finite(result.wall_seconds),
        "startup_seconds": _finite(result.startup_seconds),
        "phase_seconds": {p: _finite(result.phase_seconds.get(p, 0.0)) for p in PHASES},
        "layers": [_layer_to_json(layer) for layer in result.layers],
        "finished": result.finished,
        "run": result.run,
        "learned_from": result.learned_from,
        "versions": dict(result.versions),
        "untuned": [asdict(one) for one in result.untuned],
        "damaged": list(result.damaged),
        "drifts": list(result.drifts),
    }


def _layer_to_json(result: LayerResult) -> dict[str, object]:
    return {
        "layer": result.layer.index,
        "task": result.layer.task.key,
        "uses": result.layer.uses,
        "space_size": int(result.space_size),
        "measurements": int(result.measurements),
        "outcomes": {str(name): int(count) for name, count in result.outcomes.items()},
        "default_seconds": _finite(result.default_seconds),
        "best_seconds": _finite(result.best_seconds),
        "torch_seconds": _finite(result.torch_seconds),
        "gflops": _finite(result.gflops),
        "default_won": bool(result.default_won),
        "best_config": {name: [int(n) for n in c] for name, c in result.best_config.items()},
        "name": result.layer.name,
        "message": result.message,
    }


def _finite(value: float | None) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None


def _table(result: NetworkResult, *, narrow: bool) -> Table:
    title = f"{result.network} on {result.device}, policy {result.policy}"
    table = Table(title=escape(title), title_justify="left", box=None, padding=(0, 1))
    for name in _COLUMNS:
        table.add_column(name, justify="left" if name == "layer" else "right", no_wrap=True)
    total = _network_seconds(result, "best_seconds")
    for row in result.layers:
        seconds = row.best_seconds
        share = f"{seconds * row.layer.uses / total:.0%}" if seconds and total else "-"
        table.add_row(
            str(row.layer.index),
            row.layer.name,
            str(row.layer.uses),
            str(row.measurements),
            milliseconds(row.default_seconds),
            milliseconds(seconds) + ("*" if row.default_won else ""),
            speed(row.layer.task.flop, seconds),
            ratio(row.default_seconds, seconds),
            milliseconds(row.torch_seconds),
            ratio(row.torch_seconds, seconds),
            share,
        )
    table.add_section()
    _add_totals(table, result, total)
    if narrow:
        table.columns = [c for c in table.columns if c.header not in _NOT_NEEDED]
    return table


def _add_totals(table: Table, result: NetworkResult, total: float | None) -> None:
    default, torch = (_network_seconds(result, n) for n in ("default_seconds", "torch_seconds"))
    uses, measured = sum(r.layer.uses for r in result.layers), result.measurements
    flop = sum(r.layer.task.flop * r.layer.uses for r in result.layers)
    table.add_row(
        "",
        "all, by uses",
        str(uses),
        str(measured),
        milliseconds(default),
        milliseconds(total),
        speed(flop, total),
        ratio(default, total),
        milliseconds(torch),
        ratio(torch, total),
        "100%" if total else "-",
        style="bold",
    )
    gain, versus = mean_gain(result), mean_versus_torch(result)
    blank = [""] * 5
    table.add_row("", "geometric mean", *blank, ratio(gain, 1.0), "", ratio(versus, 1.0), "")


def mean_gain(result: NetworkResult) -> float | None:
    """Geometric mean, over the layers with both times, of default / best."""
    return geometric_mean(
        row.default_seconds / row.best_seconds
        for row in result.layers
        if row.default_seconds and row.best_seconds
    )


def mean_versus_torch(result: NetworkResult) -> float | None:
    """Geometric mean, over the layers with both times, of torch / best: above 1, we are faster."""
    return geometric_mean(
        row.torch_seconds / row.best_seconds
        for row in result.layers
        if row.torch_seconds and row.best_seconds
    )


def _network_seconds(result: NetworkResult, name: str) -> float | None:
    """One of the times, summed over all uses of all layers; None if a layer has none."""
    times: list[float | None] = [getattr(row, name) for row in result.layers]
    total = 0.0
    for row, seconds in zip(result.layers, times, strict=True):
        if seconds is None:
            return None
        total += seconds * row.layer.uses
    return total or None


def learned(result: NetworkResult) -> list[str]:
    """What layers learn from in the run; no line if nobody knows."""
    return [f"Layers learn from {result.learned_from}."] if result.learned_from else []


def _summary(result: NetworkResult) -> list[str]:
    """What the table does not say, a line each."""
    lines = [default_wins(result), failures(result), _time_spent(result), *learned(result)]
    lines += [
        f"Layer {row.layer.index} ({row.layer.name}): {row.message}."
        for row in result.layers
        if row.message
    ]
    lines += [
        f"{name} was damaged and is set aside; what it held was made again."
        for name in result.damaged
    ]
    lines += [*untuned(result.untuned), *result.drifts]
    if not result.finished:
        lines.append(
            "The run ended before all measurements were made; what is above is the best so far."
        )
    if result.run:
        lines.append(
            f"Every measurement is in {result.run}; see it again: chameleon-ray show {result.run}"
        )
    return lines


def untuned(found: Sequence[Untuned]) -> list[str]:
    """What of a model is compiled as it is: a line for each reason, and one for the rest."""
    reasons: dict[str, list[str]] = {}
    for one in found:
        reasons.setdefault(one.reason, []).append(f"{one.uses} {one.what}")
    lines = [
        f"Not tuned, since {reason.rstrip('.')}: {'; '.join(named)}."
        for reason, named in reasons.items()
        if reason
    ]
    small = sum(one.uses for one in found if not one.reason)
    kinds = ", ".join(one.what for one in found if not one.reason)
    rest = f"{small} small operators are compiled as they are: {kinds}."
    return [*lines, rest] if small else lines


def default_wins(result: NetworkResult) -> str:
    """On how many layers nothing better than the default was found: one line."""
    won = sum(row.default_won for row in result.layers)
    note = " (marked *)" if won else ""
    return f"The default configuration won on {won} of {len(result.layers)} layers{note}."


def failures(result: NetworkResult) -> str:
    """How many measurements failed, and how: one line."""
    outcomes: Counter[str] = Counter()
    for row in result.layers:
        outcomes.update({str(name): count for name, count in row.outcomes.items()})
    failed = {name: n for name, n in outcomes.most_common() if name != "ok" and n}
    if not failed:
        return f"All {result.measurements} measurements are valid."
    kinds = ", ".join(f"{n} {name}" for name, n in failed.items())
    return f"{sum(failed.values())} of {result.measurements} measurements failed: {kinds}."


def _time_spent(result: NetworkResult) -> str:
    """The wall time, and how the phases share the work."""
    text = f"{duration(result.wall_seconds)}, {duration(result.startup_seconds)} of it to start"
    measuring = result.wall_seconds - result.startup_seconds
    if result.measurements and measuring > 0:
        text += f"; {measuring / result.measurements:.2f} s for each measurement"
    return f"Time: {text}.{_phases(result.phase_seconds)}"


def _phases(phases: Mapping[str, float]) -> str:
    total = sum(phases.values())
    if not total:
        return ""
    shares = ", ".join(f"{p} {phases.get(p, 0.0) / total:.0%}" for p in PHASES)
    return f" Where it went: {shares}."
