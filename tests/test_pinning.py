"""The main thread stands on a core of its own while it times."""

import os
import subprocess
import sys
import threading
import time

import pytest

from chameleon_ray.measure import pinning


def test_the_main_thread_is_bound_and_freed_again():
    """To one core within the block, to all of them after it, also after an error."""
    before = os.sched_getaffinity(0)
    with pinning.main_thread_apart():
        assert os.sched_getaffinity(0) <= before
        assert len(os.sched_getaffinity(0)) == 1
    assert os.sched_getaffinity(0) == before
    with pytest.raises(KeyError), pinning.main_thread_apart():
        raise KeyError
    assert os.sched_getaffinity(0) == before


def test_a_core_that_a_worker_is_bound_to_is_left_to_it():
    """The free core is another one, or none where there is no other."""
    cores = os.sched_getaffinity(0)
    first, ready, done = min(cores), threading.Event(), threading.Event()

    def worker():
        os.sched_setaffinity(0, {first})
        ready.set()
        done.wait(10)

    thread = threading.Thread(target=worker)
    thread.start()
    assert ready.wait(10)
    expected = min(cores - {first}, default=None)
    found = pinning.free_core()
    done.set()
    thread.join()
    assert found == expected


def test_elsewhere_than_on_linux_nothing_is_bound(monkeypatch, tmp_path):
    """There is no list of threads to look at."""
    monkeypatch.setattr(pinning, "_TASKS", tmp_path / "none")
    before = os.sched_getaffinity(0)
    with pinning.main_thread_apart():
        assert os.sched_getaffinity(0) == before
    assert pinning.free_core() is None


def test_waiting_for_a_core_is_counted():
    """Two processes on one core: each waits while the other runs."""
    before, core = os.sched_getaffinity(0), min(os.sched_getaffinity(0))
    busy = subprocess.Popen(
        [sys.executable, "-c", f"import os; os.sched_setaffinity(0, {{{core}}})\nwhile True: pass"]
    )
    try:
        os.sched_setaffinity(0, {core})
        time.sleep(0.3)
        start = pinning.waited_seconds()
        end = time.perf_counter() + 0.4
        while time.perf_counter() < end:
            pass
        assert pinning.waited_seconds() - start > 0.05
    finally:
        busy.kill()
        busy.wait()
        os.sched_setaffinity(0, before)


def test_where_nobody_counts_nobody_waits(monkeypatch, tmp_path):
    """No list of threads, or no counts in it."""
    monkeypatch.setattr(pinning, "_TASKS", tmp_path)
    (tmp_path / "1").mkdir()
    assert pinning.waited_seconds() == 0.0
    (tmp_path / "1" / "schedstat").write_text("0\n")
    assert pinning.waited_seconds() == 0.0
    monkeypatch.setattr(pinning, "_TASKS", tmp_path / "none")
    assert pinning.waited_seconds() == 0.0
