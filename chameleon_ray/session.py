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
from chameleon_ray.ray_access import import_ray, join_ray, start_ray, token_source

_OWN_INSTEAD = "Or leave --address out, to start a Ray for this run."
_KNOCK_SECONDS, _MOST_UNANSWERED = 2.0, 8
_ANSWER_SECONDS = 5.0
# How a client of HTTP/2 begins, and a server answers (RFC 9113, 3.4): Ray speaks gRPC.
_GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"
_FRAME_BYTES, _SETTINGS = 9, b"\4"


class _Interrupt:
    """Raises KeyboardInterrupt; a SIGTERM after the first signal, while all ends, does nothing."""

    def __init__(self) -> None:
        self._came = False

    def __call__(self, number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGTERM and self._came:
            return
        self._came = True
        raise KeyboardInterrupt


@contextmanager
def terminating_as_interrupt() -> Iterator[None]:
    """SIGTERM ends a run as Ctrl-C does: by KeyboardInterrupt. Within another one, does nothing."""
    main = threading.current_thread() is threading.main_thread()
    if not main or isinstance(signal.getsignal(signal.SIGTERM), _Interrupt):
        yield
        return
    numbers = [signal.SIGTERM]
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # a shell may have it ignored
        numbers.append(signal.SIGINT)
    interrupt = _Interrupt()
    before = {number: signal.signal(number, interrupt) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _keeping_sigterm() -> Iterator[None]:
    """A handler of SIGTERM stays, which Ray replaces as it starts and drops as it ends.

    While it starts it exits with code 15; when it has ended, the signal would kill.
    """
    before = signal.getsignal(signal.SIGTERM)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield
        return
    try:
        yield
    except SystemExit as error:
        if error.code != signal.SIGTERM:
            raise
        raise KeyboardInterrupt from None
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def ray_session(
    *, address: str | None, cpus: int, gpus: bool = False, remedy: str = _OWN_INSTEAD
) -> Iterator[None]:
    """A quiet Ray while the body runs, of this process alone unless there is an address.

    Args:
        address: Of a cluster that runs already.
        cpus: What a Ray of our own hands out. A trial asks for one and so does each of its rollout
            workers; benches ask for none, since their leases decide who computes.
        gpus: Whether it hands out this machine's GPUs.
        remedy: What else may be done if the cluster cannot be reached.

    Raises:
        MachineError: Ray does not start, or is not at the address, or asks for another token; or
            this process has another Ray already.
    """
    ray = import_ray()
    if ray.is_initialized():
        if address:
            _check_joined(address, remedy)
        yield
        return
    try:
        with _keeping_sigterm():
            if address:
                _reach(address)
                join_ray(address)
            else:
                start_ray(cpus=cpus, gpus=gpus)
    except (ConnectionError, TimeoutError, RuntimeError, ValueError) as error:
        raise MachineError(_unreachable(address, error, remedy)) from error
    session = None if address else _session_folder()
    ended = threading.Event()
    if address:
        threading.Thread(target=_watch, args=(_gcs_address(), ended), daemon=True).start()
    try:
        yield
    finally:
        ended.set()
        with _keeping_sigterm():
            ray.shutdown()
        if session:
            shutil.rmtree(session, ignore_errors=True)


def _check_joined(address: str, remedy: str) -> None:
    """Whether the Ray that this process has is the one at an address.

    Raises:
        MachineError: It is not, or nobody answers there.
    """
    try:
        _reach(address)
        same = address == "auto" or _is_same(address, _gcs_address())
    except OSError as error:
        raise MachineError(_unreachable(address, error, remedy)) from error
    if not same:
        raise MachineError(
            f"--address: this process has the Ray at {_gcs_address()} already, and cannot use that "
            f"at {address} besides. Leave --address out, or call ray.shutdown() before."
        )


def _is_same(one: str, other: str) -> bool:
    """Whether two addresses are one place; all names of this machine are.

    Raises:
        OSError: One has no such name.
    """
    import psutil

    here = {address.address for each in psutil.net_if_addrs().values() for address in each}
    places = []
    for address in (one, other):
        host, _, port = address.rpartition(":")
        found = {str(info[4][0]) for info in socket.getaddrinfo(host.strip("[]"), int(port))}
        places.append((found | here if found & here else found, port))
    (hosts, port), (other_hosts, other_port) = places
    return port == other_port and bool(hosts & other_hosts)


def _unreachable(address: str | None, error: Exception, remedy: str) -> str:
    if not address:
        return f"Ray does not start: {error}\n`chameleon-ray doctor` tells what of it works."
    place = "a Ray cluster on this machine" if address == "auto" else f"the Ray at {address}"
    return (
        f"{place} cannot be reached: {error}\nCheck with `ray status --address ...`, and that "
        f"{token_source()} is the cluster's token. {remedy}"
    )


def _gcs_address() -> str:
    import ray

    found: str = ray.get_runtime_context().gcs_address
    return found


def _watch(address: str, ended: threading.Event) -> None:
    """End this process once its cluster has gone: Ray would do so in silence, after a minute.

    Nothing can be asked of Ray then, not even to let go.
    """
    host, _, port = address.rpartition(":")
    unanswered = 0
    while not ended.wait(_KNOCK_SECONDS):
        try:
            place = host.strip("[]"), int(port)
            socket.create_connection(place, timeout=_KNOCK_SECONDS).close()
            unanswered = 0
        except OSError:
            unanswered += 1
        if unanswered >= _MOST_UNANSWERED:
            last_words = (
                f"chameleon-ray: the Ray cluster at {address} has gone. Everything measured is "
                "safe; the same command goes on, at another --address or without one.\n"
            )
            if ended.is_set():
                return
            os.write(2, last_words.encode())
            os._exit(MachineError.exit_code)


def _reach(address: str) -> None:
    """Knock at an address, for Ray itself would go on knocking for minutes.

    Raises:
        ConnectionError: Nobody answers, something else does, or it is no address.
    """
    if address == "auto":
        return
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or "/" in address:
        raise ConnectionError(f"{address!r} is not HOST:PORT, nor auto")
    try:
        place = host.strip("[]"), int(port)
        with socket.create_connection(place, timeout=_ANSWER_SECONDS) as connection:
            if "RAY_USE_TLS" in os.environ:
                return
            connection.sendall(_GREETING)
            frame = connection.recv(_FRAME_BYTES)
    except (OSError, OverflowError) as error:
        raise ConnectionError(f"nobody answers there ({error})") from error
    if frame[3:4] != _SETTINGS:
        raise ConnectionError("what answers there is no Ray")


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
