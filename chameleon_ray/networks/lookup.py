"""From a network's name to its layers, whoever's it is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from chameleon_ray.errors import UnsupportedError
from chameleon_ray.networks import Network, Untuned, network, numbered
from chameleon_ray.networks.source import source_of
from chameleon_ray.tasks import Conv2d, Layer, Target
from chameleon_ray.templates import check_supported


def look_up(name: str, inputs: str = "", *, trust: bool = False) -> Network:
    """The network that NETWORK names; a model is loaded and looked through, which takes seconds.

    Args:
        name: One of the paper's networks, or a model (`networks.source`).
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
        return Network(name=name, layers=network(name))
    from chameleon_ray.networks.extract import layers_of
    from chameleon_ray.networks.model import inputs_of, load_graph

    graph = load_graph(source)
    layers, untuned = layers_of(graph)
    written = ",".join(map(str, inputs_of(graph)))
    return Network(name=name, layers=layers, untuned=untuned, inputs=written, stem=source.stem)


def tunable(found: Network, target: Target) -> Network:
    """The same network; of a model, layers without a template for a target are among the untuned.

    On a GPU, convolutions are tuned without what is done with their output.

    Raises:
        UnsupportedError: None is left, or one of the paper's has no template.
    """
    layers, untuned = [], []
    for layer in _plain(found.layers) if target.kind == "cuda" else found.layers:
        try:
            check_supported(layer.task, target)
            layers.append(layer)
        except UnsupportedError as error:
            if not found.inputs:
                raise
            reason = str(error).removeprefix(f"{layer.task.key}: ").rstrip(".")
            untuned.append(Untuned(what=layer.name, reason=reason, uses=layer.uses))
    if not layers:
        raise UnsupportedError(
            f"{found.name}: nothing of it can be tuned yet; it has "
            f"{', '.join(f'{one.what} ({one.reason})' for one in (*untuned, *found.untuned))}."
        )
    return replace(found, layers=tuple(layers), untuned=(*untuned, *found.untuned))


def _plain(layers: Sequence[Layer]) -> tuple[Layer, ...]:
    """Without epilogues, and so with fewer that differ."""
    uses: Counter[Conv2d] = Counter()
    for layer in layers:
        uses[replace(layer.task, epilogue=())] += layer.uses
    return numbered(uses)
