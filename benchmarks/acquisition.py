"""Can an acquisition be learned that beats Thompson sampling on a kernel it has not seen?

    python benchmarks/acquisition.py /work/hub/*.json.gz --out runs/acquisition

The cheapest form that could: six coefficients, evolved on replays of recorded spaces, one kernel
left out. A candidate's worth is linear in what a search knows of it: the forest's mean and spread
(of the logarithm of the time), its distance to the best measured configs, and these two times
stagnation and the budget left. A batch is chosen one by one, those chosen count as measured. What
evolution maximises is what the search is about, the real score (optimum over best) averaged over
the attempts from the 17th on, on the recorded spaces of the other kernels.

Thompson sampling has the same forest, first batch, candidates and seeds.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console

from chameleon_ray.cli_shared import parse_seeds
from chameleon_ray.cost_model.forest import ForestCostModel
from chameleon_ray.measure.recorded import RecordedSpace, load_recorded
from chameleon_ray.scores import over_seeds, signed_rank
from chameleon_ray.settings import ForestSettings
from chameleon_ray.space import Configs

Array = npt.NDArray[np.float64]

INITIAL, BATCH, TRIALS = 16, 4, 80
CANDIDATES = 1_000  # drawn anew each round
TREES = 16
PARENTS, CHILDREN, GENERATIONS = 3, 8, 8
START = np.array([1.0, 0.5, 0.0, 0.0, 0.0, 0.0])  # the mean and half a spread
WIDTH, NARROWING = 0.5, 0.85  # of the first generation's steps, and from one to the next
NAMES = ("mean", "spread", "distance", "spread*stagnation", "spread*left", "distance*left")


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What a search knows when it chooses a batch.

    Attributes:
        mean: Of the forest's members, for each candidate `(n,)`: log of the share of the best.
        members: One by one `(members, n)`.
        candidates: `(n, knobs)`.
        best: The eight best measured configs, the best first.
        stagnation: Attempts since the best one, as a share of 32, at most 1.
        left: Share of the budget.
        scale: What a step of each knob counts, `(knobs,)`.
    """

    mean: Array
    members: Array
    candidates: Configs
    best: Configs
    stagnation: float
    left: float
    scale: Array


Choose = Callable[[Known, np.random.Generator], list[int]]


def thompson(known: Known, rng: np.random.Generator) -> list[int]:
    """Each pick is the best of another member; equals are told apart by the mean."""
    picks: list[int] = []
    for row in rng.choice(len(known.members), size=BATCH, replace=False):
        worth = known.members[row] + 1e-6 * known.mean
        worth[picks] = -np.inf
        picks.append(int(worth.argmax()))
    return picks


def linear(weights: Array) -> Choose:
    """An acquisition of these six coefficients."""

    def choose(known: Known, _rng: np.random.Generator) -> list[int]:
        spread = known.members.std(axis=0)
        near = _distance(known.candidates, known.best, known.scale)
        picks: list[int] = []
        for _ in range(BATCH):
            table = [known.mean, spread, near]
            table += [spread * known.stagnation, spread * known.left, near * known.left]
            worth = weights @ np.array(table)
            worth[picks] = -np.inf
            picks.append(int(worth.argmax()))
            last = known.candidates[picks[-1]][None, :]
            near = np.minimum(near, _distance(known.candidates, last, known.scale))
        return picks

    return choose


def _distance(configs: Configs, to: Configs, scale: Array) -> Array:
    """The mean over the knobs to the nearest of some configs, each knob scaled to [0, 1]."""
    apart = np.abs(configs[:, None, :] - to[None, :, :]) * scale
    nearest: Array = apart.mean(axis=2).min(axis=1)
    return nearest


def replay(recorded: RecordedSpace, choose: Choose, seed: int) -> Array:
    """The score after each attempt `(TRIALS,)`."""
    space = recorded.space
    everything = np.arange(len(recorded.configs))
    rng = np.random.default_rng([seed, 1])
    measured = list(rng.choice(everything, size=INITIAL, replace=False))
    scale = 1 / np.maximum(space.sizes - 1, 1)
    shares = np.nan_to_num(recorded.optimum_seconds / recorded.seconds)
    model = ForestCostModel(ForestSettings(trees=TREES), seed=seed)
    while len(measured) < TRIALS:
        found = shares[measured]
        model.fit(space, recorded.configs[measured], found.astype(np.float32))
        rest = np.setdiff1d(everything, measured)
        rows = rng.choice(rest, size=min(CANDIDATES, len(rest)), replace=False)
        members = np.log(model.score().predict(recorded.configs[rows])[1] + 1e-9)  # type: ignore[attr-defined]
        known = Known(
            mean=members.mean(axis=0),
            members=members,
            candidates=recorded.configs[rows],
            best=recorded.configs[measured][np.argsort(-found, kind="stable")[:8]],
            stagnation=min(1.0, (len(found) - 1 - int(found.argmax())) / 32),
            left=1 - len(measured) / TRIALS,
            scale=scale,
        )
        measured += list(rows[choose(known, rng)])
    return np.maximum.accumulate(shares[measured])[:TRIALS]


def fitness(spaces: Sequence[RecordedSpace], choose: Choose, seeds: Sequence[int]) -> float:
    """What evolution maximises: the mean score over attempts, spaces and seeds."""
    pairs = itertools.product(spaces, seeds)
    return float(np.mean([replay(one, choose, s)[INITIAL:].mean() for one, s in pairs]))


def evolve(spaces: Sequence[RecordedSpace], rng: np.random.Generator) -> tuple[Array, list[float]]:
    """A (mu, lambda) evolution strategy; each generation is judged on seeds of its own."""
    parent, told = START, []
    for generation in range(GENERATIONS):
        width = WIDTH * NARROWING**generation
        brood = parent + width * rng.normal(size=(CHILDREN, len(parent)))
        brood[0] = parent
        seeds = [
            10_000 + 2 * generation,
            10_001 + 2 * generation,
        ]  # never those that the result is judged on
        scores = [fitness(spaces, linear(child), seeds) for child in brood]
        chosen = np.argsort(scores)[::-1][:PARENTS]
        parent = brood[chosen].mean(axis=0)
        told.append(round(float(np.max(scores)), 4))
    return parent, told


def fold(spaces: Sequence[RecordedSpace], kernel: str, options: argparse.Namespace) -> None:
    """Evolve without a kernel, and compare on it."""
    path = options.out / f"{kernel}.json"
    if path.exists():
        return
    begin = time.perf_counter()
    others = [space for space in spaces if kernel_of(space) != kernel]
    weights, told = evolve(others, np.random.default_rng(options.seed))
    seeds = parse_seeds(options.seeds)
    rows = []
    for space, seed in itertools.product((s for s in spaces if kernel_of(s) == kernel), seeds):
        ways = {"thompson": thompson, "evolved": linear(weights), "start": linear(START)}
        row = {name: replay(space, choose, seed).round(4).tolist() for name, choose in ways.items()}
        rows.append({"space": space.name, "seed": seed} | row)
    found = {"kernel": kernel, "weights": weights.round(3).tolist(), "generations": told}
    found |= {"rows": rows, "seconds": round(time.perf_counter() - begin)}
    path.write_text(json.dumps(found))


def kernel_of(space: RecordedSpace) -> str:
    """The kernel of a file of the hub, by its name; the old convolution is one too."""
    return space.name.partition("_")[0].removeprefix("old")


def show(folder: Path, screen: Console) -> None:
    """Differences to Thompson sampling as Markdown."""
    columns = ("32", "48", "80", "mean")
    rng = np.random.default_rng(0)
    screen.print("| left out | searches | way | " + " | ".join(columns) + " |")
    screen.print("|---|---|---|" + "---|" * len(columns))
    for path in sorted(folder.glob("*.json")):
        found = json.loads(path.read_text())
        for way in ("thompson", "evolved", "start"):
            cells = [_cell(found["rows"], way, column, rng) for column in columns]
            head = [found["kernel"], str(len(found["rows"])), way]
            screen.print("| " + " | ".join([*head, *cells]) + " |")
        pairs = zip(NAMES, found["weights"], strict=True)
        told = ", ".join(f"{name} {weight:+.2f}" for name, weight in pairs)
        screen.print(f"| {found['kernel']} | | coefficients | {told} |" + " |" * 3)


def _cell(rows: Sequence[dict[str, Any]], way: str, column: str, rng: np.random.Generator) -> str:
    def of(row: dict[str, Any], name: str) -> float:
        scores = row[name]
        return float(np.mean(scores[INITIAL:])) if column == "mean" else scores[int(column) - 1]

    mine = np.array([of(row, way) for row in rows])
    if way == "thompson":
        return f"{mine.mean():.3f}"
    gains = mine - np.array([of(row, "thompson") for row in rows])
    e = over_seeds(gains, rng)
    return f"{e.mean:+.3f} ({e.low:+.3f} to {e.high:+.3f}) p={signed_rank(gains):.3f}"


def main() -> None:
    """Compute what is missing, and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("spaces", nargs="*", help="recorded spaces, KERNEL_DEVICE.json.gz")
    parser.add_argument("--leave-out", nargs="*", help="kernels, one after another; default: each")
    parser.add_argument("--seeds", default="0-19", help="of the comparison")
    parser.add_argument("--seed", type=int, default=0, help="of evolution")
    parser.add_argument("--out", type=Path, default=Path("runs/acquisition"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    spaces = [load_recorded(name) for name in options.spaces]
    for kernel in options.leave_out or dict.fromkeys(map(kernel_of, spaces)):
        fold(spaces, kernel, options)
    show(options.out, Console(soft_wrap=True, highlight=False))


if __name__ == "__main__":
    main()
