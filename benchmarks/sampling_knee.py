"""How many configs adaptive sampling picks a round, in both its variants.

    python benchmarks/sampling_knee.py [--explorer annealing|random|ppo] [--rounds 8] [--layers 4 7]

On the simulated device: each ResNet-18 layer is searched for some rounds with the authors'
sampling. In each round both variants of adaptive sampling see the same candidates.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Iterator

import numpy as np

from chameleon_ray.cost_model import make_cost_model
from chameleon_ray.explorers import Candidates, make_explorer
from chameleon_ray.measure.simulated import simulated_seconds
from chameleon_ray.networks import network
from chameleon_ray.sampling import make_sampler
from chameleon_ray.settings import (
    AdaptiveSettings,
    AnnealingSettings,
    CostModelSettings,
    Explorer,
    Policy,
    PpoSettings,
    RandomSettings,
)
from chameleon_ray.space import Configs, DesignSpace, Vector
from chameleon_ray.tasks import Conv2d, Target
from chameleon_ray.templates import design_space

TARGET = Target(lanes=16, cores=4, model="simulated")
VARIANTS = {
    "letter": Policy(sampler=AdaptiveSettings(variant="letter")),
    "authors": Policy(sampler=AdaptiveSettings(variant="authors")),
}
EXPLORERS: dict[str, Explorer] = {
    "annealing": AnnealingSettings(),
    "random": RandomSettings(),
    "ppo": PpoSettings(),
}


def main() -> None:
    """Print one line for each variant."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--explorer", choices=EXPLORERS, default="annealing")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--layers", type=int, nargs="*", default=[])
    arguments = parser.parse_args()
    picks = [
        pick
        for layer in network("resnet18")
        if not arguments.layers or layer.index in arguments.layers
        for pick in search(layer.task, EXPLORERS[arguments.explorer], arguments.rounds)
    ]
    for name in VARIANTS:
        sizes = [n for variant, n, _ in picks if variant == name]
        spread = ", ".join(f"{k}: {n}" for k, n in sorted(Counter(sizes).items()))
        mean_ms = 1e3 * np.mean([seconds for variant, _, seconds in picks if variant == name])
        print(
            f"{name}: {np.mean(sizes):.1f} configs a round over {len(sizes)} rounds "
            f"({spread}), {mean_ms:.1f} ms"
        )


def search(
    task: Conv2d, explorer_settings: Explorer, rounds: int
) -> Iterator[tuple[str, int, float]]:
    """One layer, searched with the authors' variant: variant, configs picked and seconds."""
    space = design_space(task, TARGET)
    rng = np.random.default_rng(0)
    explorer = make_explorer(explorer_settings, seed=0)
    model = make_cost_model(CostModelSettings(), seed=0)
    visited = space.random(64, rng)
    gflops = measure(task, space, visited)
    for _ in range(rounds):
        model.fit(space, visited, gflops)
        best = visited[np.argsort(-gflops)[:32]]
        candidates = explorer.explore(space, model.score(), best, rng)
        chosen = visited[:0]
        for name, policy in VARIANTS.items():
            start = time.perf_counter()
            chosen = choose(policy, space, candidates, visited)
            yield name, len(chosen), time.perf_counter() - start
        visited = np.concatenate([visited, chosen])
        gflops = np.concatenate([gflops, measure(task, space, chosen)])
    explorer.close()


def choose(policy: Policy, space: DesignSpace, candidates: Candidates, visited: Configs) -> Configs:
    """What one variant picks, with an rng of its own."""
    failed = np.zeros(len(visited), dtype=np.bool_)
    rng = np.random.default_rng(len(visited))
    return make_sampler(policy).choose(space, candidates, visited, failed, rng)


def measure(task: Conv2d, space: DesignSpace, configs: Configs) -> Vector:
    """Simulated GFLOP/s, without noise."""
    times = [simulated_seconds(task, TARGET, space.describe(row)) for row in configs]
    return (task.flop / np.array(times) / 1e9).astype(np.float32)


if __name__ == "__main__":
    main()
