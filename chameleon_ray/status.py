"""What the runs on a Ray cluster are doing, asked from outside."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from chameleon_ray.live import layers_table
from chameleon_ray.results import RunStatus
from chameleon_ray.session import answer, ray_session
from chameleon_ray.text import duration

_REMEDY = "A run without --address has a Ray of its own while it goes on: ask then."
_GONE = "It may have ended in this moment; ask again."


def runs(address: str | None = None) -> list[RunStatus]:
    """The state of each run on a cluster, by folder.

    Args:
        address: Of the cluster; by default the one that was started last on this machine, such as
            that of a `chameleon-ray tune`.

    Raises:
        MachineError: There is no Ray, or it cannot be reached.
    """
    with ray_session(address=address or "auto", cpus=0, remedy=_REMEDY):
        import ray

        from chameleon_ray.coordinator import NAMESPACE, PREFIX

        named = ray.util.list_named_actors(all_namespaces=True)
        names = [a["name"] for a in named if a["namespace"] == NAMESPACE]
        handles = [
            ray.get_actor(name, namespace=NAMESPACE) for name in names if name.startswith(PREFIX)
        ]
        found = [answer(handle.status.remote(), then=_GONE) for handle in handles]
    return sorted(found, key=lambda status: status.run)


def print_runs(found: Sequence[RunStatus], console: Console) -> None:
    """Each run: its layers, what measures them, and how fast."""
    for status in found:
        console.print(_table(status))


def _table(status: RunStatus) -> RenderableType:
    hosts = Table(box=None, padding=(0, 1), expand=False)
    for name in ("measured by", "places", "in hand", "done", "failed"):
        hosts.add_column(name, justify="left" if name == "measured by" else "right")
    for host in status.hosts:
        numbers = (host.places, host.in_hand, host.done, host.failed)
        hosts.add_row(host.name, *map(str, numbers))
    return Group(
        Text(f"{status.run}, on {status.device}", style="bold"),
        layers_table(status.layers),
        hosts,
        *(Text(f"{h.name} rests: {h.resting}", style="yellow") for h in status.hosts if h.resting),
        *(Text(f"left out: {what}", style="yellow") for what in status.left_out),
        Text(
            f"{status.measured} measured since it began or went on, {status.failed} failed; "
            f"{status.per_second:.3g}/s of late; {status.waiting} waiting{_left(status)}\n"
        ),
    )


def _left(status: RunStatus) -> str:
    seconds = status.seconds_left
    return f"; about {duration(seconds)} left" if seconds else ""
