"""How good a default config by rule can be: variants of the rule, over the layers of networks.

`templates.default_config` is timed beside every variant, in turns: a machine's speed moves by more
than variants differ. This is how its numbers were chosen, and between which of two a template
chooses by the layer; a new target deserves its own run.
"""

from __future__ import annotations

import json
import math
import statistics
import sys
from collections.abc import Mapping, Sequence
from typing import Annotated

import numpy as np
import typer
from default_rules import RULES, kind_of
from in_process import opened

from chameleon_ray.machine import usable_cores
from chameleon_ray.measure import Kernel
from chameleon_ray.measure.backend import Backend
from chameleon_ray.measure.pinning import main_thread_apart
from chameleon_ray.networks import NETWORKS, network
from chameleon_ray.networks.lookup import look_up
from chameleon_ray.space import KnobValues
from chameleon_ray.tasks import Conv2d, LayerTask, Matmul, Target
from chameleon_ray.templates import default_config, design_space

_TURNS = 4
_CHUNKS = 4  # for each core
_TURN_SECONDS = 0.004


def gains(backend: Backend, task: LayerTask, target: Target) -> dict[str, float]:
    """How many times as fast as the default each variant is on one layer; NaN where it fails."""
    space = design_space(task, target)
    default = space.describe(default_config(task, target))
    beside = backend.builder.build(task, default)
    beside.time(1)
    wanted = _CHUNKS * target.cores / (task.batch if isinstance(task, Matmul) else 1)
    variants = list(RULES[kind_of(task)].variants(default, wanted))
    known: dict[str, float] = {json.dumps(default, sort_keys=True): 1.0}
    found = {}
    for at in np.random.default_rng(0).permutation(len(variants)):
        name, config = variants[at]
        same = json.dumps(config, sort_keys=True)
        if same not in known:
            known[same] = _gain(backend, task, config, beside)
        found[name] = known[same]
    print(task.key, f"{np.nanmax([*found.values()]):.2f}", file=sys.stderr)
    return found


def _gain(backend: Backend, task: LayerTask, config: KnobValues, beside: Kernel) -> float:
    try:
        kernel = backend.builder.build(task, config)
    except Exception:  # noqa: BLE001 - whatever TVM raises of a config that cannot be
        return math.nan
    kernel.time(1)
    with main_thread_apart():
        calls = max(2, math.ceil(_TURN_SECONDS / beside.time(2)))
        turns = [beside.time(calls) / kernel.time(calls) for _ in range(_TURNS)]
    return statistics.median(turns)


def layers_of(
    networks: Sequence[str], kind: str, kernel: int | None, target: Target
) -> list[LayerTask]:
    """The different layers of a kind; of the paper's networks, if none is named."""
    layers = (
        [layer for name in networks for layer in look_up(name, target).layers]
        if networks
        else [layer for name in NETWORKS for layer in network(name)]
    )
    return [
        task
        for task in dict.fromkeys(layer.task for layer in layers)
        if kind_of(task) == kind
        and (not kernel or (isinstance(task, Conv2d) and task.kernel_height == kernel))
    ]


def summary(found: Mapping[str, Mapping[str, float]]) -> dict[str, tuple[float, float]]:
    """Of each variant that all layers have: geometric mean and worst of its gains, best first."""
    shared = set.intersection(*(set(of_layer) for of_layer in found.values()))
    both = {}
    for name in shared:
        logs = np.log([of_layer[name] for of_layer in found.values()])
        if np.isfinite(logs).all():
            both[name] = (float(np.exp(logs.mean())), float(np.exp(logs.min())))
    return dict(sorted(both.items(), key=lambda item: -item[1][0]))


def main(
    *,
    network: Annotated[list[str] | None, typer.Option(help="a model; repeatable")] = None,
    kind: Annotated[str, typer.Option(help=", ".join(RULES))] = "direct",
    kernel: Annotated[int | None, typer.Option(help="only filters of this height")] = None,
    model: Annotated[str, typer.Option(help="LLVM's name of a CPU, such as haswell")] = "native",
    cores: int = usable_cores(),
    show: int = 12,
) -> None:
    """Time every variant beside the default; print the best, and what each layer's own would be."""
    backend, target = opened(cores, model)
    tasks = layers_of(network or [], kind, kernel, target)
    if not tasks:
        raise typer.BadParameter(f"no layer is {kind}")
    found = {task.key: gains(backend, task, target) for task in tasks}
    for name, (mean, worst) in list(summary(found).items())[:show]:
        print(f"{mean:.3f} times as fast as the default, worst {worst:.2f}: {name}")
    best = np.log([np.nanmax([*of_layer.values(), 1.0]) for of_layer in found.values()])
    print(f"{math.exp(best.mean()):.3f} with the best variant of each of {len(tasks)} layers")


if __name__ == "__main__":
    typer.run(main)
