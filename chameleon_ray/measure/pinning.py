"""Where the threads of a measuring process stand while it times, and whether they had to wait.

A thread pool binds its workers to cores, but not the thread that calls it: when the scheduler puts
that one on a worker's core, the kernel runs at half its speed for as long as it pleases.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_TASKS = Path("/proc/self/task")


def free_core() -> int | None:
    """The first core of this process that no thread of it is bound to; None if there is none."""
    if not _TASKS.is_dir():  # not Linux
        return None
    cores = os.sched_getaffinity(0)
    taken: set[int] = set()
    for task in _TASKS.iterdir():
        try:
            bound = os.sched_getaffinity(int(task.name))
        except ProcessLookupError:  # it has just ended
            continue
        taken |= bound if len(bound) == 1 else set()
    return min(cores - taken, default=None)


@contextmanager
def main_thread_apart() -> Iterator[None]:
    """The calling thread stays on a core of its own; it moves freely again afterwards.

    Start the thread pools first: threads inherit where their maker stands.
    """
    core = free_core()
    if core is None:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def waited_seconds() -> float:
    """How long the threads of this process have been ready to run and without a core, in sum.

    Zero for ever where the kernel does not count it.
    """
    nanoseconds = 0
    for task in _TASKS.iterdir() if _TASKS.is_dir() else ():
        with suppress(OSError, IndexError, ValueError):  # it has just ended; or nobody counts
            nanoseconds += int((task / "schedstat").read_text().split()[1])
    return nanoseconds * 1e-9
