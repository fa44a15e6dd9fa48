"""From a network's name to its layers, whoever's it is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from chameleon_ray.errors import UnsupportedError
from chameleon_ray.networks import Network, Untuned, network, numbered
from chameleon_ray.networks.source import Source, source_of
from chameleon_ray.tasks import Layer, LayerTask, Matmul, Target
from chameleon_ray.templates import check_supported


def look_up(name: str, target: Target, inputs: str = "", *, trust: bool = False) -> Network:
    """The network that NETWORK names; a model is loaded and looked through, which takes seconds.

    A model's layers that have no template for the target are among the untuned. On a GPU,
    convolutions are tuned in NCHW and without what is done with their output.

    Args:
        name: One of the paper's networks, or a model (`networks.source`).
        target: What it is tuned for.
        inputs: Shapes of a model's inputs.
        trust: Whether what a `.pt2` file pickles may be run.

    Raises:
        UnknownNameError: It is of no known form.
        SettingsError: No such file, or inputs that are missing, not understood, or do not fit.
        UnsupportedError: It cannot be exported, or nothing of it can be tuned.
        MachineError: A package that it takes is not installed.
    """
    source = source_of(name, inputs, trust=trust)
    if source is None:
        layers = network(name)
        for layer in layers:
            check_supported(layer.task, target)
        return Network(name=name, layers=layers)
    from chameleon_ray.networks.model import load_graph

    return network_of(source, load_graph(source, target), target)


def network_of(source: Source, graph: Any, target: Target) -> Network:
    """The layers of a graph that was loaded for a target.

    Raises:
        UnsupportedError: Nothing of it can be tuned.
    """
    from chameleon_ray.networks.extract import layers_of
    from chameleon_ray.networks.model import inputs_of

    layers, others = layers_of(graph)
    tuned, untuned = [], []
    for layer in _plain(layers) if target.kind == "cuda" else layers:
        if reason := _why_not(layer, target):
            untuned.append(Untuned(what=layer.name, reason=reason, uses=layer.uses))
        else:
            tuned.append(layer)
    untuned += others
    if not tuned:
        raise UnsupportedError(
            f"{source.name}: nothing of it can be tuned yet; it has "
            f"{', '.join(f'{one.what} ({one.reason})' for one in untuned)}."
        )
    return Network(
        name=source.name,
        layers=tuple(tuned),
        untuned=tuple(untuned),
        inputs=",".join(map(str, inputs_of(graph))),
        stem=source.stem,
    )


def _why_not(layer: Layer, target: Target) -> str:
    """Why a layer is not tuned; empty if it is."""
    task = layer.task
    try:
        check_supported(task, target)
    except UnsupportedError as error:
        return str(error).removeprefix(f"{task.key}: ").rstrip(".")
    if isinstance(task, Matmul) and task.rows == 1:
        return "nothing to tune: its weights are packed, and read once"
    return ""


def _plain(layers: Sequence[Layer]) -> tuple[Layer, ...]:
    """Without epilogues, and so with fewer that differ."""
    uses: Counter[LayerTask] = Counter()
    for layer in layers:
        uses[replace(layer.task, epilogue=())] += layer.uses
    return numbered(uses)
