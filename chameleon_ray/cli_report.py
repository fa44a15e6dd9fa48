"""The command `report`: one HTML page of one or more runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer()


@app.command()
def report(
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help="Run folders, or URLs.")],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="FILE.html",
            help="The page; its figures lie beside it, in a folder of the same name.",
            show_default="RUN/report.html, of several runs or a URL ./report.html",
        ),
    ] = None,
) -> None:
    """Write one HTML page of runs, finished or not, and its figures as SVG."""
    from chameleon_ray.page.write import write_report

    page, *figures = write_report(runs, out)
    print(f"{page}, and {len(figures)} figures in {page.with_suffix('')}" if figures else page)
