"""Two processes: one builds candidates, and another, which alone has the GPU, runs them."""

from __future__ import annotations

from typing import Any

from chameleon_ray.env_settings import Env
from chameleon_ray.measure import Kernel
from chameleon_ray.measure.backend import Device, Failure
from chameleon_ray.measure.child import Child


class Pair:
    """What a `child.Child` is, in two: a candidate that ends one of them leaves the other alone.

    Args:
        env: Timeouts and the like.
        seed: Of the random inputs.
        runner: The one that runs; whoever runs something has its lease.
    """

    def __init__(self, env: Env, seed: int, runner: Child) -> None:
        self._env, self._seed, self._runner = env, seed, runner
        self._builder: Child | None = None
        self._built: list[Kernel] = []

    def start(self) -> Device:
        """Start both; what they measure on.

        Raises:
            MachineError: One does not start.
        """
        device = self._runner.start()
        self._builder = self._builder or Child(self._env, device.target, self._seed, "build")
        self._builder.start()
        return device

    @property
    def device(self) -> Device:
        """What it measures on; the runner was started before."""
        return self._runner.device

    def ask(self, command: str, argument: object, timeout_seconds: float) -> Any:
        """The answer of one of them, or a `Failure` if it died or did not answer in time.

        Raises:
            MachineError: One is gone and does not start again.
        """
        if command == "build":
            return self._build(argument, timeout_seconds)
        running = self._built if command == "compare" else self._built[:1]
        self._built = self._built[len(running) :]
        taken = self._runner.ask("take", running, self._env.start_timeout_seconds)
        answer = (
            taken
            if isinstance(taken, Failure)
            else self._runner.ask(command, argument, timeout_seconds)
        )
        if isinstance(answer, Failure) and answer.outcome.deadly:
            self._built.clear()  # whoever asked builds them again, as with a single child
        return answer

    def _build(self, job: object, timeout_seconds: float) -> Any:
        if self._builder is None:  # the host's first bench has started the runner
            device = self._runner.device
            self._builder = Child(self._env, device.target, self._seed, "build")
        answer = self._builder.ask("build", job, timeout_seconds)
        if isinstance(answer, Failure):
            return answer
        given = self._builder.ask("give", None, self._env.start_timeout_seconds)
        if isinstance(given, Failure):
            return given
        self._built += given
        return answer

    def kill(self) -> None:
        """End what builds, and forget what it built; what runs is others', too."""
        self._built.clear()
        if self._builder is not None:
            self._builder.kill()
