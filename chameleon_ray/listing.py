"""The layers of a network as a table: what `chameleon-ray layers` shows."""

from __future__ import annotations

from dataclasses import dataclass

from rich.table import Table

from chameleon_ray.machine import cpu, usable_cores
from chameleon_ray.networks import network
from chameleon_ray.tasks import Layer, Target
from chameleon_ray.templates import design_space


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One layer, and how many configs its design space has on this machine's CPU."""

    layer: Layer
    space_size: int

    def to_json(self) -> dict[str, object]:
        """The row as plain values."""
        return {
            "layer": self.layer.index,
            "task": self.layer.task.key,
            "uses": self.layer.uses,
            "gflop": self.layer.task.flop / 1e9,
            "space_size": self.space_size,
            "name": self.layer.name,
        }


def rows(name: str) -> list[Row]:
    """The layers of a network.

    Raises:
        UnknownNameError: There is no such network.
    """
    layers = network(name)
    target = Target(lanes=cpu().lanes, cores=usable_cores())
    return [Row(layer=x, space_size=design_space(x.task, target).size) for x in layers]


def table(name: str, listed: list[Row]) -> Table:
    """The layers for people."""
    lanes = cpu().lanes
    result = Table(
        title=f"{name}; spaces for this CPU ({lanes} lanes)", title_justify="left", box=None
    )
    for head in ("#", "layer", "uses", "output", "GFLOP", "configs"):
        result.add_column(head, justify="left" if head == "layer" else "right", no_wrap=True)
    for row in listed:
        task = row.layer.task
        result.add_row(
            str(row.layer.index),
            row.layer.name,
            str(row.layer.uses),
            f"{task.out_channels}x{task.out_height}x{task.out_width}",
            f"{task.flop / 1e9:.4f}",
            f"{row.space_size:,}",
        )
    return result
