"""Ray for the time of a run, and signals that end it in order."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from chameleon_ray.errors import ChameleonError, MachineError


@contextmanager
def terminating_as_interrupt() -> Iterator[None]:
    """SIGTERM ends a run as Ctrl-C does: by KeyboardInterrupt."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def ray_session(*, address: str | None, cpus: int) -> Iterator[None]:
    """A quiet Ray while the body runs, of this process alone unless there is an address.

    Args:
        address: Of a cluster that runs already.
        cpus: What a Ray of our own hands out. A trial asks for one and so does each of its rollout
            workers; benches ask for none, since their leases decide who computes.

    Raises:
        MachineError: Ray does not start, or is not at the address.
    """
    quiet = {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        "RAY_AIR_NEW_OUTPUT": "0",
        "TUNE_DISABLE_SIGINT_HANDLER": "1",
        "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
        "RAY_DEDUP_LOGS": "0",
    }
    for name, value in quiet.items():
        os.environ.setdefault(name, value)
    import ray

    if ray.is_initialized():
        yield
        return
    try:
        if address:
            _reach(address)
            ray.init(address=address, logging_level="ERROR", log_to_driver=False)
        else:
            _start_local(cpus)
    except (ConnectionError, TimeoutError, RuntimeError, ValueError) as error:
        place = f"the Ray cluster at {address}" if address else "Ray"
        raise MachineError(
            f"{place} cannot be reached: {error}\nCheck --address with `ray status`, or leave it "
            "out to start a Ray for this run; `chameleon-ray doctor` tells whether Ray starts."
        ) from error
    session = None if address else _session_folder()
    try:
        yield
    finally:
        ray.shutdown()
        if session:
            shutil.rmtree(session, ignore_errors=True)


def _reach(address: str) -> None:
    """Knock at an address, for Ray itself would go on knocking for minutes.

    Raises:
        ConnectionError: Nobody answers, or it is no address.
    """
    if address == "auto":
        return
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or "/" in address:
        raise ConnectionError(f"{address!r} is not HOST:PORT, nor auto")
    try:
        socket.create_connection((host, int(port)), timeout=5.0).close()
    except (OSError, OverflowError) as error:
        raise ConnectionError(f"nobody answers there ({error})") from error


def _start_local(cpus: int) -> None:
    import ray

    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    ray.init(
        address="local",
        num_cpus=cpus,
        num_gpus=0,
        object_store_memory=128 * 2**20,
        include_dashboard=False,
        logging_level="ERROR",
        log_to_driver=False,
    )


def _session_folder() -> Path | None:
    """Where Ray keeps the logs and sockets of this run, to be removed with it."""
    import ray

    node = ray._private.worker._global_node  # noqa: SLF001 - there is no public way
    return Path(node.get_session_dir_path()) if node else None


def answer(reference: Any, *, then: str) -> Any:
    """What a task or an actor of ours answers; its errors for users come as they were raised.

    Args:
        reference: A Ray object reference.
        then: What the user should know or do if a process went away.

    Raises:
        ChameleonError: The task or actor raised it.
        MachineError: The process that should answer, or the Ray cluster, went away.
    """
    import ray

    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, ChameleonError):
            raise error.cause from None
        raise
    except ray.exceptions.RayError as error:
        raise MachineError(
            f"a process of ours, or the Ray cluster, went away: {last_line(error)} {then}"
        ) from error


def last_line(error: BaseException) -> str:
    """The last line of what an error says, or its name if it says nothing."""
    lines = [line for line in str(error).strip().splitlines() if line.strip()]
    return lines[-1].strip() if lines else type(error).__name__
