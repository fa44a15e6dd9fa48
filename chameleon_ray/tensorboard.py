"""What each layer reports after each batch, as files for TensorBoard: a callback of Ray Tune."""

from __future__ import annotations

import shutil
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ray.tune import Callback

from chameleon_ray.event_file import EventFile

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ray.tune.experiment import Trial

FOLDER = "tensorboard"  # in a run folder
SCALARS = ("best_seconds", "gflops", "failures")  # of a report, against its measurements
_FLUSH_SECONDS = 2.0


class TensorBoardFiles(Callback):
    """Writes `RUN/tensorboard/layer04/events...` for layer 4; a step is a measurement.

    A run that goes on plays its journal again, and so writes its files anew. What cannot be
    written ends the files and not the run, which may still measure.

    Tune's own `TBXLoggerCallback` writes where Tune keeps its state, which ends with the run;
    it counts batches instead of measurements, and waits for ever once a disk was full.

    Args:
        run: The run folder.
    """

    def __init__(self, run: Path) -> None:
        self._folder = run / FOLDER
        self._files: dict[int, EventFile] = {}
        self._steps: dict[int, int] = {}
        self._flushed = 0.0
        self._ended = False

    def setup(self, *_arguments: object, **_info: object) -> None:
        """Ray calls this once, before the first layer."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def on_trial_result(
        self,
        iteration: int,
        trials: Sequence[Trial],
        trial: Trial,
        result: dict[str, Any],
        **info: object,
    ) -> None:
        """Ray calls this after each batch of a layer."""
        del iteration, trials, info
        if not self._ended:
            try:
                self._write(trial.config["layer"], result)
            except OSError:
                self.close()

    def _write(self, layer: int, result: dict[str, Any]) -> None:
        step = result["measurements"]
        if step <= self._steps.get(layer, 0):  # one whose process was lost tells again
            return
        self._steps[layer] = step
        if layer not in self._files:
            self._files[layer] = EventFile(self._folder / f"layer{layer:02}")
        scalars = {name: result[name] for name in SCALARS if result[name] is not None}
        self._files[layer].add(step, scalars)
        if time.monotonic() > self._flushed + _FLUSH_SECONDS:
            self._flushed = time.monotonic()
            for file in self._files.values():
                file.flush()

    def close(self) -> None:
        """Write what is left; nothing more is written from here on."""
        self._ended = True
        for file in self._files.values():
            with suppress(OSError):
                file.close()
