"""The coordinator: the actor of a run, with its broker, journal and progress."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from chameleon_ray.errors import ChameleonError, MachineError
from chameleon_ray.measure import Job, Measurement, Purpose
from chameleon_ray.measure.backend import Device
from chameleon_ray.measure.broker import Broker
from chameleon_ray.measure.pool import BenchSpec, RemoteBench
from chameleon_ray.records import Journal, Provenance
from chameleon_ray.results import LayerProgress, LayerResult
from chameleon_ray.rounds import Round, RoundJournal
from chameleon_ray.space import Configs, DesignSpace
from chameleon_ray.tasks import Conv2d

_MOST_STARTS = 3
_CHECK_IN_SECONDS = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What the coordinator knows of a run, for the driver."""

    layers: tuple[LayerProgress, ...]
    results: tuple[LayerResult, ...]
    phase_seconds: dict[str, float]
    first_job_at: float | None
    error: BaseException | None


class Coordinator:
    """All measurements of a run pass here on their way to the journal."""

    def __init__(self, spec: BenchSpec, benches: int) -> None:
        self._spec = spec
        self._benches = [RemoteBench(spec) for _ in range(benches)]
        self._broker = Broker(record=self._record, replace_worker=self._replace)
        self._journal: Journal | None = None
        self._rounds: RoundJournal | None = None
        self._layers: dict[int, LayerProgress] = {}
        self._results: dict[int, LayerResult] = {}
        self._seconds: dict[str, float] = {}
        self._first_job_at: float | None = None
        self._error: BaseException | None = None
        self._serving: list[asyncio.Task[None]] = []
        self._importing = 0
        self._imported = asyncio.Event()

    async def start(self) -> Device | ChameleonError:
        """Start all benches; what they measure on, or why they cannot."""
        answers = await asyncio.gather(*(b.actor.start.remote() for b in self._benches))
        return next((a for a in answers if isinstance(a, ChameleonError)), answers[0])

    async def open(self, folder: str, provenance: Provenance, trials: int) -> list[str]:
        """Open the journal, learn what it holds, and begin; the names of damaged files.

        Nothing is measured before so many trials have checked in: until then they import, on cores
        that a kernel would be timed on.
        """
        self._importing = trials
        self._journal = Journal(Path(folder), provenance)
        self._rounds = RoundJournal(Path(folder))
        records = self._journal.records()
        self._broker.learn(r.measurement for r in records if _same_origin(r.provenance, provenance))
        self._serving = [asyncio.create_task(self._broker.serve(b)) for b in self._benches]
        return [*self._journal.damaged, *self._rounds.read()]

    async def check_in(self) -> None:
        """A trial's process is ready."""
        self._importing -= 1
        if self._importing <= 0:
            self._imported.set()

    async def measure(self, jobs: Sequence[Job]) -> AsyncIterator[tuple[int, Measurement]]:
        """See `Broker.measure`; streams."""
        await self._ready()
        if self._first_job_at is None:
            self._first_job_at = time.time()
        async for answer in self._broker.measure(jobs):
            yield answer

    async def compare(self, jobs: Sequence[Job]) -> list[Measurement]:
        """See `Broker.compare`."""
        self._check()
        return await self._broker.compare(jobs)

    async def note(self, progress: LayerProgress, seconds: dict[str, float]) -> None:
        """A layer tells what it is doing, and how long its phases took since it last told."""
        self._layers[progress.layer.index] = progress
        self._add(seconds)

    async def note_round(self, round_: Round) -> None:
        """A layer tells how a round went; a round that cannot be kept ends the run."""
        assert self._rounds is not None  # noqa: S101 - `open` comes first
        try:
            self._rounds.append(round_)
        except ChameleonError as error:
            await self.fail(error)

    async def finish(self, result: LayerResult) -> None:
        """A layer is done."""
        self._results[result.layer.index] = result

    async def fail(self, error: BaseException) -> None:
        """A layer cannot go on, and so the run cannot."""
        self._error = self._error or error

    async def report(self) -> Report:
        """Where the run stands."""
        return Report(
            layers=tuple(self._layers[i] for i in sorted(self._layers)),
            results=tuple(self._results[i] for i in sorted(self._results)),
            phase_seconds=dict(self._seconds),
            first_job_at=self._first_job_at,
            error=self._error,
        )

    async def _ready(self) -> None:
        """Until all trials have checked in, but not for ever: one may have died."""
        self._check()
        if not self._imported.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._imported.wait(), _CHECK_IN_SECONDS)
            self._imported.set()

    def _check(self) -> None:
        """Once a layer could not go on, none does."""
        if self._error is not None:
            raise self._error

    def _record(self, measurements: Sequence[Measurement]) -> None:
        assert self._journal is not None  # noqa: S101 - `open` comes first
        self._journal.append(measurements)
        for measurement in measurements:
            self._count(measurement)
        self._add({"build": sum(m.build_seconds for m in measurements)})
        self._add({"run": sum(m.run_seconds for m in measurements)})

    def _count(self, m: Measurement) -> None:
        """Show a measurement before its batch is complete; the layer's next note corrects it."""
        at = next((i for i, row in self._layers.items() if row.layer.task.key == m.task), None)
        if at is None or not m.purpose.counted:
            return
        row = self._layers[at]
        seconds = m.seconds if m.ok else None
        self._layers[at] = replace(
            row,
            measurements=row.measurements + 1,
            default_seconds=seconds if m.purpose is Purpose.DEFAULT else row.default_seconds,
            best_seconds=min((s for s in (row.best_seconds, seconds) if s), default=None),
        )

    def _add(self, seconds: dict[str, float]) -> None:
        for phase, value in seconds.items():
            self._seconds[phase] = self._seconds.get(phase, 0.0) + value

    async def _replace(self) -> RemoteBench:
        for _ in range(_MOST_STARTS):
            bench = RemoteBench(self._spec)
            try:
                answer = await bench.actor.start.remote()
            except RayError as error:
                answer = MachineError(
                    f"a measuring process was lost and no new one starts: {error}"
                )
            if not isinstance(answer, ChameleonError):
                return bench
        raise answer


def _same_origin(one: Provenance, other: Provenance) -> bool:
    """Whether two measurements were made of the same code, on the same kind of machine."""
    return all(
        getattr(one, name) == getattr(other, name) for name in ("machine", "compiler", "template")
    )


def start_coordinator(spec: BenchSpec, benches: int) -> Any:
    """A coordinator on this node, and its benches."""
    here = ray.get_runtime_context().get_node_id()
    actor = ray.remote(Coordinator).options(
        num_cpus=0, scheduling_strategy=NodeAffinitySchedulingStrategy(here, soft=False)
    )
    return actor.remote(spec, benches)


class PoolMeasurer:
    """The measurer of one task: turns indices into knob values and asks the coordinator.

    Args:
        coordinator: Handle of the coordinator.
        task: What is measured.
        space: The task's space.
    """

    def __init__(self, coordinator: Any, task: Conv2d, space: DesignSpace) -> None:
        self._coordinator, self._task, self._space = coordinator, task, space

    def submit(self, configs: Configs, *, purpose: Purpose) -> Iterator[tuple[int, Measurement]]:
        """Begin to measure configs `(n, knobs)`; row and measurement of each, as they finish."""
        jobs = self._jobs(configs, purpose)
        stream = self._coordinator.measure.options(num_returns="streaming").remote(jobs)
        return (ray.get(reference) for reference in stream)

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
