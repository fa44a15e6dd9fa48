"""One process at a time: the lease on a store; test_run_folder.py has the lock of a folder."""

import json
import threading
import time

import pytest

from chameleon_ray import run_lock
from chameleon_ray.errors import RunFolderError
from chameleon_ray.run_folder import RunFolder, is_in_use
from chameleon_ray.run_lock import InUseError, Lease, seconds_to_wait
from chameleon_ray.storage import open_folder


@pytest.fixture
def folder(store):
    """A folder of a store."""
    return open_folder(store.url("runs/mine"))


@pytest.fixture(autouse=True)
def _fast(monkeypatch):
    """Everything in less than a tenth of the time."""
    for name, seconds in {"STALE": 3.0, "RENEW": 0.4, "LOOK": 0.1, "SETTLE": 0.2}.items():
        monkeypatch.setattr(run_lock, f"_{name}_SECONDS", seconds)


def die(lease):
    """What SIGKILL does: the lease stays and nobody renews it."""
    lease._ended.set()
    lease._thread.join()


def until(true, seconds=20):
    """Wait for something to be true."""
    start = time.monotonic()
    while not true():
        assert time.monotonic() < start + seconds, "it did not come true"
        time.sleep(0.05)


def test_a_folder_in_use_is_refused_at_once(store):
    """The message names the process; once it lets go, the folder is free at once."""
    first = RunFolder(store.url("runs/mine"))
    start = time.monotonic()
    with pytest.raises(RunFolderError, match=r"runs/mine.* is in use by process \d+ of "):
        RunFolder(store.url("runs/mine"))
    assert time.monotonic() < start + run_lock._STALE_SECONDS
    assert is_in_use(store.url("runs/mine"))
    first.close()
    assert not is_in_use(store.url("runs/mine"))
    start = time.monotonic()
    RunFolder(store.url("runs/mine")).close()
    assert time.monotonic() < start + run_lock._STALE_SECONDS
    assert open_folder(store.url("runs/mine")).names() == []


def test_a_dead_owners_folder_is_taken_over_once_the_lease_is_stale(folder):
    """Not before; and not by a clock: an owner whose clock is wrong is alive all the same."""
    dead = Lease(folder)
    die(dead)
    assert seconds_to_wait(folder) == run_lock._STALE_SECONDS
    start = time.monotonic()
    living = Lease(folder)
    assert time.monotonic() > start + run_lock._STALE_SECONDS
    assert not living.lost()
    with pytest.raises(InUseError, match="process"):
        Lease(folder)
    living.release()
    assert folder.names() == []
    assert seconds_to_wait(folder) == 0


def test_who_wakes_up_after_another_took_over_is_told(folder):
    """It leaves the other's lease alone, and its run ends."""
    sleeper = Lease(folder)
    die(sleeper)
    other = Lease(folder)
    sleeper._ended.clear()
    sleeper._keep()
    assert sleeper.lost() == f"{other._owner} has its lease now"
    sleeper.release()
    assert not other._other()
    other.release()


def test_a_lost_lease_ends_the_use_of_a_folder(store):
    """`check` raises, and closing removes nothing of what is another's now."""
    folder = RunFolder(store.url("runs/mine"))
    folder.check()
    other = {"owner": "process 7 of elsewhere", "renewals": 1, "renewed_at": time.time()}
    open_folder(store.url("runs/mine")).write("run.lease", json.dumps(other).encode())
    until(folder._lock.lost)
    with pytest.raises(RunFolderError, match="process 7 of elsewhere has its lease now"):
        folder.check()
    folder.close()
    assert open_folder(store.url("runs/mine")).names() == ["run.lease"]


def test_a_lease_is_read_whole_while_it_is_renewed(folder):
    """A reader asks for the length first: all leases have the same, so none is cut short."""
    lease = Lease(folder)
    lengths = set()
    for renewals in (8, 9, 10**9):
        lease._renewals = renewals
        lease._renew()
        lengths.add(len(folder.read("run.lease")))
        assert not lease._other()
    assert lengths == {512}
    lease.release()


@pytest.mark.parametrize("lease", [b"", b"[]"])
def test_a_lease_that_nobody_can_read_is_one_all_the_same(folder, lease):
    """It is waited for, and taken over."""
    folder.make()
    folder.write("run.lease", lease)
    assert not is_in_use(folder.address)
    Lease(folder).release()


def test_of_many_in_the_same_moment_one_at_most_gets_it(folder, monkeypatch):
    """They all see no lease, all write one, and all look again."""
    monkeypatch.setattr(run_lock, "_SETTLE_SECONDS", 1.5)
    got, refused = [], []

    def take():
        try:
            got.append(Lease(folder))
        except InUseError as error:
            refused.append(error)

    threads = [threading.Thread(target=take) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) <= 1
    assert len(got) + len(refused) == 6
    for lease in got:
        time.sleep(2 * run_lock._RENEW_SECONDS)
        assert not lease.lost()
        lease.release()


def test_a_store_that_is_gone_for_long_ends_the_lease(folder, store, monkeypatch):
    """Another may have taken it by then; a short silence does no harm."""
    lease = Lease(folder)
    real, gone = folder.read, threading.Event()

    def read(name):
        if gone.is_set():
            raise OSError("nobody answers")
        return real(name)

    monkeypatch.setattr(folder, "read", read)
    gone.set()
    time.sleep(2 * run_lock._RENEW_SECONDS)
    gone.clear()
    time.sleep(2 * run_lock._RENEW_SECONDS)
    assert not lease.lost()
    gone.set()
    until(lease.lost)
    assert lease.lost() == "its lease could not be renewed: nobody answers"
    lease.release()
