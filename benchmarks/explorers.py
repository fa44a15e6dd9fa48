"""Which explorer proposes the best configs: PPO, annealing, a GA, random draws, enumeration?

    python benchmarks/explorers.py frozen cpu:vgg16:4 cuda:vgg16:8 convolution_A4000 --out runs/x
    python benchmarks/explorers.py loop cuda:vgg16:8 --seeds 0-19 --out runs/x
    python benchmarks/explorers.py frozen --out runs/x      (no space: tables of what is there)

All explorers get the same cost model, features, restrictions, starts and number of scored configs,
paired by seed. `frozen`: cost models fitted once on random measurements, one round. `learn`: six
rounds on one of them. `loop`: the search itself. What is in `--out` is not computed again; it
holds one JSON object a line.

A space is `cpu:NETWORK:LAYER` (the CPU template on the simulated device), `cuda:NETWORK:LAYER` (the
paper's CUDA space on the simulated GPU), a recorded space (a file, or a shipped one's name),
`lookup:FILE` (a forest fitted to a recording of one of our layers, asked about its whole space), or
`package.module:function`, which returns a `Device`: any function of configs can stand for one.
A score is the shortest time known of the space over the time of a config: 1 is the best, 0 failed.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from explorer_devices import Device, best_known, open_device, times
from explorer_parts import (
    ENUMERABLE,
    EXPLORERS,
    MEMBERS_ONLY,
    Counted,
    CountedEnsemble,
    build,
)
from rich.console import Console

from chameleon_ray.cli_shared import parse_seeds
from chameleon_ray.cost_model import make_cost_model
from chameleon_ray.explorers import Ensemble, Explorer, report_of
from chameleon_ray.explorers.ppo import PpoExplorer
from chameleon_ray.measure import Purpose
from chameleon_ray.measure.simulated import SimulatedMeasurer
from chameleon_ray.phases import Phases
from chameleon_ray.presets import load_policy
from chameleon_ray.sampling import make_sampler
from chameleon_ray.scores import over_seeds, signed_rank
from chameleon_ray.settings import (
    AdaptiveSettings,
    CostModelSettings,
    ForestSettings,
    Policy,
    ThompsonSettings,
)
from chameleon_ray.space import Score, Vector
from chameleon_ray.starts import first_batch
from chameleon_ray.task_tuner import History, TaskTuner

Row = dict[str, Any]

COMMON = {"initial": 16, "start": "spread"}
POLICIES = {
    "forest": Policy(**COMMON, sampler=ThompsonSettings(batch=8), cost_model=ForestSettings()),
    "staged": Policy(
        initial=8,
        start="spread",
        sampler=ThompsonSettings(batch=4),
        cost_model=load_policy("chameleon")[1].cost_model,
    ),
    "forest_knobs": Policy(
        **COMMON, sampler=ThompsonSettings(batch=8), cost_model=ForestSettings(), features="knobs"
    ),
    "xgb": Policy(
        **COMMON,
        sampler=AdaptiveSettings(variant="letter", exploit=6),
        cost_model=CostModelSettings(),
    ),
}
LEARNT = ("walked_1", "walked_2", "walked_6", "top_1", "top_2", "top_6")
SHOWN = (*LEARNT, "predicted", "real_1", "real_8", "real_64", "real_mean", "reach", "thompson_8")
KEYS = ("kind", "space", "model", "n", "explorer", "seed", "scored_at_most")
PLACE = ("kind", "space", "label", "model", "n", "scored_at_most")


def missing(
    kind: str, device: Device, model: str, n: int, *, options: argparse.Namespace, seed: int
) -> list[Row]:
    """The keys of the rows that are not there yet, of explorers that make sense."""
    small = device.space.size <= ENUMERABLE
    names = [
        name
        for name in options.explorers
        if (model != "xgb" or name not in MEMBERS_ONLY) and (small or name != "enumerate")
    ]
    place = (kind, device.name, model, n)
    keys = [dict(zip(KEYS, (*place, name, seed, options.scored), strict=True)) for name in names]
    return [key for key in keys if not options.store.has(key)]


def frozen(device: Device, best: float, options: argparse.Namespace, seed: int) -> Iterator[Row]:
    """One round of each explorer on cost models fitted once."""
    for n, model in itertools.product(options.points, options.models):
        keys = missing("frozen", device, model, n, options=options, seed=seed)
        if not keys:
            continue
        history, score = fitted(device, model, n, seed)
        for key in keys:
            found = propose(device, best, score, history, key)
            yield {**key, "label": device.label, **found}


def learn(device: Device, _best: float, options: argparse.Namespace, seed: int) -> Iterator[Row]:
    """Six rounds of each explorer on the mean of one cost model: does it come to score better?"""
    for n, model in itertools.product(options.points, options.models):
        history, score = fitted(device, model, n, seed)
        for key in missing("learn", device, model, n, options=options, seed=seed):
            rng = np.random.default_rng([seed, 1])
            explorer = build(key["explorer"], device.space, scored=options.scored, seed=seed)
            row: Row = {**key, "label": device.label}
            begin = time.perf_counter()
            for round_ in range(1, 7):
                plain = Counted(score, [0])
                found = explorer.explore(device.space, plain, history.best(32), rng)
                row[f"walked_{round_}"] = float(score(found.configs).mean())
                row[f"top_{round_}"] = float(found.scores[:64].mean())
            explorer.close()
            yield row | {"seconds": round(time.perf_counter() - begin, 3)}


def fitted(device: Device, model: str, n: int, seed: int) -> tuple[History, Score]:
    """Random measurements and a cost model fitted to them."""
    history = History(device.task, device.space)
    measured = device.space.random(n, np.random.default_rng([seed, n]))
    measurer = SimulatedMeasurer(device.task.key, device.space, device.seconds)
    history.add(measured, [m for _, m in measurer.submit(measured, purpose=Purpose.SEARCH)])
    cost_model = make_cost_model(POLICIES[model].cost_model, seed=seed)
    cost_model.fit(device.space, history.configs, history.fitness)
    return history, cost_model.score()


def propose(
    device: Device,
    best: float,
    score: Score,
    history: History,
    key: Row,
    *,
    weights: Mapping[str, Vector] | None = None,
    explorer: Explorer | None = None,
) -> Row:
    """What one round of an explorer comes to: of the one given, or of the one that `key` names."""
    count, rng = [0], np.random.default_rng([key["seed"], 1])
    counted = (CountedEnsemble if isinstance(score, Ensemble) else Counted)(score, count)
    scored, seed = key["scored_at_most"], key["seed"]
    if explorer is None:
        explorer = build(key["explorer"], device.space, scored=scored, seed=seed, weights=weights)
    inner = getattr(explorer, "explorer", explorer)
    if isinstance(inner, PpoExplorer):
        inner._build(device.space)  # noqa: SLF001 - once a task, not once a round
    begin = time.perf_counter()
    candidates = explorer.explore(device.space, counted, history.best(32), rng)
    seconds = time.perf_counter() - begin
    report = report_of(explorer)
    explorer.close()
    new = ~device.space.contains(history.configs, candidates.configs)
    top = candidates.configs[new][:64]
    real = best / times(device, top)
    predicted = candidates.scores[new][:64] * best / (history.best_seconds or np.inf)
    row = {
        "predicted": float(predicted.mean()),
        **{f"real_{k}": float(real[:k].max()) for k in (1, 8, 64)},
        "real_mean": float(real.mean()),
        "met_8": float(np.sort(best / times(device, candidates.configs[new]))[-8:].mean()),
        "scored": max(count[0], len(candidates.configs)),
        "distinct": len(candidates.configs),
        "seconds": round(seconds, 3),
        "waves": [round(s, 4) for s in report.wave_scores] if report else [],
    }
    if candidates.members is not None:
        sampler = make_sampler(POLICIES["forest"])
        failed = history.failed
        picks = sampler.choose(device.space, candidates, history.configs, failed, rng)
        row["reach"] = float(candidates.members.max(axis=1).mean())
        row["thompson_8"] = float((best / times(device, picks)).max())
    return row


def loop(device: Device, best: float, options: argparse.Namespace, seed: int) -> Iterator[Row]:
    """The search itself with each explorer."""
    for model in options.models:
        for key in missing("loop", device, model, options.trials, options=options, seed=seed):
            yield {**key, "label": device.label, **search(device, best, key)}


def search(
    device: Device, best: float, key: Row, *, weights: Mapping[str, Vector] | None = None
) -> Row:
    """One search: the score after each attempt."""
    policy, seed, phases = POLICIES[key["model"]], key["seed"], Phases()
    rng, space = np.random.default_rng(seed), device.space
    if policy.features == "knobs":
        space = space.with_knob_features()
    scored = key["scored_at_most"]
    explorer = build(key["explorer"], space, scored=scored, seed=seed, weights=weights)
    rounds = TaskTuner(
        device.task,
        space,
        first=first_batch(space, policy, rng),
        has_default=False,
        explorer=explorer,
        sampler=make_sampler(policy),
        measurer=SimulatedMeasurer(device.task.key, device.space, device.seconds),
        cost_model=make_cost_model(policy.cost_model, seed=seed),
        budget=key["n"],
        rng=rng,
        phases=phases,
        hopeless=None,
    )
    for history in rounds:
        measured = history.measurements
    scores = np.maximum.accumulate([best / m.seconds if m.ok else 0.0 for m in measured])
    points = [n for n in (16, 32, 64, 128, 256) if n <= len(scores)]
    return {
        **{f"score_{n}": float(scores[n - 1]) for n in points},
        "seconds": round(phases.seconds["explore"], 3),
    }


class Store:
    """Rows in a file of JSON lines; a last line that was cut off is dropped."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = path.read_text().splitlines(keepends=True) if path.exists() else []
        if lines and not lines[-1].endswith("\n"):
            lines.pop()
            path.write_text("".join(lines))
        self.rows: list[Row] = [json.loads(line) for line in lines]
        self._keys = {tuple(row.get(k) for k in KEYS) for row in self.rows}

    def has(self, key: Row) -> bool:
        """Whether the row of a key is there."""
        return tuple(key.get(k) for k in KEYS) in self._keys

    def add(self, row: Row) -> None:
        """Append a row."""
        self.rows.append(row)
        with self.path.open("a") as file:
            file.write(json.dumps(row) + "\n")


def summary(rows: Sequence[Row]) -> list[Row]:
    """Means over the seeds with 95% intervals, and the difference to the first explorer."""
    rng, found = np.random.default_rng(0), []
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[k] for k in PLACE), []).append(row)
    for place, group in groups.items():
        columns = [k for k in group[0] if k in SHOWN or k.startswith("score_")]
        judged = "real_64" if "real_64" in columns else columns[-1]
        of = {e: {r["seed"]: r for r in group if r["explorer"] == e} for e in EXPLORERS}
        names = [e for e in EXPLORERS if of[e]]
        for name in names:
            mine, first = of[name], of[names[0]]
            entry: Row = {**dict(zip(PLACE, place, strict=True)), "explorer": name}
            entry["seeds"] = len(mine)
            for column in [*columns, "scored", "seconds"]:
                values = np.array([r[column] for r in mine.values() if column in r])
                if len(values):
                    estimate = over_seeds(values, rng)
                    entry[column] = [estimate.mean, estimate.low, estimate.high]
            pairs = np.array([mine[s][judged] - first[s][judged] for s in mine if s in first])
            entry["difference"] = float(pairs.mean()) if len(pairs) else None
            entry["p"] = signed_rank(pairs) if name != names[0] else None
            found.append(entry)
    return found


def pooled(rows: Sequence[Row], against: str) -> list[Row]:
    """Each explorer's scores minus those of one, over all spaces and seeds that both have.

    Recorded spaces are the control and stay out. Spaces weigh by their seeds, so this tells about
    these spaces and no others.
    """
    rng, found = np.random.default_rng(0), []
    for model, n in dict.fromkeys((row["model"], row["n"]) for row in rows):
        of: dict[str, dict[tuple[Any, ...], Row]] = {name: {} for name in EXPLORERS}
        for row in rows:
            same = (row["model"], row["n"]) == (model, n) and row["label"] != "recorded"
            if same and row["explorer"] in of:
                pair = (row["space"], row["seed"], row["scored_at_most"])
                of[row["explorer"]][pair] = row
        first = of[against]
        for name in EXPLORERS:
            both = [pair for pair in of[name] if pair in first and name != against]
            if not both:
                continue
            entry: Row = {"model": model, "n": n, "explorer": name, "pairs": len(both)}
            entry["spaces"] = len({space for space, *_ in both})
            for column in ("score_32", "score_64", "score_128"):
                shared = [p for p in both if column in of[name][p] and column in first[p]]
                gains = np.array([of[name][p][column] - first[p][column] for p in shared])
                estimate = over_seeds(gains, rng)
                entry[column] = [estimate.mean, estimate.low, estimate.high, signed_rank(gains)]
            found.append(entry)
    return found


def print_pooled(entries: Sequence[Row], against: str, screen: Console) -> None:
    """The differences as Markdown."""
    columns = ("score_32", "score_64", "score_128")
    screen.print(f"\nloop, simulated spaces: difference to {against} (p: signed-rank test)\n")
    screen.print("| model | explorer | spaces | pairs | " + " | ".join(columns) + " |")
    screen.print("|---|---|---|---|" + "---|" * len(columns))
    for e in entries:
        cells = [f"{_interval(e[k][:3])} p={e[k][3] or 0:.3f}" for k in columns]
        screen.print(
            f"| {e['model']} | {e['explorer']} | {e['spaces']} | {e['pairs']} | "
            + " | ".join(cells)
            + " |"
        )


def print_tables(entries: Sequence[Row], screen: Console) -> None:
    """The summary as Markdown; d and p: difference to the first row, signed-rank test."""
    for _, group in itertools.groupby(entries, key=lambda e: tuple(e[k] for k in PLACE)):
        several = list(group)
        one = several[0]
        columns = [k for k in one if k in SHOWN or k.startswith("score_")]
        screen.print(
            f"\n{one['kind']}, {one['space']} ({one['label']}), {one['model']}, n={one['n']}, "
            f"at most {one['scored_at_most']} scored\n"
        )
        screen.print("| explorer | seeds | " + " | ".join(columns) + " | d | p | scored | s |")
        screen.print("|---|---|" + "---|" * (len(columns) + 4))
        for e in several:
            cells = [_interval(e[k]) if k in e else "" for k in columns]
            difference = "" if e["difference"] is None else f"{e['difference']:+.3f}"
            p = "" if e["p"] is None else f"{e['p']:.3f}"
            scored = f"{e['scored'][0]:.0f}" if "scored" in e else ""
            line = [e["explorer"], str(e["seeds"]), *cells, difference, p, scored]
            screen.print("| " + " | ".join([*line, f"{e['seconds'][0]:.2f}"]) + " |")


def _interval(estimate: Sequence[float | None]) -> str:
    mean, low, high = estimate
    return f"{mean:.3f}" if low is None or high is None else f"{mean:.3f} ({low:.3f} to {high:.3f})"


def main() -> None:
    """Compute what is missing, and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("kind", choices=("frozen", "learn", "loop"))
    parser.add_argument("spaces", nargs="*")
    parser.add_argument("--seeds", default="0-19")
    parser.add_argument("--explorers", nargs="*", choices=EXPLORERS, default=EXPLORERS)
    parser.add_argument("--models", nargs="*", choices=tuple(POLICIES), default=tuple(POLICIES))
    parser.add_argument("--points", nargs="*", type=int, default=(32, 64, 128, 256))
    parser.add_argument("--trials", type=int, default=128)
    parser.add_argument("--scored", type=int, default=25_600, help="configs a round")
    parser.add_argument("--against", choices=EXPLORERS, default="ppo", help="for the last table")
    parser.add_argument("--out", type=Path, default=Path("runs/explorers"))
    parser.add_argument("--json", action="store_true", help="the tables as one JSON object")
    options = parser.parse_args()
    options.store = Store(options.out / "explorers.jsonl")
    devices = [open_device(name) for name in options.spaces]
    known = {row["space"]: row["seconds"] for row in options.store.rows if row["kind"] == "best"}
    for device in devices:
        if device.name not in known:
            known[device.name] = best_known(device)
            options.store.add({"kind": "best", "space": device.name, "seconds": known[device.name]})
    make = {"frozen": frozen, "learn": learn, "loop": loop}[options.kind]
    for seed, device in itertools.product(parse_seeds(options.seeds), devices):
        for row in make(device, known[device.name], options, seed):
            options.store.add(row)
    rows = [row for row in options.store.rows if row["kind"] == options.kind]
    found, over_all = summary(rows), pooled(rows, options.against) if options.kind == "loop" else []
    if options.json:
        print(json.dumps({"tables": found, "simulated_spaces": over_all}))
        return
    screen = Console(soft_wrap=True, highlight=False)
    print_tables(found, screen)
    if over_all:
        print_pooled(over_all, options.against, screen)


if __name__ == "__main__":
    main()
