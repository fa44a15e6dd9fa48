"""The commands about recorded spaces: `replay` searches one, `record` writes one."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from chameleon_ray.cli_shared import (
    Json,
    LearnFrom,
    console,
    count,
    experience_of,
    parse_seeds,
    past_of_others,
    print_json,
    stdout_for_result,
    tell_of_waiting,
)
from chameleon_ray.errors import SettingsError
from chameleon_ray.store import shown

if TYPE_CHECKING:
    from chameleon_ray.learning.agent_file import AgentFile
    from chameleon_ray.learning.past import Past
    from chameleon_ray.measure.recorded import RecordedSpace
    from chameleon_ray.record import Written
    from chameleon_ray.settings import Policy

app = typer.Typer()


@app.command()
def replay(
    spaces: Annotated[
        list[str],
        typer.Argument(metavar="SPACE", help="A .json or .json.gz file, or a shipped space."),
    ],
    policy: Annotated[
        list[str] | None,
        typer.Option(
            metavar="POLICY",
            help="A name in policies/, or a file; may be repeated.",
            show_default="chameleon",
        ),
    ] = None,
    trials: Annotated[
        int,
        typer.Option(
            parser=count,
            metavar="N",
            help="Attempts of each search, failed ones included.",
        ),
    ] = 256,
    seeds: Annotated[str, typer.Option(metavar="RANGE", help="0-19, or 0,3,5-7.")] = "0",
    env: Annotated[str, typer.Option(help="Of the measurer `recorded`: a name, or a file.")] = (
        "recorded"
    ),
    learn_from: LearnFrom = None,
    as_json: Json = False,
) -> None:
    """Search recorded spaces: every time comes from a file, measured on the device it names."""
    from chameleon_ray.measure.recorded import load_recorded

    numbers = parse_seeds(seeds)
    sleep = _sleeps(env)
    policies = _policies(policy or ["chameleon"])
    recorded = [load_recorded(space) for space in spaces]
    _distinct("SPACE", [space.name for space in recorded])
    experience = experience_of(learn_from)
    agent = experience.agent if experience else None
    if experience:
        experience.check_all(policies)
    try:
        for space in recorded:
            past = past_of_others(experience, space)
            _replay(
                space,
                policies,
                numbers,
                trials,
                past=past,
                agent=agent,
                sleep=sleep,
                as_json=as_json,
            )
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
        raise typer.Exit(130) from None


@app.command()
def record(
    network: Annotated[
        str | None,
        typer.Argument(metavar="NETWORK", help="Measure a layer of resnet18, vgg16 or alexnet."),
    ] = None,
    layer: Annotated[
        int | None,
        typer.Option(parser=count, metavar="N", help="Of the network, by number."),
    ] = None,
    env: Annotated[str, typer.Option(help="What is measured: a name in envs/, or a file.")] = "cpu",
    limit: Annotated[
        int | None,
        typer.Option(
            parser=count,
            metavar="N",
            help="So many random configurations instead of all.",
        ),
    ] = None,
    run: Annotated[
        str | None,
        typer.Option(
            metavar="RUN",
            help="Without NETWORK: the run folder to write. With it: where the sweep keeps its "
            "measurements. Both may be URLs.",
            show_default="runs/record-...",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="PATH",
            help="The file of a layer, or the folder of a run's files.",
            show_default="NETWORK_layerN_ENV.json.gz, or spaces/",
        ),
    ] = None,
) -> None:
    """Write a run as recorded spaces, or measure a layer whole and write that."""
    if network is not None and layer is not None:
        _record_layer(network, layer, env=env, limit=limit, run=run, out=out)
    elif network is not None:
        raise SettingsError(
            f"record: give --layer N; `chameleon-ray layers {network}` lists them with the "
            "sizes of their spaces."
        )
    elif run is None or layer or limit or env != "cpu":
        raise SettingsError(
            "record: give NETWORK and --layer N to measure a layer whole, or --run RUN alone "
            "to write what a run has measured."
        )
    else:
        from chameleon_ray.record import write_run

        for written in write_run(run, out or Path("spaces")):
            _tell(written)


def _record_layer(
    network: str, layer: int, *, env: str, limit: int | None, run: str | None, out: Path | None
) -> None:
    from chameleon_ray.record import sweep

    name = f"{network}_layer{layer}_{Path(env).stem}"
    folder = run or f"runs/record-{name}"
    tell_of_waiting(folder)
    try:
        with stdout_for_result():
            from chameleon_ray.live import live

            with live() as on_progress:
                written = sweep(
                    network,
                    layer,
                    out=out or Path(f"{name}.json.gz"),
                    env=env,
                    limit=limit,
                    run=folder,
                    on_progress=on_progress,
                )
    except KeyboardInterrupt:
        print(f"Stopped; the same command goes on from {shown(folder)}.", file=sys.stderr)
        raise typer.Exit(130) from None
    _tell(written)


def _tell(written: Written) -> None:
    from chameleon_ray.text import milliseconds

    of = "a larger space" if written.valid is None else f"{written.valid:,}"
    print(
        f"{written.path}: {written.configs:,} configurations of {of}, {written.failed:,} failed, "
        f"best {milliseconds(written.best_seconds)} ms"
    )
    for name in written.damaged:
        print(f"{name} of the journal is damaged: its measurements are not in it.", file=sys.stderr)


def _replay(
    space: RecordedSpace,
    policies: Sequence[tuple[str, Policy]],
    seeds: Sequence[int],
    trials: int,
    *,
    past: Past | None,
    agent: AgentFile | None,
    sleep: bool,
    as_json: bool,
) -> None:
    """All searches of one space; each is told as it ends, the table comes at the end."""
    from chameleon_ray import replay_report
    from chameleon_ray.replay import Replay, replay as search

    found: dict[str, list[Replay]] = {}
    try:
        for name, policy in policies:
            for seed in seeds:
                done = search(
                    space,
                    policy,
                    name=f"{name}, warm" if past or agent else name,
                    trials=trials,
                    seed=seed,
                    sleep=sleep,
                    past=past,
                    weights=agent.weights if agent else None,
                )
                found.setdefault(done.policy, []).append(done)
                print(replay_report.line(done, trials=trials), file=sys.stderr, flush=True)
                if as_json:
                    print_json(done.to_json())
    finally:
        if found and not as_json:
            print(replay_report.heading(space))
            console().print(replay_report.table(space, found, trials=trials))


def _sleeps(env: str) -> bool:
    """Whether measurements take their recorded time.

    Raises:
        SettingsError: The env measures something, instead of asking a file.
    """
    from chameleon_ray.presets import load_env

    name, settings = load_env(env)
    if settings.measurer != "recorded":
        raise SettingsError(
            f"--env: {name!r} has the measurer {settings.measurer!r}, and a replay measures "
            f"nothing: leave --env out, or measure with `chameleon-ray tune NETWORK --env {name}`."
        )
    return settings.sleep


def _policies(names: Sequence[str]) -> list[tuple[str, Policy]]:
    """The policies, with their plugins imported.

    Raises:
        SettingsError: One cannot be used, or stands twice.
    """
    from chameleon_ray.presets import load_policy

    _distinct("--policy", names)
    return [load_policy(name) for name in names]


def _distinct(what: str, names: Sequence[str]) -> None:
    twice = next((name for name in names if list(names).count(name) > 1), None)
    if twice is not None:
        raise SettingsError(f"{what}: {twice} stands twice; results are told apart by name.")
