"""The command `search-policy`: Ray Tune over the settings of a policy."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from chameleon_ray.cli_shared import (
    Json,
    LiveEnv,
    LiveLayers,
    LiveNetwork,
    Spaces,
    console,
    count,
    number,
    parse_layers,
    parse_seeds,
    print_json,
    stdout_for_result,
)
from chameleon_ray.errors import SettingsError

if TYPE_CHECKING:
    from chameleon_ray.policy_search.search import Found

app = typer.Typer()

_SEEDS, _LIVE_SEEDS = "0-15", "0-1"
_JUDGED, _LIVE_JUDGED = "100-139", "100-104"


class Scheduler(StrEnum):
    """Which samples are stopped."""

    asha = "asha"
    pbt = "pbt"
    none = "none"


class Searcher(StrEnum):
    """Who proposes samples."""

    random = "random"
    optuna = "optuna"


@app.command("search-policy")
def search_policy(
    space: Spaces = None,
    network: LiveNetwork = None,
    layers: LiveLayers = None,
    env: LiveEnv = "cpu",
    policy: Annotated[
        str, typer.Option(help="The policy to better: a name in policies/, or a file.")
    ] = "chameleon",
    over: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="YAML of the settings to search, and between what (docs/policies_search.md).",
            show_default="the usual ones of the policy's parts",
        ),
    ] = None,
    samples: Annotated[
        int, typer.Option(parser=count, metavar="N", help="Settings to try; with pbt about.")
    ] = 32,
    trials: Annotated[
        int, typer.Option(parser=count, metavar="N", help="Attempts of each search.")
    ] = 64,
    seeds: Annotated[
        str | None,
        typer.Option(
            metavar="RANGE",
            help="Of the searches of a sample, one after another.",
            show_default=f"{_SEEDS}; {_LIVE_SEEDS} with --network",
        ),
    ] = None,
    scheduler: Annotated[
        Scheduler, typer.Option(help="Stop poor samples early, or breed the best.")
    ] = Scheduler.asha,
    search: Annotated[
        Searcher, typer.Option(help="Who proposes samples; optuna wants chameleon-ray[search].")
    ] = Searcher.random,
    at_once: Annotated[
        int | None,
        typer.Option(
            parser=count,
            metavar="N",
            help="Samples under way at a time, a core each; one with --network.",
            show_default="as many as cores",
        ),
    ] = None,
    judge_seeds: Annotated[
        str | None,
        typer.Option(
            metavar="RANGE",
            help="Fresh seeds for what was chosen, where it was not chosen.",
            show_default=f"{_JUDGED}; {_LIVE_JUDGED} with --network",
        ),
    ] = None,
    judge: Annotated[
        bool, typer.Option(help="Leave each kernel out in turn, and judge on it.")
    ] = True,
    seed: Annotated[
        int,
        typer.Option(parser=number, metavar="N", help="Of all random draws."),
    ] = 0,
    out: Annotated[
        Path, typer.Option(help="Folder of all that is kept; what is there is not repeated.")
    ] = Path("runs/policies"),
    as_json: Json = False,
) -> None:
    """Search better settings for a policy, judge them elsewhere, and write them as a preset."""
    if network and space:
        raise SettingsError("--space and --network: give one of them.")
    if not network and (layers is not None or env != "cpu"):
        raise SettingsError("--layers and --env belong to --network; a recorded space has neither.")
    usual, usual_judged = (_LIVE_SEEDS, _LIVE_JUDGED) if network else (_SEEDS, _JUDGED)
    numbers = parse_seeds(usual if seeds is None else seeds)
    judged = (
        parse_seeds(usual_judged if judge_seeds is None else judge_seeds, option="--judge-seeds")
        if judge
        else ()
    )
    chosen = parse_layers(layers)
    try:
        with stdout_for_result(), _progress() as on_progress:
            from chameleon_ray.policy_search.experiment import How
            from chameleon_ray.policy_search.plan import Asked, cores_at_once, make_plan
            from chameleon_ray.policy_search.results import write_results
            from chameleon_ray.policy_search.search import search_policy as run

            how = How(
                samples=samples,
                scheduler=scheduler.value,
                searcher=search.value,
                at_once=1 if network else cores_at_once(at_once),
                seed=seed,
            )
            plan = make_plan(
                Asked(
                    spaces=tuple(space or ()),
                    network=network,
                    layers=chosen,
                    env=env,
                    policy=policy,
                    over=over,
                    seeds=numbers,
                    judge_seeds=judged,
                    trials=trials,
                    how=how,
                    out=out,
                )
            )
            found = run(plan, on_progress)
            preset, page = write_results(found)
    except KeyboardInterrupt:
        print(f"Stopped; the same command with --out {out} goes on.", file=sys.stderr)
        raise typer.Exit(130) from None
    _print(found, preset, page, as_json=as_json)


@contextlib.contextmanager
def _progress() -> Iterator[Callable[[str, int, int], None]]:
    """Shows on stderr how far the search is, a bar for each part of it."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console(stderr=True),
    )
    known = {}

    def show(what: str, done: int, total: int) -> None:
        bar.start()
        if what not in known:
            known[what] = bar.add_task(what)
        bar.update(known[what], total=total, completed=done)

    try:
        yield show
    finally:
        bar.stop()


def _print(found: Found, preset: Path, page: Path, *, as_json: bool) -> None:
    from chameleon_ray.policy_search.words import notes, verdict_in_words
    from chameleon_ray.score_report import print_tables

    screen = console(stderr=as_json)
    print_tables(found.verdict, screen)
    seconds = ", ".join(f"{what} {took:.0f} s" for what, took in found.seconds.items())
    words = [*notes(found), *verdict_in_words(found)]
    written = f"{preset} is the preset, {page} the page; every search is in {found.plan.out}."
    for text in [*words, f"It took: {seconds}.", written]:
        screen.print(text, highlight=False, markup=False, soft_wrap=True)
    if as_json:
        print_json(
            {
                "preset": str(preset),
                "page": str(page),
                "settings": dict(found.winner.settings),
                "score": found.winner.mean,
                "is_base": found.is_base,
                "verdict": [table.to_json() for table in found.verdict],
                "folds": {fold.kernel: dict(fold.chosen.settings) for fold in found.folds},
                "seconds": dict(found.seconds),
            }
        )
