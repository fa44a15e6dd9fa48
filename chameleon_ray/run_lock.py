"""One process at a time in a run folder: a lock of this machine, or a lease on a store.

A store has no locks. There, who uses a run folder keeps a small object in it and renews it every
few seconds. Another process watches it: renewed, the folder is in use; not renewed for half a
minute, its owner is dead and the folder is taken over. Only the watcher's own clock counts.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
import uuid
from pathlib import Path
from typing import Protocol

from filelock import FileLock, Timeout

from chameleon_ray.storage import Folder, reason

_LOCK, _LEASE = "run.lock", "run.lease"
OWN_FILES = frozenset({_LOCK, _LEASE})

_STALE_SECONDS = 30.0  # not renewed for so long, a lease may be taken over
_RENEW_SECONDS = 5.0
_LOOK_SECONDS = 1.0  # between two looks at another's lease
_LEASE_BYTES = 512  # always: a reader asks for the length and then for so many bytes
_SETTLE_SECONDS = 1.0  # until who took the lease in the same moment has written, too


class InUseError(Exception):
    """Another process uses the folder; says which, as far as that is known."""


class Lock(Protocol):
    """A folder is ours until we let it go."""

    def lost(self) -> str:
        """Why it is not ours any more; nothing while it is."""

    def release(self) -> None:
        """Let others have it."""


def lock(folder: Folder) -> Lock:
    """Have a folder alone; on a store, this waits for the lease of a process that died.

    Raises:
        InUseError: Another process has it.
        OSError: It cannot be written.
    """
    return Lease(folder) if folder.path is None else _FileLock(folder.path)


def is_locked(folder: Folder) -> bool:
    """Whether a process has a folder now; changes nothing. False where that cannot be told."""
    try:
        return _is_leased(folder) if folder.path is None else _is_file_locked(folder.path)
    except (ImportError, OSError):
        return False


def seconds_to_wait(folder: Folder) -> float:
    """How long `lock` may take, at most, to tell whether the owner of a lease is alive."""
    try:
        return _STALE_SECONDS if folder.path is None and _lease(folder) is not None else 0.0
    except OSError:
        return 0.0


class _FileLock:
    """The operating system's lock on a file: gone with the process that holds it."""

    def __init__(self, path: Path) -> None:
        self._lock = FileLock(path / _LOCK)
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise InUseError("another process") from None

    def lost(self) -> str:
        """Never."""
        return ""

    def release(self) -> None:
        """See `Lock`."""
        self._lock.release()


class Lease:
    """An object that says who uses a folder of a store, renewed by a thread.

    Stores offer no way to write an object only if it is not there that all of them share: two who
    take a lease in the same moment both write, wait, and look whose is there.

    Args:
        folder: Of the store; made if it does not exist.

    Raises:
        InUseError: Another process renews its own.
        OSError: The store fails.
    """

    def __init__(self, folder: Folder) -> None:
        self._folder, self._lost = folder, ""
        self._owner = f"process {os.getpid()} of {socket.gethostname()} ({uuid.uuid4().hex[:8]})"
        self._renewals = 0
        self._wait_for_the_dead()
        self._renew()
        time.sleep(_SETTLE_SECONDS)
        if other := self._other():
            raise InUseError(other)
        self._ended, self._renewed = threading.Event(), time.monotonic()
        self._thread = threading.Thread(target=self._keep, name="run lease", daemon=True)
        self._thread.start()

    def lost(self) -> str:
        """See `Lock`."""
        if not self._lost and time.monotonic() - self._renewed > _STALE_SECONDS + _RENEW_SECONDS:
            self._lost = "its lease could not be renewed for half a minute"
        return self._lost

    def release(self) -> None:
        """See `Lock`."""
        self._ended.set()
        self._thread.join()
        if not self._lost and not self._other():
            self._folder.remove(_LEASE)

    def _wait_for_the_dead(self) -> None:
        seen, until = _lease(self._folder), time.monotonic() + _STALE_SECONDS
        while seen is not None and time.monotonic() < until:
            time.sleep(_LOOK_SECONDS)
            before, seen = seen, _lease(self._folder)
            if seen is not None and seen != before:
                raise InUseError(_owner(seen))

    def _keep(self) -> None:
        while not self._ended.wait(_RENEW_SECONDS):
            begun = time.monotonic()
            try:
                if other := self._other():
                    self._lost = f"{other} has its lease now"
                    return
                self._renew()
                self._renewed = begun
            except OSError as error:  # the next renewal may succeed
                if time.monotonic() - self._renewed > _STALE_SECONDS:
                    self._lost = f"its lease could not be renewed: {reason(error)}"
                    return

    def _other(self) -> str:
        """Who has the lease instead of us; nothing while we have it."""
        there = _lease(self._folder)
        owner = "nobody" if there is None else _owner(there)
        return "" if owner == self._owner else owner

    def _renew(self) -> None:
        self._renewals += 1
        lease = {"owner": self._owner, "renewals": self._renewals, "renewed_at": time.time()}
        self._folder.write(_LEASE, json.dumps(lease).encode().ljust(_LEASE_BYTES))


def _lease(folder: Folder) -> bytes | None:
    """What is written there now."""
    try:
        return folder.read(_LEASE)
    except FileNotFoundError:
        return None


def _owner(lease: bytes) -> str:
    try:
        return str(json.loads(lease)["owner"])
    except (ValueError, KeyError, TypeError):
        return "another process"


def _is_leased(folder: Folder) -> bool:
    """By the clocks of two machines: good enough to say in a report that a run is going on."""
    try:
        renewed: float = json.loads(_lease(folder) or b"{}")["renewed_at"]
        return abs(time.time() - renewed) < _STALE_SECONDS
    except (ValueError, KeyError, TypeError):
        return False


def _is_file_locked(path: Path) -> bool:
    import fcntl

    with (path / _LOCK).open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
