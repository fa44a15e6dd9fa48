"""The one place through which all measurements of a run pass: it queues, hands out and records.

Plain asyncio, without Ray: `pool` wraps it in an actor and gives it workers that are actors.
"""

from __future__ import annotations

import asyncio
import itertools
import math
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from chameleon_ray.errors import ChameleonError, RunFolderError
from chameleon_ray.measure import Job, Measurement, Outcome, Purpose
from chameleon_ray.space import KnobValues

_MOST_ATTEMPTS = 3
_MOST_TOGETHER = 8  # jobs that a worker gets at a time
_MOMENT_SECONDS = 1.0  # how long they should take together
_REMEMBERED = 0.8  # weight of earlier batches in the mean time of a job


class WorkerLostError(Exception):
    """A worker's process or node went away during a job."""


class Worker(Protocol):
    """A measuring place that may be far away."""

    async def measure(self, jobs: Sequence[Job]) -> list[Measurement]:
        """Build, check and time some configs, one after another; raises WorkerLostError."""

    async def compare(self, jobs: Sequence[Job]) -> list[Measurement]:
        """Time several in turns; raises WorkerLostError."""


@dataclass(slots=True, kw_only=True)
class _Ticket:
    """A job, or several to be timed in turns, and who waits for them."""

    jobs: Sequence[Job]
    position: int
    answers: asyncio.Queue[tuple[int, list[Measurement] | Exception]]
    attempts: int = 0

    @property
    def alone(self) -> bool:
        """Whether it goes to a worker alone: jobs in turns, and who may have killed one before."""
        return len(self.jobs) > 1 or self.attempts > 0


Key = tuple[str, Purpose, tuple[tuple[str, tuple[int, ...]], ...]]


def answer_key(task: str, purpose: Purpose, config: KnobValues) -> Key:
    """What makes two measurements the same, in one run."""
    return task, purpose, tuple(sorted((name, tuple(choice)) for name, choice in config.items()))


@dataclass(kw_only=True)
class Broker:
    """Hands jobs to workers in turns between tasks; each job is answered exactly once.

    A worker gets several short jobs at a time. A job that the journal knows is answered from it. A
    job whose worker is lost goes back to the front of the queue, from there on alone, and is given
    up as `crashed` the third time.

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
    _job_seconds: float = math.inf
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
                self._finish([ticket], [_failed(job, Outcome.INVALID_STATIC, message)])
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
        """Let a worker, and after it its successors, do one batch of tickets after another.

        Ends when a lost worker has no successor; with the last one, all jobs are answered by that.
        """
        self._serving += 1
        while True:
            tickets = await self._next()
            try:
                self._finish(tickets, await self._do(worker, tickets))
            except WorkerLostError as error:
                self._lost(tickets, str(error))
                try:
                    worker = await self.replace_worker()
                except ChameleonError as gone:
                    self._serving -= 1
                    if not self._serving:
                        self._give_up(gone)
                    return

    async def _do(self, worker: Worker, tickets: Sequence[_Ticket]) -> list[Measurement]:
        """Measurements of all jobs of the tickets, in their order."""
        if len(tickets[0].jobs) > 1:
            return await worker.compare(tickets[0].jobs)
        best = self.best_seconds
        jobs = [ticket.jobs[0] for ticket in tickets]
        measured = await worker.measure(
            [replace(job, best_seconds=best.get(job.task.key)) for job in jobs]
        )
        self._learn_duration(measured)
        return measured

    def _learn_duration(self, measured: Sequence[Measurement]) -> None:
        """How long a job takes, of late; unknown after one that took its process along."""
        seconds = [m.build_seconds + m.run_seconds for m in measured if m.ok]
        if any(m.outcome.deadly for m in measured):
            self._job_seconds = math.inf
        elif seconds:
            mean, known = sum(seconds) / len(seconds), self._job_seconds
            self._job_seconds = mean + _REMEMBERED * (known - mean if known < math.inf else 0.0)

    def _lost(self, tickets: Sequence[_Ticket], message: str) -> None:
        """Put a lost worker's tickets back, or give them up."""
        for ticket in reversed(tickets):
            ticket.attempts += 1
            if ticket.attempts < _MOST_ATTEMPTS:
                self._queues[ticket.jobs[0].task.key].appendleft(ticket)
                self._arrived.set()
            else:
                text = f"its worker was lost {ticket.attempts} times; the last time: {message}"
                failed = [_failed(job, Outcome.CRASHED, text) for job in ticket.jobs]
                self._finish([ticket], failed)

    def _give_up(self, error: ChameleonError) -> None:
        """No worker is left: tell all who wait, and all who come."""
        self._gone = error
        for ticket in (ticket for queue in self._queues.values() for ticket in queue):
            ticket.answers.put_nowait((ticket.position, error))
        self._queues.clear()

    def _finish(self, tickets: Sequence[_Ticket], measurements: Sequence[Measurement]) -> None:
        """Record the measurements of all jobs of the tickets, and answer them."""
        try:
            self.record(measurements)
        except RunFolderError as error:
            for ticket in tickets:
                ticket.answers.put_nowait((ticket.position, error))
            return
        self.learn(measurements)
        answers = iter(measurements)
        for ticket in tickets:
            ticket.answers.put_nowait((ticket.position, [next(answers) for _ in ticket.jobs]))

    def _known(self, job: Job) -> Measurement | None:
        return self.known.get(answer_key(job.task.key, job.purpose, job.config))

    def _enqueue(self, ticket: _Ticket) -> None:
        if self._gone is not None:
            ticket.answers.put_nowait((ticket.position, self._gone))
            return
        self._queues.setdefault(ticket.jobs[0].task.key, deque()).append(ticket)
        self._arrived.set()

    async def _next(self) -> list[_Ticket]:
        """The next tickets for one worker."""
        while not (tickets := self._take()):
            self._arrived.clear()
            await self._arrived.wait()
        return tickets

    def _take(self) -> list[_Ticket]:
        """As many as are done in a moment; tasks take turns.

        No more than half a worker's share of the queue: who waits for the last few is to have them
        from several workers.
        """
        waiting = sum(len(queue) for queue in self._queues.values())
        share = waiting // (2 * max(self._serving, 1))
        moment = int(_MOMENT_SECONDS / max(self._job_seconds, 1e-6))
        most = max(1, min(share, moment, _MOST_TOGETHER))
        taken: list[_Ticket] = []
        while len(taken) < min(most, waiting):
            task, queue = next((task, queue) for task, queue in self._queues.items() if queue)
            if taken and (taken[0].alone or queue[0].alone):
                break
            self._queues[task] = self._queues.pop(task)  # to the end of the turns
            taken.append(queue.popleft())
        return taken


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
