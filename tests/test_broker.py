"""The broker: every job is answered exactly once, whatever happens to workers."""

import asyncio
from dataclasses import replace

import pytest

from chameleon_ray.errors import MachineError, RunFolderError
from chameleon_ray.measure import Job, Measurement, Outcome, Purpose
from chameleon_ray.measure.broker import Broker, WorkerLostError, answer_key, histogram
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


class FakeWorker:
    """Answers at once that it took so long; dies of the knob values it is told to die of."""

    def __init__(self, dies_of=(), run_seconds=1.0):
        self.dies_of, self.run_seconds, self.seen, self.batches = dies_of, run_seconds, [], []

    async def measure(self, jobs):
        await asyncio.sleep(0)
        self.batches.append(len(jobs))
        self.seen += jobs
        if any(job.config["knob"][0] in self.dies_of for job in jobs):
            raise WorkerLostError("node is gone")
        return [
            measured(job, seconds=99.0 - job.config["knob"][0], run_seconds=self.run_seconds)
            for job in jobs
        ]

    async def compare(self, jobs):
        return await self.measure(jobs)


def run(jobs, *, workers=1, dies_of=(), run_seconds=1.0, known=(), record=None):
    """What the broker answers, what it recorded, and the workers it used."""
    recorded, used = [], []

    async def main():
        async def replace_worker():
            used.append(FakeWorker(dies_of, run_seconds))
            return used[-1]

        broker = Broker(record=record or recorded.extend, replace_worker=replace_worker)
        broker.learn(known)
        serving = [
            asyncio.create_task(broker.serve(await replace_worker())) for _ in range(workers)
        ]
        try:
            return [answer async for answer in broker.measure(jobs)]
        finally:
            for task in serving:
                task.cancel()

    return asyncio.run(asyncio.wait_for(main(), 10)), recorded, used


def test_each_job_is_answered_once_with_its_position():
    """More jobs than workers, each answered and recorded."""
    jobs = [job(i) for i in range(8)]
    answers, recorded, _ = run(jobs, workers=3)
    assert sorted(position for position, _ in answers) == list(range(8))
    assert all(m.config == jobs[position].config for position, m in answers)
    assert len(recorded) == 8


def test_what_the_journal_knows_is_not_measured_again():
    """A resumed run replays its loop, and the journal answers."""
    known = [measured(job(i), seconds=5.0) for i in (0, 2)]
    answers, recorded, (worker,) = run([job(i) for i in range(4)], known=known)
    assert [j.config["knob"][0] for j in worker.seen] == [1, 3]
    assert {m.config["knob"][0] for m in recorded} == {1, 3}
    assert dict(answers)[2].seconds == 5.0


def test_the_same_config_for_another_purpose_is_measured():
    """A finalist is timed again although the search has timed it."""
    known = [measured(job(0))]
    _, recorded, _ = run([job(0, purpose=Purpose.FINALIST)], known=known)
    assert len(recorded) == 1
    assert answer_key("t", Purpose.SEARCH, {}) != answer_key("t", Purpose.TORCH, {})


def test_a_statically_invalid_config_is_answered_without_a_worker():
    """The outcome names the constraints that it breaks, and is recorded."""
    forbidden = replace(job(1), breaks=("register tile of at most 64 vectors",))
    answers, recorded, (worker,) = run([job(0), forbidden])
    assert [j.config["knob"][0] for j in worker.seen] == [0]
    assert dict(answers)[1].outcome is Outcome.INVALID_STATIC
    assert "at most 64" in dict(answers)[1].message
    assert len(recorded) == 2


def test_a_lost_worker_is_replaced_and_its_job_given_up_the_third_time():
    """The culprit is `crashed`; the innocent are measured."""
    answers, recorded, used = run([job(i) for i in range(3)], dies_of={1})
    outcomes = {m.config["knob"][0]: m.outcome for _, m in answers}
    assert outcomes == {0: Outcome.OK, 1: Outcome.CRASHED, 2: Outcome.OK}
    assert sum(j.config["knob"][0] == 1 for worker in used for j in worker.seen) == 3
    crashed = next(m for m in recorded if m.outcome is Outcome.CRASHED)
    assert "3 times" in crashed.message
    assert "node is gone" in crashed.message


def test_short_jobs_go_to_a_worker_several_at_a_time():
    """Once it is known how short they are; never more than its share, and long ones one by one."""
    jobs = [job(i, task=(FIRST, SECOND)[i % 2]) for i in range(40)]
    answers, recorded, used = run(jobs, workers=2, run_seconds=0.01)
    assert sorted(position for position, _ in answers) == list(range(40))
    assert all(m.config == jobs[position].config for position, m in answers)
    assert len(recorded) == 40
    batches = [n for worker in used for n in worker.batches]
    assert max(batches) == 8
    assert all(len(worker.seen) >= 8 for worker in used)
    _, _, (worker,) = run(jobs, run_seconds=0.3)
    assert max(worker.batches) == 3
    _, _, (worker,) = run(jobs, run_seconds=2.0)
    assert max(worker.batches) == 1


def test_who_kills_a_worker_amid_others_costs_none_of_them():
    """They go on alone; only the culprit is given up."""
    jobs = [job(i) for i in range(24)]
    answers, recorded, used = run(jobs, dies_of={17}, run_seconds=0.01)
    crashed = [m.config["knob"][0] for _, m in answers if m.outcome is Outcome.CRASHED]
    assert crashed == [17]
    assert len(answers) == len(recorded) == 24
    assert sum(j.config["knob"][0] == 17 for worker in used for j in worker.seen) == 3


def test_when_no_worker_is_left_all_who_wait_are_told():
    """Nobody waits for ever: jobs in the queue and later ones end with the reason."""

    async def main():
        async def replace_worker():
            raise MachineError("no new process starts")

        broker = Broker(record=list, replace_worker=replace_worker)
        serving = asyncio.create_task(broker.serve(FakeWorker(dies_of={1})))
        for jobs in ([job(1), job(2)], [job(3)]):
            with pytest.raises(MachineError, match="no new process"):
                async for _ in broker.measure(jobs):
                    pass
        await serving

    asyncio.run(asyncio.wait_for(main(), 10))


def test_workers_get_to_know_the_best_time_of_the_task():
    """So that a clearly slower candidate is timed less."""
    jobs = [job(1), job(5), job(2), job(0, task=SECOND)]
    _, _, (worker,) = run(jobs)
    by_task = {t.key: [j.best_seconds for j in worker.seen if j.task is t] for t in (FIRST, SECOND)}
    assert by_task == {FIRST.key: [None, 98.0, 94.0], SECOND.key: [None]}


def test_tasks_take_turns():
    """A task with many jobs does not hold up one with few."""
    jobs = [job(i) for i in range(6)] + [job(i, task=SECOND) for i in range(2)]
    _, _, (worker,) = run(jobs)
    places = [i for i, j in enumerate(worker.seen) if j.task is SECOND]
    assert places == [1, 3]


def test_a_journal_that_cannot_be_written_is_told_to_who_waits():
    """A full disk ends the run instead of losing measurements."""

    def full(_measurements):
        raise RunFolderError("disk full")

    with pytest.raises(RunFolderError, match="disk full"):
        run([job(0)], record=full)


def test_finalists_known_as_a_whole_are_not_timed_again():
    """Times taken in turns only count together."""
    jobs = [job(i, purpose=Purpose.FINALIST) for i in range(3)]

    async def compare(known):
        recorded = []
        worker = FakeWorker()

        async def replace_worker():
            return worker

        broker = Broker(record=recorded.extend, replace_worker=replace_worker)
        broker.learn(known)
        serving = asyncio.create_task(broker.serve(worker))
        compared = await broker.compare(jobs)
        serving.cancel()
        return compared, recorded

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
