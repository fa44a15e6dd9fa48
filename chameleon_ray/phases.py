"""Where a layer's time goes, and the lease of the cores that each phase computes under."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from chameleon_ray.explorers import Ensemble

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from chameleon_ray.measure.lease import CoreLease
    from chameleon_ray.space import Configs, Score, Vector


class Phases:
    """Seconds of computing per phase, waiting for the cores not counted.

    Args:
        lease: The cores of the machine that kernels are timed on; None if the search computes
            elsewhere, or if nothing is timed.
        observe: Called with the name of a phase when it begins, and with `measure` when it ends.
    """

    def __init__(
        self, lease: CoreLease | None = None, observe: Callable[[str], None] | None = None
    ) -> None:
        self.seconds: dict[str, float] = {}
        self._lease = lease
        self._observe = observe or (lambda _phase: None)
        self._held = ExitStack()

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Compute under a shared lease, on the account of `name`."""
        self._observe(name)
        self._acquire()
        before = self.seconds.get(name, 0.0)
        start = time.perf_counter()
        self._waited = 0.0
        try:
            yield
        finally:
            self._held.close()
            self.seconds[name] = before + time.perf_counter() - start - self._waited
            self._observe("measure")

    def give_way(self) -> None:
        """Within a phase: let whoever waits to time a kernel go first."""
        start = time.perf_counter()
        self._held.close()
        self._acquire()
        self._waited += time.perf_counter() - start

    def giving_way(self, score: Score) -> Score:
        """The same score, giving way after each batch: exploration is the longest phase."""
        if not self._lease:
            return score
        kind = _GivingWayEnsemble if isinstance(score, Ensemble) else _GivingWay
        return kind(score, self)

    def taken(self) -> dict[str, float]:
        """The seconds since the last call."""
        taken, self.seconds = self.seconds, {}
        return taken

    def _acquire(self) -> None:
        if self._lease:
            self._held.enter_context(self._lease.shared())


@dataclass(frozen=True)
class _GivingWay:
    """A score that gives way; a copy in another process is the plain score."""

    score: Score
    phases: Phases

    def __call__(self, configs: Configs) -> Vector:
        scores = self.score(configs)
        self.phases.give_way()
        return scores

    def __reduce__(self) -> tuple[object, ...]:
        return _itself, (self.score,)


class _GivingWayEnsemble(_GivingWay):
    """The same for a score with members."""

    score: Ensemble

    def predict(self, configs: Configs) -> tuple[Vector, npt.NDArray[np.float32]]:
        predicted = self.score.predict(configs)
        self.phases.give_way()
        return predicted

    def member(self, rng: np.random.Generator) -> Score:
        return self.phases.giving_way(self.score.member(rng))


def _itself(score: Score) -> Score:
    return score
