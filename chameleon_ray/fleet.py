"""The hosts of a run: which there are, which fit together, and who replaces a lost one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from chameleon_ray.errors import ChameleonError, MachineError
from chameleon_ray.measure.backend import Device
from chameleon_ray.measure.pool import HostsWanted, RemoteHost, nodes_here

T = TypeVar("T")
Started = asyncio.Task[Device | ChameleonError]

_MOST_STARTS = 3


class Fleet:
    """Hosts on all nodes of a cluster, all of one kind.

    Args:
        wanted: What they are.
        do: Does something beside all else.

    Attributes:
        kind: Of their devices, once one has started.
        ready: Those that have started and were not taken yet.
    """

    def __init__(
        self, wanted: HostsWanted, do: Callable[[Coroutine[Any, Any, None]], None]
    ) -> None:
        self._wanted, self._do = wanted, do
        self._nodes: set[str] = set()
        self._left_out: list[str] = []
        self._waited_for: dict[str, str] = {}
        self.kind: Device | None = None
        self.ready: list[RemoteHost] = []

    async def start(self) -> Device | ChameleonError:
        """Start the hosts of all nodes; what they measure on, or why they cannot.

        The first of those that were asked for, this node's before others, says what kind of device
        the run measures on: what is of another kind is left out, for its times would be others. One
        that does not start in time, because another run has its GPU, joins when it does.
        """
        starting = await self._begin()
        if starting:
            await asyncio.wait(starting.values(), timeout=self._wanted.env.start_timeout_seconds)
        errors = []
        for host, started in starting.items():
            if not started.done():
                self._waited_for[host.name] = "has not started: another run may have its device"
                self._do(self._join(host, started))
            elif error := self._accept(host, started.result()):
                errors.append(error)
        return self.kind or (errors or [self._none()])[0]

    async def look(self) -> None:
        """Start the hosts of nodes that have joined; they are ready when they are."""
        for host, started in (await self._begin()).items():
            self._do(self._join(host, started))

    async def replace(self, lost: RemoteHost) -> RemoteHost:
        """The successor of a host.

        Raises:
            MachineError: None starts.
        """
        lost.end()  # it may be there still, with its GPU
        error = MachineError(f"{lost.name}: no host starts there")
        for _ in range(_MOST_STARTS):
            host = RemoteHost(lost.spec)
            device = await _within(host.start(), self._wanted.env.start_timeout_seconds)
            if isinstance(device, Device) and self.kind and device.same_kind(self.kind):
                return host
            host.end()
            if device is not None:
                why = device if isinstance(device, ChameleonError) else f"is a {device.machine} now"
                error = MachineError(f"{lost.name}: {why}")
        raise error

    def missing(self) -> list[str]:
        """What does not measure, and why."""
        return [*self._left_out, *(f"{name}: {why}" for name, why in self._waited_for.items())]

    async def _begin(self) -> dict[RemoteHost, Started]:
        """Begin to start the hosts of nodes that are new."""
        nodes = await asyncio.to_thread(nodes_here)
        new = [node for node in nodes if node.id not in self._nodes]
        self._nodes = {node.id for node in nodes}
        hosts = [RemoteHost(spec) for node in new for spec in self._wanted.on(node)]
        return {host: asyncio.create_task(host.start()) for host in hosts}

    async def _join(self, host: RemoteHost, started: Started) -> None:
        """Have a host once it has started."""
        device = await started
        self._waited_for.pop(host.name, None)
        self._accept(host, device)

    def _accept(self, host: RemoteHost, device: Device | ChameleonError) -> ChameleonError | None:
        """Have a host, or leave it out; why it did not start, if it did not."""
        if isinstance(device, ChameleonError):
            self._left_out.append(f"{host.name}: {device}")
            return device
        if self.kind is None and self._wanted.wants(device):
            self.kind = device
        if self.kind is not None and device.same_kind(self.kind):
            self.ready.append(host)
        else:
            self._left_out.append(f"{host.name}: is a {device.machine}")
            host.end()
        return None

    def _none(self) -> MachineError:
        """Why there is nothing to measure on, where nothing went wrong."""
        if self._waited_for:
            return MachineError(
                f"Nothing to measure on: {'; '.join(self.missing())}. Wait for the other run to "
                "end; `chameleon-ray status` tells what it is doing."
            )
        if not self._left_out:
            return MachineError(
                "Ray knows of no GPU here. Check `nvidia-smi`; on a cluster, that its nodes were "
                "started with --num-gpus, or where Ray finds them. --env cpu takes none."
            )
        return MachineError(
            f"No machine here is called {self._wanted.device!r}. There are: "
            f"{'; '.join(self._left_out)}. --device takes a part of such a name, or leave it out."
        )


async def _within(starting: Coroutine[Any, Any, T], seconds: float) -> T | None:
    """What comes of it in so many seconds, if anything does."""
    try:
        return await asyncio.wait_for(starting, seconds)
    except TimeoutError:
        return None
