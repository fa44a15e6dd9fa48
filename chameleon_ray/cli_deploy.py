"""`chameleon-ray deploy` and `bench`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from chameleon_ray.cli_shared import (
    Inputs,
    Json,
    Trust,
    console,
    count,
    print_json,
    stdout_for_result,
    whole,
)

app = typer.Typer()


@app.command()
def deploy(
    what: Annotated[
        str,
        typer.Argument(
            metavar="RUN|NETWORK", help="A run folder of a model, or a model, as `tune` takes it."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="The folder to make.")],
    records: Annotated[
        list[str] | None,
        typer.Option(
            "--from", metavar="RUN|DATABASE", help="More runs, or databases, with equal layers."
        ),
    ] = None,
    inputs: Inputs = "",
    trust: Trust = False,
    threads: Annotated[
        int | None,
        typer.Option(
            parser=count,
            metavar="N",
            help="Cores that it will run on.",
            show_default="all",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Compile a model with the best known code for each of its layers."""
    with stdout_for_result():
        from chameleon_ray.deploy.build import deploy as build

        deployed = build(
            what, out, inputs=inputs, trust=trust, records=records or (), threads=threads or 0
        )
    from chameleon_ray.deploy import shown

    shown.print_deployed(deployed, out, console(stderr=as_json))
    if as_json:
        print_json(deployed.to_json())


@app.command()
def bench(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder that deploy made.")],
    trust: Trust = False,
    turns: Annotated[
        int,
        typer.Option(
            parser=lambda text: whole(text, least=2), metavar="N", help="Of each contender."
        ),
    ] = 20,
    as_json: Json = False,
) -> None:
    """Time a deployed model beside torch, torch.compile and onnxruntime, in turns."""
    with stdout_for_result():
        from chameleon_ray.deploy.bench import bench as compare

        found = compare(
            folder,
            trust=trust,
            turns=turns,
            on_start=lambda name: print(f"starting {name} ...", file=sys.stderr),
        )
    from chameleon_ray.deploy import shown

    shown.print_comparison(found, console(stderr=as_json))
    if as_json:
        print_json(shown.comparison_to_json(found))
