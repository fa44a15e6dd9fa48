"""What one layer may have of what all layers of a run share: measurements, and time."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from chameleon_ray.measure import Measurement
from chameleon_ray.settings import Schedule
from chameleon_ray.time_budget import TimeBudget


@dataclass(frozen=True, slots=True, kw_only=True)
class Others:
    """What a layer has to know of all of them.

    Attributes:
        measured: How many of the budget's measurements each has that was begun.
        under_way: How many measurements are, of all layers.
        exhausted: Which have nothing left to gain.
        ended: Which have their result.
        places: How many pieces of work all hosts do at a time.
    """

    measured: dict[int, int]
    under_way: int
    exhausted: frozenset[int]
    ended: frozenset[int]
    places: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """The share of one layer.

    Attributes:
        layer: Its number.
        layers: The numbers of all, in their order.
        schedule: With `gain`, layers share measurements; with `fifo`, they follow each other.
        trials: Measurements per layer, on the mean.
        most: Cap of one layer.
        kernels: How many it times in turns at its end.
        at_once: Layers under way at the same time.
        ends_at: When the time is over for this layer, in seconds of `time.time()`; None: never.
    """

    layer: int
    layers: Sequence[int]
    schedule: Schedule
    trials: int
    most: int
    kernels: int
    at_once: int
    ends_at: float | None

    @property
    def bounded(self) -> bool:
        """Whether it depends on the others."""
        return self.ends_at is not None or self.schedule == "gain"

    def measurements(
        self, others: Others, measured: Sequence[Measurement], *, batch_seconds: float
    ) -> int:
        """How many measurements the layer may have: none more once its time is over.

        Where layers share, all that the others have not and may not need: half of its own share is
        kept for each. Until it has had that half, it has no more than its share: the first batches
        are large, and are chosen while others choose theirs.

        Args:
            others: How all layers stand.
            measured: What was measured of this one.
            batch_seconds: What a batch of it takes.
        """
        left = self._time_left(others, measured)
        if left and left.over(time.time(), batch_seconds=batch_seconds):
            return 0
        if self.schedule != "gain":
            return self.most
        if self.layer in others.exhausted:
            return 0
        kept = max(1, self.trials // 2)
        rest = [index for index in self.layers if index != self.layer]
        taken = sum(max(kept, others.measured.get(index, 0)) for index in rest)
        free = self.trials * len(self.layers) - taken - others.under_way
        most = self.most if len(measured) >= kept else min(self.most, self.trials)
        return min(most, max(kept, free))

    def finalists(self, others: Others, measured: Sequence[Measurement]) -> int:
        """How many kernels it may time in turns, the default and torch among them."""
        left = self._time_left(others, measured)
        return left.finalists(time.time(), most=self.kernels) if left else self.kernels

    def _time_left(self, others: Others, measured: Sequence[Measurement]) -> TimeBudget | None:
        """The time that is left for this layer and all others, if there is an end."""
        if self.ends_at is None:
            return None
        wanted = {
            index: min(self.kernels, others.measured.get(index, 0) + 2)
            for index in self.layers
            if index not in others.ended
        }
        if self.schedule == "fifo":
            wanted = {self.layer: wanted.get(self.layer, self.kernels)}
        seconds = [m.build_seconds + m.run_seconds for m in measured if m.ok]
        return TimeBudget(
            ends_at=self.ends_at,
            layers=len(wanted),
            kernels=sum(wanted.values()),
            at_once=min(self.at_once, others.places),
            kernel_seconds=float(np.mean(seconds)) if seconds else 0.0,
        )


def share_of_time(
    ends_at: float | None, *, position: int, layers: int, at_once: int, schedule: Schedule
) -> float | None:
    """When a layer has to end: if layers follow each other, after its share of the time left.

    Args:
        ends_at: When all have to, in seconds of `time.time()`; None: never.
        position: Of the layer among all, from 0.
        layers: How many there are.
        at_once: How many are under way at the same time.
        schedule: Whether they follow each other.
    """
    if ends_at is None or schedule != "fifo":
        return ends_at
    rounds_left = -(-(layers - position) // at_once)
    now = time.time()
    return now + (ends_at - now) / rounds_left
