"""What `deploy` makes: a folder with a library, what it is, and programs that run it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from chameleon_ray.deploy.examples import in_cpp, in_python
from chameleon_ray.errors import SettingsError
from chameleon_ray.networks import Untuned
from chameleon_ray.networks.source import parse_inputs
from chameleon_ray.tasks import Target

LIBRARY, DESCRIPTION, EXAMPLE, EXAMPLE_IN_CPP = "model.so", "deployed.json", "run.py", "run.cc"
_FORMAT = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class DeployedLayer:
    """A layer, and the code that it got.

    Attributes:
        config: Knob values.
        seconds: What it took where it was measured; None if it is the default, which was not.
        run: Where that was.
    """

    name: str
    task: str
    uses: int
    config: Mapping[str, tuple[int, ...]]
    seconds: float | None
    run: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployed:
    """What a folder holds.

    Attributes:
        network: The model, as it was named.
        inputs: What it takes, as `--input` has it, one each.
        target: What it was compiled for.
    """

    network: str
    inputs: tuple[str, ...]
    target: Target
    compiler: str
    layers: tuple[DeployedLayer, ...]
    untuned: tuple[Untuned, ...]
    build_seconds: float

    @property
    def by_rule(self) -> tuple[DeployedLayer, ...]:
        """Layers for which there was no record."""
        return tuple(layer for layer in self.layers if layer.seconds is None)

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {"format": _FORMAT, **asdict(self)}


def write(deployed: Deployed, executable: Any, out: Path) -> None:
    """Make the folder, whole or not at all.

    Args:
        deployed: What it is.
        executable: As `tvm.compile` returns it.
        out: The folder; it does not exist.

    Raises:
        SettingsError: It cannot be written.
    """
    unfinished = out.with_name(f".{out.name}.unfinished")
    try:
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        executable.export_library(str(unfinished / LIBRARY))
        text = json.dumps(deployed.to_json(), indent=1)
        (unfinished / DESCRIPTION).write_text(text + "\n")
        given = (LIBRARY, parse_inputs(",".join(deployed.inputs)), deployed.target.cores)
        (unfinished / EXAMPLE).write_text(in_python(*given))
        (unfinished / EXAMPLE_IN_CPP).write_text(in_cpp(*given))
        unfinished.rename(out)
    except OSError as error:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise SettingsError(f"-o: {out} cannot be written: {error}.") from error


def read(folder: Path) -> Deployed:
    """What a folder holds.

    Raises:
        SettingsError: It is none of ours, or of another version.
    """
    file = folder / DESCRIPTION
    try:
        found = json.loads(file.read_text())
        version = found.pop("format")
        if version != _FORMAT:
            raise SettingsError(
                f"{folder}: its format is {version}, and this version reads {_FORMAT}: deploy anew."
            )
        return Deployed(
            **{
                **found,
                "inputs": tuple(found["inputs"]),
                "target": Target(**found["target"]),
                "layers": tuple(DeployedLayer(**layer) for layer in found["layers"]),
                "untuned": tuple(Untuned(**one) for one in found["untuned"]),
            }
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise SettingsError(
            f"{folder}: not a folder that `chameleon-ray deploy` made: {error}."
        ) from error
