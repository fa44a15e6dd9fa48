"""The lease of a machine's cores: many may compute at once, or one may time alone.

A lease is an advisory lock on files of the machine, shared by all runs of a user on it: it needs no
server, and the kernel returns it when its holder dies, however it dies.
"""

from __future__ import annotations

import fcntl
import getpass
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Protocol

from chameleon_ray.env_settings import Env


class Lease(Protocol):
    """Access to what kernels are timed on."""

    def shared(self) -> AbstractContextManager[None]:
        """To compute beside others."""

    def exclusive(self) -> AbstractContextManager[None]:
        """To time alone."""


class NoLease:
    """Nobody disturbs a device that is a formula."""

    def shared(self) -> AbstractContextManager[None]:
        """At once."""
        return nullcontext()

    def exclusive(self) -> AbstractContextManager[None]:
        """At once."""
        return nullcontext()


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


class GpuLease(CoreLease):
    """Access to one GPU; whoever builds for it needs none.

    Args:
        gpu: What tells it from others on this machine; known when something is timed there.
        folder: Where the lock files are.
    """

    def __init__(self, gpu: Callable[[], str], folder: Path | None = None) -> None:
        super().__init__(folder)
        self._gpu = gpu

    @contextmanager
    def shared(self) -> Iterator[None]:
        """At once: cores are not what is timed."""
        yield

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """To time a kernel: no other run of this user does so there."""
        name = re.sub(r"[^\w-]", "_", self._gpu())
        with self._lock(f"gpu-{name}", fcntl.LOCK_EX):
            yield


def lease_of(env: Env, unit: Callable[[], str]) -> Lease:
    """What an env's measurements need to themselves.

    Args:
        env: What is measured on.
        unit: Which of equal devices it is.
    """
    if env.on_gpus:
        return GpuLease(unit)
    return NoLease() if env.simulated else CoreLease()
