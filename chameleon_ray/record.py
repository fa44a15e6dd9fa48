"""Writes recorded spaces: what a run measured, or one layer measured whole.

Of a layer a file says besides task, template and target, from which a reader with the same template
knows the space's features and its default, and whether the file is the whole space. A split such as
(4, 2, 16) is the text `4x2x16`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chameleon_ray import history
from chameleon_ray.cache_writer import SUFFIXES, Recording, write_recording
from chameleon_ray.errors import RunFolderError, SettingsError
from chameleon_ray.files import check_out
from chameleon_ray.measure import Outcome
from chameleon_ray.measure.backend import target_of
from chameleon_ray.networks import choose_layers
from chameleon_ray.plan import make_plan
from chameleon_ray.presets import load_env
from chameleon_ray.records import Provenance, Record, read_records
from chameleon_ray.results import Progress
from chameleon_ray.space import Choice, DesignSpace, KnobValues
from chameleon_ray.storage import Place
from chameleon_ray.store import shown
from chameleon_ray.tasks import Layer, LayerTask, NamedTask, Task
from chameleon_ray.templates import design_space, gpu_template, has_template_of
from chameleon_ray.tunables import Plain, Tunables

SWEEP = "sweep"  # the policy that measures everything once
_ODD = re.compile(r"[^\w.-]+")  # what a file's name had better not hold


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A file that was written.

    Attributes:
        path: Of the file.
        configs: How many configurations it holds.
        failed: How many of them have no time.
        valid: How many the space has; None if it is too large to count.
        best_seconds: The shortest time.
        damaged: Names of journal parts that could not be read, and are not in the file.
    """

    path: Path
    configs: int
    failed: int
    valid: int | None
    best_seconds: float
    damaged: tuple[str, ...]


def write_run(run: Place, out: Path) -> list[Written]:
    """Write what a run measured in its search, one file for each layer with a time.

    Args:
        run: A run folder, finished or not, of a network or of a function.
        out: Folder of the files, `NETWORK_layerN.json.gz` or `FUNCTION.json.gz`; made if it does
            not exist.

    Raises:
        RunFolderError: It is no run folder, cannot be read, or holds no time.
        SettingsError: The files cannot be written.
    """
    if out.name.endswith(SUFFIXES) and not out.is_dir():
        raise SettingsError(
            f"--out: {out}: a run is written as one file for each layer; name their folder."
        )
    manifest = history.read_manifest(run)
    if manifest.get("kind") == "function":
        written = _write_function(run, manifest, out)
    else:
        whole = history.network_of(manifest)
        layers = choose_layers(whole.layers, manifest.get("layers") or ())
        files = {out / f"{whole.file_name}_layer{layer.index}.json.gz": layer for layer in layers}
        written = _write_layers(run, files)
    if not written:
        raise RunFolderError(
            f"{shown(run)}: nothing in it has a time yet; `chameleon-ray show {shown(run)}` tells "
            "what it holds."
        )
    return written


def sweep(
    network: str,
    layer: int,
    *,
    out: Path,
    env: str = "cpu",
    limit: int | None = None,
    run: Place,
    on_progress: Callable[[Progress], None] | None = None,
) -> Written:
    """Measure every valid configuration of a layer once, in random order, and write them.

    Everything measured is in the run folder; the same call goes on from there.

    Args:
        network: `resnet18`, `vgg16` or `alexnet`.
        layer: Its number, from 1.
        out: The file, `.json` or `.json.gz`.
        env: Name or path of an env preset.
        limit: At most so many configurations, drawn at random; a larger one goes on with them.
        run: Run folder of the measurements.
        on_progress: Called a few times a second, from a thread.

    Raises:
        UnknownNameError: Network, env or layer.
        SettingsError: The file's name, or the space is too large to be measured whole.
        RunFolderError: The run folder cannot be used, or nothing in it has a time.
        MachineError: The machine lacks something.
        KeyboardInterrupt: On SIGINT and SIGTERM.
    """
    from chameleon_ray import network_tuner

    check_out(out, SUFFIXES)  # hours of measuring are not to end there
    if load_env(env)[1].on_gpus:
        raise SettingsError(
            f"env {env!r}: a layer is measured whole on a CPU alone; of a GPU, `record --run RUN` "
            "writes what a run has measured."
        )
    plan = make_plan(
        network,
        env=env,
        policy=SWEEP,
        layers=(),
        trials=limit,
        seed=0,
        cold=True,
    )
    (chosen,) = choose_layers(plan.network.layers, (layer,), option="--layer")
    trials = _how_many(chosen, design_space(chosen.task, plan.target), limit)
    network_tuner.tune(
        network,
        env=env,
        policy=SWEEP,
        layers=(layer,),
        trials=trials,
        run=run,
        cold=True,  # a sweep is to be random, and as long as it wants
        on_progress=on_progress,
    )
    written = _write_layers(run, {out: chosen})
    if not written:
        raise RunFolderError(
            f"{shown(run)}: no configuration of layer {layer} has a time; "
            f"`chameleon-ray show {shown(run)}` tells how they failed."
        )
    return written[0]


def _how_many(layer: Layer, space: DesignSpace, limit: int | None) -> int:
    valid = space.count_valid()
    if valid is None and limit is None:
        raise SettingsError(
            f"layer {layer.index} ({layer.name}) has about {space.estimate_valid():,} valid "
            "configurations, too many to measure all: give --limit N for N random ones."
        )
    return min(n for n in (valid, limit) if n is not None)


def _write_layers(run: Place, files: Mapping[Path, Layer]) -> list[Written]:
    """A file for each layer that has a time."""
    records, damaged = read_records(run)
    written = []
    for path, layer in files.items():
        found = latest_of(layer.task, records)
        if any(record.measurement.ok for record in found):
            space = _space(layer.task, found[-1].provenance)
            valid = space.count_valid() if space else None
            write_recording(_layer_recording(layer, found, space, valid), path)
            written.append(_written(path, found, valid, damaged))
    return written


def _write_function(run: Place, manifest: Mapping[str, Any], out: Path) -> list[Written]:
    """The file of a run of `tune_function`, if anything has a time."""
    records, damaged = read_records(run)
    name = manifest["measure"]
    found = latest_of(NamedTask(key=name), records)
    if not any(record.measurement.ok for record in found):
        return []
    path = out / f"{_ODD.sub('_', name).strip('_')}.json.gz"
    tunables = Tunables.of(manifest["knobs"], where=f"{shown(run)}: knobs")
    recording = Recording(
        kernel=name,
        device=found[-1].provenance.machine,
        problem_size=(1,),  # the format wants one
        parameters=tunables.values,
        values=tunables.from_knobs(),
        records=found,
        own={"complete": False, "restrictions": manifest.get("restrictions", [])},
    )
    write_recording(recording, path)
    return [_written(path, found, None, damaged)]


def _written(
    path: Path, found: Sequence[Record], valid: int | None, damaged: Sequence[str]
) -> Written:
    times = [record.measurement.seconds for record in found if record.measurement.ok]
    return Written(
        path=path,
        configs=len(found),
        failed=len(found) - len(times),
        valid=valid,
        best_seconds=min(times),
        damaged=tuple(damaged),
    )


def latest_of(task: Task, records: Sequence[Record]) -> list[Record]:
    """What the search measured of a task where it measured last; of each config the last.

    A lost device says nothing about the config.
    """
    found = [
        record
        for record in records
        if record.measurement.task == task.key
        and record.measurement.purpose.counted
        and record.measurement.outcome is not Outcome.DEVICE_LOST
    ]
    origin = _origin(found[-1].provenance) if found else ()
    latest = {
        tuple(record.measurement.config.items()): record
        for record in found
        if _origin(record.provenance) == origin
    }
    return list(latest.values())


def _origin(provenance: Provenance) -> tuple[str, ...]:
    return provenance.machine, provenance.compiler, provenance.template


def _layer_recording(
    layer: Layer, found: Sequence[Record], space: DesignSpace | None, valid: int | None
) -> Recording:
    task, provenance = layer.task, found[-1].provenance
    return Recording(
        kernel=task.key,
        device=f"{provenance.machine}, {provenance.compiler}",
        problem_size=task.output,
        parameters=_parameters(space, found),
        values=_plain_values,
        records=found,
        own={
            "task": task.key,
            "template": provenance.template,
            **_target(provenance),
            "complete": len(found) == valid,
            "valid": valid,
        },
    )


def _target(provenance: Provenance) -> dict[str, int | str]:
    """What a task's space depends on besides the task."""
    target = target_of(provenance.machine, gpu_template(provenance.template))
    if target is None:
        return {}
    size: dict[str, int | str] = {"cores": target.cores, "lanes": target.lanes}
    return size if target.kind == "llvm" else size | {"kind": target.kind, "model": target.model}


def _space(task: LayerTask, provenance: Provenance) -> DesignSpace | None:
    """The space that was searched; None if its template has changed since."""
    target = target_of(provenance.machine, gpu_template(provenance.template))
    if target is None or not has_template_of(task, target, provenance.template):
        return None
    return design_space(task, target)


def _parameters(space: DesignSpace | None, found: Sequence[Record]) -> dict[str, list[Plain]]:
    """Each knob's values: all of them, or those that occur where the space is not known."""
    if space is not None:
        return {knob.name: [_plain(choice) for choice in knob.choices] for knob in space.knobs}
    configs = [record.measurement.config for record in found]
    return {
        name: [_plain(choice) for choice in sorted({tuple(config[name]) for config in configs})]
        for name in configs[0]
    }


def _plain_values(config: KnobValues) -> dict[str, Plain]:
    return {name: _plain(choice) for name, choice in config.items()}


def _plain(choice: Choice) -> int | str:
    return choice[0] if len(choice) == 1 else "x".join(map(str, choice))
