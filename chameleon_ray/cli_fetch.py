"""The command `fetch`: a run comes home."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer()


@app.command()
def fetch(
    run: Annotated[
        str, typer.Argument(metavar="URL", help="Of a run, such as s3://bucket/runs/mine.")
    ],
    folder: Annotated[
        Path | None,
        typer.Argument(
            metavar="FOLDER", help="Where to; a new or an empty one.", show_default="runs/..."
        ),
    ] = None,
) -> None:
    """Copy a run from a store into a run folder of this machine."""
    from chameleon_ray.fetch import fetch as fetched

    home, measurements = fetched(run, folder)
    print(f"{home}: {measurements:,} measurements; `chameleon-ray show {home}` shows them.")
