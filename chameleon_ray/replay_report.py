"""Replays as a table: how near to the optimum after so many attempts, over the seeds."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence

import numpy as np
from rich.table import Table
from rich.text import Text

from chameleon_ray.measure.recorded import RecordedSpace
from chameleon_ray.replay import Replay, device_of
from chameleon_ray.scores import SHARE, Curve, attempts_to, points_up_to, score_at
from chameleon_ray.text import milliseconds


def table(recorded: RecordedSpace, found: Mapping[str, Sequence[Replay]], *, trials: int) -> Table:
    """The searches of one space.

    Args:
        recorded: The space.
        found: Policy -> its replays, one for each seed.
        trials: The budget of each.
    """
    points = points_up_to(trials)
    result = Table(box=None)
    result.add_column("policy", no_wrap=True)
    result.add_column("seeds", justify="right")
    for n in points:
        result.add_column(f"after {n}", justify="right")
    result.add_column(f"median to {SHARE:.0%}", justify="right")
    for policy, replays in found.items():
        curves = [_curve(recorded, replay) for replay in replays]
        means = np.mean([score_at(curve, points) for curve in curves], axis=0)
        numbers = [f"{mean:.3f}" for mean in means]
        result.add_row(Text(policy), str(len(replays)), *numbers, _attempts(curves, trials))
    return result


def line(replay: Replay, *, trials: int) -> str:
    """One search in a line."""
    best = replay.best_seconds[-1] if replay.best_seconds else None
    failed = len(replay.best_seconds) - replay.outcomes.get("ok", 0)
    return (
        f"{replay.space}, {replay.policy}, seed {replay.seed}: best {milliseconds(best)} ms, "
        f"{replay.final:.3f} of the optimum after {min(trials, len(replay.best_seconds))} attempts "
        f"({failed} failed); {sum(replay.phase_seconds.values()):.1f} s of searching"
    )


def heading(recorded: RecordedSpace) -> str:
    """What was searched, and what the table's numbers are; several lines."""
    kernel = f"{recorded.kernel}, " if recorded.kernel else ""
    best = "optimum" if recorded.complete else "best of a part of the space"
    return (
        f"{recorded.name}: {kernel}{len(recorded.configs):,} configurations, {best} "
        f"{milliseconds(recorded.optimum_seconds)} ms\n{device_of(recorded)}\n"
        f"optimum / best found, mean over the seeds; median attempts to {SHARE:.0%} of the optimum"
    )


def _curve(recorded: RecordedSpace, replay: Replay) -> Curve:
    return Curve(
        space=replay.space,
        kernel=recorded.kernel,
        policy=replay.policy,
        seed=replay.seed,
        reference_seconds=replay.optimum_seconds,
        best_seconds=replay.best_seconds,
    )


def _attempts(curves: Sequence[Curve], trials: int) -> str:
    """The median; a search that never gets there needs more than its budget."""
    needed = [attempts_to(curve, trials=trials) or math.inf for curve in curves]
    median = statistics.median(needed)
    return f"{median:g}" if math.isfinite(median) else f">{trials}"
