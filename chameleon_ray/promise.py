"""What the next measurements of each layer promise to the network, from the curves so far.

Of a layer that was measured n times, the gain is looked at by doublings: how much shorter, as a
logarithm, its best time became between n/2 and n. What comes next is expected to be of the same
size or a little less, spread over the n measurements of the next doubling. It is the mean of all
layers, brought to this one's length, and more for a layer that does far fewer operations a second
than the fastest of them: that has more room. A layer's own last doubling says little (most bring
nothing, some bring a lot), so half of it counts: what is expected lies, as a geometric mean,
between what the layer did and what layers do.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

_DOUBT = 0.1  # that a doubling may bring in any case, as a logarithm
_ROOM = 0.3  # that the fastest layer is taken to have, as a logarithm
_LEAST_GAIN = 0.0002  # of the network's time; less than that from a whole doubling is nothing
_LEAST_MEASUREMENTS = 32
_DECAY = 0.5  # a doubling brings so much of what the one before it brought, on the mean

Promises = npt.NDArray[np.float64]


@dataclass(slots=True)
class Curve:
    """The best time of a layer after each of its measurements.

    Attributes:
        weight: How often the network uses the layer.
        flop: Operations of one execution; None if that cannot be compared with other layers'.
        steps: (measurements, best seconds) wherever the best changed, in that order.
        measurements: How many there are.
    """

    weight: float
    flop: float | None = None
    steps: list[tuple[int, float]] = field(default_factory=list)
    measurements: int = 0

    def reached(self, measurements: int, best_seconds: float | None) -> None:
        """So many measurements were made, and this is the best time."""
        self.measurements = measurements
        if best_seconds is not None and (not self.steps or best_seconds < self.steps[-1][1]):
            self.steps.append((measurements, best_seconds))

    def best(self, measurements: int) -> float:
        """The best time after so many measurements; infinite before the first success."""
        return min((s for n, s in self.steps if n <= measurements), default=math.inf)

    @property
    def doubling(self) -> float:
        """The logarithm of what the last doubling of the measurements gained."""
        before, now = self.best(self.measurements // 2), self.best(self.measurements)
        return math.log(before / now) if before < math.inf else math.nan


def promises(curves: Sequence[Curve]) -> Promises:
    """Seconds of the network that each layer's next measurement is expected to save, `(n,)`.

    Infinite for a layer without a time to halve yet: it is measured first.
    """
    promised = np.full(len(curves), np.inf)
    halved = [at for at, curve in enumerate(curves) if math.isfinite(curve.doubling)]
    if not halved:
        return promised
    known = [curves[at] for at in halved]
    doublings = np.array([curve.doubling for curve in known])
    measured = np.array([curve.measurements for curve in known])
    seconds = np.array([curve.best(curve.measurements) for curve in known])
    # what all layers gained, brought to each layer's length by the decay of a doubling
    common = _DECAY ** np.log2(measured[:, None] / measured[None, :]) * doublings
    mean = common.mean(axis=1)
    own = np.sqrt((doublings + _DOUBT) / (mean + _DOUBT))
    expected = mean * own * _room([curve.flop for curve in known], seconds)
    weights = np.array([curve.weight for curve in known])
    promised[halved] = weights * seconds * _DECAY * expected / measured
    return promised


def exhausted(curves: Sequence[Curve]) -> npt.NDArray[np.bool_]:
    """Which layers have nothing left to gain, `(n,)`: not even as many measurements again would."""
    measured = np.array([curve.measurements for curve in curves])
    seconds = sum(curve.weight * curve.best(curve.measurements) for curve in curves)
    if not math.isfinite(seconds):
        return np.zeros(len(curves), dtype=np.bool_)
    little = promises(curves) * np.maximum(measured, 1) < _LEAST_GAIN * seconds
    return np.asarray(little & (measured >= _LEAST_MEASUREMENTS))


def _room(flops: Sequence[float | None], seconds: Promises) -> Promises:
    """How much each layer can be expected to gain, against the mean of all, `(n,)`."""
    if None in flops:
        return np.ones(len(flops))
    speed = np.array(flops, dtype=np.float64) / seconds
    room = np.log(speed.max() / speed) + _ROOM
    return np.asarray(room / room.mean())
