"""Networks as layers: the paper's three as data (Tables 4 and 5), and models that somebody has.

What a name stands for is in `source`; `model` loads it as a graph, and `extract` finds its layers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from chameleon_ray.errors import SettingsError, UnknownNameError
from chameleon_ray.tasks import Conv2d, Layer, LayerTask, task_from_key

# in channels, out channels, kernel, stride, padding, input height and width, uses
_ALEXNET = (
    (256, 256, 3, 1, 1, 13, 1),
    (384, 256, 3, 1, 1, 13, 1),
    (192, 384, 3, 1, 1, 13, 1),
    (64, 192, 5, 1, 2, 27, 1),
    (3, 64, 11, 4, 2, 224, 1),
)
_VGG16 = (
    (512, 512, 3, 1, 1, 14, 3),
    (512, 512, 3, 1, 1, 28, 2),
    (256, 512, 3, 1, 1, 28, 1),
    (256, 256, 3, 1, 1, 56, 2),
    (128, 256, 3, 1, 1, 56, 1),
    (128, 128, 3, 1, 1, 112, 1),
    (64, 128, 3, 1, 1, 112, 1),
    (64, 64, 3, 1, 1, 224, 1),
    (3, 64, 3, 1, 1, 224, 1),
)
_RESNET18 = (
    (512, 512, 3, 1, 1, 7, 3),
    (256, 512, 1, 2, 0, 14, 1),
    (256, 512, 3, 2, 1, 14, 1),
    (256, 256, 3, 1, 1, 14, 3),
    (128, 256, 1, 2, 0, 28, 1),
    (128, 256, 3, 2, 1, 28, 1),
    (128, 128, 3, 1, 1, 28, 3),
    (64, 128, 1, 2, 0, 56, 1),
    (64, 128, 3, 2, 1, 56, 1),
    (64, 64, 1, 1, 0, 56, 1),
    (64, 64, 3, 1, 1, 56, 4),
    (3, 64, 7, 2, 3, 224, 1),
)
_TABLES = {"alexnet": _ALEXNET, "resnet18": _RESNET18, "vgg16": _VGG16}

NETWORKS = tuple(_TABLES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Untuned:
    """Operators of a model that are compiled as they are.

    Attributes:
        what: The operator; with its shapes, if it takes long.
        reason: Why it is not tuned; empty for those that take little time.
        uses: How often the model has it.
    """

    what: str
    reason: str
    uses: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """What is tuned, layer by layer.

    Attributes:
        name: As the user wrote it.
        layers: Those that are known, numbered from 1.
        untuned: What else a model has.
        inputs: What a model takes, as `--input` takes it; empty for the paper's networks.
        stem: A short name that files may have.
    """

    name: str
    layers: tuple[Layer, ...]
    untuned: tuple[Untuned, ...] = ()
    inputs: str = ""
    stem: str = ""

    @property
    def file_name(self) -> str:
        """What its files are called."""
        return re.sub(r"[^\w.-]+", "-", self.stem or self.name).strip("-.")

    def to_json(self) -> dict[str, object]:
        """What of a model a run folder holds: it may not be there any longer when that is read."""
        return {
            "inputs": self.inputs,
            "stem": self.stem,
            "layers": [[layer.index, layer.task.key, layer.uses] for layer in self.layers],
            "untuned": [[one.what, one.reason, one.uses] for one in self.untuned],
        }

    @classmethod
    def from_json(cls, name: str, found: Mapping[str, Any]) -> Network:
        """A model as a run folder holds it."""
        return cls(
            name=name,
            inputs=found["inputs"],
            stem=found.get("stem", ""),
            layers=tuple(
                Layer(index=index, task=task_from_key(key), uses=uses)
                for index, key, uses in found["layers"]
            ),
            untuned=tuple(
                Untuned(what=what, reason=reason, uses=uses)
                for what, reason, uses in found["untuned"]
            ),
        )


def network(name: str) -> tuple[Layer, ...]:
    """The distinct convolutions of a network, in the order of the paper's task indices.

    Raises:
        UnknownNameError: There is no such network.
    """
    if name not in _TABLES:
        raise UnknownNameError("network", name, NETWORKS)
    return tuple(
        Layer(
            index=index,
            uses=uses,
            task=Conv2d(
                in_channels=ci,
                out_channels=co,
                height=size,
                width=size,
                kernel_height=k,
                kernel_width=k,
                stride=s,
                padding=p,
            ),
        )
        for index, (ci, co, k, s, p, size, uses) in enumerate(_TABLES[name], start=1)
    )


def numbered(uses: Mapping[LayerTask, int]) -> tuple[Layer, ...]:
    """Layers from tasks and how often each is used, in that order, numbered from 1."""
    return tuple(
        Layer(index=index, task=task, uses=count)
        for index, (task, count) in enumerate(uses.items(), start=1)
    )


def choose_layers(
    layers: Sequence[Layer], numbers: Sequence[int], *, option: str = "--layers"
) -> tuple[Layer, ...]:
    """The layers of these numbers, in the network's order; all of them if there are no numbers.

    Args:
        layers: Of the network.
        numbers: From 1.
        option: How the user gave them, for messages.

    Raises:
        UnknownNameError: A number is not that of a layer.
        SettingsError: A number stands twice.
    """
    known = {layer.index: layer for layer in layers}
    for number in numbers:
        if number not in known:
            raise UnknownNameError("layer", number, known, where=option)
    twice = sorted({number for number in numbers if list(numbers).count(number) > 1})
    if twice:
        raise SettingsError(f"{option}: {twice[0]} stands twice; name each layer once.")
    return tuple(layer for layer in layers if not numbers or layer.index in numbers)
