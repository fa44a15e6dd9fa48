"""What the journal of a run folder holds, finished or not: `chameleon-ray show`."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from chameleon_ray import report
from chameleon_ray.errors import RunFolderError, UnsupportedError
from chameleon_ray.machine import cpu
from chameleon_ray.measure import Measurement, Outcome, Purpose
from chameleon_ray.measure.backend import target_of
from chameleon_ray.networks import Network, choose_layers, network
from chameleon_ray.records import Record, drifts, read_records
from chameleon_ray.results import LayerResult, NetworkResult
from chameleon_ray.run_folder import MANIFEST, manifest_of
from chameleon_ray.space import KnobValues
from chameleon_ray.storage import Folder, Place, open_folder
from chameleon_ray.store import shown
from chameleon_ray.tasks import Layer, Target
from chameleon_ray.templates import design_space

_MANIFEST_REMEDY = (
    "Put a copy of it back, or measure anew in another folder; the measurements beside it are not "
    "touched."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """The state of a run.

    Attributes:
        result: What the journal says so far; what it does not say (wall time) is NaN.
        ended: Numbers of the layers whose finalists have been timed.
        damaged: Names of journal parts that cannot be read; the rest is whole.
    """

    result: NetworkResult
    ended: tuple[int, ...]
    damaged: tuple[str, ...]


def load(run: Place) -> State:
    """Read a run folder; changes nothing, and may be called while the run is going on.

    Raises:
        RunFolderError: It is not a run folder, or cannot be read.
        UnknownNameError: The run is of a network or layer that this version does not know.
    """
    manifest = read_manifest(run)
    if manifest.get("kind") == "function":
        raise RunFolderError(
            f"{shown(run)}: a run of tune_function; `chameleon-ray report {shown(run)}` shows it."
        )
    whole = network_of(manifest)
    layers = choose_layers(whole.layers, manifest.get("layers") or ())
    records, damaged = read_records(run)
    template = manifest.get("env_settings", {}).get("template", "direct")
    machine = str(manifest.get("machine", ""))
    target = target_of(machine, template) or Target(lanes=cpu().lanes)
    results = tuple(
        layer_result(layer, of_layer(layer, records), target=target) for layer in layers
    )
    ended = tuple(layer.index for layer in layers if _ended(of_layer(layer, records)))
    return State(
        result=NetworkResult(
            network=manifest["network"],
            untuned=whole.untuned,
            env=manifest["env"],
            policy=manifest["policy"],
            seed=manifest["seed"],
            device=_device(manifest, records),
            wall_seconds=math.nan,
            startup_seconds=math.nan,
            phase_seconds={
                "build": sum(r.measurement.build_seconds for r in records),
                "run": sum(r.measurement.run_seconds for r in records),
            },
            layers=results,
            finished=len(ended) == len(layers),
            run=shown(run),
            learned_from=str(manifest.get("learns_from", "")),
            versions=records[-1].provenance.versions if records else {},
            drifts=tuple(drifts(records)),
        ),
        ended=ended,
        damaged=tuple(damaged),
    )


def network_of(manifest: Mapping[str, Any]) -> Network:
    """What a run tunes, as its folder says.

    Raises:
        UnknownNameError: It is of a network that this version does not know.
        RunFolderError: What it says of a model cannot be read.
    """
    name = manifest["network"]
    if manifest.get("model"):
        try:
            return Network.from_json(name, manifest["model"])
        except (KeyError, TypeError, ValueError, AttributeError, UnsupportedError) as error:
            raise RunFolderError(
                f"{MANIFEST}: the layers of {name} cannot be read: {error!r}. {_MANIFEST_REMEDY}"
            ) from error
    return Network(name=name, layers=network(name))


def to_json(state: State) -> dict[str, object]:
    """As `tune --json` prints it, and what only the journal knows."""
    return report.to_json(state.result) | {
        "ended_layers": list(state.ended),
        "damaged": list(state.damaged),
    }


def print_report(state: State, console: Console) -> None:
    """The table of a run, and how far it is."""
    report.print_table(state.result, console)
    result = state.result
    lines = [report.default_wins(result), report.failures(result), *report.learned(result)]
    layers = len(state.result.layers)
    if state.result.finished:
        lines.append("The run is finished.")
    else:
        lines.append(
            f"{len(state.ended)} of {layers} layers are finished; the command that began the run "
            f"goes on with --run {state.result.run}"
        )
    lines += [f"{name} is damaged and left out." for name in state.damaged]
    lines += state.result.drifts
    for line in lines:
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def read_manifest(run: Place) -> dict[str, Any]:
    """What a run is: of a network, or of a function (`kind` is then `function`).

    Raises:
        RunFolderError: It is not a run folder, or cannot be read.
    """
    folder = open_folder(run)
    manifest = manifest_of(folder, remedy=_MANIFEST_REMEDY)
    if manifest is None:
        raise RunFolderError(_not_a_run(folder))
    needed = {"measure", "knobs"} if manifest.get("kind") == "function" else {"network", "env"}
    if missing := (needed | {"policy", "seed"}) - set(manifest):
        raise RunFolderError(
            f"{folder.name}/{MANIFEST}: not the manifest of a run: no "
            f"{', '.join(sorted(missing))}. {_MANIFEST_REMEDY}"
        )
    return manifest


def _not_a_run(folder: Folder) -> str:
    what = {"folder": f"it has no {MANIFEST}", "file": "it is a file"}
    none = "there is no such folder" if folder.path else "there is no such folder, or no way to it"
    return (
        f"{folder.name}: not a run folder: {what.get(folder.kind(), none)}. "
        "Give the folder that `chameleon-ray tune` named at its end, such as runs/resnet18-..."
    )


def _device(manifest: dict[str, Any], records: Sequence[Record]) -> str:
    if records:
        return f"{records[-1].provenance.machine}, {records[-1].provenance.compiler}"
    machine = manifest.get("machine", "")
    return machine if isinstance(machine, str) else json.dumps(machine)


def of_layer(layer: Layer, records: Sequence[Record]) -> list[Measurement]:
    """All measurements of a layer, whatever they were made for."""
    return [r.measurement for r in records if r.measurement.task == layer.task.key]


def finished(
    layers: Sequence[Layer],
    records: Sequence[Record],
    *,
    trials: int,
    finalists: int,
    torch: bool,
    target: Target,
) -> list[LayerResult]:
    """The results of those layers to which a run that goes on has nothing to add.

    Args:
        layers: Of the run.
        records: Of measurements that count for it.
        trials: Measurements of each layer.
        finalists: How many are timed in turns, where as many work.
        torch: Whether torch is timed beside them.
        target: What is tuned for.
    """
    found = []
    for layer in layers:
        measured = of_layer(layer, records)
        result = layer_result(layer, measured, target=target)
        works = result.outcomes.get(Outcome.OK.value, 0)
        timed = [m.ok for m in _finalists(measured)]
        if (
            result.measurements == min(trials, result.space_size)
            and works > 0
            and any(timed)
            and len(timed) >= min(finalists, works)
            and (not torch or any(m.purpose is Purpose.TORCH for m in measured))
        ):
            found.append(result)
    return found


def _ended(measurements: Sequence[Measurement]) -> bool:
    return bool(_finalists(measurements))


def _finalists(measurements: Sequence[Measurement]) -> list[Measurement]:
    """Those timed after the last of the search: going on with more trials makes others of them."""
    last = max((n for n, m in enumerate(measurements) if m.purpose.counted), default=-1)
    return [m for m in measurements[last + 1 :] if m.purpose is Purpose.FINALIST]


def layer_result(
    layer: Layer, measurements: Sequence[Measurement], *, target: Target
) -> LayerResult:
    """The state of a layer; finalists' times count for more than those of the search."""
    counted = [m for m in measurements if m.purpose.counted]
    finalists = [m for m in _finalists(measurements) if m.ok]
    torch = [m.seconds for m in measurements if m.purpose is Purpose.TORCH and m.ok]
    timed = finalists or [m for m in counted if m.ok]
    best = min(timed, key=lambda m: m.seconds, default=None)
    of_default = (Purpose.DEFAULT, Purpose.BASELINE)
    default = next((m.config for m in measurements if m.purpose in of_default), None)
    return LayerResult(
        layer=layer,
        space_size=design_space(layer.task, target).size,
        measurements=len(counted),
        outcomes=dict(Counter(m.outcome.value for m in counted)),
        default_seconds=_seconds_of(default, timed),
        best_seconds=best.seconds if best else None,
        torch_seconds=torch[-1] if torch else None,
        default_won=best is not None and best.config == default,
        best_config=best.config if best else {},
    )


def _seconds_of(config: KnobValues | None, timed: Sequence[Measurement]) -> float | None:
    return next((m.seconds for m in timed if m.config == config), None)
