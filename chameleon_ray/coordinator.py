"""The coordinator: the actor of a run, with its broker, journal and progress."""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from chameleon_ray.errors import ChameleonError, MachineError
from chameleon_ray.fleet import Fleet
from chameleon_ray.measure import Job, Measurement
from chameleon_ray.measure.backend import Device
from chameleon_ray.measure.broker import Broker
from chameleon_ray.measure.pool import HostsWanted, RemoteHost
from chameleon_ray.metrics import RunMetrics, Standing
from chameleon_ray.rate import Rate
from chameleon_ray.records import Journal, Provenance
from chameleon_ray.results import HostStatus, LayerProgress, RunStatus
from chameleon_ray.rounds import Round, RoundJournal
from chameleon_ray.sharing import Others
from chameleon_ray.shown import held, with_held, with_one_more
from chameleon_ray.store import shown

_LOOK_SECONDS = 2.0  # between two looks at the cluster's nodes
_CHECK_IN_SECONDS = 60.0
_GAUGES_SECONDS = 2.0  # Ray exports what it knows every ten seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What the coordinator knows of a run, for the driver.

    Attributes:
        held: How many of the budget's measurements the journal held when it was opened.
    """

    layers: tuple[LayerProgress, ...]
    opened: bool
    phase_seconds: dict[str, float]
    first_job_at: float | None
    held: int
    error: BaseException | None
    drifted: bool


class Coordinator:
    """All measurements of a run pass here on their way to the journal.

    If its process is lost, Ray starts it again and asks again what was not answered; the driver
    sees that it is not open, starts its hosts and opens its journal as before.
    """

    def __init__(self, wanted: HostsWanted) -> None:
        self._wanted = wanted
        self._fleet = Fleet(wanted, self._do)
        self._broker = Broker(
            record=self._record,
            replace_host=self._fleet.replace,
            drift=not wanted.env.simulated,
            worked=self._worked,
        )
        self._journal: Journal | None = None
        self._rounds: RoundJournal | None = None
        self._layers: dict[int, LayerProgress] = {}
        self._exhausted: set[int] = set()
        self._held: dict[int, LayerProgress] = {}
        self._metrics: RunMetrics | None = None
        self._seconds: dict[str, float] = {}
        self._folder = ""
        self._measured = self._failed = 0
        self._drifted = False
        self._rate = Rate()
        self._first_job_at: float | None = None
        self._error: BaseException | None = None
        self._serving: list[asyncio.Task[None]] = []
        self._importing = 0
        self._imported = asyncio.Event()
        self._opened = asyncio.Event()
        self._writing = asyncio.Lock()

    async def start(self) -> Device | ChameleonError:
        """See `Fleet.start`."""
        return await self._fleet.start()

    async def open(
        self,
        folder: str,
        provenance: Provenance,
        trials: int,
        *,
        rows: Sequence[LayerProgress] = (),
        most: int = 0,
        before: Report | None = None,
    ) -> list[str]:
        """Open the journal, learn what it holds, and begin; the names of damaged files.

        Args:
            folder: Of the run.
            provenance: Of what is measured.
            trials: Nothing is measured before so many have checked in: until then they import, on
                cores that a kernel would be timed on.
            rows: The layers of the run, before anything is measured.
            most: Cap of one layer's measurements.
            before: What a coordinator before this one told last.
        """
        if before is not None:
            self._layers.update((row.layer.index, row) for row in before.layers if row.ended)
            self._first_job_at = before.first_job_at
            self._add(before.phase_seconds)
        self._importing = trials
        if not trials:
            self._imported.set()
        self._folder = shown(folder)
        self._journal = Journal(folder, provenance)
        self._rounds = RoundJournal(folder)
        records = self._journal.records()
        self._broker.learn(r.measurement for r in records if r.provenance.same_origin(provenance))
        self._held = held(rows, self._broker.known.values(), most=most)
        self._drifted = any(r.measurement.doubtful for r in records)
        damaged = self._rounds.read()
        in_turns = not self._wanted.env.simulated
        self._metrics = RunMetrics(self._folder, [row.layer for row in rows], in_turns=in_turns)
        self._do(self._look_for_nodes())
        self._do(self._tell_metrics(self._metrics))
        self._opened.set()
        return [*self._journal.damaged, *damaged]

    async def check_in(self) -> None:
        """A trial's process is ready."""
        self._importing -= 1
        if self._importing <= 0:
            self._imported.set()

    async def measure(self, jobs: Sequence[Job]) -> list[Measurement]:
        """See `Broker.measure`."""
        await self._ready()
        if self._first_job_at is None:
            self._first_job_at = time.time()
        return await self._broker.measure(jobs)

    async def others(self) -> Others:
        """What a layer has to know of all of them."""
        rows = with_held(self._layers, self._held)
        return Others(
            measured={row.layer.index: row.measurements for row in rows},
            under_way=self._broker.under_way,
            exhausted=frozenset(self._exhausted),
            ended=frozenset(index for index, layer in self._layers.items() if layer.ended),
            places=sum(held.host.places for held in self._broker.hosts),
        )

    async def devices(self) -> int:
        """How many there are to begin with: a CPU is one, however many places it has."""
        if not self._wanted.env.simulated:
            return len(self._fleet.ready) + len(self._broker.hosts)
        served = [held.host.places for held in self._broker.hosts]
        return sum([host.places for host in self._fleet.ready] + served)

    async def exhaust(self, layer: int) -> None:
        """A layer has nothing left to gain: it gets no more measurements."""
        self._exhausted.add(layer)

    async def compare(self, jobs: Sequence[Job]) -> list[Measurement]:
        """See `Broker.compare`."""
        await self._opened.wait()
        self._check()
        return await self._broker.compare(jobs)

    async def note(self, progress: LayerProgress, seconds: dict[str, float]) -> None:
        """A layer tells what it is doing, and how long its phases took since it last told."""
        self._layers[progress.layer.index] = progress
        self._add(seconds)

    async def note_round(self, round_: Round) -> None:
        """A layer tells how a round went; a round that cannot be kept ends the run."""
        await self._opened.wait()
        if self._rounds is None:
            return
        try:
            async with self._writing:
                await asyncio.to_thread(self._rounds.append, round_)
        except ChameleonError as error:
            await self.fail(error)

    async def fail(self, error: BaseException) -> None:
        """A layer cannot go on, and so the run cannot."""
        self._error = self._error or error
        self._opened.set()  # who waits for that is told

    async def report(self) -> Report:
        """Where the run stands."""
        return Report(
            layers=with_held(self._layers, self._held),
            opened=self._opened.is_set(),
            phase_seconds=dict(self._seconds),
            first_job_at=self._first_job_at,
            held=sum(row.measurements for row in self._held.values()),
            error=self._error,
            drifted=self._drifted,
        )

    async def status(self) -> RunStatus:
        """Where the run stands, for whoever asks from outside."""
        return RunStatus(
            run=self._folder,
            device=self._fleet.kind.machine if self._fleet.kind else "",
            hosts=self._hosts_now(),
            left_out=tuple(self._fleet.missing()),
            waiting=self._broker.waiting,
            measured=self._measured,
            failed=self._failed,
            per_second=self._rate.per_second,
            layers=with_held(self._layers, self._held),
        )

    def _hosts_now(self) -> tuple[HostStatus, ...]:
        return tuple(
            HostStatus(
                name=held.host.name,
                places=held.host.places,
                in_hand=held.in_hand,
                done=held.done,
                failed=held.failed,
                resting=held.watch.drifted,
            )
            for held in self._broker.hosts
        )

    async def _ready(self) -> None:
        """Until all trials have checked in, but not for ever: one may have died."""
        await self._opened.wait()
        self._check()
        if not self._imported.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._imported.wait(), _CHECK_IN_SECONDS)
            self._imported.set()

    def _check(self) -> None:
        """Once a layer could not go on, none does."""
        if self._error is not None:
            raise self._error

    async def _record(self, measurements: Sequence[Measurement]) -> None:
        assert self._journal is not None  # noqa: S101 - `open` comes first
        await asyncio.to_thread(self._journal.append, measurements)
        self._measured += len(measurements)
        self._failed += sum(not m.ok for m in measurements)
        self._drifted |= any(m.doubtful for m in measurements)
        self._rate.add(len(measurements))
        for measurement in measurements:
            self._count(measurement)
        self._add({"build": sum(m.build_seconds for m in measurements)})
        self._add({"run": sum(m.run_seconds for m in measurements)})
        if self._metrics is not None:
            self._metrics.recorded(measurements)

    def _worked(self, host: RemoteHost, measurements: Sequence[Measurement]) -> None:
        if self._metrics is not None:
            self._metrics.worked(host.name, measurements)

    async def _tell_metrics(self, metrics: RunMetrics) -> None:
        """Keep the gauges true, for ever."""
        while True:
            now = Standing(
                waiting=self._broker.waiting,
                hosts=self._hosts_now(),
                layers=with_held(self._layers, self._held),
            )
            metrics.stands(now)
            await asyncio.sleep(_GAUGES_SECONDS)

    def _count(self, m: Measurement) -> None:
        """Show a measurement before its batch is complete; the layer's next note corrects it."""
        at = next((i for i, row in self._layers.items() if row.layer.task.key == m.task), None)
        if at is None or not m.purpose.counted:
            return
        self._layers[at] = with_one_more(self._layers[at], m)

    def _add(self, seconds: dict[str, float]) -> None:
        for phase, value in seconds.items():
            self._seconds[phase] = self._seconds.get(phase, 0.0) + value

    async def _look_for_nodes(self) -> None:
        """Let all hosts work, and those of nodes that join later."""
        while True:
            for host in self._fleet.ready:
                self._do(self._broker.serve(host))
            self._fleet.ready.clear()
            await asyncio.sleep(_LOOK_SECONDS)
            with contextlib.suppress(RayError):  # of a cluster that is losing a node; look again
                await self._fleet.look()

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something beside all else, for ever; a mistake of ours in it ends the run."""
        task = asyncio.create_task(work)
        self._serving.append(task)
        task.add_done_callback(self._look_at_end)

    def _look_at_end(self, task: asyncio.Task[None]) -> None:
        if task.cancelled() or (error := task.exception()) is None:
            return
        self._error = self._error or error
        self._broker.give_up(MachineError(f"the coordinator cannot go on: {error!r}"))


NAMESPACE, PREFIX = "chameleon-ray", "run "  # of the names by which coordinators are found


def start_coordinator(wanted: HostsWanted) -> Any:
    """A coordinator on this node, which `status` finds; it works until it is killed.

    Args:
        wanted: What its hosts are.
    """
    here = ray.get_runtime_context().get_node_id()
    actor = ray.remote(Coordinator).options(
        name=PREFIX + uuid.uuid4().hex,
        namespace=NAMESPACE,
        num_cpus=0,
        max_restarts=-1,
        max_task_retries=-1,
        scheduling_strategy=NodeAffinitySchedulingStrategy(here, soft=False),
    )
    return actor.remote(wanted)
