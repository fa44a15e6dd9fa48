"""A layer as a Ray Tune trial: each training iteration measures one batch."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import ray
from ray import tune
from ray.exceptions import RayTaskError

from chameleon_ray.assembly import search
from chameleon_ray.coordinator import PoolMeasurer
from chameleon_ray.env_settings import Env
from chameleon_ray.errors import ChameleonError, NothingValidError
from chameleon_ray.measure import Measurement, Purpose
from chameleon_ray.measure.broker import histogram
from chameleon_ray.measure.lease import CoreLease
from chameleon_ray.phases import Phases
from chameleon_ray.results import LayerProgress, LayerResult
from chameleon_ray.rounds import Round
from chameleon_ray.settings import Policy
from chameleon_ray.task_tuner import Budget, History, TaskTuner
from chameleon_ray.tasks import Layer, Target
from chameleon_ray.templates import default_config, design_space


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialContext:
    """What all layers of a run have in common.

    Attributes:
        coordinator: Handle of the coordinator.
        target: Resolved.
        has_torch: Whether torch is timed beside the finalists.
        trials: Cap of measurements per layer.
        deadline: End of the time budget, in seconds of `time.time()`; None without one.
        at_once: Layers under way at the same time.
    """

    coordinator: Any
    layers: tuple[Layer, ...]
    env: Env
    policy: Policy
    target: Target
    has_torch: bool
    seed: int
    trials: int
    deadline: float | None
    at_once: int


_DOING = {
    "other": "starting",
    "fit": "fitting",
    "explore": "exploring",
    "sample": "sampling",
    "measure": "measuring",
}


class LayerTrainable(tune.Trainable):
    """Tunes one layer after another, in one process."""

    def setup(self, config: dict[str, Any], context: TrialContext) -> None:
        """Ray calls this once per process."""
        import torch

        torch.set_num_threads(1)
        self._context = context
        self._rounds: TaskTuner | None = None
        self._begin(config["layer"])
        context.coordinator.check_in.remote()

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Ray calls this to go on with another layer in the same process."""
        self._begin(new_config["layer"])
        return True

    def _begin(self, index: int) -> None:
        c = self._context
        self._layer = next(layer for layer in c.layers if layer.index == index)
        self._space = design_space(self._layer.task, c.target)
        self._default = default_config(self._layer.task, c.target)
        self._measurer = PoolMeasurer(c.coordinator, self._layer.task, self._space)
        self._history: History | None = None
        lease = CoreLease() if c.env.measurer != "simulated" else None
        self._phases = Phases(lease, observe=lambda phase: self._note(_DOING[phase]))
        self._round_seconds: Counter[str] = Counter()
        with self._phases.phase("other"):  # it imports and builds for seconds
            self._close()
            self._rounds = self._tuning()

    def _tuning(self) -> TaskTuner:
        c, task = self._context, self._layer.task
        return search(
            task,
            self._space,
            c.policy,
            measurer=self._measurer,
            budget=Budget(measurements=c.trials, deadline=self._deadline()),
            seed=c.seed,
            rng=np.random.default_rng([c.seed, self._layer.index]),
            phases=self._phases,
            default=self._default,
            observe=self._round_ended,
        )

    def _deadline(self) -> float | None:
        """This layer's share of the time that is left: layers that come later get theirs."""
        c = self._context
        if c.deadline is None:
            return None
        position = [layer.index for layer in c.layers].index(self._layer.index)
        rounds_left = -(-(len(c.layers) - position) // c.at_once)
        return time.time() + (c.deadline - time.time()) / rounds_left

    def step(self) -> dict[str, Any]:
        """One batch; after the last, the finalists."""
        try:
            return {"done": self._advance()}
        except ChameleonError as error:
            cause = error.cause if isinstance(error, RayTaskError) else error
            ray.get(self._context.coordinator.fail.remote(cause))
            return {"done": True}

    def _advance(self) -> bool:
        """Measure a batch, or the finalists if there is none; whether the layer is done."""
        assert self._rounds is not None  # noqa: S101 - `setup` has begun a layer
        try:
            self._history = next(self._rounds)
        except StopIteration:
            self._finish(self._finalists())
        except NothingValidError as error:
            self._finish(self._finalists(str(error)))
        else:
            self._note("measuring")
            return False
        return True

    def cleanup(self) -> None:
        """Ray calls this when the process is no longer needed."""
        self._close()

    def _close(self) -> None:
        if self._rounds is not None:
            self._rounds.close()

    def _finish(self, result: LayerResult) -> None:
        self._note("stopped" if result.message else "done", result)
        ray.get(self._context.coordinator.finish.remote(result))

    def _finalists(self, message: str = "") -> LayerResult:
        """The best configs and the default, timed in turns: the fastest is the result."""
        if self._history is None or not self._history.measurements:
            return self._result([], message="the time budget ended before anything was measured")
        self._note("finalists")
        best = self._history.best(self._context.env.finalists)
        default = self._default[None, :]
        if self._default_works() and not self._space.contains(best, default)[0]:
            best = np.concatenate([default, best])
        if not len(best):
            return self._result([], message=message or "nothing that was measured is valid")
        compared = self._measurer.compare(best, torch=self._context.has_torch)
        if any(m.ok and m.purpose is Purpose.FINALIST for m in compared):
            return self._result(compared, message=message)
        why = compared[0].message.strip().splitlines()[-1]
        searched = [m for m in self._history.measurements if m.ok]
        return self._result(
            [replace(m, purpose=Purpose.FINALIST) for m in searched],
            message=f"the finalists could not be timed in turns ({why}); the search's times stand",
        )

    def _default_works(self) -> bool:
        """Whether the default is valid: as the search found it, or by a measurement of its own."""
        if self._history is not None and self._context.policy.default == "first":
            return bool(not self._history.failed[0])
        ((_, measured),) = self._measurer.submit(self._default[None, :], purpose=Purpose.BASELINE)
        return measured.ok

    def _result(self, compared: list[Measurement], *, message: str = "") -> LayerResult:
        history = self._history
        measured = history.measurements if history else []
        default = self._space.describe(self._default)
        timed = {m.purpose: m for m in compared if m.ok and m.purpose is Purpose.TORCH}
        finalists = [m for m in compared if m.ok and m.purpose is Purpose.FINALIST]
        winner = min(finalists, key=lambda m: m.seconds, default=None)
        of_default = next((m for m in finalists if m.config == default), None)
        torch = timed.get(Purpose.TORCH)
        return LayerResult(
            layer=self._layer,
            space_size=self._space.size,
            measurements=len(measured),
            outcomes=histogram(measured),
            default_seconds=of_default.seconds if of_default else None,
            best_seconds=winner.seconds if winner else None,
            torch_seconds=torch.seconds if torch else None,
            default_won=winner is not None and winner is of_default,
            best_config=dict(winner.config) if winner else {},
            message=message,
        )

    def _round_ended(self, round_: Round) -> None:
        seconds, self._round_seconds = dict(self._round_seconds), Counter()
        self._context.coordinator.note_round.remote(replace(round_, phase_seconds=seconds))

    def _note(self, doing: str, result: LayerResult | None = None) -> None:
        history = self._history
        measured = history.measurements[:1] if history else []
        default = next((m for m in measured if m.purpose is Purpose.DEFAULT), None)
        progress = LayerProgress(
            layer=self._layer,
            trials=self._context.trials,
            measurements=len(history.configs) if history else 0,
            default_seconds=default.seconds if default and default.ok else None,
            best_seconds=history.best_seconds if history else None,
            doing=doing,
        )
        if result and result.best_seconds:
            progress = replace(
                progress,
                measurements=result.measurements,
                default_seconds=result.default_seconds,
                best_seconds=result.best_seconds,
            )
        seconds = self._phases.taken()
        self._round_seconds.update(seconds)
        self._context.coordinator.note.remote(progress, seconds)
