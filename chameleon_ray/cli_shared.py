"""What the command line's modules have in common: options, and how results are printed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

Network = Annotated[str, typer.Argument(metavar="NETWORK", help="resnet18, vgg16 or alexnet.")]
Json = Annotated[
    bool, typer.Option("--json", help="One object on one line on stdout; all else on stderr.")
]


def whole(text: str | int, *, least: int) -> int:
    """A whole number from the command line.

    Raises:
        typer.BadParameter: Not a number, or a smaller one.
    """
    if not str(text).strip().isdecimal() or int(text) < least:
        raise typer.BadParameter(f"{text!r} is not a whole number of at least {least}.")
    return int(text)


def console(*, stderr: bool = False) -> Console:
    """Where tables go."""
    from rich.console import Console

    return Console(stderr=stderr)


def print_json(value: object) -> None:
    """One object on one line, at once."""
    print(json.dumps(value, allow_nan=False), flush=True)
