"""The layers of a network as a table: what `chameleon-ray layers` shows."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from rich.console import Console
from rich.table import Table

from chameleon_ray import report
from chameleon_ray.machine import cpu, usable_cores
from chameleon_ray.networks import Network
from chameleon_ray.networks.lookup import look_up
from chameleon_ray.space import DesignSpace
from chameleon_ray.tasks import Layer, Target
from chameleon_ray.templates import design_space


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One layer, and its design space on this machine's CPU.

    Attributes:
        space_size: Configs, valid or not.
        valid: Those that the static constraints allow: what there is to measure.
        counted: Whether that is exact; spaces of more than a million are estimated.
    """

    layer: Layer
    space_size: int
    valid: int
    counted: bool

    def to_json(self) -> dict[str, object]:
        """The row as plain values."""
        return {
            "layer": self.layer.index,
            "task": self.layer.task.key,
            "uses": self.layer.uses,
            "gflop": self.layer.task.flop / 1e9,
            "space_size": self.space_size,
            "valid": self.valid,
            "valid_is_exact": self.counted,
            "name": self.layer.name,
        }


def examined(name: str, inputs: str, *, trust: bool) -> Network:
    """The network that NETWORK names, for this CPU; arguments and errors as of `look_up`."""
    return look_up(name, _here(), inputs, trust=trust)


def rows(found: Network) -> list[Row]:
    """The layers of a network."""
    return [_row(layer, design_space(layer.task, _here())) for layer in found.layers]


def _here() -> Target:
    return Target(lanes=cpu().lanes, cores=usable_cores())


def _row(layer: Layer, space: DesignSpace) -> Row:
    counted = space.count_valid()
    return Row(
        layer=layer,
        space_size=space.size,
        valid=space.estimate_valid() if counted is None else counted,
        counted=counted is not None,
    )


def to_json(found: Network, listed: list[Row]) -> dict[str, object]:
    """The layers for programs."""
    return {
        "network": found.name,
        "layers": [row.to_json() for row in listed],
        "untuned": [asdict(one) for one in found.untuned],
    }


def print_all(found: Network, listed: list[Row], console: Console) -> None:
    """The layers for people, and what is not tuned."""
    console.print(_table(found.name, listed))
    for line in report.untuned(found.untuned):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _table(name: str, listed: list[Row]) -> Table:
    lanes = cpu().lanes
    result = Table(
        title=f"{name}; spaces for this CPU ({lanes} lanes)", title_justify="left", box=None
    )
    for head in ("#", "layer", "uses", "output", "GFLOP", "valid configs", "of"):
        result.add_column(head, justify="left" if head == "layer" else "right", no_wrap=True)
    for row in listed:
        task = row.layer.task
        result.add_row(
            str(row.layer.index),
            row.layer.name,
            str(row.layer.uses),
            "x".join(map(str, task.output)),
            f"{task.flop / 1e9:.4f}",
            f"{'' if row.counted else '~'}{row.valid:,}",
            f"{row.space_size:,}",
        )
    return result
