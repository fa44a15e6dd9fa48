"""Benches as Ray actors, and as the broker's workers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from chameleon_ray.env_settings import Env
from chameleon_ray.errors import ChameleonError
from chameleon_ray.measure import Job, Measurement
from chameleon_ray.measure.backend import Device
from chameleon_ray.measure.bench import Bench
from chameleon_ray.measure.broker import WorkerLostError
from chameleon_ray.tasks import Target


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchSpec:
    """What a bench actor is made of."""

    env: Env
    target: Target
    seed: int


class BenchActor:
    """A bench in an actor of its own."""

    def __init__(self, spec: BenchSpec) -> None:
        self._bench = Bench(spec.env, spec.target, spec.seed)

    def start(self) -> Device | ChameleonError:
        """Start the child; what it measures on, or why it cannot."""
        try:
            return self._bench.start()
        except ChameleonError as error:
            return error

    def measure(self, jobs: Sequence[Job]) -> list[Measurement]:
        """See `Bench.measure_all`."""
        return self._bench.measure_all(jobs)

    def compare(self, jobs: Sequence[Job]) -> list[Measurement]:
        """See `Bench.compare`."""
        return self._bench.compare(jobs)


class RemoteBench:
    """A bench actor as the broker's worker. It runs where the broker runs."""

    def __init__(self, spec: BenchSpec) -> None:
        here = ray.get_runtime_context().get_node_id()
        options = {
            "num_cpus": 0,
            "scheduling_strategy": NodeAffinitySchedulingStrategy(here, soft=False),
        }
        self.actor = ray.remote(BenchActor).options(**options).remote(spec)

    async def measure(self, jobs: Sequence[Job]) -> list[Measurement]:
        """Build, check and time some configs, one after another."""
        measurements: list[Measurement] = await self._call(self.actor.measure.remote(jobs))
        return measurements

    async def compare(self, jobs: Sequence[Job]) -> list[Measurement]:
        """Time several in turns."""
        measurements: list[Measurement] = await self._call(self.actor.compare.remote(jobs))
        return measurements

    async def _call(self, reference: Any) -> Any:
        try:
            return await reference
        except RayError as error:
            raise WorkerLostError(str(error)) from error
