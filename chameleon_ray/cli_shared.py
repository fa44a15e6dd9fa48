"""What the command line's modules have in common: options, and how results are printed."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from chameleon_ray.errors import SettingsError

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


def parse_layers(text: str) -> tuple[int, ...]:
    """Layer numbers written as `1,4,11`; none if the text is empty.

    Raises:
        SettingsError: Something between the commas is not a number.
    """
    numbers = []
    for part in text.split(",") if text.strip() else []:
        if not part.strip().isdecimal():
            raise SettingsError(
                f"--layers: {part.strip()!r} is not a layer number. Write numbers and commas, "
                "1,4,11; `chameleon-ray layers NETWORK` lists them."
            )
        numbers.append(int(part))
    return tuple(numbers)


def refuse_recorded(env: str) -> None:
    """A recorded space has no layers.

    Raises:
        SettingsError: The env asks files.
    """
    from chameleon_ray.presets import load_env

    if load_env(env)[1].measurer == "recorded":
        raise SettingsError(
            f"--env: {env!r} answers from recorded spaces, which are no networks: search one with "
            "`chameleon-ray replay SPACE`. Here --env is cpu, simulated, or one of your own."
        )


@contextlib.contextmanager
def stdout_for_result() -> Iterator[None]:
    """Sends to stderr what compilers and workers write on stdout, below Python too."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
