"""What the command line's modules have in common: options, and how results are printed."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from chameleon_ray.errors import SettingsError
from chameleon_ray.store import shown

if TYPE_CHECKING:
    from rich.console import Console

    from chameleon_ray.learning.past import Past
    from chameleon_ray.learning.reading import Experience
    from chameleon_ray.measure.recorded import RecordedSpace

Network = Annotated[
    str,
    typer.Argument(
        metavar="NETWORK",
        help="resnet18, vgg16, alexnet (the paper's), torchvision:NAME, module:function, a file of "
        "ONNX or of torch.export.save (.pt2).",
    ),
]
Inputs = Annotated[
    str,
    typer.Option(
        "--input",
        metavar="SHAPES",
        help="What a model takes, such as 1x3x224x224; several with commas, other types as "
        "1x16:int64.",
        show_default=False,
    ),
]
Trust = Annotated[bool, typer.Option(help="Load what a .pt2 file pickles besides tensors.")]
Spaces = Annotated[
    list[str] | None,
    typer.Option(
        metavar="SPACE",
        help="A recorded space: a file, or a shipped one. May be repeated.",
        show_default="the shipped ones",
    ),
]
LiveNetwork = Annotated[
    str | None,
    typer.Option(metavar="NETWORK", help="Tune this network's layers on this machine instead."),
]
LiveLayers = Annotated[
    str | None, typer.Option(help="Of the network, by number: 1,4,11.", show_default="all")
]
LiveEnv = Annotated[str, typer.Option(help="With --network: a name in envs/, or a file.")]
LearnFrom = Annotated[
    list[str] | None,
    typer.Option(
        metavar="PLACE",
        help="Measurements of others to begin with: a run folder, a folder of them or of recorded "
        "spaces, a recorded space, an agent of `pretrain`; `prior` is what ships. May be repeated.",
    ),
]
Json = Annotated[
    bool, typer.Option("--json", help="One object on one line on stdout; all else on stderr.")
]

_SEED_LIMIT, _MOST_SEEDS = 2**32, 10_000


def whole(text: str | int, *, least: int) -> int:
    """A whole number from the command line, below 2 ** 32.

    Raises:
        typer.BadParameter: Not a number, or not in the range.
    """
    if not str(text).strip().isdecimal() or int(text) < least:
        raise typer.BadParameter(f"{text!r} is not a whole number of at least {least}.")
    if int(text) >= _SEED_LIMIT:
        raise typer.BadParameter(f"{text} is too large: at most {_SEED_LIMIT - 1}.")
    return int(text)


def count(text: str | int) -> int:
    """A whole number from 1; see `whole`."""
    return whole(text, least=1)


def number(text: str | int) -> int:
    """A whole number from 0; see `whole`."""
    return whole(text, least=0)


def console(*, stderr: bool = False) -> Console:
    """Where tables go."""
    from rich.console import Console

    return Console(stderr=stderr)


def print_json(value: object) -> None:
    """One object on one line, at once."""
    print(json.dumps(value, allow_nan=False), flush=True)


def tell_of_waiting(run: str) -> None:
    """Say why nothing happens, where a run on a store was left without letting go of it."""
    from chameleon_ray.run_lock import seconds_to_wait
    from chameleon_ray.storage import open_folder

    seconds = seconds_to_wait(open_folder(run))
    if seconds:
        print(
            f"{shown(run)}: a process has this run, or died with it; looking which, for "
            f"{seconds:g} s at most.",
            file=sys.stderr,
        )


def parse_layers(text: str | None) -> tuple[int, ...]:
    """Layer numbers written as `1,4,11`; none without a text, which stands for all layers.

    Raises:
        SettingsError: Something between the commas is not a number.
    """
    if text is not None and not text.strip():
        raise SettingsError(
            "--layers: no layer is named. Write numbers and commas, 1,4,11, or leave --layers out "
            "for all."
        )
    numbers = []
    for part in text.split(",") if text else []:
        if not part.strip().isdecimal():
            raise SettingsError(
                f"--layers: {part.strip()!r} is not a layer number. Write numbers and commas, "
                "1,4,11; `chameleon-ray layers NETWORK` lists them."
            )
        numbers.append(int(part))
    return tuple(numbers)


def parse_seeds(text: str, *, option: str = "--seeds") -> tuple[int, ...]:
    """Seeds written as `0-19`, `3` or `0,4-7`.

    Raises:
        SettingsError: Something else, a range upside down, or a seed that stands twice.
    """
    seeds: list[int] = []
    for part in text.split(","):
        first, _, last = (end.strip() for end in part.partition("-"))
        ends = [first, last] if "-" in part else [first, first]
        if not all(end.isdecimal() for end in ends):
            raise SettingsError(f"{option}: {part.strip()!r} is no seed. Write 0-19, or 0,3,7.")
        if int(ends[0]) > int(ends[1]):
            raise SettingsError(
                f"{option}: {part.strip()!r} is upside down; the lower end is first."
            )
        if int(ends[1]) >= _SEED_LIMIT or int(ends[1]) - int(ends[0]) >= _MOST_SEEDS:
            raise SettingsError(
                f"{option}: {part.strip()!r}: at most {_MOST_SEEDS} seeds, below {_SEED_LIMIT}."
            )
        seeds += range(int(ends[0]), int(ends[1]) + 1)
    twice = next((seed for seed in seeds if seeds.count(seed) > 1), None)
    if twice is not None:
        raise SettingsError(f"{option}: {twice} stands twice.")
    return tuple(seeds)


@contextlib.contextmanager
def stdout_for_result() -> Iterator[None]:
    """Sends to stderr what compilers and workers write on stdout, below Python too."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def experience_of(places: list[str] | None, *, besides: str | None = None) -> Experience | None:
    """What `--learn-from` names, read; what a user should know of it goes to stderr.

    Args:
        places: As given.
        besides: The run that is to learn.

    Raises:
        ChameleonError: It cannot be read, or holds nothing.
    """
    if not places:
        return None
    from chameleon_ray.learning.reading import learn_from

    experience = learn_from(places, besides=besides)
    for remark in experience.remarks:
        print(f"--learn-from: {remark}.", file=sys.stderr)
    return experience


def past_of_others(experience: Experience | None, recorded: RecordedSpace) -> Past | None:
    """What is known of others than a recorded space; what is left out goes to stderr.

    Raises:
        SettingsError: Nothing of it can be used there.
    """
    if experience is None:
        return None
    from chameleon_ray.learning.sources import of_recorded

    experience.check_untrained_on(recorded.name)
    past, line = experience.of_others(of_recorded(recorded))
    begins = "; walks begin with the agent" if experience.agent else ""
    print(f"{line}{begins}.", file=sys.stderr)
    if past is None and experience.agent is None:
        raise SettingsError(
            f"--learn-from: nothing of it is of another device or layer with the knobs of "
            f"{recorded.name}: {', '.join(recorded.tunables.values)}. Leave that space out, or add "
            "a run or a recorded space of the same kernel."
        )
    return past
