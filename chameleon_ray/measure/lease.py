"""The lease of a machine's cores: many may compute at once, or one may time alone.

A lease is an advisory lock on files of the machine, shared by all runs of a user on it: it needs no
server, and the kernel returns it when its holder dies, however it dies.
"""

from __future__ import annotations

import fcntl
import getpass
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class CoreLease:
    """Access to the cores of this machine.

    A process that waits to time holds the gate, so that no new computation starts before it.

    Args:
        folder: Where the lock files are; the same for all who share the cores.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder or Path(tempfile.gettempdir()) / f"chameleon-ray-{getpass.getuser()}"
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    @contextmanager
    def shared(self) -> Iterator[None]:
        """To build, explore or fit: any number at once, but never while a kernel is timed."""
        with self._lock("gate", fcntl.LOCK_SH):
            cores = self._open("cores", fcntl.LOCK_SH)
        try:
            yield
        finally:
            os.close(cores)

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """To time a kernel: nobody else computes."""
        with self._lock("gate", fcntl.LOCK_EX), self._lock("cores", fcntl.LOCK_EX):
            yield

    @contextmanager
    def _lock(self, name: str, mode: int) -> Iterator[None]:
        descriptor = self._open(name, mode)
        try:
            yield
        finally:
            os.close(descriptor)

    def _open(self, name: str, mode: int) -> int:
        descriptor = os.open(self._folder / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(descriptor, mode)
        return descriptor
