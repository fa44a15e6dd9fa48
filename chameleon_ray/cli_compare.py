"""The command `compare`: policies on equal budgets, and what the differences are worth."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
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
    experience_of,
    parse_layers,
    parse_seeds,
    past_of_others,
    print_json,
    stdout_for_result,
)
from chameleon_ray.errors import SettingsError

if TYPE_CHECKING:
    from chameleon_ray.compare import Standing
    from chameleon_ray.learning.reading import Experience
    from chameleon_ray.searches import Search

app = typer.Typer()

_POLICIES = ("autotvm", "chameleon")
_SEEDS, _LIVE_SEEDS = "0-19", "0-4"
_SHARE = 0.95
_LAYERS = "layers"  # as --learn-from: those of the network, from each other


@app.command()
def compare(
    space: Spaces = None,
    network: LiveNetwork = None,
    layers: LiveLayers = None,
    env: LiveEnv = "cpu",
    policy: Annotated[
        list[str] | None,
        typer.Option(
            metavar="POLICY",
            help="A name in policies/, or a file; may be repeated. The others are compared with "
            "the first.",
            show_default=" and ".join(_POLICIES),
        ),
    ] = None,
    seeds: Annotated[
        str | None,
        typer.Option(
            metavar="RANGE",
            help="0-19, or 0,3,7.",
            show_default=f"{_SEEDS}; {_LIVE_SEEDS} with --network",
        ),
    ] = None,
    trials: Annotated[
        int,
        typer.Option(
            parser=count,
            metavar="N",
            help="Attempts of each search, failed ones included.",
        ),
    ] = 128,
    share: Annotated[
        float,
        typer.Option(
            min=0.01, max=1.0, help="Attempts are counted to so much of the shortest time known."
        ),
    ] = _SHARE,
    out: Annotated[
        Path, typer.Option(help="Folder of the finished searches; what is there is not repeated.")
    ] = Path("runs/compare"),
    learn_from: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PLACE",
            help="Compare cold and warm, which begins with this, as of `tune`. With --network, "
            "`layers` is nothing: they learn from each other alone.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Compare policies on equal budgets: scores, 95% intervals, significance."""
    if network and space:
        raise SettingsError("--space and --network: give one of them.")
    if not network and (layers is not None or env != "cpu"):
        raise SettingsError("--layers and --env belong to --network; a recorded space has neither.")
    default_seeds = _LIVE_SEEDS if network else _SEEDS
    numbers = parse_seeds(default_seeds if seeds is None else seeds)
    chosen = parse_layers(layers)
    policies = policy or list(_POLICIES)
    try:
        with stdout_for_result(), _progress() as on_progress:
            if network:
                searches, reference = _live(
                    network, policies, env, chosen, numbers, trials, out, learn_from, on_progress
                )
            else:
                searches = _recorded(
                    space or [], policies, numbers, trials, out, learn_from, on_progress
                )
                reference = "the shortest recorded time"
    except KeyboardInterrupt:
        print(f"Stopped; the same command with --out {out} goes on.", file=sys.stderr)
        raise typer.Exit(130) from None
    _print(searches, reference, trials=trials, share=share, out=out, as_json=as_json)


def _recorded(
    spaces: Sequence[str],
    policies: Sequence[str],
    seeds: Sequence[int],
    trials: int,
    out: Path,
    learn_from: list[str] | None,
    on_progress: Callable[[Standing], None],
) -> list[Search]:
    from chameleon_ray.compare import compare as run
    from chameleon_ray.measure.recorded import load_recorded, shipped
    from chameleon_ray.presets import load_policy

    if _LAYERS in (learn_from or ()):
        raise SettingsError(
            f"--learn-from {_LAYERS}: a recorded space is one layer, with no others to learn from. "
            "Name recorded spaces of its kernel, or give --network."
        )
    chosen = [load_policy(name) for name in policies]
    recorded = [load_recorded(name) for name in spaces or shipped()]
    experience = experience_of(learn_from)
    pasts = {space.name: past_of_others(experience, space) for space in recorded}
    if experience:
        experience.check_all(chosen)
    return run(
        recorded,
        chosen,
        seeds=seeds,
        trials=trials,
        out=out,
        pasts=pasts if experience else None,
        agent=experience.agent if experience else None,
        on_progress=on_progress,
    )


def _live(
    network: str,
    policies: Sequence[str],
    env: str,
    layers: Sequence[int],
    seeds: Sequence[int],
    trials: int,
    out: Path,
    learn_from: list[str] | None,
    on_progress: Callable[[Standing], None],
) -> tuple[list[Search], str]:
    """The searches, and what their reference is."""
    from chameleon_ray.compare_network import compare_network

    found = compare_network(
        network,
        policies,
        env=env,
        layers=layers,
        seeds=seeds,
        trials=trials,
        out=out,
        experience=_experience_of(learn_from),
        on_progress=on_progress,
    )
    for remark in found.remarks:
        print(f"--learn-from: {remark}.", file=sys.stderr)
    what = "the fastest of all runs; what each held for its best at any moment is timed in turns"
    untimed = {space: len(r.told) for space, r in found.retimed.items() if r.told}
    if untimed:
        counts = ", ".join(f"{n} of {space}" for space, n in untimed.items())
        what += f" (but {counts} could not be: these have the times that the runs told)"
    return found.searches, what


def _experience_of(places: list[str] | None) -> Experience | None:
    """What the layers of a network learn from besides each other; None: not even that."""
    if _LAYERS not in (places or ()):
        return experience_of(places)
    if len(places or ()) > 1:
        raise SettingsError(
            f"--learn-from {_LAYERS}: layers learn from each other whatever else is named; give it "
            f"alone. A folder of that name is ./{_LAYERS}."
        )
    from chameleon_ray.learning.reading import Experience

    return Experience()


@contextlib.contextmanager
def _progress() -> Iterator[Callable[[Standing], None]]:
    """Shows on stderr how far the comparison is, once it has begun: bad input has no bar."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    screen = console(stderr=True)
    bar = Progress(
        "searches", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=screen
    )
    task = bar.add_task("searches", total=None)

    def show(standing: Standing) -> None:
        bar.start()
        bar.update(task, total=standing.total, completed=standing.done)

    try:
        yield show
    finally:
        bar.stop()


def _print(
    searches: Sequence[Search],
    reference: str,
    *,
    trials: int,
    share: float,
    out: Path,
    as_json: bool,
) -> None:
    import numpy as np

    from chameleon_ray.compare import curves
    from chameleon_ray.score_report import print_tables
    from chameleon_ray.scores import tabulate

    rng = np.random.default_rng(0)
    tables = tabulate(curves(searches), trials=trials, share=share, rng=rng)
    screen = console(stderr=as_json)
    print_tables(tables, screen)
    screen.print(
        f"Reference: {reference}. Every search is in {out}.",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
    if as_json:
        print_json(
            {
                "trials": trials,
                "reference": reference,
                "out": str(out),
                "searches": len(searches),
                "tables": [table.to_json() for table in tables],
            }
        )
