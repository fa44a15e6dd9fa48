"""How often a kernel is timed: until it is known well enough, or clearly too slow."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from chameleon_ray.env_settings import RepeatSettings

_T95 = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78, 6: 2.57, 7: 2.45, 8: 2.36, 9: 2.31, 10: 2.26}


def calls_of(once: float, settings: RepeatSettings) -> int:
    """Executions in a row that make a repeat, for a kernel that takes so many seconds."""
    return max(1, math.ceil(settings.seconds / once))


def take_repeats(
    time: Callable[[int], float],
    settings: RepeatSettings,
    *,
    once: float,
    best_seconds: float | None,
) -> list[float]:
    """Seconds of one execution, for each repeat.

    Args:
        time: So many executions in a row -> the mean seconds of one.
        settings: When it is enough.
        once: Seconds of a first execution.
        best_seconds: The task's best so far.
    """
    s, calls, repeats = settings, calls_of(once, settings), list[float]()
    while len(repeats) < s.most:
        repeats.append(time(calls))
        if best_seconds is not None and min(once, *repeats) > s.slower * best_seconds:
            break
        if len(repeats) >= s.least and half_interval(repeats) <= s.interval:
            break
    return repeats


def half_interval(repeats: Sequence[float]) -> float:
    """Half of the 95% interval of the mean (Student's t), as a share of the mean."""
    n = len(repeats)
    if n < 2:
        return math.inf
    spread = statistics.stdev(repeats) * _T95.get(n, 1.96 + 3.0 / n) / math.sqrt(n)
    return spread / statistics.fmean(repeats)
