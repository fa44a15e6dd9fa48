"""A live search played again from its journal, to count what the journal does not keep.

As when a run is gone on with: the same draws, and the journal in place of the hardware. Nothing is
measured. What was counted is kept beside the run folder.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
from paper_searches import walked

from chameleon_ray.assembly import search
from chameleon_ray.files import write_whole
from chameleon_ray.measure import Measurement, Purpose
from chameleon_ray.measure.broker import answer_key
from chameleon_ray.phases import Phases
from chameleon_ray.plan import Plan
from chameleon_ray.records import Record
from chameleon_ray.rounds import Round
from chameleon_ray.space import Configs, DesignSpace
from chameleon_ray.task_tuner import Budget
from chameleon_ray.tasks import Layer
from chameleon_ray.templates import default_config, design_space


class JournalMeasurer:
    """Answers from what a run measured of a layer (`measure.Measurer`)."""

    def __init__(self, layer: Layer, space: DesignSpace, records: Sequence[Record]) -> None:
        self._task, self._space = layer.task.key, space
        measured = (record.measurement for record in records)
        self._known = {answer_key(m.task, m.purpose, m.config): m for m in measured}
        self._pending: list[tuple[Configs, Purpose]] = []

    def submit(self, configs: Configs, *, purpose: Purpose) -> None:
        """Queue configs `(n, knobs)`."""
        self._pending.append((configs, purpose))

    def results(self) -> Iterator[tuple[int, Measurement]]:
        """Position and measurement of all that was submitted.

        Raises:
            KeyError: One that the run has not measured.
        """
        pending, self._pending = self._pending, []
        asked = [(config, purpose) for configs, purpose in pending for config in configs]
        for position, (config, purpose) in enumerate(asked):
            values = self._space.describe(config)
            yield position, self._known[answer_key(self._task, purpose, values)]

    def compare(self, configs: Configs, *, torch: bool) -> list[Measurement]:
        """Nothing: finalists are timed after a search."""
        del configs, torch
        return []


def steps_of(
    folder: Path, plan: Plan, layer: Layer, records: Sequence[Record], rounds: Sequence[Round]
) -> list[int]:
    """The steps that the walks of RL took in each round of a layer.

    Args:
        folder: Of the run; the file of what was counted lies beside it.
        plan: Of the run.
        layer: Which one.
        records: All of the run.
        rounds: Of the layer, as the run went.

    Returns:
        None at all if the search does not go as it went then.
    """
    path = folder.parent / f"{folder.name}-steps.json"
    known = json.loads(path.read_text("utf-8")) if path.exists() else {}
    scored = [round_.evaluated for round_ in rounds]
    found: list[list[int]] = known.get(layer.task.key, [])
    if [evaluated for evaluated, _ in found] != scored:
        found = _replayed(plan, layer, records)
        if [evaluated for evaluated, _ in found] != scored:
            return []
        write_whole(path, json.dumps(known | {layer.task.key: found}).encode())
    return [steps for _, steps in found]


def _replayed(plan: Plan, layer: Layer, records: Sequence[Record]) -> list[list[int]]:
    """Configs scored and steps walked in each round, as far as the journal answers."""
    space, found = design_space(layer.task, plan.target), list[list[int]]()
    running = search(
        layer.task,
        space,
        plan.policy,
        measurer=JournalMeasurer(layer, space, records),
        budget=Budget(measurements=plan.trials),
        seed=plan.seed,
        rng=np.random.default_rng([plan.seed, layer.index]),
        phases=Phases(),
        default=default_config(layer.task, plan.target),
        observe=lambda round_: found.append([round_.evaluated, walked(running)]),
    )
    try:
        with closing(running):
            for _ in running:
                pass
    except KeyError:
        return []
    return found
