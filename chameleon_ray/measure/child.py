"""The process in which candidates are built and run: it may crash, hang and be killed.

The parent sends one command at a time and waits with a deadline; what the child does not answer,
the parent ends. The child dies with its parent.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import resource
import signal
import sys
import time
import traceback
from dataclasses import dataclass
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from typing import Any

from chameleon_ray.env_settings import Env
from chameleon_ray.errors import ChameleonError, MachineError
from chameleon_ray.measure import Job, Kernel, Outcome
from chameleon_ray.measure.backend import Backend, Device, open_backend
from chameleon_ray.tasks import Target

_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """What went wrong in the child, as the parent gets to know it."""

    outcome: Outcome
    message: str


class Child:
    """The parent's handle of a measuring child, which is started again when it is gone.

    Args:
        env: Timeouts, repeats, tolerance, memory.
        target: What to generate code for.
        seed: Of the random inputs.
    """

    def __init__(self, env: Env, target: Target, seed: int) -> None:
        self._env, self._target, self._seed = env, target, seed
        # TVM reads these once, when the forkserver starts. After a kernel its idle threads spin for
        # a tenth of a second by default, on cores that the next kernel, or torch, is timed on.
        os.environ["TVM_NUM_THREADS"] = str(target.cores)
        os.environ["TVM_THREAD_POOL_SPIN_COUNT"] = "2000"
        self._context = multiprocessing.get_context("forkserver")
        preload = "preload" if env.measurer == "tvm" else "backend"
        self._context.set_forkserver_preload([f"chameleon_ray.measure.{preload}"])
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
        arguments = (theirs, self._env, self._target, self._seed)
        self._process = self._context.Process(target=_serve, args=arguments, daemon=True)
        self._process.start()
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

    def ask(self, command: str, argument: object, timeout_seconds: float) -> Any:
        """The child's answer, or a `Failure` if it died or did not answer in time."""
        try:
            self.start()
        except (ChameleonError, OSError, EOFError) as error:
            self.kill()
            return Failure(outcome=Outcome.CRASHED, message=f"no new process: {error}")
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
            return Failure(outcome=Outcome.CRASHED, message=_describe(self._process.exitcode))
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


_FATAL = {Outcome.CRASHED, Outcome.RUN_TIMEOUT}


def _describe(exit_code: int | None) -> str:
    if exit_code is not None and exit_code < 0:
        return f"the process died of {signal.Signals(-exit_code).name}"
    return f"the process ended with code {exit_code}"


def _serve(connection: Connection, env: Env, target: Target, seed: int) -> None:
    """The child's main loop: one answer for each command."""
    _die_with_parent()
    try:
        backend = open_backend(env, target, seed)
    except ChameleonError as error:
        connection.send(error)
        return
    except Exception:  # noqa: BLE001 - whatever a compiler's import may raise
        connection.send(Failure(outcome=Outcome.CRASHED, message=traceback.format_exc()))
        return
    resource.setrlimit(resource.RLIMIT_DATA, (env.memory_bytes, env.memory_bytes))
    connection.send(
        Device(target=backend.target, compiler=backend.compiler, has_torch=backend.has_torch)
    )
    kernels: list[Kernel] = []
    while True:
        try:
            command, argument = connection.recv()
        except EOFError:
            return
        connection.send(_answer(command, argument, backend, kernels))


def _answer(command: str, argument: Any, backend: Backend, kernels: list[Kernel]) -> Any:
    """What one command comes to.

    Kernels wait in a list: `run` takes the first built of them, `compare` all.
    """
    failed = Outcome.BUILD_ERROR if command == "build" else Outcome.RUN_ERROR
    start = time.perf_counter()
    try:
        match command:
            case "build":
                job: Job = argument
                kernels.append(backend.builder.build(job.task, job.config))
                return time.perf_counter() - start
            case "run":
                error, repeats = backend.runner.run(kernels.pop(0), argument)
                return error, repeats, time.perf_counter() - start
            case _:
                together = list(kernels)
                kernels.clear()
                return backend.runner.compare(together), time.perf_counter() - start
    except Exception:  # noqa: BLE001 - a candidate may fail in any way; it becomes an outcome
        return Failure(outcome=failed, message=traceback.format_exc())


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
