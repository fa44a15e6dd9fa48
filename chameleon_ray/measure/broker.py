"""The one place through which all measurements of a run pass: it queues, hands out and records.

Plain asyncio, without Ray: `pool` wraps it in an actor and gives it workers that are actors.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from chameleon_ray.errors import ChameleonError, RunFolderError
from chameleon_ray.measure import Job, Measurement, Outcome, Purpose
from chameleon_ray.space import KnobValues

_MOST_ATTEMPTS = 3


class WorkerLostError(Exception):
    """A worker's process or node went away during a job."""


class Worker(Protocol):
    """A measuring place that may be far away."""

    async def measure(self, job: Job) -> Measurement:
        """Build, check and time one config; raises WorkerLostError."""

    async def compare(self, jobs: Sequence[Job]) -> list[Measurement]:
        """Time several in turns; raises WorkerLostError."""


@dataclass(slots=True, kw_only=True)
class _Ticket:
    """Jobs that go to one worker together, and who waits for them."""

    jobs: Sequence[Job]
    position: int
    answers: asyncio.Queue[tuple[int, list[Measurement] | Exception]]
    attempts: int = 0


Key = tuple[str, Purpose, tuple[tuple[str, tuple[int, ...]], ...]]


def answer_key(task: str, purpose: Purpose, config: KnobValues) -> Key:
    """What makes two measurements the same, in one run."""
    return task, purpose, tuple(sorted((name, tuple(choice)) for name, choice in config.items()))


@dataclass(kw_only=True)
class Broker:
    """Hands jobs to workers in turns between tasks; each job is answered exactly once.

    A job that the journal knows is answered from it. A job whose worker is lost goes back to the
    front of the queue, and is given up as `crashed` the third time.

    Attributes:
        record: Called with finished measurements; when it returns they are safe.
        replace_worker: Called when a worker is lost; returns its successor, or raises a
            `ChameleonError` if there is none.
    """

    record: Callable[[Sequence[Measurement]], object]
    replace_worker: Callable[[], Awaitable[Worker]]
    known: dict[Key, Measurement] = field(default_factory=dict)
    best_seconds: dict[str, float] = field(default_factory=dict)
    _queues: dict[str, deque[_Ticket]] = field(default_factory=dict)
    _arrived: asyncio.Event = field(default_factory=asyncio.Event)
    _serving: int = 0
    _gone: ChameleonError | None = None

    def learn(self, measurements: Iterable[Measurement]) -> None:
        """Take over what a journal holds; a later measurement of the same job counts."""
        for measurement in measurements:
            m = measurement
            self.known[answer_key(m.task, m.purpose, m.config)] = m
            if m.ok and m.purpose is not Purpose.TORCH:
                self.best_seconds[m.task] = min(m.seconds, self.best_seconds.get(m.task, m.seconds))

    async def measure(self, jobs: Sequence[Job]) -> AsyncIterator[tuple[int, Measurement]]:
        """Measurements of all jobs, each with its position, as they finish.

        Raises:
            RunFolderError: A measurement could not be recorded.
            MachineError: No worker is left.
        """
        answers: asyncio.Queue[tuple[int, list[Measurement] | Exception]] = asyncio.Queue()
        for position, job in enumerate(jobs):
            ticket = _Ticket(jobs=[job], position=position, answers=answers)
            known = self._known(job)
            if known is not None:
                answers.put_nowait((position, [known]))
            elif job.breaks:
                message = f"breaks: {', '.join(job.breaks)}"
                self._finish(ticket, [_failed(job, Outcome.INVALID_STATIC, message)])
            else:
                self._enqueue(ticket)
        for _ in jobs:
            position, answer = await answers.get()
            if isinstance(answer, Exception):
                raise answer
            yield position, answer[0]

    async def compare(self, jobs: Sequence[Job]) -> list[Measurement]:
        """Measurements of all jobs, timed in turns by one worker.

        Raises:
            RunFolderError: They could not be recorded.
        """
        known = [self._known(job) for job in jobs]
        if all(m is not None and m.ok for m in known):
            return [m for m in known if m is not None]
        answers: asyncio.Queue[tuple[int, list[Measurement] | Exception]] = asyncio.Queue()
        self._enqueue(_Ticket(jobs=jobs, position=0, answers=answers))
        _, answer = await answers.get()
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def serve(self, worker: Worker) -> None:
        """Let a worker, and after it its successors, do one ticket after another.

        Ends when a lost worker has no successor; with the last one, all jobs are answered by that.
        """
        self._serving += 1
        while True:
            ticket = await self._next()
            try:
                self._finish(ticket, await self._do(worker, ticket))
            except WorkerLostError as error:
                self._lost(ticket, str(error))
                try:
                    worker = await self.replace_worker()
                except ChameleonError as gone:
                    self._serving -= 1
                    if not self._serving:
                        self._give_up(gone)
                    return

    async def _do(self, worker: Worker, ticket: _Ticket) -> list[Measurement]:
        if len(ticket.jobs) > 1:
            return await worker.compare(ticket.jobs)
        job = ticket.jobs[0]
        best_seconds = self.best_seconds.get(job.task.key)
        return [await worker.measure(replace(job, best_seconds=best_seconds))]

    def _lost(self, ticket: _Ticket, message: str) -> None:
        """Put a lost worker's ticket back, or give it up."""
        ticket.attempts += 1
        if ticket.attempts < _MOST_ATTEMPTS:
            self._queues[ticket.jobs[0].task.key].appendleft(ticket)
            self._arrived.set()
        else:
            text = f"its worker was lost {ticket.attempts} times; the last time: {message}"
            self._finish(ticket, [_failed(job, Outcome.CRASHED, text) for job in ticket.jobs])

    def _give_up(self, error: ChameleonError) -> None:
        """No worker is left: tell all who wait, and all who come."""
        self._gone = error
        for ticket in (ticket for queue in self._queues.values() for ticket in queue):
            ticket.answers.put_nowait((ticket.position, error))
        self._queues.clear()

    def _finish(self, ticket: _Ticket, measurements: list[Measurement]) -> None:
        try:
            self.record(measurements)
        except RunFolderError as error:
            ticket.answers.put_nowait((ticket.position, error))
            return
        self.learn(measurements)
        ticket.answers.put_nowait((ticket.position, measurements))

    def _known(self, job: Job) -> Measurement | None:
        return self.known.get(answer_key(job.task.key, job.purpose, job.config))

    def _enqueue(self, ticket: _Ticket) -> None:
        if self._gone is not None:
            ticket.answers.put_nowait((ticket.position, self._gone))
            return
        self._queues.setdefault(ticket.jobs[0].task.key, deque()).append(ticket)
        self._arrived.set()

    async def _next(self) -> _Ticket:
        """The next ticket; tasks take turns."""
        while True:
            for task, queue in list(self._queues.items()):
                if queue:
                    self._queues[task] = self._queues.pop(task)  # to the end of the turns
                    return queue.popleft()
            self._arrived.clear()
            await self._arrived.wait()


def _failed(job: Job, outcome: Outcome, message: str) -> Measurement:
    return Measurement(
        task=job.task.key,
        config=job.config,
        purpose=job.purpose,
        outcome=outcome,
        message=message,
    )


def histogram(measurements: Iterable[Measurement]) -> Mapping[str, int]:
    """Outcome -> how many, the most frequent first."""
    names = sorted(m.outcome.value for m in measurements)
    counts = {name: len(list(group)) for name, group in itertools.groupby(names)}
    return dict(sorted(counts.items(), key=lambda item: -item[1]))
