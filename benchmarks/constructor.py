"""Could a constructor, which sets knob by knob and never leaves the valid part, beat walks?

    python benchmarks/constructor.py lost convolution_A100.json.gz cuda:vgg16:8 constructor:gemm
    python benchmarks/constructor.py ceiling convolution_A100.json.gz constructor:gemm --seeds 0-5

There is no network: masks are read off a list of all valid configs. `lost`: how much is forbidden
of a space, of the steps of PPO's walks (the walker stays), of a random walk's draws as annealing
makes them (drawn again; `stuck`: 32 draws were not enough). `ceiling`: one round on frozen models
as in `pretraining.py frozen`, as many scored configs for each explorer; `enumerate` scores all.

    constructor_0.1     knows the best completion of every prefix and does not pay for it: choices
                        by softmax of the logarithm of its score, over 0.1. No network knows more
    constructor_0.3     the same, more of it at random
    constructor_learns  knows what it scored: a choice is as likely as it follows its prefix in the
                        best tenth of that, backed by how often it stands in the best tenth at all

`constructor:gemm` is the space of `templates/cuda_gemm.py`, VGG-16's layer 8 on an A100 with tf32,
timed by the template's own arithmetic: *simulated*. Other spaces are named as in `explorers.py`.
"""

from __future__ import annotations

import argparse
import itertools
from collections import Counter
from pathlib import Path
from unittest.mock import patch

import numpy as np
from constructor_parts import Constructor
from explorer_devices import Device, open_device
from explorer_parts import build
from explorers import KEYS, Row, Store, fitted, propose
from pretraining import tables
from rich.console import Console

from chameleon_ray.cli_shared import parse_seeds
from chameleon_ray.explorers import Explorer, annealing
from chameleon_ray.explorers.around import EnumeratingExplorer
from chameleon_ray.networks import network
from chameleon_ray.space import BoolArray, Configs, DesignSpace
from chameleon_ray.tasks import Target
from chameleon_ray.templates import cuda_gemm

PEERS = ("random", "ppo", "annealing", "genetic_members", "nearby")
CONSTRUCTORS = {"constructor_0.1": 0.1, "constructor_0.3": 0.3, "constructor_learns": None}
_CHUNK, _SCORED = 500_000, 25_600


def gemm() -> Device:
    """The CUDA GEMM template's valid configs, timed by its arithmetic."""
    task = network("vgg16")[7].task
    target = Target(kind="cuda", model="sm_80", lanes=32, cores=108, template="gemm_tf32")
    space, valid = cuda_gemm.design_space(task, target), []
    for at in range(0, space.size, _CHUNK):
        numbers = np.arange(at, min(at + _CHUNK, space.size))
        rows = np.stack(np.unravel_index(numbers, tuple(space.sizes)), axis=1).astype(np.int32)
        valid.append(rows[space.valid(rows)])
    return Device(
        name="constructor:gemm",
        label="simulated: arithmetic",
        task=task,
        space=space.only(np.concatenate(valid), name=space.name),
        seconds=lambda configs: np.exp(-space.draft(space.values(configs))),
    )


def lost(device: Device) -> Row:
    """Shares of what explorers try that is forbidden."""
    space, count, rng = device.space, Counter[str](), np.random.default_rng(0)
    move, valid = DesignSpace.move, DesignSpace.valid

    def moved(self: DesignSpace, configs: Configs, steps: Configs) -> Configs:
        to, asked = move(self, configs, steps), (steps != 0).any(axis=1)
        count["steps"] += int(asked.sum())
        count["lost"] += int((asked & (to == configs).all(axis=1)).sum())
        return to

    def judged(self: DesignSpace, configs: Configs) -> BoolArray:
        allowed = valid(self, configs)
        count["draws"] += len(allowed)
        count["forbidden"] += int((~allowed).sum())
        return allowed

    history, score = fitted(device, "staged", 48, 0)
    explorer = build("ppo", space, scored=_SCORED, seed=0)
    with patch.object(DesignSpace, "move", moved):
        found = explorer.explore(space, score, history.best(32), rng)
    explorer.close()
    here, stuck = space.random(128, rng), 0
    with patch.object(DesignSpace, "valid", judged):
        for _ in range(200):
            before, here = here, annealing.propose(space, here, rng)
            stuck += int((here == before).all(axis=1).sum())
    return {
        "configs": space.size,
        "valid": space.count_valid() or space.estimate_valid(),
        "steps lost": count["lost"] / count["steps"],
        "distinct": len(found.configs),
        "draws forbidden": count["forbidden"] / count["draws"],
        "stuck": stuck / (200 * len(here)),
    }


def ceiling(device: Device, options: argparse.Namespace, seed: int) -> None:
    """One round of each explorer on frozen models."""
    everything = device.space.all_valid()
    best = float(device.times(everything).min())
    for n, steps in itertools.product(options.points, options.steps):
        history, score = fitted(device, "staged", n, seed)
        for name in (*PEERS, *CONSTRUCTORS, "enumerate"):
            place = ("frozen", device.name, "staged", n, name, seed, steps)
            key: Row = dict(zip(KEYS, place, strict=True))
            if options.store.has(key):
                continue
            explorer: Explorer | None = None
            if name in CONSTRUCTORS:
                explorer = Constructor(steps, CONSTRUCTORS[name])
            elif name == "enumerate":
                explorer = EnumeratingExplorer(everything)
            found = propose(device, best, score, history, key, explorer=explorer)
            renamed = {"picks": found["thompson_8"], "best_64": found["real_64"]}
            options.store.add(key | {"label": device.label} | found | renamed)


def main() -> None:
    """Compute what is missing, and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("kind", choices=("lost", "ceiling"))
    parser.add_argument("spaces", nargs="*")
    parser.add_argument("--seeds", default="0-5")
    parser.add_argument("--points", nargs="*", type=int, default=(16, 48, 128))
    parser.add_argument("--steps", nargs="*", type=int, default=(640, 2_560))
    parser.add_argument("--against", default="random", choices=PEERS)
    parser.add_argument("--out", type=Path, default=Path("runs/constructor"))
    options = parser.parse_args()
    options.store = Store(options.out / "constructor.jsonl")
    screen = Console(soft_wrap=True, highlight=False)
    devices = [open_device(name) for name in options.spaces]
    for device in devices if options.kind == "lost" else ():
        screen.print(device.name, lost(device))
    if options.kind == "lost":
        return
    for seed, device in itertools.product(parse_seeds(options.seeds), devices):
        ceiling(device, options, seed)
    rows = [r | {"device": r["space"], "points": r["n"]} for r in options.store.rows]
    for steps in options.steps:
        some = [row for row in rows if row["scored_at_most"] == steps]
        for line in tables(some, "frozen", options.against):
            screen.print(line)


if __name__ == "__main__":
    main()
