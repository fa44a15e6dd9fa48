"""The one place through which all measurements of a kind of device pass: it queues and hands out.

Plain asyncio, without Ray: `pool` gives it hosts that are actors.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Generic, Protocol, TypeVar

from chameleon_ray.errors import ChameleonError
from chameleon_ray.measure import Job, Measurement, Outcome, Purpose
from chameleon_ray.measure.drift import OUT_OF_LINE, Watch
from chameleon_ray.measure.host import Done, Work
from chameleon_ray.measure.tickets import Key, Known, Ticket, keys_of

_MOST_ATTEMPTS = 3
_MOST_AHEAD = 8  # pieces of work that a host has for each of its places
_AHEAD_SECONDS = 1.0  # how long they should last
_GATHERING = 0.03  # of a job's time: what is done meanwhile is fetched, and recorded, together
_MOST_GATHERING_SECONDS = 0.05
_REMEMBERED = 0.8  # weight of earlier jobs in the mean time of one


class HostLostError(Exception):
    """A host's process or node went away."""


class RemoteHost(Protocol):
    """A `host.Host` that may be far away; all raise HostLostError."""

    @property
    def name(self) -> str:
        """What it measures on, for people."""

    @property
    def places(self) -> int:
        """How many pieces of work it does at a time."""

    async def put(self, works: Sequence[Work]) -> None:
        """Queue pieces of work."""

    async def take(self) -> list[Done]:
        """What is done, as soon as there is something."""


H = TypeVar("H", bound=RemoteHost)


@dataclass(slots=True, kw_only=True, eq=False)
class Held(Generic[H]):
    """What one host has in hand.

    Attributes:
        tickets: By number.
        suspect: Was with two hosts that were lost: waits until this host has nothing else.
        watch: Looks after the speed of the device.
        reference: The reference kernel, while it is being timed.
        done: Measurements that came of it.
        failed: Failures among them.
        changed: Set when the host may have room, or when there may be work.
    """

    host: H
    tickets: dict[int, Ticket] = field(default_factory=dict)
    suspect: Ticket | None = None
    watch: Watch = field(default_factory=Watch)
    reference: Ticket | None = None
    done: int = 0
    failed: int = 0
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def in_hand(self) -> int:
        """How many jobs it has been given and has not done."""
        return sum(len(ticket.jobs) for ticket in self.tickets.values())


@dataclass(kw_only=True)
class Broker(Generic[H]):
    """Hands jobs to hosts in the order in which they were asked for; each is answered exactly once.

    In that order, batches end one after another: while one layer chooses its next batch, devices
    have the others'. In turns between layers, all would end, and choose, at the same time.

    A job that the journal knows is answered from it, and one that is under way already is waited
    for. Jobs whose host is lost go back to the front of the queue; one that two hosts were lost
    with is from there on alone, and given up as `crashed` the third time.

    If the speed of devices may `drift`, each times the first kernel that worked now and then; one
    that is no longer as fast or slow as it was is given nothing else until it is steady.

    Attributes:
        record: Called with finished measurements; once it has returned they are safe, and
            answered.
        replace_host: Called when a host is lost; returns its successor, or raises a
            `ChameleonError` if there is none.
        drift: Whether the speed of devices may.
        hosts: What measures; a lost one is not there until its successor is.
        worked: Called with what a host has done, before it is recorded.
    """

    record: Callable[[Sequence[Measurement]], Awaitable[None]]
    replace_host: Callable[[H], Awaitable[H]]
    drift: bool = False
    hosts: list[Held[H]] = field(default_factory=list)
    worked: Callable[[H, Sequence[Measurement]], None] = lambda _host, _measurements: None
    known: Known = field(default_factory=Known)
    best_seconds: dict[str, float] = field(default_factory=dict)
    _queue: deque[Ticket] = field(default_factory=deque)
    _under_way: dict[tuple[Key, ...], Ticket] = field(default_factory=dict)
    _suspects: deque[Ticket] = field(default_factory=deque)
    _finished: list[tuple[Ticket, list[Measurement]]] = field(default_factory=list)
    _recording: asyncio.Task[None] | None = None
    _serving: int = 0
    _numbers: Iterator[int] = field(default_factory=itertools.count)
    _job_seconds: float = math.inf
    _reference: Job | None = None
    _gone: ChameleonError | None = None

    @property
    def under_way(self) -> int:
        """Jobs that were asked for and are not answered yet."""
        return len(self._under_way)

    @property
    def waiting(self) -> int:
        """Jobs that no host has yet."""
        return len(self._queue) + len(self._suspects)

    def learn(self, measurements: Iterable[Measurement]) -> None:
        """Take over what a journal holds; a later measurement of the same job counts."""
        for m in measurements:
            if m.purpose is Purpose.REFERENCE:
                continue
            self.known.add(m)
            if m.ok and m.purpose is not Purpose.TORCH:
                self.best_seconds[m.task] = min(m.seconds, self.best_seconds.get(m.task, m.seconds))

    async def measure(self, jobs: Sequence[Job]) -> list[Measurement]:
        """The measurements of all jobs, in their order.

        Raises:
            RunFolderError: A measurement could not be recorded.
            MachineError: No host is left.
        """
        tickets: list[Measurement | asyncio.Future[list[Measurement]]] = []
        for job in jobs:
            (key,) = keys_of([job])
            tickets.append(self.known.get(key) or self._ticket((job,)).answer)
        self._wake()
        return [t if isinstance(t, Measurement) else (await asyncio.shield(t))[0] for t in tickets]

    async def compare(self, jobs: Sequence[Job]) -> list[Measurement]:
        """The measurements of all jobs, timed in turns by one host.

        Raises:
            RunFolderError: They could not be recorded.
            MachineError: No host is left.
        """
        known = [m for key in keys_of(jobs) if (m := self.known.get(key)) is not None]
        if len(known) == len(jobs):
            return known
        ticket = self._ticket(tuple(jobs))
        self._wake()
        return await asyncio.shield(ticket.answer)

    async def serve(self, host: H) -> None:
        """Let a host, and after it its successors, work.

        Ends when a lost host has no successor; with the last one, all jobs are answered by that.
        """
        self._serving += 1
        watch = Watch()
        while True:
            held = Held(host=host, watch=watch)
            self.hosts.append(held)
            working = [
                asyncio.create_task(self._supply(held)),
                asyncio.create_task(self._collect(held)),
            ]
            try:
                await asyncio.gather(*working)
            except HostLostError as error:
                message = str(error)
            finally:
                for task in working:
                    task.cancel()
                self.hosts.remove(held)
            self._lost(held, message)
            try:
                host = await self.replace_host(host)
            except ChameleonError as gone:
                self._serving -= 1
                if not self._serving:
                    self.give_up(gone)
                return

    async def _supply(self, held: Held[H]) -> None:
        """Give a host what it has room for, for ever."""
        while True:
            tickets = self._take(held)
            if not tickets:
                held.changed.clear()
                await held.changed.wait()
                continue
            numbered = dict(zip(self._numbers, tickets, strict=False))
            held.tickets.update(numbered)
            await held.host.put([self._work(number, t) for number, t in numbered.items()])

    async def _collect(self, held: Held[H]) -> None:
        """Take from a host what it has done, for ever."""
        while True:
            finished = []
            for number, measured in await held.host.take():
                ticket = held.tickets.pop(number)
                here = [replace(m, device=held.host.name) for m in measured]
                if ticket is held.suspect:
                    held.suspect = None
                if ticket is held.reference:
                    here = [self._watched(held, here[0])]
                finished.append((ticket, here))
            held.changed.set()
            measurements = [m for _, measured in finished for m in measured]
            self._choose_reference(finished)
            held.done += len(measurements)
            held.failed += sum(not m.ok for m in measurements)
            self.worked(held.host, measurements)
            self._learn_duration(measurements)
            self._finish(finished)
            if held.tickets:
                await self._gather()

    def _choose_reference(self, finished: Sequence[tuple[Ticket, list[Measurement]]]) -> None:
        """The first kernel that works, if there is none yet."""
        if not self.drift or self._reference is not None:
            return
        for ticket, (m, *_) in finished:
            if m.ok and m.config:
                job = ticket.jobs[0]
                self._reference = replace(job, purpose=Purpose.REFERENCE, best_seconds=None)
                return

    def _watched(self, held: Held[H], m: Measurement) -> Measurement:
        """What the reference kernel's time tells of the device."""
        held.reference = None
        said = held.watch.timed(m.seconds if m.ok else None)
        seconds = held.watch.next_at - time.monotonic()
        asyncio.get_running_loop().call_later(max(0.0, seconds), held.changed.set)
        if not said:
            return replace(m, message=OUT_OF_LINE) if m.ok and held.watch.doubts else m
        return replace(m, outcome=Outcome.DRIFTED, message=said)

    def _let_go(self, held: Held[H]) -> None:
        """A suspect that waits for a device that rests may have another."""
        if held.suspect is not None:
            self._suspects.appendleft(held.suspect)
            held.suspect = None

    def _reference_of(self, held: Held[H]) -> Ticket | None:
        """The reference kernel, if it is to be timed now."""
        busy = held.reference is not None or held.suspect is not None
        if self._reference is None or busy or not held.watch.due:
            return None
        held.reference = Ticket.of((self._reference,))
        return held.reference

    async def _gather(self) -> None:
        """Let a little more be done, to be dealt with together."""
        await asyncio.sleep(min(_GATHERING * self._job_seconds, _MOST_GATHERING_SECONDS))

    def _take(self, held: Held[H]) -> list[Ticket]:
        """The next tickets for a host, the first that were asked for: as many as it has room for.

        Beyond its places it gets no more than its share of half the queue: who waits for the last
        few is to have them from several hosts.
        """
        if held.watch.drifted and held.suspect not in held.tickets.values():
            self._let_go(held)
        reference = self._reference_of(held)
        if reference is not None:
            return [reference]
        if held.watch.drifted:
            return []
        if held.suspect is None and self._suspects:
            held.suspect = self._suspects.popleft()
        if held.suspect is not None:
            return [] if held.tickets else [held.suspect]
        places, waiting = held.host.places, self.waiting
        share = waiting * places // (2 * sum(other.host.places for other in self.hosts))
        ahead = max(1, min(_MOST_AHEAD, int(_AHEAD_SECONDS / max(self._job_seconds, 1e-6))))
        room = places + min(places * ahead, share) - len(held.tickets)
        return [self._queue.popleft() for _ in range(min(room, waiting))]

    def _work(self, number: int, ticket: Ticket) -> Work:
        best = {} if ticket.jobs[0].purpose is Purpose.REFERENCE else self.best_seconds
        jobs = (replace(job, best_seconds=best.get(job.task.key)) for job in ticket.jobs)
        return Work(number=number, jobs=tuple(jobs), seconds=self._job_seconds)

    def _learn_duration(self, measured: Sequence[Measurement]) -> None:
        """How long a job takes, of late; unknown after one that took its process along."""
        seconds = [m.build_seconds + m.run_seconds for m in measured if m.ok]
        if any(m.outcome.deadly for m in measured):
            self._job_seconds = math.inf
        elif seconds:
            mean, known = sum(seconds) / len(seconds), self._job_seconds
            weight = _REMEMBERED ** len(seconds) if known < math.inf else 0.0
            self._job_seconds = mean if not weight else mean + weight * (known - mean)

    def _ticket(self, jobs: tuple[Job, ...]) -> Ticket:
        """The ticket of jobs: the one that is under way, or a new one."""
        ticket = Ticket.of(jobs)
        if ticket.keys in self._under_way:
            return self._under_way[ticket.keys]
        self._under_way[ticket.keys] = ticket
        if self._gone is not None:
            self._answer(ticket, self._gone)
        elif jobs[0].breaks:
            message = f"breaks: {', '.join(jobs[0].breaks)}"
            self._finish([(ticket, [_failed(jobs[0], Outcome.INVALID_STATIC, message)])])
        else:
            self._queue.append(ticket)
        return ticket

    def _wake(self) -> None:
        """There may be work."""
        for held in self.hosts:
            held.changed.set()

    def _lost(self, held: Held[H], message: str) -> None:
        """Put a lost host's tickets back, or give them up."""
        tickets = [ticket for ticket in held.tickets.values() if ticket is not held.reference]
        if held.suspect is not None and held.suspect not in tickets:
            self._suspects.appendleft(held.suspect)
        for ticket in reversed(tickets):
            ticket.lost += 1
            if ticket.lost >= _MOST_ATTEMPTS:
                text = f"its process was lost {ticket.lost} times; the last time: {message}"
                self._finish([(ticket, [_failed(j, Outcome.CRASHED, text) for j in ticket.jobs])])
            elif ticket.lost == _MOST_ATTEMPTS - 1:
                self._suspects.appendleft(ticket)
            else:
                self._queue.appendleft(ticket)
        self._wake()

    def give_up(self, error: ChameleonError) -> None:
        """Nothing is measured any more: tell all who wait, and all who come."""
        self._gone = error
        self._queue.clear()
        self._suspects.clear()
        recorded = {ticket for ticket, _ in self._finished}
        for ticket in [t for t in self._under_way.values() if t not in recorded]:
            self._answer(ticket, error)

    def _finish(self, finished: Sequence[tuple[Ticket, list[Measurement]]]) -> None:
        """Record measurements, together with what else is done by then, and answer them."""
        self._finished += finished
        if self._finished and (self._recording is None or self._recording.done()):
            self._recording = asyncio.create_task(self._record())

    async def _record(self) -> None:
        while self._finished:
            if len(self._under_way) > len(self._finished):
                await self._gather()
            finished = list(self._finished)
            measurements = [m for _, measured in finished for m in measured]
            error: Exception | None = None
            try:
                await self.record(measurements)
                self.learn(measurements)
            except Exception as raised:  # noqa: BLE001 - whoever waits is to know
                error = raised
            del self._finished[: len(finished)]
            for ticket, measured in finished:
                self._answer(ticket, error or measured)

    def _answer(self, ticket: Ticket, answer: list[Measurement] | Exception) -> None:
        self._under_way.pop(ticket.keys, None)  # a reference kernel is not asked for by anybody
        if isinstance(answer, Exception):
            ticket.answer.set_exception(answer)
            ticket.answer.exception()  # whoever asked may be gone
        else:
            ticket.answer.set_result(answer)


def _failed(job: Job, outcome: Outcome, message: str) -> Measurement:
    return Measurement(
        task=job.task.key,
        config=job.config,
        purpose=job.purpose,
        outcome=outcome,
        message=message,
    )
