"""The command `status`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from chameleon_ray.cli_shared import Json, console, print_json, stdout_for_result

app = typer.Typer()


@app.command()
def status(
    address: Annotated[
        str | None,
        typer.Option(help="Of a Ray cluster.", show_default="the last one started here"),
    ] = None,
    as_json: Json = False,
) -> None:
    """Show what the runs on a Ray cluster are doing, and what measures them."""
    with stdout_for_result():
        from chameleon_ray import status as asked

        found = asked.runs(address)
    if as_json:
        print_json({"runs": [asdict(run) | {"seconds_left": run.seconds_left} for run in found]})
    elif found:
        asked.print_runs(found, console())
    else:
        print("No run of chameleon-ray is going on there.")
