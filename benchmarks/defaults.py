"""How good a default config by rule can be: variants of the rule, over the paper's 26 tasks.

With `--network`, over the layers of a model that have template `direct`: those are mostly 1x1.

`templates.default_config` is measured beside every variant in one run. This is how its numbers were
chosen; a new target deserves its own run.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from chameleon_ray.env_settings import Env
from chameleon_ray.machine import usable_cores
from chameleon_ray.measure.backend import Backend, open_backend
from chameleon_ray.measure.tvm import resolve_target
from chameleon_ray.networks import NETWORKS, network
from chameleon_ray.networks.lookup import look_up
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
        channels: Most of them that are summed in it.
        chunks: How many of filters there are at least; None: as many as the default has.
    """

    accumulators: int
    filters: int
    unroll: int
    explicit: int
    channels: int = 16
    chunks: int | None = None

    def apply(self, default: KnobValues) -> KnobValues:
        """The default with this rule's register tile, chunks and unrolling."""
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
        summed = math.prod(default["tile_rc"])
        inner = max(d for d in divisors(summed) if d <= self.channels)
        if self.chunks is not None:
            tiled["tile_f"] = _in_chunks(tiled["tile_f"], self.chunks)
            tiled["tile_y"] = _in_chunks(tiled["tile_y"], -(-self.chunks // tiled["tile_f"][0]))
        return {**default, **tiled, **unrolling, "tile_rc": (summed // inner, inner)}


def _in_chunks(choice: Choice, least: int) -> Choice:
    """The same innermost part, and so many chunks or a few more, where there are as many."""
    rest = math.prod(choice[:2])
    outer = min((d for d in divisors(rest) if d >= least), default=rest)
    return (outer, rest // outer, choice[2])


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


def of_paper() -> dict[str, Rule]:
    """Register tiles and unrolling."""
    return {
        f"{n} accumulators, {f} of filters, unroll {u}{' explicit' * e}": Rule(
            accumulators=n, filters=f, unroll=u, explicit=e
        )
        for n, f in ((7, 1), (12, 2), (14, 1), (14, 2), (16, 2), (28, 2), (28, 4))
        for u, e in ((64, 0), (64, 1), (256, 1))
    }


def of_model(cores: int) -> dict[str, Rule]:
    """Channels at a time, who is in chunks first, and unrolling."""
    return {
        f"{f} of filters, {channels} channels, {whose}, unroll {u}{' explicit' * e}": Rule(
            accumulators=14, filters=f, unroll=u, explicit=e, channels=channels, chunks=chunks
        )
        for f in (1, 2)
        for channels in (16, 64, 256)
        for whose, chunks in (("rows first", None), ("filters first", 4 * cores))
        for u, e in ((0, 0), (64, 1), (256, 1))
    }


def measured(
    backend: Backend, tasks: Sequence[Conv2d], rules: Mapping[str, Rule], target: Target
) -> dict[str, list[float]]:
    """GFLOP/s of each rule on each task."""
    speeds: dict[str, list[float]] = {"default_config": [], **{name: [] for name in rules}}
    rng = np.random.default_rng(0)
    for task in tasks:
        space = design_space(task, target)
        default = space.describe(default_config(task, target))
        known: dict[str, float] = {}
        configs = [("default_config", default)]
        configs += [(name, rule.apply(default)) for name, rule in rules.items()]
        for at in rng.permutation(len(configs)):  # a machine's speed drifts
            name, config = configs[at]
            same = json.dumps(config, sort_keys=True)
            if same not in known:
                known[same] = gflops(backend, task, config)
            speeds[name].append(known[same])
        print(task.key, file=sys.stderr)
    return speeds


def main() -> None:
    """Measure, and print each rule's geometric mean and worst task."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", type=int, default=26, help="only the first so many")
    parser.add_argument("--network", action="append", default=[], help="a model; repeatable")
    parser.add_argument("--kernel", type=int, help="of layers with a filter of this height alone")
    parser.add_argument("--model", default="native", help="LLVM's name of a CPU, such as haswell")
    parser.add_argument("--json", action="store_true", help="one object on one line")
    options = parser.parse_args()
    target = resolve_target(Target(model=options.model, cores=usable_cores()))
    os.environ.update(TVM_NUM_THREADS=str(target.cores), TVM_THREAD_POOL_SPIN_COUNT="2000")
    backend = open_backend(Env(model=options.model), target, 0)
    tasks: list[Any] = [layer.task for name in NETWORKS for layer in network(name)][: options.tasks]
    if options.network:
        layers = [x for name in options.network for x in look_up(name, target).layers]
        direct = [x.task for x in layers if isinstance(x.task, Conv2d) and x.task.form == "direct"]
        tasks = [t for t in dict.fromkeys(direct) if t.groups == 1]
    if options.kernel:
        tasks = [task for task in tasks if task.kernel_height == options.kernel]
    rules = of_model(target.cores) if options.network else of_paper()
    speeds = measured(backend, tasks, rules, target)
    geomeans = {
        name: math.exp(sum(map(math.log, values)) / len(values)) for name, values in speeds.items()
    }
    if options.json:
        worst = {name: min(values) for name, values in speeds.items()}
        print(
            json.dumps(
                {
                    "tasks": [task.key for task in tasks],
                    "geomean_gflops": geomeans,
                    "worst_gflops": worst,
                    "gflops": speeds,
                }
            )
        )
        return
    for name in sorted(speeds, key=lambda name: -geomeans[name]):
        print(f"{geomeans[name]:6.1f} GFLOP/s, worst {min(speeds[name]):6.1f}  {name}")


if __name__ == "__main__":
    main()
