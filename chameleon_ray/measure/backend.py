"""Backends: what builds and times inside the measuring child, chosen by the env's `measurer`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from chameleon_ray.plugins import load

if TYPE_CHECKING:
    from chameleon_ray.env_settings import Env
    from chameleon_ray.measure import Builder, Runner
    from chameleon_ray.tasks import Target


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """A builder and a runner that fit each other.

    Attributes:
        builder: Makes kernels; an empty config asks for torch's.
        runner: Times them.
        target: With `native` resolved.
        compiler: Name and version of what makes the code.
        has_torch: Whether torch's own kernel can be timed beside the others.
    """

    builder: Builder
    runner: Runner
    target: Target
    compiler: str
    has_torch: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """What a measuring child found itself on: the part of a backend that travels."""

    target: Target
    compiler: str
    has_torch: bool


def open_backend(env: Env, target: Target, seed: int) -> Backend:
    """The backend that the env names, opened for a target.

    Args:
        env: `measurer` is `tvm`, `simulated`, or `package.module:function`; the function takes
            the arguments of this one.
        target: What to measure for.
        seed: Of inputs and of simulated noise.

    Raises:
        SettingsError: There is no such module or function.
        MachineError: The target does not fit this machine.
    """
    match env.measurer:
        case "tvm":
            from chameleon_ray.measure.tvm import backend
        case "simulated":
            from chameleon_ray.measure.simulated import backend
        case name:
            backend = load(name, what="measurer")
    opened: Backend = backend(env, target, seed)
    return opened
