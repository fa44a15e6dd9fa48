"""The broker: every job is answered exactly once, whatever happens to hosts."""

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial

import pytest

from chameleon_ray.errors import MachineError, RunFolderError
from chameleon_ray.measure import Job, Measurement, Outcome, Purpose, drift, histogram
from chameleon_ray.measure.broker import Broker, Held, HostLostError
from chameleon_ray.measure.tickets import answer_key
from chameleon_ray.networks import network

FIRST, SECOND = (layer.task for layer in network("resnet18")[:2])


def job(number, task=FIRST, purpose=Purpose.SEARCH):
    return Job(task=task, config={"knob": (number,)}, purpose=purpose)


def measured(job, seconds=1.0, outcome=Outcome.OK, run_seconds=1.0):
    return Measurement(
        task=job.task.key,
        config=job.config,
        purpose=job.purpose,
        outcome=outcome,
        repeat_seconds=(seconds,) if outcome is Outcome.OK else (),
        run_seconds=run_seconds,
    )


class FakeHost:
    """Answers that each job took so long; is lost with the knob values that it is told."""

    name = "a fake"

    def __init__(self, dies_of=(), run_seconds=1.0, places=1):
        self.dies_of, self.run_seconds, self.places = dies_of, run_seconds, places
        self.seen, self.held, self.most_held = [], [], 0
        self._arrived = asyncio.Event()

    async def put(self, works):
        self.seen += [job for work in works for job in work.jobs]
        self.held += works
        self.most_held = max(self.most_held, len(self.held))
        self._arrived.set()

    async def take(self):
        while not self.held:
            self._arrived.clear()
            await self._arrived.wait()
        await asyncio.sleep(0)
        if any(job.config["knob"][0] in self.dies_of for work in self.held for job in work.jobs):
            raise HostLostError("node is gone")
        works, self.held = self.held[: self.places], self.held[self.places :]
        return [(work.number, [self.answer(job) for job in work.jobs]) for work in works]

    def answer(self, job):
        return measured(job, seconds=99.0 - job.config["knob"][0], run_seconds=self.run_seconds)


@asynccontextmanager
async def serving(host=FakeHost, *, hosts=1, known=(), record=None, drift=False):
    """A broker with so many hosts; what it recorded, and all hosts that it used."""
    recorded, used = [], []

    async def new_host(_lost=None):
        used.append(host())
        return used[-1]

    async def keep(measurements):
        recorded.extend(measurements)

    broker = Broker(record=record or keep, replace_host=new_host, drift=drift)
    broker.learn(known)
    working = [asyncio.create_task(broker.serve(await new_host())) for _ in range(hosts)]
    try:
        yield broker, recorded, used
    finally:
        for task in working:
            task.cancel()


def run(jobs, **options):
    """What the broker answers, what it recorded, and the hosts that it used."""

    async def main():
        async with serving(**options) as (broker, recorded, used):
            return await broker.measure(jobs), recorded, used

    return asyncio.run(asyncio.wait_for(main(), 10))


def test_each_job_is_answered_once_in_order():
    """More jobs than hosts, each answered and recorded."""
    jobs = [job(i) for i in range(8)]
    answers, recorded, _ = run(jobs, hosts=3)
    assert [m.config for m in answers] == [job.config for job in jobs]
    assert len(recorded) == 8


def test_what_the_journal_knows_is_not_measured_again():
    """A resumed run replays its loop, and the journal answers."""
    known = [measured(job(i), seconds=5.0) for i in (0, 2)]
    answers, recorded, (host,) = run([job(i) for i in range(4)], known=known)
    assert [j.config["knob"][0] for j in host.seen] == [1, 3]
    assert {m.config["knob"][0] for m in recorded} == {1, 3}
    assert answers[2].seconds == 5.0


def test_what_is_under_way_is_waited_for_and_not_measured_again():
    """Who asks for the same job meanwhile, such as a layer that was started again, shares it."""

    async def main():
        async with serving() as (broker, recorded, _):
            first = asyncio.create_task(broker.measure([job(0), job(1)]))
            await asyncio.sleep(0)
            first.cancel()
            return await broker.measure([job(1), job(0)]), recorded

    answers, recorded = asyncio.run(asyncio.wait_for(main(), 10))
    assert [m.config["knob"][0] for m in answers] == [1, 0]
    assert len(recorded) == 2


def test_the_same_config_for_another_purpose_is_measured():
    """A finalist is timed again although the search has timed it."""
    known = [measured(job(0))]
    _, recorded, _ = run([job(0, purpose=Purpose.FINALIST)], known=known)
    assert len(recorded) == 1
    assert answer_key("t", Purpose.SEARCH, {}) != answer_key("t", Purpose.TORCH, {})


def test_a_statically_invalid_config_is_answered_without_a_host():
    """The outcome names the constraints that it breaks, and is recorded."""
    forbidden = replace(job(1), breaks=("register tile of at most 64 vectors",))
    answers, recorded, (host,) = run([job(0), forbidden])
    assert [j.config["knob"][0] for j in host.seen] == [0]
    assert answers[1].outcome is Outcome.INVALID_STATIC
    assert "at most 64" in answers[1].message
    assert len(recorded) == 2


def test_a_lost_host_is_replaced_and_its_job_given_up_the_third_time():
    """The culprit is `crashed`; the innocent are measured."""
    answers, recorded, used = run([job(i) for i in range(3)], host=lambda: FakeHost({1}))
    outcomes = {m.config["knob"][0]: m.outcome for m in answers}
    assert outcomes == {0: Outcome.OK, 1: Outcome.CRASHED, 2: Outcome.OK}
    assert sum(j.config["knob"][0] == 1 for host in used for j in host.seen) == 3
    crashed = next(m for m in recorded if m.outcome is Outcome.CRASHED)
    assert "3 times" in crashed.message
    assert "node is gone" in crashed.message


def test_who_is_with_lost_hosts_among_others_costs_none_of_them():
    """Those of two lost hosts go on alone; only the culprit is given up."""
    jobs = [job(i) for i in range(24)]
    answers, recorded, used = run(jobs, host=lambda: FakeHost({17}, run_seconds=0.01, places=4))
    assert [m.config["knob"][0] for m in answers if not m.ok] == [17]
    assert len(answers) == len(recorded) == 24
    holding = [host for host in used if any(j.config["knob"][0] == 17 for j in host.seen)]
    assert len(holding) == 3
    assert len(holding[2].seen) == 1 + sum(j.config["knob"][0] != 17 for j in holding[2].seen)
    assert [j.config["knob"][0] for j in holding[2].seen][-1] == 17


def test_a_suspect_that_waits_for_a_host_outlives_that_host():
    """The host is to have nothing else first, and is lost before it gets there."""

    async def main():
        async with serving() as (broker, _, _):
            suspect = broker._ticket((job(0),))
            broker._queue.clear()
            broker._suspects.append(suspect)
            held = Held(host=FakeHost(), tickets={7: broker._ticket((job(1),))})
            broker._queue.clear()
            assert broker._take(held) == []
            broker._lost(held, "gone")
            return await asyncio.gather(suspect.answer, broker.measure([job(1)]))

    (found,), (other,) = asyncio.run(asyncio.wait_for(main(), 10))
    assert found.config == {"knob": (0,)}
    assert other.ok


def test_a_host_has_work_ahead_and_no_more_than_its_share():
    """So that its places never idle, and the last jobs are done by several hosts."""
    jobs = [job(i, task=(FIRST, SECOND)[i % 2]) for i in range(160)]
    _, recorded, used = run(jobs, hosts=2, host=lambda: FakeHost(run_seconds=0.01, places=4))
    assert len(recorded) == 160
    assert all(8 <= host.most_held <= 4 + 4 * 8 for host in used)
    assert all(len(host.seen) >= 40 for host in used)
    _, _, (one,) = run(jobs[:8], host=lambda: FakeHost(run_seconds=9.0, places=4))
    assert one.most_held <= 8


def test_a_device_that_drifts_rests_until_it_is_steady(monkeypatch):
    """While it rests it has only its reference kernel; the other device does the work."""
    monkeypatch.setattr(drift, "EVERY_SECONDS", 0.01)
    monkeypatch.setattr(drift, "SOON_SECONDS", 0.01)
    monkeypatch.setattr(drift, "REST_SECONDS", 0.2)
    late = [1.5, 1.5, 2.2]  # what its reference kernel takes of late

    class Device(FakeHost):
        """Gets slower when it is told to."""

        slow = False

        async def take(self):
            await asyncio.sleep(0.002)
            return await super().take()

        def answer(self, asked):
            looked = self.slow and asked.purpose is Purpose.REFERENCE
            return measured(asked, late.pop(0) if looked and late else 1.0, run_seconds=0.002)

    async def until(true):
        while not true():  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.001)

    async def main():
        async with serving(Device, hosts=2, drift=True) as (broker, recorded, (one, other)):
            one.name = "one"
            await broker.measure([job(i) for i in range(200)])
            looks = [m for m in recorded if m.purpose is Purpose.REFERENCE]
            assert {m.device for m in looks} == {"one", "a fake"}
            assert {m.config["knob"] for m in looks} == {recorded[0].config["knob"]}
            assert all(m.ok for m in looks)
            one.slow = True
            measuring = asyncio.create_task(broker.measure([job(i) for i in range(200, 400)]))
            (held,) = [held for held in broker.hosts if held.host is one]
            await until(lambda: held.watch.drifted and not held.in_hand)
            before = len(one.seen)
            await until(lambda: not held.watch.drifted)
            assert one.seen[before].purpose is Purpose.REFERENCE
            await measuring
            await broker.measure([job(i) for i in range(400, 500)])
            return recorded, one, other

    recorded, one, other = asyncio.run(asyncio.wait_for(main(), 20))
    (said,) = [m for m in recorded if m.outcome is Outcome.DRIFTED]
    assert said.device == "one"
    assert "1.50 times" in said.message
    searched = [m for m in recorded if m.purpose is Purpose.SEARCH]
    assert sorted(m.config["knob"][0] for m in searched) == list(range(500))
    assert len(other.seen) > len(one.seen)
    assert not late


def test_when_no_host_is_left_all_who_wait_are_told():
    """Nobody waits for ever: jobs in the queue and later ones end with the reason."""

    async def main():
        async def nobody(_lost):
            raise MachineError("no new process starts")

        async def keep(_measurements):
            pass

        broker = Broker(record=keep, replace_host=nobody)
        working = asyncio.create_task(broker.serve(FakeHost(dies_of={1})))
        for jobs in ([job(1), job(2)], [job(3)]):
            with pytest.raises(MachineError, match="no new process"):
                await broker.measure(jobs)
        await working

    asyncio.run(asyncio.wait_for(main(), 10))


def test_hosts_get_to_know_the_best_time_of_the_task():
    """So that a clearly slower candidate is timed less."""
    known = [measured(job(9), seconds=3.0), measured(job(8), seconds=2.0)]

    async def main():
        async with serving(known=known) as (broker, _, (host,)):
            await broker.measure([job(1), job(0, task=SECOND)])
            await broker.measure([job(2)])
            return [(j.task, j.best_seconds) for j in host.seen]

    told = asyncio.run(asyncio.wait_for(main(), 10))
    assert told == [(FIRST, 2.0), (SECOND, None), (FIRST, 2.0)]


def test_what_was_asked_for_first_is_measured_first():
    """So that batches end one after another, and not all at the same time."""
    jobs = [job(i) for i in range(6)] + [job(i, task=SECOND) for i in range(2)]
    _, _, (host,) = run(jobs)
    assert [(asked.task, asked.config) for asked in host.seen] == [(j.task, j.config) for j in jobs]


def test_a_journal_that_cannot_be_written_is_told_to_who_waits():
    """A full disk ends the run instead of losing measurements."""

    async def full(_measurements):
        raise RunFolderError("disk full")

    with pytest.raises(RunFolderError, match="disk full"):
        run([job(0)], record=full)


def test_what_is_done_while_the_journal_writes_is_written_together():
    """One file for many measurements, and no answer before its measurement is safe."""
    groups = []

    async def slow(measurements):
        await asyncio.sleep(0.02)
        groups.append(len(measurements))

    host = partial(FakeHost, run_seconds=0.0)
    answers, _, _ = run([job(i) for i in range(40)], host=host, record=slow)
    assert sum(groups) == len(answers) == 40
    assert len(groups) < 20


def test_finalists_known_as_a_whole_are_not_timed_again():
    """Times taken in turns only count together."""
    jobs = [job(i, purpose=Purpose.FINALIST) for i in range(3)]

    async def compare(known):
        async with serving(known=known) as (broker, recorded, _):
            return await broker.compare(jobs), recorded

    compared, recorded = asyncio.run(compare([measured(j) for j in jobs]))
    assert len(compared) == 3
    assert not recorded
    compared, recorded = asyncio.run(compare([measured(j) for j in jobs[:2]]))
    assert len(recorded) == 3


def test_histogram_counts_outcomes_most_frequent_first():
    """As the table and the message of a hopeless layer show them."""
    ok = measured(job(0))
    failed = replace(ok, outcome=Outcome.CRASHED)
    assert list(histogram([failed, ok, ok]).items()) == [("ok", 2), ("crashed", 1)]
