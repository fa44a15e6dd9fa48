"""What each switch of policy `chameleon` is worth, on recorded spaces.

    python benchmarks/ablations.py [SPACE...] [--seeds 0-19] [--trials 128] [--only SWITCH,...]

Each variant is the shipped policy with one switch set otherwise. The first table compares them all.
The second is the check against tuning constants to the spaces at hand: for each switch and kernel,
the setting that is best on all *other* kernels (mean of the scores after 32, 64 and 128 attempts),
and its scores on this one. Where those are no better than the shipped policy's, its setting would
have been chosen without having seen the kernel, or was no worse a choice.

The searches are kept in the folder of `--out`, as `chameleon-ray compare` keeps them, and a run
that was stopped goes on.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from chameleon_ray.cli_shared import parse_seeds
from chameleon_ray.compare import Standing, compare, curves
from chameleon_ray.measure.recorded import load_recorded
from chameleon_ray.presets import load_policy
from chameleon_ray.score_report import print_tables
from chameleon_ray.scores import Curve, Values, score_at, tabulate
from chameleon_ray.settings import (
    CostModelSettings,
    ForestSettings,
    GaussianSettings,
    GreedySettings,
    PluginSettings,
    Policy,
    StagedSettings,
    ThompsonSettings,
)

Row = dict[str, Any]

SPACES = ("convolution_A4000", "gemm_RTX_2080_Ti")
SHIPPED = "chameleon"


def switches() -> dict[str, dict[str, Policy]]:
    """Switch -> other settings of it than the shipped policy's."""
    ours = load_policy("chameleon")[1]
    staged = ours.cost_model
    assert isinstance(staged, StagedSettings)  # noqa: S101 - of the shipped policy

    first, then = staged.first, staged.then

    def model(settings: StagedSettings) -> Policy:
        return replace(ours, cost_model=settings)

    def earlier(forest: ForestSettings) -> Policy:
        return model(replace(staged, first=forest))

    def later(gaussian: GaussianSettings) -> Policy:
        return model(replace(staged, then=gaussian))

    def batch(size: int) -> Policy:
        return replace(ours, sampler=ThompsonSettings(batch=size))

    greedy = replace(
        ours, sampler=GreedySettings(batch=4, epsilon=0), cost_model=CostModelSettings()
    )
    near = PluginSettings(kind="tried:NeighbourSampler")
    votes = PluginSettings(kind="tried:TopTenthModel")
    return {
        "start": {
            "random start": replace(ours, start="random"),
            "64 random to start": replace(ours, initial=64, start="random"),
        },
        "initial": {f"{n} to start": replace(ours, initial=n) for n in (4, 16)},
        "batch": {f"batches of {n}": batch(n) for n in (1, 2, 8, 16)},
        "neighbours": {"half of a batch neighbours of the best": replace(ours, sampler=near)},
        "model": {
            "a forest alone": replace(ours, cost_model=ForestSettings()),
            "a Gaussian process alone": replace(ours, cost_model=staged.then),
            "in the top tenth?": replace(ours, cost_model=votes),
            "XGBoost, the best four": greedy,
            "the same on knobs alone": replace(greedy, features="knobs"),
        },
        "until": {f"a forest until {n}": model(replace(staged, until=n)) for n in (16, 64)},
        "trees": {f"{n} trees": earlier(replace(first, trees=n)) for n in (16, 100)},
        "draws": {f"{n} draws": later(replace(then, draws=n)) for n in (4, 32)},
        "products": {"without products": later(replace(then, products=False))},
        "temper": {
            "the mean instead of draws": later(replace(then, temper=0)),
            "half the temper": later(replace(then, temper=0.15)),
            "twice the temper": later(replace(then, temper=0.6)),
            "untempered draws": later(replace(then, temper=1)),
        },
        "clip": {
            "the slowest quarter clipped": later(replace(then, clip=0.75)),
            "no clipping": later(replace(then, clip=1)),
            "no clipping in the forest": earlier(replace(first, clip=1)),
        },
    }


def left_out(found: Sequence[Curve], switch: Sequence[str], points: Sequence[int]) -> list[Row]:
    """For each kernel: the setting that the other kernels would have chosen, and how it does.

    Args:
        found: Searches of at least two kernels.
        switch: Names of the settings of one switch, the shipped one among them.
        points: Attempts after which there is a score.
    """
    scores: dict[tuple[str, str], list[Values]] = {}
    for curve in found:
        scores.setdefault((curve.policy, curve.kernel), []).append(score_at(curve, points))
    means = {pair: np.mean(values, axis=0) for pair, values in scores.items()}
    kernels, rows = list(dict.fromkeys(kernel for _, kernel in means)), []
    for kernel in kernels:
        others = [k for k in kernels if k != kernel]
        worth = {name: np.mean([means[name, k] for k in others]) for name in switch}
        best = max(switch, key=lambda name: worth[name])
        rows.append(
            {
                "kernel": kernel,
                "chosen_on_the_others": best,
                "its_scores": means[best, kernel].round(3).tolist(),
                "shipped_scores": means[SHIPPED, kernel].round(3).tolist(),
            }
        )
    return rows


def main() -> None:
    """Search, and print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("spaces", nargs="*", default=SPACES)
    parser.add_argument("--seeds", default="0-19")
    parser.add_argument("--trials", type=int, default=128)
    parser.add_argument("--only", help="these switches, such as batch,model")
    parser.add_argument("--out", type=Path, default=Path("runs/ablations"))
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    chosen = switches()
    if arguments.only:
        chosen = {name: chosen[name] for name in arguments.only.split(",")}

    def progress(standing: Standing) -> None:
        if sys.stderr.isatty():
            print(f"\r{standing.done}/{standing.total}", end="", file=sys.stderr, flush=True)

    policies = {SHIPPED: load_policy(SHIPPED)[1]}
    for settings in chosen.values():
        policies |= settings
    found = curves(
        compare(
            [load_recorded(space) for space in arguments.spaces],
            list(policies.items()),
            seeds=parse_seeds(arguments.seeds),
            trials=arguments.trials,
            out=arguments.out,
            on_progress=progress,
        )
    )
    tables = tabulate(found, trials=arguments.trials, rng=np.random.default_rng(0))
    points = [n for n in (32, 64, 128) if n <= arguments.trials]
    several = len({curve.kernel for curve in found}) > 1
    judged = {
        name: left_out(found, [SHIPPED, *settings], points)
        for name, settings in chosen.items()
        if several
    }
    if arguments.json:
        print(json.dumps({"tables": [table.to_json() for table in tables], "left_out": judged}))
        return
    print_tables(tables, Console())
    for name, rows in judged.items():
        for row in rows:
            print(name, row)


if __name__ == "__main__":
    main()
