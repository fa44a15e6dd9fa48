"""A time budget, divided between searching and the finalists that are timed at the end."""

from __future__ import annotations

from dataclasses import dataclass

_FEWEST = 3  # kernels timed in turns: the best, the default, torch


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeBudget:
    """What is left of the time for some layers, each of which ends with its finalists.

    Attributes:
        ends_at: In seconds of `time.time()`.
        layers: How many have not ended.
        kernels: How many these would time in turns, all together.
        at_once: How many layers can have theirs timed side by side.
        kernel_seconds: What building and timing one kernel takes.
    """

    ends_at: float
    layers: int
    kernels: int
    at_once: int
    kernel_seconds: float

    def over(self, now: float, *, batch_seconds: float) -> bool:
        """Whether the search has to end: half a batch more, and time for finalists would lack.

        Args:
            now: In seconds of `time.time()`.
            batch_seconds: What a batch takes.
        """
        finals = self.kernels * self.kernel_seconds / self._side_by_side
        return now + batch_seconds / 2 + finals >= self.ends_at

    def finalists(self, now: float, *, most: int) -> int:
        """How many kernels one layer can time in turns, so that the other layers can, too."""
        share = max(0.0, self.ends_at - now) * self._side_by_side / max(1, self.layers)
        fitting = int(share / self.kernel_seconds) if self.kernel_seconds else most
        return min(most, max(_FEWEST, fitting))

    @property
    def _side_by_side(self) -> int:
        return max(1, min(self.at_once, self.layers))
