"""Whether a device keeps its speed: a reference kernel is timed now and then.

Its time may move by as much as it did before, or by a twentieth. If it moves further twice in a
row, the device has drifted: it rests, and is looked at again, until it is as before, or until two
times in a row agree, which is then what later ones are compared with.
"""

from __future__ import annotations

import math
import statistics
import time
from collections import deque
from collections.abc import Callable

EVERY_SECONDS = 60.0
SOON_SECONDS = 12.0  # until enough is known to tell
REST_SECONDS = 10.0
OUT_OF_LINE = "out of line; it is timed once more"  # of a time that does not fit those before
_MOST_RESTS = 6  # a device that never becomes steady is used as it is
_LEAST = 5  # times before one can be out of line; they are taken sooner
_REMEMBERED = 9
_ALLOWED = 0.05  # share of its time by which a kernel may move in any case
_SIGMAS = 6.0  # of a few times, which tell it badly


class Watch:
    """Looks at one device.

    Args:
        clock: Seconds that never go back.

    Attributes:
        next_at: When the reference kernel is to be timed next; nothing else is, before that, while
            the device rests.
        drifted: What is wrong with it, for people; empty if nothing is.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._times: deque[float] = deque(maxlen=_REMEMBERED)
        self._doubted = math.nan  # a time that was out of line, until the next one
        self._rests = 0
        self.next_at = clock() + SOON_SECONDS
        self.drifted = ""

    @property
    def due(self) -> bool:
        """Whether the reference kernel is to be timed now."""
        return self._clock() >= self.next_at

    @property
    def doubts(self) -> bool:
        """Whether the last time was out of line."""
        return not math.isnan(self._doubted)

    def timed(self, seconds: float | None) -> str:
        """The reference kernel took so long; what has happened to the device, if something has.

        Without a time nothing is known, and it is timed again later.
        """
        if seconds is None:
            self._failed()
            return ""
        if len(self._times) < _LEAST or self._agree(seconds, statistics.median(self._times)):
            return self._steady(seconds)
        moved = seconds / statistics.median(self._times)
        again, self._doubted = self._agree(seconds, self._doubted), seconds
        if not self.drifted:
            if again:
                self.drifted = f"its reference kernel takes {moved:.2f} times as long as before"
                self._rest()
                return self.drifted
            self.next_at = self._clock()
            return ""
        if again or self._rests >= _MOST_RESTS:
            self._times.clear()
            return self._steady(seconds)
        self._rest()
        return ""

    def _failed(self) -> None:
        if self.drifted and self._rests < _MOST_RESTS:
            self._rest()
            return
        if self.drifted:
            self._times.clear()
        self._rests, self.drifted = 0, ""
        self.next_at = self._clock() + EVERY_SECONDS

    def _steady(self, seconds: float) -> str:
        self._times.append(seconds)
        self._doubted, self._rests, self.drifted = math.nan, 0, ""
        known = len(self._times) >= _LEAST
        self.next_at = self._clock() + (EVERY_SECONDS if known else SOON_SECONDS)
        return ""

    def _rest(self) -> None:
        self._rests += 1
        self.next_at = self._clock() + REST_SECONDS

    def _agree(self, seconds: float, other: float) -> bool:
        """Whether two times differ by no more than the noise of those before."""
        noise = statistics.stdev(math.log(known) for known in self._times)
        allowed = max(math.log1p(_ALLOWED), _SIGMAS * noise)
        return abs(math.log(seconds / other)) <= allowed  # False for NaN
