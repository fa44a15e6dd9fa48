"""The command line: parse, call, print. What is heavy is imported by the command that needs it."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from chameleon_ray import cli_compare, cli_report, cli_search
from chameleon_ray.cli_shared import (
    Json,
    Network,
    console,
    parse_layers,
    print_json,
    stdout_for_result,
    whole,
)
from chameleon_ray.errors import ChameleonError

if TYPE_CHECKING:
    from chameleon_ray.results import NetworkResult, Progress

app = typer.Typer(
    name="chameleon-ray",
    help="Finds the fastest code for each layer of a neural network, with few measurements.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command and exit with its code: 0, 2 for what the user can mend, 130 for Ctrl-C.

    Args:
        arguments: What follows the program's name; by default what the shell gave.
    """
    try:
        app(args=arguments, prog_name="chameleon-ray")
    except ChameleonError as error:
        print(f"chameleon-ray: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        print("chameleon-ray: no space left where the output goes; free some.", file=sys.stderr)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # for what is still in the buffer
        sys.exit(2)


@app.command()
def tune(
    network: Network,
    env: Annotated[str, typer.Option(help="What is measured: a name in envs/, or a file.")] = "cpu",
    policy: Annotated[
        str, typer.Option(help="How to search: a name in policies/, or a file.")
    ] = "chameleon",
    layers: Annotated[
        str, typer.Option(help="Which layers, by number: 1,4,11.", show_default="all")
    ] = "",
    trials: Annotated[
        int | None,
        typer.Option(
            parser=lambda text: whole(text, least=1),
            metavar="N",
            help="Most measurements per layer.",
            show_default="policy's",
        ),
    ] = None,
    time_budget: Annotated[
        str | None, typer.Option(metavar="DURATION", help="Stop after 90s, 10m, 1.5h.")
    ] = None,
    run: Annotated[
        Path | None,
        typer.Option(help="Run folder; one that exists is gone on with.", show_default="runs/..."),
    ] = None,
    seed: Annotated[
        int,
        typer.Option(
            parser=lambda text: whole(text, least=0), metavar="N", help="Of all random draws."
        ),
    ] = 0,
    address: Annotated[
        str | None, typer.Option(help="A running Ray cluster, or auto.", show_default="own Ray")
    ] = None,
    as_json: Json = False,
) -> None:
    """Tune the convolutions of NETWORK and print what was gained."""
    folder = run or Path("runs") / f"{network}-{time.strftime('%Y%m%d-%H%M%S')}"
    numbers = parse_layers(layers)
    seconds = _seconds(time_budget)
    busy = _busy()
    try:
        with stdout_for_result(), _live() as on_progress:
            from chameleon_ray import network_tuner

            result = network_tuner.tune(
                network,
                env=env,
                policy=policy,
                layers=numbers,
                trials=trials,
                time_budget_seconds=seconds,
                run=folder,
                seed=seed,
                address=address,
                on_progress=on_progress,
            )
    except KeyboardInterrupt:
        print(f"Stopped; the same command with --run {folder} goes on from here.", file=sys.stderr)
        raise typer.Exit(130) from None
    _print_result(result, as_json=as_json)
    if busy and "simulated" not in result.device:
        print(busy, file=sys.stderr)
    if all(layer.best_seconds is None for layer in result.layers):  # nothing was tuned
        raise typer.Exit(2)


@app.command("layers")
def list_layers(network: Network, as_json: Json = False) -> None:
    """List the layers of NETWORK, and how many ways there are to code each."""
    from chameleon_ray import listing

    rows = listing.rows(network)
    if as_json:
        print_json({"network": network, "layers": [row.to_json() for row in rows]})
    else:
        console().print(listing.table(network, rows))


@app.command()
def show(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")], as_json: Json = False
) -> None:
    """Show what the journal of a run folder holds: each layer's best so far."""
    from chameleon_ray import history

    state = history.load(run)
    if as_json:
        print_json(history.to_json(state))
    else:
        history.print_report(state, console())


@app.command()
def doctor(as_json: Json = False) -> None:
    """Check what of this machine works, and say how to mend the rest."""
    from chameleon_ray import doctor as checks

    found = []
    for check in checks.examine():
        found.append(check)
        print(check.text(), file=sys.stderr if as_json else sys.stdout, flush=True)
    usable = checks.usable(found)
    if as_json:
        print_json({"usable": usable, "checks": [check.to_json() for check in found]})
    else:
        print("Tuning on the CPU works." if usable else "Tuning on the CPU would not work.")
    raise typer.Exit(0 if usable else 2)


@app.callback(invoke_without_command=True)
def _options(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        import chameleon_ray

        print(chameleon_ray.__version__)
        raise typer.Exit


# More commands, a module each.
app.add_typer(cli_search.app)
app.add_typer(cli_compare.app)
app.add_typer(cli_report.app)


def _seconds(duration: str | None) -> float | None:
    from chameleon_ray.text import parse_duration

    return None if duration is None else parse_duration(duration, where="--time-budget")


def _busy() -> str:
    """What to say about other work on this machine; empty if there is little."""
    from chameleon_ray.machine import usable_cores

    load, cores = os.getloadavg()[0], usable_cores()
    if load <= 0.5 * cores:
        return ""
    return (
        f"Note: the machine was busy when this began (load {load:.1f} on {cores} cores); times may "
        "be far off, ours and torch's. Measure again when it is idle."
    )


def _live() -> contextlib.AbstractContextManager[Callable[[Progress], None]]:
    from chameleon_ray.live import live

    return live()


def _print_result(result: NetworkResult, *, as_json: bool) -> None:
    from chameleon_ray.report import report, to_json

    report(result, console(stderr=as_json))
    if as_json:
        print_json(to_json(result))
