"""The best configs that runs have found for a target."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from chameleon_ray.errors import RunFolderError
from chameleon_ray.history import layer_result, network_of, of_layer, read_manifest
from chameleon_ray.measure.backend import target_of
from chameleon_ray.networks import Network
from chameleon_ray.records import read_records
from chameleon_ray.space import KnobValues
from chameleon_ray.storage import Place
from chameleon_ray.store import shown
from chameleon_ray.tasks import Conv2d, Target
from chameleon_ray.templates import template_version


@dataclass(frozen=True, slots=True, kw_only=True)
class Best:
    """What is known best for a task.

    Attributes:
        config: Its knob values.
        seconds: What it took where it was measured.
        default_seconds: What the default config took there, if that was timed.
        run: Where that stands.
    """

    config: KnobValues
    seconds: float
    default_seconds: float | None
    run: str


def best_configs(runs: Iterable[Place], target: Target) -> dict[str, Best]:
    """The fastest config of each task in runs for a target, by the task's key.

    Raises:
        RunFolderError: One is no run folder, or of another target or template; the message says
            what differs.
    """
    found: dict[str, Best] = {}
    for run in runs:
        manifest = read_manifest(run)
        _check(run, manifest, target)
        records, _ = read_records(run)
        for layer in network_of(manifest).layers:
            result = layer_result(layer, of_layer(layer, records), target=target)
            before = found.get(layer.task.key)
            if result.best_seconds is None or (before and before.seconds <= result.best_seconds):
                continue
            found[layer.task.key] = Best(
                config=result.best_config,
                seconds=result.best_seconds,
                default_seconds=result.default_seconds,
                run=shown(run),
            )
    return found


def best_of(task: Conv2d, found: Mapping[str, Best]) -> Best | None:
    """What is known best for a task: of itself, or of one that differs in its epilogue only."""
    if exact := found.get(task.key):
        return exact
    alike = (best for key, best in found.items() if _plain(Conv2d.from_key(key)) == _plain(task))
    return next(alike, None)


def _plain(task: Conv2d) -> Conv2d:
    return replace(task, epilogue=())


def network_in(run: Place) -> Network:
    """The network that a run tunes.

    Raises:
        RunFolderError: It is no run folder.
    """
    return network_of(read_manifest(run))


def _check(run: Place, manifest: Mapping[str, Any], target: Target) -> None:
    machine, version = str(manifest.get("machine", "")), template_version(target)
    theirs = target_of(machine, "direct")
    differs = []
    if theirs is None or theirs.kind != target.kind:
        differs.append(f"it was measured on {machine or 'a machine that it does not name'}")
    elif (theirs.lanes, theirs.cores) != (target.lanes, target.cores):
        differs.append(
            f"it is for {theirs.cores} cores of {theirs.lanes} lanes ({machine}), and this is for "
            f"{target.cores} of {target.lanes}"
        )
    if manifest.get("template") != version:
        differs.append(f"its template is {manifest.get('template')}, and this is {version}")
    if "simulated" in machine:
        differs.append("its times are simulated")
    if differs:
        raise RunFolderError(
            f"{shown(run)} cannot be deployed here: {'; '.join(differs)}. Tune on this machine, or "
            "deploy without it."
        )
