"""What each switch of policy `chameleon` is worth, on recorded spaces.

    python benchmarks/ablations.py [SPACE...] [--seeds 0-19] [--trials 128] [--out DIR] [--json]

Each variant is the shipped policy with one thing changed. The first table compares them all. The
second is the check against tuning constants to the spaces at hand: for each kernel, the variant
that is best on all *other* kernels, and its score on this one; if that is no worse than the
shipped policy's, the shipped choice would have been made without having seen the kernel.

The searches are kept in the folder of `--out`, as `chameleon-ray compare` keeps them, and a run
that was stopped goes on.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from chameleon_ray.cli_shared import parse_seeds
from chameleon_ray.compare import Standing, compare, curves
from chameleon_ray.measure.recorded import load_recorded
from chameleon_ray.presets import load_policy
from chameleon_ray.score_report import print_tables
from chameleon_ray.scores import Curve, score_at, tabulate
from chameleon_ray.settings import (
    CostModelSettings,
    ForestSettings,
    GaussianSettings,
    GreedySettings,
    Policy,
    StagedSettings,
    ThompsonSettings,
)

SHIPPED = ("convolution_A4000", "gemm_RTX_2080_Ti")


def variants() -> dict[str, Policy]:
    """The shipped policy first, then with one switch changed."""
    ours = load_policy("chameleon")[1]
    staged = ours.cost_model
    assert isinstance(staged, StagedSettings)  # noqa: S101 - of the shipped policy
    then = partial(replace, staged.then)
    models: dict[str, StagedSettings | ForestSettings | GaussianSettings] = {
        "a forest alone": ForestSettings(),
        "a Gaussian process alone": staged.then,
        "a forest until 64": replace(staged, until=64),
        "100 trees": replace(staged, first=ForestSettings()),
        "mean instead of draws": replace(staged, then=then(temper=0)),
        "untempered draws": replace(staged, then=then(temper=1)),
        "half the temper": replace(staged, then=then(temper=0.15)),
        "twice the temper": replace(staged, then=then(temper=0.6)),
        "the slowest quarter clipped": replace(staged, then=then(clip=0.75)),
        "no clipping": replace(staged, then=then(clip=1)),
    }
    greedy = replace(ours, sampler=GreedySettings(batch=4, epsilon=0))
    return {
        "chameleon": ours,
        "random start": replace(ours, start="random"),
        "16 to start": replace(ours, initial=16),
        "64 random to start": replace(ours, initial=64, start="random"),
        "batches of 1": replace(ours, sampler=ThompsonSettings(batch=1)),
        "batches of 16": replace(ours, sampler=ThompsonSettings(batch=16)),
        "xgb, greedy": replace(greedy, cost_model=CostModelSettings()),
        "xgb on knobs, greedy": replace(greedy, cost_model=CostModelSettings(), features="knobs"),
        **{name: replace(ours, cost_model=model) for name, model in models.items()},
    }


def left_out(found: Sequence[Curve], at: int) -> list[dict[str, Any]]:
    """For each kernel: what the other kernels would have chosen, and how it does on this one."""
    means: dict[tuple[str, str], list[float]] = {}
    for curve in found:
        means.setdefault((curve.policy, curve.kernel), []).append(float(score_at(curve, [at])[0]))
    policies = list(dict.fromkeys(policy for policy, _ in means))
    kernels = list(dict.fromkeys(kernel for _, kernel in means))
    table = {pair: float(np.mean(values)) for pair, values in means.items()}
    rows = []
    for kernel in kernels:
        others = [k for k in kernels if k != kernel]
        if others:
            best = max(policies, key=lambda p: sum(table[p, k] for k in others))
            rows.append(
                {
                    "kernel": kernel,
                    "chosen_on_the_others": best,
                    "its_score": round(table[best, kernel], 3),
                    "shipped_score": round(table["chameleon", kernel], 3),
                }
            )
    return rows


def main() -> None:
    """Search, and print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("spaces", nargs="*", default=SHIPPED)
    parser.add_argument("--seeds", default="0-19")
    parser.add_argument("--trials", type=int, default=128)
    parser.add_argument("--out", type=Path, default=Path("runs/ablations"))
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()

    def progress(standing: Standing) -> None:
        if sys.stderr.isatty():
            print(f"\r{standing.done}/{standing.total}", end="", file=sys.stderr, flush=True)

    found = curves(
        compare(
            [load_recorded(space) for space in arguments.spaces],
            list(variants().items()),
            seeds=parse_seeds(arguments.seeds),
            trials=arguments.trials,
            out=arguments.out,
            on_progress=progress,
        )
    )
    tables = tabulate(found, trials=arguments.trials, rng=np.random.default_rng(0))
    rows = left_out(found, arguments.trials // 2)
    if arguments.json:
        print(json.dumps({"tables": [table.to_json() for table in tables], "left_out": rows}))
        return
    print_tables(tables, Console())
    for row in rows:
        print(row)


if __name__ == "__main__":
    main()
