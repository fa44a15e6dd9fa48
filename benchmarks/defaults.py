"""How good a default config by rule can be: variants of the rule, over the paper's 26 tasks.

`templates.default_config` is measured beside every variant in one run. This is how its numbers were
chosen; a new target deserves its own run.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
from dataclasses import dataclass

from chameleon_ray.env_settings import Env
from chameleon_ray.machine import cpu, usable_cores
from chameleon_ray.measure.backend import Backend, open_backend
from chameleon_ray.networks import NETWORKS, network
from chameleon_ray.space import Choice, KnobValues
from chameleon_ray.tasks import Conv2d, Target
from chameleon_ray.templates import default_config, design_space
from chameleon_ray.templates.cpu_tiling import divisors


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What a variant of the default differs in.

    Attributes:
        accumulators: Most vectors of the register tile.
        filters: Most of them along the filters.
        unroll: `auto_unroll_max_step`.
        explicit: `unroll_explicit`.
    """

    accumulators: int
    filters: int
    unroll: int
    explicit: int

    def apply(self, default: KnobValues) -> KnobValues:
        """The default with this rule's register tile and unrolling."""
        axes = ("tile_f", "tile_y", "tile_x")
        extents = [math.prod(default[axis]) for axis in axes]
        tiles = itertools.product(*(divisors(extent) for extent in extents))
        fitting = [t for t in tiles if math.prod(t) <= self.accumulators and t[0] <= self.filters]
        tile = max(fitting, key=_hides_latency)
        tiled = {
            axis: _retile(default[axis], inner) for axis, inner in zip(axes, tile, strict=True)
        }
        unrolling = {
            "auto_unroll_max_step": (self.unroll,),
            "unroll_explicit": (self.explicit,),
        }
        return {**default, **tiled, **unrolling}


def _hides_latency(tile: tuple[int, ...]) -> tuple[float, float, int]:
    f, y, x = tile
    return (min(f * y * x, 12), f * y * x / (f + y * x) ** 0.5, x)


def _retile(choice: Choice, inner: int) -> Choice:
    """The same extent with another innermost part, and about as many chunks."""
    rest = math.prod(choice) // inner
    outer = min((d for d in divisors(rest) if d >= choice[0]), default=rest)
    return (outer, rest // outer, inner)


def gflops(backend: Backend, task: Conv2d, config: KnobValues) -> float:
    """Speed of one config: the best of four repeats."""
    kernel = backend.builder.build(task, config)
    kernel.time(1)
    return task.flop / min(kernel.time(2) for _ in range(4)) / 1e9


def main() -> None:
    """Measure, and print each rule's geometric mean and worst task."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", type=int, default=26, help="only the first so many")
    parser.add_argument("--json", action="store_true", help="one object on one line")
    options = parser.parse_args()
    target = Target(lanes=cpu().lanes, cores=usable_cores())
    os.environ.update(TVM_NUM_THREADS=str(target.cores), TVM_THREAD_POOL_SPIN_COUNT="2000")
    backend = open_backend(Env(), target, 0)
    rules = {
        f"{n} accumulators, {f} of filters, unroll {u}{' explicit' * e}": Rule(
            accumulators=n, filters=f, unroll=u, explicit=e
        )
        for n, f in ((7, 1), (12, 2), (14, 1), (14, 2), (16, 2), (28, 2), (28, 4))
        for u, e in ((64, 0), (64, 1), (256, 1))
    }
    speeds: dict[str, list[float]] = {"default_config": [], **{name: [] for name in rules}}
    tasks = [layer.task for name in NETWORKS for layer in network(name)][: options.tasks]
    for task in tasks:
        space = design_space(task, target)
        default = space.describe(default_config(task, target))
        speeds["default_config"].append(gflops(backend, task, default))
        for name, rule in rules.items():
            speeds[name].append(gflops(backend, task, rule.apply(default)))
    geomeans = {
        name: math.exp(sum(map(math.log, values)) / len(values)) for name, values in speeds.items()
    }
    if options.json:
        worst = {name: min(values) for name, values in speeds.items()}
        print(json.dumps({"tasks": len(tasks), "geomean_gflops": geomeans, "worst_gflops": worst}))
        return
    for name in sorted(speeds, key=lambda name: -geomeans[name]):
        print(f"{geomeans[name]:6.1f} GFLOP/s, worst {min(speeds[name]):6.1f}  {name}")


if __name__ == "__main__":
    main()
