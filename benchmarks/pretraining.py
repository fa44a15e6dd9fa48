"""Does an agent that carries over reach what PPO from scratch does, with a fifth of the steps?

    python benchmarks/pretraining.py walks cuda:vgg16:8 --agent runs/agent.safetensors
    python benchmarks/pretraining.py frozen cuda:vgg16:8 --agent runs/agent.safetensors
    python benchmarks/pretraining.py loop cuda:vgg16:8 --agent runs/agent.safetensors --seeds 0-19
    python benchmarks/pretraining.py frozen      (no space: tables of what is there)

`walks`: 128 walks under each of a few models, fitted to so many random measurements: what the agent
is paid for, beside one that has learned nothing and as many random draws. `frozen`: one round on
models fitted once, the shipped one of so many measurements. `loop`: the search itself, as shipped
(a walk in every fourth round). Each explorer walks with each of `--steps` environment steps a round
(configs that it may score), paired by seed; the first of `--explorers` with the most steps is what
the others are compared with. `enumerate` scores a space whole where `chameleon` would, once for all
`--steps`, and stands beside the most of them. Spaces are named as in `explorers.py`. An agent is
refused on a space that it was trained on. What is in `--out` is not computed again.

    promised   the best score that a walk saw; shares of the best measured config, means over walks
    ends       what the config with that score is truly worth
    best       the truly best config that a walk met
    reach      what the drawn functions of the model promise at best: the mean, over the functions,
               of their highest value among the candidates; 1 is the best measured config
    met_8      the mean of the eight truly best configs among the candidates
    picks      the true score of the best of eight configs that Thompson sampling takes from them
    best_64    the true score of the best of the 64 best-scored
    score_n    of the loop: the true score of the best of the first n measurements
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from explorer_devices import Device, best_known, open_device
from explorer_parts import EXPLORERS
from explorers import KEYS, Store, fitted, propose, search
from rich.console import Console

from chameleon_ray.agent_training import Worth, worth_of
from chameleon_ray.cli_shared import parse_seeds
from chameleon_ray.environment import Moves
from chameleon_ray.errors import SettingsError
from chameleon_ray.exercises import Visit, draw_exercise, visit
from chameleon_ray.explorers.around import all_valid
from chameleon_ray.learning.agent_file import AgentFile, load_agent
from chameleon_ray.presets import load_policy
from chameleon_ray.scores import over_seeds, signed_rank
from chameleon_ray.space import Vector
from chameleon_ray.token_agent import first_weights

Row = dict[str, Any]
Weights = Mapping[str, Vector] | None

COLUMNS = {
    "walks": ("promised", "ends", "best"),
    "frozen": ("reach", "met_8", "picks", "best_64"),
    "loop": ("score_16", "score_32", "score_64", "score_128"),
}
MODEL = "staged"
_CARRIED = "carried"
_EXPLORERS = {
    "walks": ("tokens", _CARRIED, "random"),
    "frozen": ("ppo", "random", "annealing", "tokens", _CARRIED),
    "loop": ("ppo_sparing", "random_sparing", "tokens_sparing", "carried_sparing"),
}


def keys_of(
    device: Device, options: argparse.Namespace, n: int, seed: int
) -> Iterator[tuple[Row, Weights]]:
    """What is not there yet, and the weights that it starts with."""
    most = max(options.steps)
    for name, steps in itertools.product(options.explorers, options.steps):
        carried = name.startswith(_CARRIED)
        if carried and options.agent is None:
            continue
        if name == "enumerate" and not enumerable(device, options.kind, steps == most):
            continue
        label = f"{name}@{options.label}" if carried else name
        place = (options.kind, device.name, MODEL, n, label, seed, steps)
        key = dict(zip(KEYS, place, strict=True))
        if not options.store.has(key):
            yield key, options.agent.weights if carried else None


def enumerable(device: Device, kind: str, once: bool) -> bool:  # noqa: FBT001
    """Whether `chameleon` would score the space whole; it does not depend on the steps."""
    limit = load_policy("chameleon")[1].enumerate
    return kind != "walks" and once and all_valid(device.space, limit) is not None


def frozen(device: Device, best: float, options: argparse.Namespace, seed: int) -> Iterator[Row]:
    """One round of each explorer under each model."""
    for n in options.points:
        wanted = list(keys_of(device, options, n, seed))
        if not wanted:
            continue
        history, score = fitted(device, MODEL, n, seed)
        for key, weights in wanted:
            plain = key | {"explorer": key["explorer"].partition("@")[0]}
            found = propose(device, best, score, history, plain, weights=weights)
            renamed = {"picks": found["thompson_8"], "best_64": found["real_64"]}
            yield key | {"label": device.label} | found | renamed


def walks(device: Device, _best: float, options: argparse.Namespace, seed: int) -> Iterator[Row]:
    """Walks of an agent under one member of a model each."""
    moves = Moves(device.space, early_stop=None)
    for n in options.points:
        rng = np.random.default_rng([seed, n, 2])
        exercise = draw_exercise([device], 0, rng, measured=n)
        one = visit(exercise, moves, rng, walkers=128, steps=40)
        for key, weights in keys_of(device, options, n, seed):
            begin = time.perf_counter()
            mine = weights or first_weights(hidden=options.hidden, seed=seed)
            drawn = key["explorer"] == "random"
            found = asdict(draws(device, one, rng) if drawn else worth_of(mine, device, one))
            seconds = round(time.perf_counter() - begin, 3)
            yield key | {"label": device.label, "seconds": seconds} | found


def draws(device: Device, one: Visit, rng: np.random.Generator) -> Worth:
    """What as many random draws come to as a walk scores: who only moves far is no better."""
    found = [device.space.random(one.steps + 1, rng) for _ in one.starts]
    configs = np.concatenate([some for some in found if len(some) == one.steps + 1])
    scores = one.score(configs).reshape(-1, one.steps + 1)
    true = (one.seconds / device.times(configs)).reshape(scores.shape)
    return Worth(
        promised=float(scores.max(axis=1).mean()),
        ends=float(true[np.arange(len(true)), scores.argmax(axis=1)].mean()),
        best=float(true.max(axis=1).mean()),
    )


def loop(device: Device, best: float, options: argparse.Namespace, seed: int) -> Iterator[Row]:
    """The search itself with each explorer."""
    for key, weights in keys_of(device, options, options.trials, seed):
        plain = key | {"explorer": key["explorer"].partition("@")[0]}
        yield key | {"label": device.label} | search(device, best, plain, weights=weights)


def check(agent: AgentFile, devices: Sequence[Device]) -> None:
    """Refuse to score an agent where it was trained.

    Raises:
        SettingsError: A space is named in its card.
    """
    known = {told["space"] for told in agent.card["data"]}
    for device in devices:
        if device.name in known:
            raise SettingsError(f"{device.name}: this agent was trained on it; train another.")


def tables(rows: Sequence[Row], kind: str, first: str) -> Iterator[str]:
    """Markdown: each space and number of measurements, and all spaces together."""
    columns = COLUMNS[kind]
    rows = [row for row in rows if row["kind"] == kind]
    together = [row | {"space": "all", "label": "all spaces", "n": "all"} for row in rows]
    places = (rows, together) if len({(r["space"], r["n"]) for r in rows}) > 1 else (rows,)
    for group in places:
        for place in dict.fromkeys((r["space"], r["label"], r["n"]) for r in group):
            here = [r for r in group if (r["space"], r["label"], r["n"]) == place]
            most = max(r["scored_at_most"] for r in here)
            yield f"\n{kind}, {place[0]} ({place[1]}), n={place[2]}; against {first} with {most}\n"
            head = ("explorer", "steps", "pairs", *columns, *(f"d {c}" for c in columns), "s")
            yield "| " + " | ".join(head) + " |"
            yield "|" + "---|" * len(head)
            yield from _lines(here, columns, (first, most))


def _lines(rows: Sequence[Row], columns: Sequence[str], first: tuple[str, int]) -> Iterator[str]:
    rng = np.random.default_rng(0)
    of: dict[tuple[str, int], dict[tuple[Any, ...], Row]] = {}
    for row in rows:
        pair = (row["seed"], row["device"], row["points"])
        of.setdefault((row["explorer"], row["scored_at_most"]), {})[pair] = row
    for (name, steps), mine in sorted(of.items(), key=lambda item: (item[0][0], item[0][1])):
        cells = [name, f"{steps:,}", str(len(mine))]
        for column in columns:
            found = np.array([row[column] for row in mine.values() if column in row])
            cells.append(f"{found.mean():.3f}" if len(found) else "")
        base = of.get(first, {})
        for column in columns:
            gains = np.array(
                [mine[p][column] - base[p][column] for p in mine if p in base and column in mine[p]]
            )
            cells.append(_difference(gains, rng) if (name, steps) != first else "")
        cells.append(f"{np.mean([row['seconds'] for row in mine.values()]):.2f}")
        yield "| " + " | ".join(cells) + " |"


def _difference(gains: np.ndarray, rng: np.random.Generator) -> str:
    if not len(gains):
        return ""
    estimate = over_seeds(gains, rng)
    if estimate.low is None or estimate.high is None:
        return f"{estimate.mean:+.3f}"
    p = signed_rank(gains)
    interval = f"{estimate.mean:+.3f} ({estimate.low:+.3f} to {estimate.high:+.3f})"
    return f"{interval} p={p:.3f}" if p is not None else interval


def main() -> None:
    """Compute what is missing, and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("kind", choices=tuple(COLUMNS))
    parser.add_argument("spaces", nargs="*")
    parser.add_argument("--agent", type=Path, help="a file that `chameleon-ray pretrain` wrote")
    parser.add_argument("--seeds", default="0-9")
    parser.add_argument("--explorers", nargs="*", choices=EXPLORERS)
    parser.add_argument("--points", nargs="*", type=int, default=(16, 32, 64, 128))
    parser.add_argument("--steps", nargs="*", type=int, default=(5_120, 25_600))
    parser.add_argument("--shown", nargs="*", type=int, help="only such steps in the tables")
    parser.add_argument("--trials", type=int, default=128)
    parser.add_argument("--out", type=Path, default=Path("runs/pretraining"))
    options = parser.parse_args()
    options.explorers = options.explorers or _EXPLORERS[options.kind]
    if options.kind == "walks":
        options.steps = (5_120,)
    options.hidden = 32
    options.store = Store(options.out / "pretraining.jsonl")
    devices = [open_device(name) for name in options.spaces]
    if options.agent is not None:
        options.label, options.agent = options.agent.stem, load_agent(options.agent)
        check(options.agent, devices)
        options.hidden = options.agent.hidden
    run(devices, options)
    rows = [r | {"device": r["space"], "points": r["n"]} for r in options.store.rows if "n" in r]
    rows = [r for r in rows if not options.shown or r["scored_at_most"] in options.shown]
    screen = Console(soft_wrap=True, highlight=False)
    for line in tables(rows, options.kind, options.explorers[0]):
        screen.print(line)


def run(devices: Sequence[Device], options: argparse.Namespace) -> None:
    """Compute what is missing."""
    known = {row["space"]: row["seconds"] for row in options.store.rows if row["kind"] == "best"}
    for device in devices:
        if options.kind == "walks":  # its scores are shares of what was measured
            known[device.name] = float("nan")
        if device.name not in known:
            known[device.name] = best_known(device)
            options.store.add({"kind": "best", "space": device.name, "seconds": known[device.name]})
    make = {"walks": walks, "frozen": frozen, "loop": loop}[options.kind]
    for seed, device in itertools.product(parse_seeds(options.seeds), devices):
        for row in make(device, known[device.name], options, seed):
            options.store.add(row)


if __name__ == "__main__":
    main()
