"""Hosts as Ray actors, and as the broker's."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from chameleon_ray.env_settings import Env
from chameleon_ray.errors import ChameleonError, MachineError
from chameleon_ray.machine import usable_cores
from chameleon_ray.measure.backend import Device, target_here
from chameleon_ray.measure.bench import Bench
from chameleon_ray.measure.broker import HostLostError
from chameleon_ray.measure.child import Child
from chameleon_ray.measure.host import Done, Host, Work
from chameleon_ray.tasks import Target

_MOST_HOSTS = 16  # processes for simulated devices
_DEVICES_PER_HOST = 32
_POLL_SECONDS = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A machine of the cluster, as Ray has it."""

    id: str
    name: str
    gpus: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HostsWanted:
    """What measures a run, on each node of a cluster.

    Attributes:
        device: Words that the machine's name has; hosts on others are left out.
    """

    env: Env
    seed: int
    device: str = ""

    def wants(self, device: Device) -> bool:
        """Whether it is one that was asked for."""
        return self.device.casefold() in device.machine.casefold()

    def on(self, node: Node) -> list[HostSpec]:
        """The hosts of one node: for each GPU, for its CPU, or a few for simulated devices."""
        kind, places = "cpu", [self.env.runners]
        if self.env.on_gpus:
            kind, places = "gpu", [self.env.runners] * node.gpus
        elif self.env.simulated:
            hosts = min(_MOST_HOSTS, -(-self.env.devices // _DEVICES_PER_HOST))
            each, more = divmod(self.env.devices, hosts)
            kind, places = "simulated", [each + (i < more) for i in range(hosts)]
        return [
            HostSpec(
                name=f"{node.name} {kind}:{i}",
                node=node.id,
                wanted=self,
                places=n,
                gpus=node.gpus if kind == "gpu" else 0,
            )
            for i, n in enumerate(places)
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class HostSpec:
    """What a host is made of.

    Attributes:
        name: What its places are, for people.
        node: Where it runs.
        places: How many build at the same time, 0 for one per core, or per core and GPU; of
            simulated devices, how many there are.
        gpus: How many its node has, of which it has one to itself; 0 if it needs none.
    """

    name: str
    node: str
    wanted: HostsWanted
    places: int
    gpus: int = 0


def nodes_here() -> list[Node]:
    """The nodes of the cluster that are alive and compute; our own first."""
    here = ray.get_runtime_context().get_node_id()
    alive = [
        Node(
            id=node["NodeID"],
            name=node["NodeName"],
            gpus=int(node["Resources"].get("GPU", 0)),
        )
        for node in ray.nodes()
        if node["Alive"] and node["Resources"].get("CPU", 0) > 0
    ]
    return sorted(alive, key=lambda node: node.id != here)


def this_node() -> str:
    """The resource that only this machine's nodes have."""
    here = ray.get_runtime_context().get_node_id()
    (resources,) = (node["Resources"] for node in ray.nodes() if node["NodeID"] == here)
    return str(next(n for n in resources if n.startswith("node:") and "__internal" not in n))


def _places(target: Target, spec: HostSpec) -> int:
    """One for each core; of a machine with GPUs, each has its share of them."""
    return max(1, usable_cores() // spec.gpus) if spec.gpus else target.cores


class HostActor:
    """A host in an actor of its own."""

    def __init__(self, spec: HostSpec) -> None:
        self._spec = spec

    def start(self) -> Device | ChameleonError:
        """See `Host.start`; what it measures on, or why it cannot."""
        env, seed = self._spec.wanted.env, self._spec.wanted.seed
        try:
            target = target_here(env)
            self._places = self._spec.places or _places(target, self._spec)
            runner = Child(env, target, seed, "run") if self._spec.gpus else None
            self._host = Host(
                [Bench(env, target, seed, runner=runner) for _ in range(self._places)]
            )
            return self._host.start()
        except ChameleonError as error:
            return error

    def places(self) -> int:
        """How many pieces of work it does at a time."""
        return self._places

    def put(self, works: Sequence[Work]) -> None:
        """See `Host.put`."""
        self._host.put(works)

    def take(self, wait_seconds: float) -> list[Done]:
        """See `Host.take`."""
        return self._host.take(wait_seconds)


class RemoteHost:
    """A host actor as the broker's host (`broker.RemoteHost`)."""

    def __init__(self, spec: HostSpec) -> None:
        self.spec, self.name, self.places = spec, spec.name, spec.places
        options = {
            "num_cpus": 0,
            "num_gpus": min(spec.gpus, 1),
            "max_concurrency": 3,  # it puts while it takes
            "scheduling_strategy": NodeAffinitySchedulingStrategy(spec.node, soft=False),
        }
        self.actor = ray.remote(HostActor).options(**options).remote(spec)

    async def start(self) -> Device | ChameleonError:
        """What it measures on, or why it cannot."""
        try:
            found: Device | ChameleonError = await self.actor.start.remote()
            if isinstance(found, Device):
                self.places = await self.actor.places.remote()
        except RayError as error:
            return MachineError(
                f"{self.spec.name}: a measuring process was lost and no new one starts: {error}"
            )
        return found

    def end(self) -> None:
        """Give back what it has, if it still has anything."""
        with suppress(Exception):  # it may be gone, and its node with it
            ray.kill(self.actor)

    async def put(self, works: Sequence[Work]) -> None:
        """Queue pieces of work."""
        await self._call(self.actor.put.remote(works))

    async def take(self) -> list[Done]:
        """What is done, as soon as there is something."""
        done: list[Done] = await self._call(self.actor.take.remote(_POLL_SECONDS))
        return done

    async def _call(self, reference: Any) -> Any:
        try:
            return await reference
        except RayError as error:
            raise HostLostError(str(error)) from error
