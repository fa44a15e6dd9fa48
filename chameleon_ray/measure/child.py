"""The process in which candidates are built and run: it may crash, hang and be killed.

The parent sends one command at a time and waits with a deadline; what the child does not answer,
the parent ends. The child dies with its parent.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
import traceback
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from typing import Any

from chameleon_ray.env_settings import Env
from chameleon_ray.errors import ChameleonError, MachineError
from chameleon_ray.measure import Kernel, Outcome
from chameleon_ray.measure.backend import Device, Failure, Part, answer, open_backend
from chameleon_ray.measure.limits import allow_cpu, confine
from chameleon_ray.tasks import Target

_PR_SET_PDEATHSIG = 1
_MORE_MEMORY = 4  # times that of others: who has a GPU sets much aside


class Child:
    """The parent's handle of a measuring child, which is started again when it is gone.

    Args:
        env: Timeouts, repeats, tolerance, memory.
        target: What to generate code for.
        seed: Of the random inputs.
        part: What of the backend it is to open.
    """

    def __init__(self, env: Env, target: Target, seed: int, part: Part = "whole") -> None:
        self._env, self._target, self._seed, self._part = env, target, seed, part
        # TVM reads these once, when the forkserver starts. After a kernel its idle threads spin for
        # a tenth of a second by default, on cores that the next kernel, or torch, is timed on.
        os.environ["TVM_NUM_THREADS"] = str(target.threads)
        os.environ["TVM_THREAD_POOL_SPIN_COUNT"] = "2000"
        self._context = multiprocessing.get_context("forkserver")
        modules = [f"chameleon_ray.measure.{module}" for module in _preloaded(env)]
        self._context.set_forkserver_preload(modules)
        self._process: Any = None
        self._connection: Connection | None = None
        self._device: Device | None = None

    def start(self) -> Device:
        """Start the process if there is none; what it measures on.

        Raises:
            MachineError: The process does not start, or the target does not fit the machine.
        """
        if self._connection is not None and self._device is not None:
            return self._device
        self._connection, theirs = self._context.Pipe()
        # The forkserver may be older than what was set since, so the environment goes along.
        environment = dict(os.environ)
        arguments = (environment, theirs, self._env, self._target, self._seed, self._part)
        process = self._context.Process(target=_begin, args=arguments, daemon=True)
        process.start()
        self._process = process
        theirs.close()
        answer = self._receive(self._env.start_timeout_seconds)
        if isinstance(answer, ChameleonError):
            self.kill()
            raise answer
        if isinstance(answer, Failure):
            self.kill()
            raise MachineError(
                f"the measuring process did not start: {answer.message}\n"
                "`chameleon-ray doctor` tells what of this machine works."
            )
        self._device = answer
        return self._device

    @property
    def device(self) -> Device:
        """What it measures on; it was started before."""
        assert self._device is not None  # noqa: S101 - see above
        return self._device

    def ask(self, command: str, argument: object, timeout_seconds: float) -> Any:
        """The child's answer, or a `Failure` if it died or did not answer in time.

        Raises:
            MachineError: There is no child and none starts, which is no candidate's doing.
        """
        try:
            self.start()
        except (ChameleonError, OSError, EOFError) as error:
            self.kill()
            raise MachineError(f"no new measuring process starts: {error}") from error
        try:
            assert self._connection is not None  # noqa: S101 - for the type checker
            self._connection.send((command, argument))
        except OSError:
            pass  # it is gone; receiving tells how
        answer = self._receive(timeout_seconds)
        if isinstance(answer, Failure) and answer.outcome in _FATAL:
            self.kill()
        return answer

    def _receive(self, timeout_seconds: float) -> Any:
        assert self._connection is not None  # noqa: S101 - for the type checker
        try:
            if self._connection.poll(timeout_seconds):
                return self._connection.recv()
        except (EOFError, OSError):
            self._process.join(1.0)
            return _death(self._process.exitcode)
        return Failure(
            outcome=Outcome.RUN_TIMEOUT, message=f"no answer within {timeout_seconds:g} s; killed"
        )

    def kill(self) -> None:
        """End the process at once."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._process = None


_FATAL = {Outcome.CRASHED, Outcome.RUN_TIMEOUT, Outcome.DEVICE_LOST}
_FROM_OUTSIDE = {signal.SIGKILL, signal.SIGTERM, signal.SIGHUP}  # no kernel does this to itself

_SERVER_LOST = 255  # what multiprocessing says if the forkserver is gone, and its children with it


def _preloaded(env: Env) -> tuple[str, ...]:
    """What a new process finds imported; TVM only where it generates the code."""
    if env.measurer != "tvm":
        return ("backend",)
    if not env.on_gpus:
        return ("preload",)
    return ("cuda", "cuda_source") if env.template == "direct" else ("cuda",)


def _death(exit_code: int | None) -> Failure:
    """How a process ended; one that somebody killed did not crash."""
    if exit_code is None or exit_code >= 0:
        outcome = Outcome.DEVICE_LOST if exit_code == _SERVER_LOST else Outcome.CRASHED
        return Failure(outcome=outcome, message=f"the process ended with code {exit_code}")
    died_of = signal.Signals(-exit_code)
    outcome = Outcome.DEVICE_LOST if died_of in _FROM_OUTSIDE else Outcome.CRASHED
    return Failure(outcome=outcome, message=f"the process died of {died_of.name}")


def _begin(environment: dict[str, str], *served: Any) -> None:
    """Take on the environment of who starts it, and serve."""
    os.environ.clear()
    os.environ.update(environment)
    _serve(*served)


def _serve(connection: Connection, env: Env, target: Target, seed: int, part: Part) -> None:
    """The child's main loop: one answer for each command."""
    _die_with_parent()
    try:
        backend = open_backend(env, target, seed, part)
    except ChameleonError as error:
        connection.send(error)
        return
    except Exception:  # noqa: BLE001 - whatever a compiler's import may raise
        connection.send(Failure(outcome=Outcome.CRASHED, message=traceback.format_exc()))
        return
    more = _MORE_MEMORY if part == "run" else 1
    confine(memory_bytes=more * env.memory_bytes, keep=env.keep_variables)
    connection.send(backend.device)
    kernels: list[Kernel] = []
    while True:
        try:
            command, argument = connection.recv()
        except EOFError:
            return
        allow_cpu(env.most_seconds * target.threads)
        connection.send(answer(command, argument, backend, kernels))


def _die_with_parent() -> None:
    """Leave nothing behind, however the parent ends.

    The forkserver ends when the last copy of its pipe closes, which is the parent's once ours is
    closed; and this process ends with the forkserver.
    """
    alive = forkserver._forkserver._forkserver_alive_fd  # type: ignore[attr-defined]  # noqa: SLF001
    if alive is not None:
        os.close(alive)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, 1)
    os.dup2(devnull, 2)  # TVM warns of every unroll pragma there
