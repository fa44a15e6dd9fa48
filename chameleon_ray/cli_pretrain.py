"""The command `pretrain`: an agent that carries over, trained on many spaces, as a file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from chameleon_ray.cli_shared import Json, console, count, number, print_json, stdout_for_result
from chameleon_ray.files import check_out

if TYPE_CHECKING:
    from chameleon_ray.learning.agent_file import AgentFile

app = typer.Typer()


@app.command()
def pretrain(
    space: Annotated[
        list[str],
        typer.Option(
            metavar="SPACE",
            help="Walked in training: a recorded space (a file, or a shipped one), "
            "cpu:NETWORK:LAYER or cuda:NETWORK:LAYER (simulated), lookup:FILE. May be repeated.",
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="FILE.safetensors", help="Where the agent goes.")],
    held_out: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SPACE",
            help="Not walked in training; the agent is scored on it before and after. "
            "May be repeated.",
            show_default=False,
        ),
    ] = None,
    iterations: Annotated[
        int,
        typer.Option(parser=count, metavar="N", help="Updates of the agent."),
    ] = 200,
    workers: Annotated[
        int,
        typer.Option(
            parser=number,
            metavar="N",
            help="Rollout workers, a process each; 0: this one walks.",
        ),
    ] = 0,
    seed: Annotated[
        int,
        typer.Option(parser=number, metavar="N", help="Of everything."),
    ] = 0,
    as_json: Json = False,
) -> None:
    """Train an agent that walks any space, and write it to a file with its card."""
    from chameleon_ray.agent_training import train_agent
    from chameleon_ray.pretraining import PretrainSettings

    held = held_out or []
    check_out(out, [".safetensors"])
    settings = PretrainSettings(iterations=iterations, workers=workers, seed=seed)

    def tell(iteration: int, worth: float) -> None:
        if iteration % 10 == 0 or iteration == iterations:
            print(f"{iteration} of {iterations}: a walk gained {worth:.3f}", file=sys.stderr)

    with stdout_for_result():
        agent = train_agent(space, held, settings, out, command=_command(), progressed=tell)
    _print(agent, out, as_json=as_json)
    if agent.card["iterations"] < iterations:
        print(f"Stopped after {agent.card['iterations']} of {iterations} updates.", file=sys.stderr)
        raise typer.Exit(130)


def _command() -> str:
    return " ".join(["chameleon-ray", *sys.argv[1:]])


def _print(agent: AgentFile, out: Path, *, as_json: bool) -> None:
    if as_json:
        print_json({"file": str(out), "version": agent.version, "card": dict(agent.card)})
        return
    from rich.table import Table

    table = Table(title="The best config that a walk meets, over the best measured")
    for column in ("space", "untrained", "trained"):
        table.add_column(column, justify="left" if column == "space" else "right")
    for name, scores in agent.card["scores"].items():
        table.add_row(name, f"{scores['untrained']:.3f}", f"{scores['trained']:.3f}")
    screen = console()
    if table.row_count:
        screen.print(table)
    screen.print(f"{out}: {agent.card['steps']:,} steps, {out.stat().st_size:,} bytes.")
