"""The measuring places of one machine or GPU: what is built ahead here is timed in turn.

Each place is a thread with a bench. All of them build at the same time; who may time, and when, is
the lease's business.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from chameleon_ray.measure import Job, Measurement
from chameleon_ray.measure.backend import Device

_MOST_TOGETHER = 8  # jobs that a place does in one go
_MOMENT_SECONDS = 1.0  # how long they should take together


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What a place does as one piece.

    Attributes:
        number: By which its measurements are known to whoever handed it in.
        jobs: One config; or the finalists of a task, which are timed in turns.
        seconds: About how long it takes; infinite if that is not known.
    """

    number: int
    jobs: tuple[Job, ...]
    seconds: float


Done = tuple[int, list[Measurement]]


class Place(Protocol):
    """What works: a `Bench`."""

    def start(self) -> Device:
        """Begin; what it measures on."""

    def measure_all(self, jobs: Sequence[Job]) -> list[Measurement]:
        """One after another."""

    def compare(self, jobs: Sequence[Job]) -> list[Measurement]:
        """In turns."""

    def close(self) -> None:
        """End."""


class Host:
    """Does pieces of work, as many at a time as it has places.

    `put` and `take` may be called from different threads.

    Args:
        places: What works; each is used by one thread only.
    """

    def __init__(self, places: Sequence[Place]) -> None:
        self._places = places
        self._waiting: deque[Work] = deque()
        self._done: list[Done] = []
        self._error: BaseException | None = None
        self._changed = threading.Condition()
        self._closed = False

    def start(self) -> Device:
        """Start the first place, whose device is that of all; the others start as they work.

        Raises:
            MachineError: It does not start, or the target does not fit the machine.
        """
        device = self._places[0].start()
        for place in self._places:
            threading.Thread(target=self._serve, args=(place,), daemon=True).start()
        return device

    def put(self, works: Sequence[Work]) -> None:
        """Queue pieces of work; returns at once."""
        with self._changed:
            self._waiting.extend(works)
            self._changed.notify_all()

    def take(self, wait_seconds: float) -> list[Done]:
        """What is done and was not taken before, as soon as there is something.

        Args:
            wait_seconds: Return empty-handed after so long.

        Raises:
            BaseException: What a place raised, which never does so because of a candidate.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._done or self._error or self._closed, wait_seconds)
            if self._error is not None:
                raise self._error
            taken, self._done = self._done, []
            return taken

    def close(self) -> None:
        """End all places."""
        with self._changed:
            self._closed = True
            self._waiting.clear()
            self._changed.notify_all()
        for place in self._places:
            place.close()

    def _serve(self, place: Place) -> None:
        """A place's thread."""
        while works := self._next():
            try:
                done = _measured(place, works)
            except BaseException as error:  # noqa: BLE001 - a mistake of ours, to be told
                with self._changed:
                    self._error = self._error or error
                    self._changed.notify_all()
                return
            with self._changed:
                self._done += done
                self._changed.notify_all()

    def _next(self) -> list[Work]:
        """What one place does next; nothing at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            if self._closed:
                return []
            taken = [self._waiting.popleft()]
            for _ in range(self._together(taken[0]) - 1):
                if len(self._waiting[0].jobs) > 1:
                    break
                taken.append(self._waiting.popleft())
            return taken

    def _together(self, first: Work) -> int:
        """How many pieces like this one a place takes in one go, to wait for the lease once.

        As many as are done in a moment, but no more than half of its share of what waits: who waits
        for the last few is to have them from several places.
        """
        if len(first.jobs) > 1:
            return 1
        share = 1 + len(self._waiting) // (2 * len(self._places))
        moment = int(_MOMENT_SECONDS / max(first.seconds, 1e-6))
        return max(1, min(share, moment, _MOST_TOGETHER))


def _measured(place: Place, works: Sequence[Work]) -> list[Done]:
    if len(works[0].jobs) > 1:
        return [(works[0].number, place.compare(works[0].jobs))]
    measured = place.measure_all([work.jobs[0] for work in works])
    return [(work.number, [m]) for work, m in zip(works, measured, strict=True)]
