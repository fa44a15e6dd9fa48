"""The command line: parse, call, print. What is heavy is imported by the command that needs it."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer
import typer.core

from chameleon_ray import (
    cli_compare,
    cli_database,
    cli_deploy,
    cli_fetch,
    cli_policy,
    cli_pretrain,
    cli_report,
    cli_search,
    cli_status,
)
from chameleon_ray.cli_shared import (
    Inputs,
    Json,
    LearnFrom,
    Network,
    Trust,
    console,
    count,
    experience_of,
    number,
    parse_layers,
    print_json,
    stdout_for_result,
    tell_of_waiting,
)
from chameleon_ray.errors import ChameleonError
from chameleon_ray.session import terminating_as_interrupt
from chameleon_ray.store import shown

if TYPE_CHECKING:
    from chameleon_ray.results import NetworkResult, Progress


class _Commands(typer.core.TyperGroup):
    """The commands; one that is interrupted before or after its work ends in order too."""

    def make_context(self, *arguments: Any, **options: Any) -> Any:
        """Typer calls this to parse."""
        with _ending_in_order():
            return super().make_context(*arguments, **options)

    def invoke(self, ctx: Any) -> Any:
        """Typer calls this with what was parsed."""
        with _ending_in_order():
            return super().invoke(ctx)


@contextlib.contextmanager
def _ending_in_order() -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
        raise typer.Exit(130) from None


app = typer.Typer(
    name="chameleon-ray",
    cls=_Commands,
    help="Finds the fastest code for each layer of a neural network, with few measurements.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command and exit with its code: 0, 2 for what the user can mend, 130 if interrupted.

    Ctrl-C and SIGTERM interrupt.

    Args:
        arguments: What follows the program's name; by default what the shell gave.
    """
    try:
        with terminating_as_interrupt():
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
    inputs: Inputs = "",
    trust: Trust = False,
    env: Annotated[str, typer.Option(help="What is measured: a name in envs/, or a file.")] = "cpu",
    policy: Annotated[
        str, typer.Option(help="How to search: a name in policies/, or a file.")
    ] = "chameleon",
    layers: Annotated[
        str | None, typer.Option(help="Which layers, by number: 1,4,11.", show_default="all")
    ] = None,
    trials: Annotated[
        int | None,
        typer.Option(
            parser=count,
            metavar="N",
            help="Most measurements per layer.",
            show_default="policy's",
        ),
    ] = None,
    time_budget: Annotated[
        str | None, typer.Option(metavar="DURATION", help="Have the result after 90s, 10m, 1.5h.")
    ] = None,
    run: Annotated[
        str | None,
        typer.Option(
            metavar="RUN",
            help="Run folder, or a URL such as s3://bucket/runs/mine; one that exists is gone on "
            "with.",
            show_default="runs/...",
        ),
    ] = None,
    seed: Annotated[
        int,
        typer.Option(parser=number, metavar="N", help="Of all random draws."),
    ] = 0,
    address: Annotated[
        str | None, typer.Option(help="A running Ray cluster, or auto.", show_default="own Ray")
    ] = None,
    device: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="Part of the name of the machines to measure on.",
            show_default="as this one",
        ),
    ] = "",
    learn_from: LearnFrom = None,
    prior: Annotated[
        bool, typer.Option(help="On a CPU, learn from what ships: measurements of ours.")
    ] = True,
    cold: Annotated[
        bool, typer.Option("--cold", help="Learn from nothing, nor one layer from another.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Tune the convolutions of NETWORK and print what was gained."""
    from chameleon_ray.run_folder import new_folder

    folder = run or new_folder(network)
    numbers = parse_layers(layers)
    seconds = _seconds(time_budget)
    busy = _busy()
    experience = experience_of(learn_from, besides=folder)
    tell_of_waiting(folder)
    try:
        with stdout_for_result(), _live() as on_progress:
            from chameleon_ray import network_tuner

            result = network_tuner.tune(
                network,
                inputs=inputs,
                trust=trust,
                env=env,
                policy=policy,
                layers=numbers,
                trials=trials,
                time_budget_seconds=seconds,
                run=folder,
                seed=seed,
                address=address,
                device=device,
                learn_from=experience or (),
                use_prior=prior,
                cold=cold,
                on_progress=on_progress,
            )
    except KeyboardInterrupt:
        print(
            f"Stopped; the same command with --run {shown(folder)} goes on from here.",
            file=sys.stderr,
        )
        raise typer.Exit(130) from None
    _print_result(result, as_json=as_json)
    if busy and "simulated" not in result.device:
        print(busy, file=sys.stderr)
    if all(layer.best_seconds is None for layer in result.layers):  # nothing was tuned
        raise typer.Exit(2)


@app.command("layers")
def list_layers(
    network: Network, inputs: Inputs = "", trust: Trust = False, as_json: Json = False
) -> None:
    """List the layers of NETWORK, and how many ways there are to code each."""
    from chameleon_ray import listing

    found = listing.examined(network, inputs, trust=trust)
    rows = listing.rows(found)
    if as_json:
        print_json(listing.to_json(found, rows))
    else:
        listing.print_all(found, rows, console())


@app.command()
def show(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run folder, or its URL.")],
    as_json: Json = False,
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
app.add_typer(cli_policy.app)
app.add_typer(cli_pretrain.app)
app.add_typer(cli_report.app)
app.add_typer(cli_status.app)
app.add_typer(cli_fetch.app)
app.add_typer(cli_deploy.app)
app.add_typer(cli_database.app)


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
