"""How many of something there were a second, of late."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

_WINDOW_SECONDS = 60


class Rate:
    """Counts by the second, and forgets after a minute.

    Args:
        clock: Seconds that never go back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._began = clock, clock()
        self._counts: deque[tuple[int, int]] = deque()  # second, how many

    def add(self, number: int) -> None:
        """So many, now."""
        second = int(self._clock())
        if self._counts and self._counts[-1][0] == second:
            number += self._counts.pop()[1]
        self._counts.append((second, number))
        self._forget()

    @property
    def per_second(self) -> float:
        """The mean over the last minute, or over the time that there was."""
        self._forget()
        lasted = min(_WINDOW_SECONDS, max(1.0, self._clock() - self._began))
        return sum(number for _, number in self._counts) / lasted

    def _forget(self) -> None:
        while self._counts and self._counts[0][0] <= self._clock() - _WINDOW_SECONDS:
            self._counts.popleft()
