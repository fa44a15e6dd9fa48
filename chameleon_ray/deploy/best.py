"""The best configs that are known for a target: of runs, and of databases of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from chameleon_ray.deploy.database import SUFFIX, Entry, best_by, entries_of, read_database
from chameleon_ray.errors import RunFolderError
from chameleon_ray.history import network_of, read_manifest
from chameleon_ray.measure.backend import target_of
from chameleon_ray.networks import Network
from chameleon_ray.storage import Place
from chameleon_ray.store import shown
from chameleon_ray.tasks import LayerTask, Target, task_from_key
from chameleon_ray.templates import has_template_of, template_version

SHIPPED = Path(__file__).with_name("shipped.parquet")


def best_configs(places: Iterable[Place], target: Target) -> dict[str, Entry]:
    """The fastest config of each task for a target, by the task's key.

    What none of the places has, may be in the database that is shipped.

    Args:
        places: Run folders, and databases (`.parquet`).
        target: What for.

    Raises:
        RunFolderError: One is no run folder, or nothing in it is for the target or the templates
            of now; the message says what differs.
        SettingsError: One is no database.
    """
    measured = (entry for place in places for entry in _fitting(place, target))
    own = best_by(lambda entry: entry.task, measured)
    return best_by(lambda entry: entry.task, _shipped(target)) | own


def _shipped(target: Target) -> list[Entry]:
    return [entry for entry in read_database(SHIPPED) if _is_of_now(entry, target)]


def _is_of_now(entry: Entry, target: Target) -> bool:
    """Whether its config stands for the same code here."""
    task = task_from_key(entry.task)
    return entry.for_target(target) and has_template_of(task, target, entry.template)


def best_of(task: LayerTask, found: Mapping[str, Entry]) -> Entry | None:
    """What is known best for a task: of itself, or of one that differs in its epilogue only."""
    if exact := found.get(task.key):
        return exact
    alike = [best for key, best in found.items() if _plain(task_from_key(key)) == _plain(task)]
    return min(alike, key=lambda best: best.rank, default=None)


def network_in(run: Place) -> Network:
    """The network that a run tunes.

    Raises:
        RunFolderError: It is no run folder, or that of a function.
    """
    manifest = read_manifest(run)
    if manifest.get("kind") == "function":
        raise RunFolderError(f"{shown(run)}: a run of tune_function has no network to deploy.")
    return network_of(manifest)


def cores_of(run: Place) -> int:
    """How many cores a run has measured on; 0 if it does not say so."""
    target = target_of(str(read_manifest(run).get("machine", "")), "direct")
    return target.cores if target and target.kind == "llvm" else 0


def _plain(task: LayerTask) -> LayerTask:
    return replace(task, epilogue=())


def _fitting(place: Place, target: Target) -> list[Entry]:
    database = str(place).endswith(SUFFIX)
    entries = read_database(Path(place)) if database else entries_of(place)
    here = [entry for entry in entries if entry.for_target(target)]
    fitting = [entry for entry in here if _is_of_now(entry, target)]
    if entries and not fitting:
        machines = sorted({entry.machine for entry in entries})
        why = (
            f"its templates are {here[0].template}, and here they are {template_version(target)}"
            if here
            else f"it is for {'; '.join(machines)}, and this is for {target.cores} cores of "
            f"{target.lanes} lanes"
        )
        raise RunFolderError(
            f"{shown(place)} cannot be deployed here: {why}. Tune on this machine, or deploy "
            "without it; --threads says for how many cores."
        )
    return fitting
