"""The commands about recorded spaces: `replay` searches one, `record` writes one."""

from __future__ import annotations

import typer

app = typer.Typer()


@app.command()
def replay() -> None:
    """Search recorded spaces: whole kernels that somebody measured, on the device they name."""


@app.command()
def record() -> None:
    """Write a run, or a sweep of one layer, as a recorded space."""
