"""Which layer gets the next measurements? Rules on the curves of finished searches.

    python benchmarks/scheduling.py SEARCHES... [--network N] [--policy P] [--batch 4] [--budget 64]

A search does not depend on when its batches are measured, so its curve says what any order of the
layers would have had. `SEARCHES` are folders of `chameleon-ray compare`: each seed's searches are
taken for the layers of a network, with drawn weights; or, with `--network`, are those of its
layers, used as often as it uses them. Round robin gives each layer `--budget` measurements; the
figure is how many of these a rule needs to have the network as fast.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from chameleon_ray.networks import network
from chameleon_ray.promise import Curve, promises
from chameleon_ray.searches import Searches

Best = list[list[float]]  # of each layer, after each measurement


def networks(folders: Sequence[Path], policy: str) -> tuple[list[str], list[Best]]:
    """The spaces that every seed has, and the curves of each seed's searches of them."""
    found: dict[int, dict[str, list[float]]] = defaultdict(dict)
    for folder in folders:
        for search in Searches(folder).all():
            if search.key.policy == policy:
                best = [np.inf if s is None else s for s in search.best_seconds]
                found[search.key.seed][search.key.space] = best
    spaces = set.intersection(*(set(curves) for curves in found.values()))
    names = sorted(spaces)
    return names, [[found[seed][space] for space in names] for seed in sorted(found)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Layers:
    """What a rule is tried on.

    Attributes:
        best: Of each layer, after each measurement.
        weights: How often each is used.
        flops: Of each, if they can be compared.
    """

    best: Best
    weights: Sequence[float]
    flops: Sequence[float | None]


def needed(layers: Layers, budget: int, batch: int, rule: Rule) -> float:
    """Measurements until the network is as fast as round robin makes it, as a share of its."""
    best, weights = layers.best, layers.weights
    goal = sum(w * b[budget - 1] for w, b in zip(weights, best, strict=True))
    curves = [Curve(weight=w, flop=f) for w, f in zip(weights, layers.flops, strict=True)]
    while True:
        now = sum(c.weight * c.best(c.measurements) for c in curves)
        used = sum(c.measurements for c in curves)
        if now <= goal * (1 + 1e-9) or used >= 4 * budget * len(best):
            return used / (budget * len(best))
        at = rule(curves, [len(b) for b in best])
        upto = min(curves[at].measurements + batch, len(best[at]))
        curves[at].reached(upto, best[at][upto - 1])


Rule = Callable[[list[Curve], list[int]], int]


def by_promise(curves: list[Curve], lengths: list[int]) -> int:
    """The layer that promises most."""
    promised = promises(curves)
    ended = np.array([c.measurements >= n for c, n in zip(curves, lengths, strict=True)])
    return int(np.argmax(np.where(ended, -np.inf, promised)))


def round_robin(curves: list[Curve], lengths: list[int]) -> int:
    """The layer that has the fewest measurements."""
    del lengths
    return int(np.argmin([c.measurements for c in curves]))


def ansor(curves: list[Curve], lengths: list[int]) -> int:
    """The gradient of Ansor and MetaSchedule: backward slope and optimistic bound, 0.2 to 0.8."""
    if min(c.measurements for c in curves) == 0:
        return round_robin(curves, lengths)

    def gradient(c: Curve) -> float:
        n, now = c.measurements, c.best(c.measurements)
        back = (c.best(max(n - 12, 1)) - now) / 12 if c.best(max(n - 12, 1)) < np.inf else 0.0
        return c.weight * (0.2 * back + 0.8 * now / n)

    ended = [c.measurements >= n for c, n in zip(curves, lengths, strict=True)]
    return int(
        np.argmax([-np.inf if e else gradient(c) for c, e in zip(curves, ended, strict=True)])
    )


def _layers(names: list[str], best: Best, seed: int, of_network: str) -> Layers:
    """Used as often as the network says, or else drawn, around equal shares of the time."""
    if of_network:
        layers = {f"{of_network}-{layer.index}": layer for layer in network(of_network)}
        chosen = [layers[name] for name in names]
        return Layers(
            best=best,
            weights=[float(layer.uses) for layer in chosen],
            flops=[float(layer.task.flop) for layer in chosen],
        )
    rng = np.random.default_rng(seed)
    weights = [4 ** rng.uniform(-1, 1) / curve[-1] for curve in best]
    return Layers(best=best, weights=weights, flops=[None] * len(best))


def shares(
    folders: Sequence[Path], *, of_network: str, policy: str, batch: int, budget: int
) -> dict[str, list[float]]:
    """What each rule needs of round robin's measurements, seed by seed."""
    rules: dict[str, Rule] = {"round robin": round_robin, "ansor": ansor, "promise": by_promise}
    names, seeds = networks(folders, policy)
    layers = [_layers(names, best, seed, of_network) for seed, best in enumerate(seeds)]
    return {
        name: [needed(one, budget, batch, rule) for one in layers] for name, rule in rules.items()
    }


def main() -> None:
    """Replay the rules, and print how they fare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--network", default="", help="whose layers they are")
    parser.add_argument("--policy", default="chameleon")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--budget", type=int, default=64)
    options = parser.parse_args()
    found = shares(
        options.folders,
        of_network=options.network,
        policy=options.policy,
        batch=options.batch,
        budget=options.budget,
    )
    for name, values in found.items():
        low, high = np.percentile(values, [10, 90])
        print(f"{name:12} {np.mean(values):.3f} of round robin's ({low:.2f} to {high:.2f})")


if __name__ == "__main__":
    main()
