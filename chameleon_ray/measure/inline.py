"""A device in the process that asks it: for devices that are a formula and cannot crash."""

from __future__ import annotations

from typing import Any

from chameleon_ray.env_settings import Env
from chameleon_ray.measure import Kernel
from chameleon_ray.measure.backend import Backend, Device, answer, open_backend
from chameleon_ray.tasks import Target


class Inline:
    """What a `child.Child` is, without a process of its own: nothing is limited, nothing killed.

    Args:
        env: Names the backend.
        target: What to measure for.
        seed: Of simulated noise.
    """

    def __init__(self, env: Env, target: Target, seed: int) -> None:
        self._arguments = env, target, seed
        self._backend: Backend | None = None
        self._kernels: list[Kernel] = []

    def start(self) -> Device:
        """Open the backend; what it measures on."""
        return self.device

    @property
    def device(self) -> Device:
        """What it measures on."""
        return self._opened().device

    def ask(self, command: str, argument: object, timeout_seconds: float) -> Any:
        """The backend's answer, or a `Failure`; it may take as long as it likes."""
        del timeout_seconds
        return answer(command, argument, self._opened(), self._kernels)

    def kill(self) -> None:
        """Forget the kernels."""
        self._kernels.clear()

    def _opened(self) -> Backend:
        self._backend = self._backend or open_backend(*self._arguments)
        return self._backend
