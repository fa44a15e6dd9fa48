"""The lease of the cores: many compute, or one times."""

import fcntl
import multiprocessing
import os
import signal
import threading
import time

from chameleon_ray.measure.lease import CoreLease, GpuLease


def _hold(folder, mode, ready, release):
    with getattr(CoreLease(folder), mode)():
        ready.set()
        release.wait(30)


class Holder:
    """Another process that holds a lease."""

    def __init__(self, folder, mode):
        context = multiprocessing.get_context("spawn")
        self.ready, self.release = context.Event(), context.Event()
        self.process = context.Process(target=_hold, args=(folder, mode, self.ready, self.release))
        self.process.start()

    def end(self):
        self.release.set()
        self.process.join()


def _wait_until_closed(gate):
    """Until somebody waits to time."""
    with gate.open() as file:
        for _ in range(300):
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return
            fcntl.flock(file, fcntl.LOCK_UN)
            time.sleep(0.1)
    raise AssertionError("nobody closed the gate")


def test_many_may_compute_at_once(tmp_path):
    """A shared lease does not wait for another."""
    other = Holder(tmp_path, "shared")
    assert other.ready.wait(30)
    with CoreLease(tmp_path).shared():
        pass
    other.end()
    assert other.process.exitcode == 0


def test_who_times_is_alone_and_goes_before_new_computations(tmp_path):
    """An exclusive lease waits for those who compute; who comes after it waits for it."""
    computing = Holder(tmp_path, "shared")
    assert computing.ready.wait(30)
    timing = Holder(tmp_path, "exclusive")
    _wait_until_closed(tmp_path / "gate")
    later = Holder(tmp_path, "shared")
    assert not later.ready.wait(2)
    assert not timing.ready.is_set()
    computing.end()
    assert timing.ready.wait(30)
    assert not later.ready.wait(0.5)
    timing.end()
    assert later.ready.wait(30)
    later.end()


def test_a_killed_holder_gives_its_lease_back(tmp_path):
    """SIGKILL leaves no lock behind."""
    timing = Holder(tmp_path, "exclusive")
    assert timing.ready.wait(30)
    os.kill(timing.process.pid, signal.SIGKILL)
    timing.process.join()
    with CoreLease(tmp_path).exclusive():
        assert timing.process.exitcode == -signal.SIGKILL


def test_a_gpu_is_leased_by_itself_and_its_builders_wait_for_nobody(tmp_path):
    """Threads and runs that time there take turns; another GPU, and the cores, are not its own."""
    gpu, same, other = (
        GpuLease(lambda name=name: name, tmp_path) for name in ("00:1/2", "00:1/2", "00:3")
    )
    order = []

    def time_there():
        with same.exclusive():
            order.append("the other thread")

    with gpu.exclusive():
        waiting = threading.Thread(target=time_there)
        waiting.start()
        with other.exclusive(), gpu.shared(), CoreLease(tmp_path).exclusive():
            time.sleep(0.2)
            order.append("this thread")
    waiting.join(30)
    assert order == ["this thread", "the other thread"]
