"""A host: as many pieces of work at a time as it has places."""

import threading
import time

import pytest

from chameleon_ray.env_settings import Env
from chameleon_ray.measure import Job, Measurement, Outcome
from chameleon_ray.measure.backend import Device
from chameleon_ray.measure.bench import Bench
from chameleon_ray.measure.host import Host, Work
from chameleon_ray.networks import network
from chameleon_ray.tasks import Target
from chameleon_ray.templates import default_config, design_space

TASK = network("resnet18")[0].task


class FakePlace:
    """Does its work when it is let; notes what it got in one go."""

    def __init__(self, gate):
        self.gate, self.batches, self.closed = gate, [], False

    def start(self):
        return Device(target=Target(), compiler="fake", has_torch=False)

    def measure_all(self, jobs):
        self.batches.append(len(jobs))
        if not self.gate.wait(10):
            raise TimeoutError
        return [
            Measurement(task="t", config=j.config, purpose=j.purpose, outcome=Outcome.OK)
            for j in jobs
        ]

    def compare(self, jobs):
        return self.measure_all(jobs)

    def close(self):
        self.closed = True


def work(number, jobs=1, seconds=0.01):
    job = Job(task=TASK, config={"knob": (number,)})
    return Work(number=number, jobs=(job,) * jobs, seconds=seconds)


def all_of(host, wanted):
    """So many answers, by number."""
    done = {}
    while len(done) < wanted:
        taken = host.take(5)
        assert taken, "nothing came"
        done.update(taken)
    return done


@pytest.fixture
def gate():
    return threading.Event()


@pytest.fixture
def places(gate):
    return [FakePlace(gate), FakePlace(gate)]


@pytest.fixture
def host(places):
    host = Host(places)
    host.start()
    yield host
    host.close()


def test_each_piece_of_work_is_answered_by_its_number(host, gate):
    """Also those of several jobs, which stay together."""
    gate.set()
    host.put([work(1), work(2, jobs=3), work(3)])
    done = all_of(host, 3)
    assert [len(done[n]) for n in (1, 2, 3)] == [1, 3, 1]
    assert done[3][0].config == {"knob": (3,)}


def test_nothing_done_is_nothing_taken_after_the_wait(host):
    """The caller asks again, and so a lost host is noticed."""
    start = time.monotonic()
    assert host.take(0.05) == []
    assert time.monotonic() - start >= 0.05


def test_places_work_at_the_same_time(host, places):
    """Both have begun before either is let go."""
    host.put([work(1, seconds=9.0), work(2, seconds=9.0)])
    deadline = time.monotonic() + 5
    while not all(place.batches for place in places):
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_short_work_is_done_several_at_a_time(host, places, gate):
    """The lease is waited for once; long work goes one by one, and the last few are shared."""
    host.put([work(n) for n in range(40)])
    gate.set()
    assert len(all_of(host, 40)) == 40
    batches = [n for place in places for n in place.batches]
    assert max(batches) == 8
    before = len(batches)
    host.put([work(n, seconds=2.0) for n in range(8)])
    all_of(host, 8)
    assert len([n for place in places for n in place.batches]) == before + 8


def test_a_mistake_of_ours_is_told_to_who_takes():
    """It does not end in waiting for ever."""

    class Broken(FakePlace):
        def measure_all(self, jobs):
            raise ZeroDivisionError("ours")

    host = Host([Broken(threading.Event())])
    host.start()
    host.put([work(1)])
    with pytest.raises(ZeroDivisionError, match="ours"):
        host.take(5)


def test_closing_ends_the_places(host, places):
    """And who takes is not kept waiting."""
    host.close()
    assert all(place.closed for place in places)
    assert host.take(5) == []


def test_simulated_devices_take_their_time_side_by_side():
    """In this process, without a child and without a lease."""
    target = Target(model="simulated", lanes=16, cores=2)
    env = Env(measurer="simulated", measurement_seconds=0.2)
    space = design_space(TASK, target)
    config = space.describe(default_config(TASK, target))
    host = Host([Bench(env, target, 0) for _ in range(8)])
    assert host.start().compiler.startswith("simulated")
    start = time.monotonic()
    job = Job(task=TASK, config=config)
    host.put([Work(number=n, jobs=(job,), seconds=0.2) for n in range(8)])
    done = all_of(host, 8)
    host.close()
    assert all(m.ok and m.run_seconds >= 0.2 for (m,) in done.values())
    assert time.monotonic() - start < 8 * 0.2
