"""Backends: what builds and times, chosen by the env's `measurer`, and how it is asked."""

from __future__ import annotations

import re
import time
import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

from chameleon_ray.errors import MachineError
from chameleon_ray.machine import cpu, cpu_brand, usable_cores
from chameleon_ray.measure import Outcome
from chameleon_ray.plugins import load
from chameleon_ray.tasks import GpuTemplate, Target
from chameleon_ray.templates.gpu import WARP

if TYPE_CHECKING:
    from chameleon_ray.env_settings import Env
    from chameleon_ray.measure import Builder, Job, Runner


Part = Literal["whole", "build", "run"]

_SHIPPED = {name: f"chameleon_ray.measure.{name}:backend" for name in ("tvm", "cuda", "simulated")}


class SpoiledError(Exception):
    """A candidate has left the process in a state in which no other can be run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """What a backend found itself on: the part of it that travels.

    Attributes:
        machine: What times depend on, in words. Two machines with equal words are taken for one.
        unit: Which of the equal devices of a machine it is: a GPU's UUID.
    """

    target: Target
    compiler: str
    has_torch: bool
    machine: str = ""
    unit: str = ""

    @property
    def words(self) -> str:
        """What it is, and what makes its code."""
        return f"{self.machine}, {self.compiler}"

    def same_kind(self, other: Device) -> bool:
        """Whether times taken on one hold for the other."""
        return (self.target, self.compiler, self.machine) == (
            other.target,
            other.compiler,
            other.machine,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """What went wrong with a command."""

    outcome: Outcome
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """Of a GPU, at a moment.

    Attributes:
        clock_mhz: Of its multiprocessors.
        celsius: How hot it is.
        others: How many other processes compute on it.
    """

    clock_mhz: int
    celsius: int
    others: int = 0


class Monitor(Protocol):
    """Looks at a device."""

    def state(self) -> State | None:
        """As it is now; None if that cannot be told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """A builder and a runner that fit each other.

    Attributes:
        builder: Makes kernels; an empty config asks for torch's.
        runner: Times them.
        target: With `native` resolved.
        compiler: Name and version of what makes the code.
        has_torch: Whether torch's own kernel can be timed beside the others.
        machine: What times depend on, in words; of a CPU, it is found out.
        unit: Which of the equal devices of a machine it is.
        monitor: Looks at the device before and after each run.
    """

    builder: Builder
    runner: Runner
    target: Target
    compiler: str
    has_torch: bool
    machine: str = ""
    unit: str = ""
    monitor: Monitor | None = None

    def state(self) -> State | None:
        """Of the device; None if nobody looks."""
        return self.monitor.state() if self.monitor else None

    @property
    def device(self) -> Device:
        """What it measures on."""
        return Device(
            target=self.target,
            compiler=self.compiler,
            has_torch=self.has_torch,
            machine=self.machine or _machine(self.target),
            unit=self.unit,
        )


def _machine(target: Target) -> str:
    if target.model == "simulated":
        return f"simulated device, {target.cores} cores, {target.lanes} lanes"
    brand = f"{cpu_brand()} " if cpu_brand() else ""
    return f"{brand}{target.model}, {target.cores} cores, {target.lanes} lanes"


_ON_CPU = re.compile(r"(\d+) cores, (\d+) lanes$")
_ON_GPU = re.compile(r"\b(sm_\d+), (\d+) SMs\b")


def target_of(machine: str, template: GpuTemplate) -> Target | None:
    """What a design space depends on, from what a journal says; None if that is not ours.

    Args:
        machine: The device, in words.
        template: Of its kernels, if it is a GPU.
    """
    if gpu := _ON_GPU.search(machine):
        size = int(gpu[2])
        return Target(kind="cuda", model=gpu[1], lanes=WARP, cores=size, template=template)
    if on_cpu := _ON_CPU.search(machine):
        return Target(lanes=int(on_cpu[2]), cores=int(on_cpu[1]))
    return None


def target_here(env: Env) -> Target:
    """What to generate code for on this machine, its model not yet resolved.

    A simulated device is the same everywhere; what a GPU is, only who has it can tell.

    Raises:
        MachineError: The env wants more cores than there are.
    """
    cores, model = usable_cores(), env.model
    if env.simulated:
        return Target(kind=env.target, model=model, lanes=16, cores=env.cores or 2)
    if env.on_gpus:
        return Target(kind="cuda", model=model, lanes=WARP, cores=1, template=env.template)
    if env.cores > cores:
        raise MachineError(
            f"env: cores is {env.cores}, but this machine lets us use {cores}; set cores: 0 for "
            "all of them."
        )
    return Target(kind=env.target, model=model, lanes=cpu().lanes, cores=env.cores or cores)


def open_backend(env: Env, target: Target, seed: int, part: Part = "whole") -> Backend:
    """The backend that the env names, opened for a target.

    Args:
        env: `measurer` is `tvm`, `simulated`, or `package.module:function`; the function takes
            the arguments of this one.
        target: What to measure for.
        seed: Of inputs and of simulated noise.
        part: With a GPU, one process builds and another runs; a function of one's own gets that
            as a fourth argument then.

    Raises:
        SettingsError: There is no such module or function.
        MachineError: The target does not fit this machine.
    """
    name = "cuda" if (env.measurer, target.kind) == ("tvm", "cuda") else env.measurer
    backend = load(_SHIPPED.get(name, name), what="measurer")
    arguments = (env, target, seed) if part == "whole" else (env, target, seed, part)
    opened: Backend = backend(*arguments)
    return opened


def answer(command: str, argument: Any, backend: Backend, kernels: list[Any]) -> Any:
    """What one command comes to.

    Args:
        command: `build` appends a kernel, `run` times the first and `compare` all, in turns; what
            is timed is dropped. `give` hands out all that were built, `take` appends some.
        argument: A job to build, the best seconds so far to run, or kernels to take.
        backend: Does it.
        kernels: What was built and not timed yet.

    Returns:
        The seconds that the build took; error, times of the repeats, seconds of the run and the
        states of the device before and after it; the times of each kernel, the seconds of all and
        such states. A `Failure` if anything was raised.
    """
    failed = Outcome.BUILD_ERROR if command == "build" else Outcome.RUN_ERROR
    try:
        return _done(command, argument, backend, kernels)
    except SpoiledError:
        return Failure(outcome=Outcome.CRASHED, message=traceback.format_exc())
    except Exception:  # noqa: BLE001 - a candidate may fail in any way; it becomes an outcome
        return Failure(outcome=failed, message=traceback.format_exc())


def _done(command: str, argument: Any, backend: Backend, kernels: list[Any]) -> Any:
    start = time.perf_counter()
    match command:
        case "build":
            job: Job = argument
            kernels.append(backend.builder.build(job.task, job.config))
            return time.perf_counter() - start
        case "give":
            given = list(kernels)
            kernels.clear()
            return given
        case "take":
            return kernels.extend(argument)
        case "run":
            before = backend.state()
            error, repeats = backend.runner.run(kernels.pop(0), argument)
            states = _known(before, backend.state())
            return error, repeats, time.perf_counter() - start, states
        case _:
            together, before = list(kernels), backend.state()
            kernels.clear()
            times = backend.runner.compare(together)
            return times, time.perf_counter() - start, _known(before, backend.state())


def _known(*states: State | None) -> list[State]:
    return [state for state in states if state is not None]
