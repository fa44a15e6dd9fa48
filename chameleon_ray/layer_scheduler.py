"""Which layer is measured next: a scheduler of Ray Tune that pauses and resumes layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from chameleon_ray.promise import Curve, Promises, exhausted, promises

if TYPE_CHECKING:
    from ray.tune.execution.tune_controller import TuneController

    from chameleon_ray.settings import Schedule
    from chameleon_ray.tasks import Layer

_AHEAD = 1.25  # a layer gives way to one that promises so many times as much


class LayerScheduler(FIFOScheduler):
    """Gives the next measurements to the layer that promises most.

    With `gain` that is what they are expected to save the network (`promise.promises`); with
    `round_robin`, the layer that has the fewest. A layer that runs gives way after a batch, if
    another promises clearly more, and is paused until it promises most itself. With `gain`, a layer
    that has nothing left to gain is told so.

    Args:
        layers: Those of the run; a trial's config names one by its number.
        schedule: `gain` or `round_robin`.
        tell: Called with the number of a layer that has nothing left to gain.
        at_once: How many have a process at a time. While one of these is still being started, none
            gives way: who waits may be the one that it is started for.
    """

    def __init__(
        self,
        layers: Sequence[Layer],
        schedule: Schedule,
        tell: Callable[[int], object],
        *,
        at_once: int,
    ) -> None:
        super().__init__()
        self._tell, self._at_once = tell, at_once
        self._curves = {
            layer.index: Curve(weight=layer.uses, flop=layer.task.flop) for layer in layers
        }
        self._schedule = schedule

    def on_trial_result(
        self, tune_controller: TuneController, trial: Trial, result: dict[str, Any]
    ) -> str:
        """Go on, or give way."""
        curve = self._curves[trial.config["layer"]]
        curve.reached(result["measurements"], result["best_seconds"])
        if self._schedule == "gain":
            known = [*self._curves.values()]
            if exhausted(known)[known.index(curve)]:
                self._tell(trial.config["layer"])
        waiting = _waiting(tune_controller)
        running = sum(t.status == Trial.RUNNING for t in tune_controller.get_trials())
        if not waiting or running < self._at_once:
            return str(TrialScheduler.CONTINUE)
        promised = self._promised()
        others = max(promised[other.config["layer"]] for other in waiting)
        gives_way = others > _AHEAD * promised[trial.config["layer"]]
        return str(TrialScheduler.PAUSE if gives_way else TrialScheduler.CONTINUE)

    def choose_trial_to_run(self, tune_controller: TuneController) -> Trial | None:
        """The layer that promises most of those that wait."""
        promised = self._promised()
        waiting = _waiting(tune_controller)
        return max(waiting, key=lambda trial: promised[trial.config["layer"]], default=None)

    def debug_string(self) -> str:
        """For Tune's own messages."""
        return f"LayerScheduler: {self._schedule}"

    def _promised(self) -> dict[int, float]:
        curves = list(self._curves.values())
        if self._schedule == "gain":
            promised: Promises = promises(curves)
        else:
            promised = 1.0 / np.array([1 + curve.measurements for curve in curves])
        return dict(zip(self._curves, promised.tolist(), strict=True))


def _waiting(tune_controller: TuneController) -> list[Trial]:
    """The trials that could run."""
    return [
        trial
        for trial in tune_controller.get_trials()
        if trial.status in (Trial.PENDING, Trial.PAUSED)
    ]
