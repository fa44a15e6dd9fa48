"""What `torch.compile` was asked for, and the tuning of what no run and no database knows."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from chameleon_ray.deploy.best import best_configs, best_of, cores_of
from chameleon_ray.deploy.database import Entry
from chameleon_ray.errors import RunFolderError, SettingsError, UnknownNameError
from chameleon_ray.history import load, network_of, read_manifest
from chameleon_ray.live import live
from chameleon_ray.network_tuner import tune
from chameleon_ray.networks import Network
from chameleon_ray.presets import load_env, load_policy
from chameleon_ray.run_folder import MANIFEST, MODEL
from chameleon_ray.storage import Place, open_folder
from chameleon_ray.tasks import Target
from chameleon_ray.templates import template_version

_OPTIONS = ("from", "threads", "trials", "time_budget_seconds", "run", "policy")
_RUN = "runs/torch.compile"
_MOST_TRIALS = 10**6
_MOST_THREADS = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The options, checked.

    Attributes:
        records: Run folders and databases, of which the best configs are.
        threads: Cores that it will run on, and is tuned with.
        trials: Cap of measurements per layer that is tuned; the policy's if absent.
        time_budget_seconds: Of each graph that is tuned.
        run: Where that is kept.
        policy: How it is tuned.
    """

    records: tuple[Place, ...]
    threads: int
    trials: int | None
    time_budget_seconds: float | None
    run: Place
    policy: str

    @property
    def tunes(self) -> bool:
        """Whether anything may be measured."""
        return self.trials is not None or self.time_budget_seconds is not None


def asked_for(options: Mapping[str, Any]) -> Asked:
    """The options of a call, with defaults.

    Raises:
        UnknownNameError: One is not known, or the policy is not.
        SettingsError: A value cannot be used, or would do nothing.
    """
    for name in options:
        if name not in _OPTIONS:
            raise UnknownNameError("option", name, _OPTIONS, where="torch.compile")
    records, run = options.get("from", ()), options.get("run", _RUN)
    if not isinstance(records, Sequence) or not _are_places(records):
        raise SettingsError(f"torch.compile: from is a list of run folders, not {records!r}.")
    if not isinstance(run, str | Path) or not str(run):
        raise SettingsError(f"torch.compile: run is a folder, not {run!r}.")
    seconds = options.get("time_budget_seconds")
    if seconds is not None and not _is_time(seconds):
        raise SettingsError(f"torch.compile: time_budget_seconds {seconds!r} is no positive time.")
    asked = Asked(
        records=tuple(records),
        threads=_whole("threads", options, most=_MOST_THREADS) or torch.get_num_threads(),
        trials=_whole("trials", options, most=_MOST_TRIALS),
        time_budget_seconds=seconds,
        run=run,
        policy=load_policy(str(options.get("policy", "chameleon")))[0],
    )
    for name in ("run", "policy"):
        if name in options and not asked.tunes:
            raise SettingsError(
                f"torch.compile: {name} is of tuning, and without trials or time_budget_seconds "
                "nothing is tuned; runs that are there already are named in from."
            )
    return asked


def _whole(name: str, options: Mapping[str, Any], *, most: int) -> int | None:
    value = options.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        raise SettingsError(
            f"torch.compile: {name} {value!r} is not a whole number from 1 to {most}."
        )
    return value


def _are_places(records: Sequence[object]) -> bool:
    return not isinstance(records, str) and all(isinstance(x, str | Path) for x in records)


def _is_time(value: object) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and 0 < value < math.inf  # type: ignore[operator]


def tuned(
    program: torch.export.ExportedProgram,
    network: Network,
    best: Mapping[str, Entry],
    target: Target,
    asked: Asked,
) -> Mapping[str, Entry]:
    """What is known once the layers of which nothing is known have been tuned.

    How far that is, is shown on standard error.

    Args:
        program: The graph, kept with the run so that it can be deployed.
        network: Its layers.
        best: What is known, by the task's key.
        target: What for.
        asked: With which budget, and where that is kept.

    Raises:
        ChameleonError: As of `tune`.
    """
    unknown = {x.index for x in network.layers if best_of(x.task, best) is None}
    if not unknown:
        return best
    run = _run_for(network, target, asked.run)
    open_layers = sorted(unknown - _done(run, asked))
    if open_layers:
        try:
            with live() as on_progress:  # it takes minutes
                tune(
                    network,
                    env=replace(load_env("cpu")[1], cores=target.cores),
                    policy=asked.policy,
                    layers=open_layers,
                    trials=asked.trials,
                    time_budget_seconds=asked.time_budget_seconds,
                    run=run,
                    on_progress=on_progress,
                )
        except RunFolderError as error:
            warnings.warn(f"chameleon: nothing is tuned: {error}", stacklevel=4)
            return best
    folder = open_folder(run)
    if MANIFEST not in folder.names():
        warnings.warn("chameleon: the time was over before anything was measured", stacklevel=4)
        return best
    if open_layers or MODEL not in folder.names():
        content = io.BytesIO()
        torch.export.save(program, content)
        folder.write(MODEL, content.getvalue())
    return best_configs((*asked.records, run), target)


def _run_for(network: Network, target: Target, run: Place) -> Place:
    """The run, or the first of `run-2`, `run-3`, ... that is of this graph or not there yet.

    A model may be several graphs, each with layers of its own.
    """
    number, found = 1, run
    while MANIFEST in open_folder(found).names() and not _is_of(found, network, target):
        number += 1
        found = f"{str(run).rstrip('/')}-{number}"
    return found


def _is_of(run: Place, network: Network, target: Target) -> bool:
    """Whether a run is of these layers, on as many cores, by the templates of now."""
    manifest = read_manifest(run)
    return (
        bool(manifest.get("model"))
        and network_of(manifest).layers == network.layers
        and cores_of(run) == target.cores
        and manifest.get("template") == template_version(target)
    )


def _done(run: Place, asked: Asked) -> set[int]:
    """The layers of a run that have their result, of as many measurements or as long as asked."""
    if MANIFEST not in open_folder(run).names():
        return set()
    state = load(run)
    least = (asked.trials or 0) if asked.time_budget_seconds is None else 0
    return {
        result.layer.index
        for result in state.result.layers
        if result.layer.index in state.ended
        and result.measurements >= min(least, result.space_size)
    }
