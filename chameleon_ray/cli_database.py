"""`chameleon-ray database`: the best configs of many runs in one file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from chameleon_ray.cli_shared import Json, console, print_json

if TYPE_CHECKING:
    from chameleon_ray.deploy.database import Entry

app = typer.Typer(
    name="database",
    help="Keep the best configurations of runs in one file, to be shared and deployed from.",
    no_args_is_help=True,
)

File = Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="The database to write.")]


@app.command()
def export(
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help="Run folders, or URLs.")],
    out: File,
) -> None:
    """Write the best configuration of each layer of RUN... to a database."""
    from chameleon_ray.deploy.database import entries_of

    _write([entry for run in runs for entry in entries_of(run)], out)


@app.command()
def merge(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Databases.")],
    out: File,
) -> None:
    """Write the best of several databases to one."""
    from chameleon_ray.deploy.database import read_database

    _write([entry for file in files for entry in read_database(file)], out)


@app.command("list")
def list_entries(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A database.")],
    as_json: Json = False,
) -> None:
    """List what a database holds."""
    from dataclasses import asdict

    from chameleon_ray.deploy import shown
    from chameleon_ray.deploy.database import read_database

    entries = read_database(file)
    if as_json:
        print_json({"entries": [asdict(entry) for entry in entries]})
    else:
        shown.print_entries(entries, console())


def _write(entries: list[Entry], out: Path) -> None:
    from chameleon_ray.deploy.database import merged, write_database
    from chameleon_ray.errors import SettingsError

    if not entries:
        raise SettingsError("database: nothing that was given has a time; nothing is written.")
    if out.suffix != ".parquet":
        raise SettingsError(f"-o: {out}: a database's name ends in .parquet.")
    best = merged(entries)
    write_database(best, out)
    print(f"{out}: {len(best)} layers on {len({e.machine for e in best})} kinds of machine")
