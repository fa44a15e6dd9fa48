"""From a model to a library: `deploy`. Imports TVM when it is called."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from chameleon_ray.deploy.best import best_configs, best_of, cores_of, network_in
from chameleon_ray.deploy.database import Entry
from chameleon_ray.deploy.folder import Deployed, DeployedLayer, write
from chameleon_ray.env_settings import Env
from chameleon_ray.errors import SettingsError, UnknownNameError, UnsupportedError
from chameleon_ray.history import read_manifest
from chameleon_ray.measure.backend import target_here
from chameleon_ray.networks import NETWORKS, Network
from chameleon_ray.networks.source import FORMS, Source, source_of
from chameleon_ray.run_folder import MANIFEST, MODEL
from chameleon_ray.storage import Place, open_folder
from chameleon_ray.tasks import Layer, Target
from chameleon_ray.templates import default_config, design_space

_MOST_LETTERS = 400  # of what a compiler says


def deploy(
    what: str,
    out: Path,
    *,
    inputs: str = "",
    trust: bool = False,
    records: Sequence[Place] = (),
    threads: int = 0,
) -> Deployed:
    """Compile a model with the best known code for each of its layers.

    Args:
        what: A run folder of `tune`, whose model and records are taken; or a model as NETWORK.
        out: The folder to make.
        inputs: What a model takes, as of `tune`.
        trust: Whether what a `.pt2` file pickles may be run.
        records: More runs, and databases, for layers of equal shape.
        threads: Cores that it will run on; 0 for as many as the run, or all. Records of as many
            count.

    Raises:
        SettingsError: `out` exists, or `what` has no weights.
        RunFolderError: A run is not one, or of another target.
        UnsupportedError: The model cannot be taken.
        MachineError: A package that it takes is not installed.
    """
    if out.exists():
        raise SettingsError(f"-o: {out} exists; name a new folder.")
    runs, source = list(records), None
    if _is_run(what):
        network = network_in(what)
        runs.insert(0, what)
        if not network.inputs:
            raise SettingsError(
                f"{what}: the paper's {network.name} is shapes without weights, in a layout of its "
                f"own. Tune a model, such as torchvision:{network.name}, and deploy that run."
            )
        threads = threads or cores_of(what)
        source = source_of(_model_in(what) or network.name, inputs or network.inputs, trust=trust)
    else:
        source = source_of(what, inputs, trust=trust)
    if source is None:
        raise SettingsError(
            f"{what}: the paper's networks are shapes without weights; torchvision:{what} is a "
            "model, with random ones."
        )
    return _built(source, runs, out, target_of_threads(threads))


def _is_run(what: str) -> bool:
    """Whether something is a folder of a run, here or on a store.

    Raises:
        RunFolderError: It is a folder, and not of a run.
        UnknownNameError: It is neither a folder nor a name that a model may have.
    """
    if ":" in what and "://" not in what:
        return False
    folder = open_folder(what)
    if MANIFEST in folder.names():
        return True
    if folder.kind() == "folder" or "://" in what:
        read_manifest(what)  # tells why it is none
    if "/" in what and not Path(what).suffix:
        raise UnknownNameError("run folder or model", what, ("runs/...", *NETWORKS, *FORMS))
    return False


def _model_in(run: Place) -> str:
    """The file of a run's model, if the run holds it.

    Raises:
        SettingsError: It is on a store.
    """
    folder = open_folder(run)
    if MODEL not in folder.names():
        return ""
    if folder.path is None:
        raise SettingsError(f"{folder.name} holds its model: chameleon-ray fetch it first.")
    return str(folder.path / MODEL)


def target_of_threads(threads: int) -> Target:
    """This machine's CPU, of which so many cores are used; all for 0.

    Raises:
        MachineError: It has fewer.
    """
    from chameleon_ray.measure.tvm import resolve_target

    return resolve_target(target_here(replace(Env(), cores=threads)))


def _built(source: Source, runs: Sequence[Place], out: Path, target: Target) -> Deployed:
    best = best_configs(runs, target)
    import tvm

    from chameleon_ray.networks.lookup import network_of
    from chameleon_ray.networks.model import load_graph

    started = time.monotonic()
    graph = load_graph(source, target)
    network = network_of(source, graph, target)
    layers = layers_for(network, best, target)
    executable = compiled(graph, layers, target)
    described = Deployed(
        network=source.name,
        inputs=tuple(network.inputs.split(",")),
        target=target,
        compiler=f"tvm {tvm.__version__}",
        layers=layers,
        untuned=network.untuned,
        build_seconds=time.monotonic() - started,
    )
    write(described, executable, out)
    return described


def layers_for(
    network: Network, best: Mapping[str, Entry], target: Target
) -> tuple[DeployedLayer, ...]:
    """The layers of a model, each with the config that it gets."""
    return tuple(_layer(layer, best_of(layer.task, best), target) for layer in network.layers)


def compiled(graph: Any, layers: Sequence[DeployedLayer], target: Target) -> Any:
    """The executable of a graph that was loaded for a target.

    Raises:
        UnsupportedError: TVM cannot compile something in it.
    """
    import tvm

    from chameleon_ray.deploy.packing import packed_and_fused
    from chameleon_ray.deploy.preparing import with_preparation
    from chameleon_ray.deploy.scheduling import scheduled
    from chameleon_ray.measure.tvm import tvm_target

    configs = {layer.task: layer.config for layer in layers}
    made_for = tvm_target(target)
    try:
        with made_for:
            fused, filters = packed_and_fused(graph, target)
            code = with_preparation(scheduled(fused, configs, target), filters)
        return tvm.compile(code, target=made_for)
    except Exception as error:  # TVM raises several kinds
        reason = " ".join(str(error).split())[:_MOST_LETTERS]
        raise UnsupportedError(f"TVM {tvm.__version__} cannot compile it: {reason}") from error


def _layer(layer: Layer, best: Entry | None, target: Target) -> DeployedLayer:
    space = design_space(layer.task, target)
    by_rule = space.describe(default_config(layer.task, target))
    return DeployedLayer(
        name=layer.name,
        task=layer.task.key,
        uses=layer.uses,
        config=best.config if best else by_rule,
        seconds=best.seconds if best else None,
        run=best.run if best else "",
    )
