"""What NETWORK names: one of the paper's networks, or a model that somebody has.

resnet18                    the paper's, as data
torchvision:mobilenet_v2    any of torchvision's classifiers, with random weights
package.module:function     what a function of no arguments returns: a torch module
model.onnx                  an ONNX file
model.pt2                   a file of torch.export.save
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from chameleon_ray.errors import SettingsError, UnknownNameError
from chameleon_ray.networks import NETWORKS

Kind = Literal["torchvision", "function", "pt2", "onnx"]

FORMS = ("torchvision:NAME", "package.module:function", "FILE.onnx", "FILE.pt2")
_PICKLES = (".pt", ".pth", ".bin", ".ckpt", ".pkl", ".pickle")
_TYPES = ("float32", "int64", "int32", "bool")
_INPUT = re.compile(r"(?P<shape>\d+(x\d+)*)(:(?P<dtype>\w+))?")
_IMAGE = "1x3x224x224"


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """The shape and type of one input of a model."""

    shape: tuple[int, ...]
    dtype: str = "float32"

    def __str__(self) -> str:
        """As it is written on the command line."""
        sizes = "x".join(map(str, self.shape))
        return sizes if self.dtype == "float32" else f"{sizes}:{self.dtype}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where a model comes from.

    Attributes:
        kind: How it is loaded.
        name: As the user wrote it.
        inputs: What it takes; none where its file says so itself.
        trust: Whether what a `.pt2` file pickles may be run.
    """

    kind: Kind
    name: str
    inputs: tuple[Input, ...] = ()
    trust: bool = False

    @property
    def stem(self) -> str:
        """A short name that files may have."""
        last = self.name.rpartition(":")[2] if self.kind in ("torchvision", "function") else ""
        return last or Path(self.name).stem

    @property
    def written_inputs(self) -> str:
        """As `--input` takes them."""
        return ",".join(map(str, self.inputs))


def source_of(name: str, inputs: str = "", *, trust: bool = False) -> Source | None:
    """The model that NETWORK names; None if it is one of the paper's networks.

    Args:
        name: NETWORK.
        inputs: `1x3x224x224`, with `:int64` and the like for other types than float32; several
            with commas.
        trust: See `Source`.

    Raises:
        UnknownNameError: It is of no known form.
        SettingsError: No such file, a pickle, or inputs that are missing or not understood.
    """
    kind = _kind(name)
    if kind is None:
        if inputs:
            raise SettingsError(
                f"--input: {name} is one of the paper's networks, whose shapes are given; "
                f"torchvision:{name} takes others."
            )
        return None
    if kind in ("onnx", "pt2") and not Path(name).is_file():
        raise SettingsError(f"{name}: there is no such file.")
    if kind == "function" and not inputs:
        raise SettingsError(
            f"{name}: which input does the model take? Say so with --input, such as --input "
            f"{_IMAGE}."
        )
    text = inputs or (_IMAGE if kind == "torchvision" else "")
    return Source(kind=kind, name=name, inputs=parse_inputs(text), trust=trust)


def _kind(name: str) -> Kind | None:
    suffix = Path(name).suffix.lower()
    if name in NETWORKS:
        return None
    if name.startswith("torchvision:"):
        return "torchvision"
    if suffix in (".onnx", ".pt2"):
        return "onnx" if suffix == ".onnx" else "pt2"
    if suffix in _PICKLES:
        raise SettingsError(
            f"{name}: such a file is a pickle, which may run anything when it is loaded, and holds "
            "no shapes. Export the model once, where you trust it: torch.export.save("
            "torch.export.export(model.eval(), (example,)), 'model.pt2'); or name a function that "
            "returns it, package.module:function."
        )
    if re.fullmatch(r"[\w.]+:\w+", name):
        return "function"
    raise UnknownNameError("network", name, (*NETWORKS, *FORMS))


def parse_inputs(text: str) -> tuple[Input, ...]:
    """Shapes and types as `--input` takes them; none of an empty text.

    Raises:
        SettingsError: Something else.
    """
    found = []
    for part in text.split(",") if text else []:
        match = _INPUT.fullmatch(part.strip())
        dtype = (match["dtype"] or "float32") if match else ""
        shape = tuple(map(int, match["shape"].split("x"))) if match else ()
        if dtype not in _TYPES or 0 in shape:
            raise SettingsError(
                f"--input: {part.strip()!r} is no shape. Write {_IMAGE}; with {_IMAGE},1x16:int64 "
                f"a second input of another type ({', '.join(_TYPES)})."
            )
        found.append(Input(shape=shape, dtype=dtype))
    return tuple(found)
