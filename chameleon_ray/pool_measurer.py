"""The measurer of a task that asks a run's coordinator."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import ray

from chameleon_ray.measure import Job, Measurement, Purpose
from chameleon_ray.space import Configs, DesignSpace
from chameleon_ray.tasks import LayerTask


class PoolMeasurer:
    """The measurer of one task: turns indices into knob values and asks the coordinator.

    Args:
        coordinator: Handle of the coordinator.
        task: What is measured.
        space: The task's space.
    """

    def __init__(self, coordinator: Any, task: LayerTask, space: DesignSpace) -> None:
        self._coordinator, self._task, self._space = coordinator, task, space

    def submit(self, configs: Configs, *, purpose: Purpose) -> Iterator[tuple[int, Measurement]]:
        """Begin to measure configs `(n, knobs)`; row and measurement of each, once all are done."""
        return _rows(self._coordinator.measure.remote(self._jobs(configs, purpose)))

    def compare(self, configs: Configs, *, torch: bool) -> list[Measurement]:
        """Finalists timed in turns; with `torch`, its own kernel is the last of them."""
        jobs = self._jobs(configs, Purpose.FINALIST)
        if torch:
            jobs.append(Job(task=self._task, config={}, purpose=Purpose.TORCH))
        measurements: list[Measurement] = ray.get(self._coordinator.compare.remote(jobs))
        return measurements

    def _jobs(self, configs: Configs, purpose: Purpose) -> list[Job]:
        describe, broken = self._space.describe, self._space.broken
        return [
            Job(
                task=self._task,
                config=describe(config),
                purpose=purpose,
                breaks=() if valid else tuple(broken(config)),
            )
            for config, valid in zip(configs, self._space.valid(configs), strict=True)
        ]


def _rows(answer: Any) -> Iterator[tuple[int, Measurement]]:
    yield from enumerate(ray.get(answer))
