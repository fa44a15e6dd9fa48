"""A layer as a Ray Tune trial: each training iteration measures one batch."""

from __future__ import annotations

import sys
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import ray
from ray import tune
from ray.exceptions import RayTaskError

from chameleon_ray.assembly import preload, search
from chameleon_ray.env_settings import Env
from chameleon_ray.errors import ChameleonError, NothingValidError
from chameleon_ray.learner import AskedTeacher, Teacher
from chameleon_ray.learning.agent_file import Weights
from chameleon_ray.measure import Measurement, Purpose, histogram
from chameleon_ray.measure.lease import CoreLease
from chameleon_ray.phases import Phases
from chameleon_ray.pool_measurer import PoolMeasurer
from chameleon_ray.results import LayerProgress, LayerResult
from chameleon_ray.rounds import Round
from chameleon_ray.settings import Policy
from chameleon_ray.sharing import Others, Share, share_of_time
from chameleon_ray.task_tuner import History, TaskTuner
from chameleon_ray.tasks import Layer, Target
from chameleon_ray.templates import default_config, design_space


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialContext:
    """What all layers of a run have in common.

    Attributes:
        coordinator: Handle of the coordinator.
        teacher: The learner; None if the layers begin cold.
        weights: What an agent of tokens begins with; None: with its own.
        target: Resolved.
        has_torch: Whether torch is timed beside the finalists.
        trials: Measurements per layer, on the mean.
        most: Cap of one layer; as many as `trials`, unless the layers share.
        ends_at: End of the time budget, in seconds of `time.time()`; None without one.
        at_once: Layers under way at the same time.
    """

    coordinator: Any
    teacher: Teacher | None
    weights: Weights | None
    layers: tuple[Layer, ...]
    env: Env
    policy: Policy
    target: Target
    has_torch: bool
    seed: int
    trials: int
    most: int
    ends_at: float | None
    at_once: int


_DOING = {
    "other": "starting",
    "fit": "fitting",
    "explore": "exploring",
    "sample": "sampling",
    "measure": "measuring",
}
_PASSING = ("fitting", "sampling", "measuring")  # what lasts so short that it need not be told
_NOTE_SECONDS = 0.2
_NOTHING_LEFT = "as many measurements again would not be felt in the network's time"


class LayerTrainable(tune.Trainable):
    """Tunes one layer after another, in one process."""

    def setup(self, config: dict[str, Any], context: TrialContext) -> None:
        """Ray calls this once per process."""
        self._context = context
        self._tuner: TaskTuner | None = None
        self._begin(config["layer"])
        with suppress(Exception):  # the first step meets it again, and tells
            preload(context.policy)
        if "torch" in sys.modules:  # which costs a second to import, and not all policies use
            sys.modules["torch"].set_num_threads(1)
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
        lease = CoreLease() if c.env.on_cores else None
        self._phases = Phases(lease, observe=lambda phase: self._note(_DOING[phase]))
        self._round_seconds: Counter[str] = Counter()
        self._untold: Counter[str] = Counter()
        self._noted = -_NOTE_SECONDS
        self._batch_seconds = 0.0
        self._ended_by = ""
        self._share = self._share_of(index)
        self.cleanup()

    def _share_of(self, index: int) -> Share:
        c = self._context
        numbers = [layer.index for layer in c.layers]
        return Share(
            layer=index,
            layers=numbers,
            schedule=c.policy.schedule,
            trials=c.trials,
            most=c.most,
            kernels=c.env.finalists + 2,
            at_once=c.at_once,
            ends_at=share_of_time(
                c.ends_at,
                position=numbers.index(index),
                layers=len(numbers),
                at_once=c.at_once,
                schedule=c.policy.schedule,
            ),
        )

    def save_checkpoint(self, checkpoint_dir: str) -> dict[str, Any]:
        """The search as it stands; Ray calls this when the layer is paused."""
        del checkpoint_dir
        self._note("waiting")
        return {"tuner": self._tuner, "batch_seconds": self._batch_seconds}

    def load_checkpoint(self, checkpoint: dict[str, Any] | None) -> None:
        """Ray calls this to go on with a layer that was paused."""
        self._tuner = checkpoint["tuner"] if checkpoint else None
        self._batch_seconds = checkpoint["batch_seconds"] if checkpoint else 0.0
        if self._tuner is not None:
            self._tuner.attach(self._measurer, self._phases, self._round_ended)

    @property
    def _history(self) -> History | None:
        return self._tuner.history if self._tuner else None

    @property
    def _measured(self) -> list[Measurement]:
        return self._history.measurements if self._history else []

    def _start(self) -> TaskTuner:
        """The search, from its beginning."""
        c = self._context
        with self._phases.phase("other"):
            self._tuner = search(
                self._layer.task,
                self._space,
                c.policy,
                measurer=self._measurer,
                budget=c.most,
                seed=c.seed,
                rng=np.random.default_rng([c.seed, self._layer.index]),
                phases=self._phases,
                default=self._default,
                observe=self._round_ended,
                lessons=AskedTeacher(teacher=c.teacher, task=self._layer.task)
                if c.teacher is not None
                else None,
                weights=c.weights,
            )
        return self._tuner

    def step(self) -> dict[str, Any]:
        """One batch; after the last, the finalists."""
        result: LayerResult | None = None
        try:
            result = self._advance()
        except ChameleonError as error:
            cause = error.cause if isinstance(error, RayTaskError) else error
            ray.get(self._context.coordinator.fail.remote(cause))
            failed = True
        else:
            failed = False
        history = self._history
        best = history.best_seconds if history else None
        return {
            "done": failed or result is not None,
            "result": result,
            "measurements": len(history.measurements) if history else 0,
            "best_seconds": best,
            "gflops": self._layer.task.flop / best / 1e9 if best else None,
            "failures": int(history.failed.sum()) if history else 0,
        }

    def _advance(self) -> LayerResult | None:
        """Measure a batch, or the finalists if there is none, which is the result."""
        tuner = self._tuner or self._start()
        tuner.allow(self._allowed())
        began = time.time()
        try:
            next(tuner)
        except StopIteration:
            result = self._finalists(self._ended_by)
        except NothingValidError as error:
            result = self._finalists(str(error))
        else:
            self._batch_seconds = time.time() - began
            self._note("measuring")
            return None
        self._note("stopped" if result.message else "done", result)
        return result

    def _allowed(self) -> int:
        """How many measurements this layer may have."""
        if not self._share.bounded:
            return self._share.most
        others: Others = ray.get(self._context.coordinator.others.remote())
        if self._layer.index in others.exhausted:
            self._ended_by = _NOTHING_LEFT
        seconds = self._batch_seconds
        return self._share.measurements(others, self._measured, batch_seconds=seconds)

    def cleanup(self) -> None:
        """End the search; Ray calls this when the process is no longer needed."""
        if self._tuner is not None:
            self._tuner.close()
            self._tuner = None

    def _finalists(self, message: str = "") -> LayerResult:
        """The best configs and the default, timed in turns: the fastest is the result."""
        if self._history is None or not self._history.measurements:
            return self._result([], message="it ended before anything was measured")
        self._note("finalists")
        best = self._history.best(self._kernels() - 2)
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

    def _kernels(self) -> int:
        """How many are timed in turns, the default and torch among them: fewer if time is short."""
        if not self._share.bounded:
            return self._share.kernels
        others: Others = ray.get(self._context.coordinator.others.remote())
        return self._share.finalists(others, self._measured)

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
        self._take_seconds()
        seconds, self._round_seconds = dict(self._round_seconds), Counter()
        self._context.coordinator.note_round.remote(replace(round_, phase_seconds=seconds))

    def _note(self, doing: str, result: LayerResult | None = None) -> None:
        """Tell the coordinator how the layer stands, at most a few times a second."""
        now = time.monotonic()
        if doing in _PASSING and now < self._noted + _NOTE_SECONDS:
            return
        self._noted = now
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
            ended = LayerProgress.of(result, trials=self._context.trials)
            progress = replace(ended, doing=doing)
        self._take_seconds()
        seconds, self._untold = dict(self._untold), Counter()
        self._context.coordinator.note.remote(progress, seconds)

    def _take_seconds(self) -> None:
        """What was computed since the last time, on the account of the round and of the run."""
        seconds = self._phases.taken()
        self._round_seconds.update(seconds)
        self._untold.update(seconds)
