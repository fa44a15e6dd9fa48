"""Run folders as the report sees them: what was tuned and measured, and how each round went."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from chameleon_ray import history
from chameleon_ray.measure import Measurement, Purpose
from chameleon_ray.records import Record, drifts, read_records
from chameleon_ray.results import LayerResult
from chameleon_ray.rounds import Round, read_rounds
from chameleon_ray.run_folder import is_in_use
from chameleon_ray.space import DesignSpace, KnobValues
from chameleon_ray.storage import Place, open_folder
from chameleon_ray.tunables import Plain, Tunables

_SEARCH_PHASES = ("explore", "sample", "fit", "other")
PHASES = ("explore", "sample", "fit", "build", "run", "other")


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """One layer, or one function, as one run tuned it.

    Attributes:
        key: The same in every run that tuned the same thing.
        name: For headings.
        flop: Of one execution; None where nobody knows.
        uses: How often the network uses it.
        measurements: Of purpose default and search, in their order.
        rounds: By number.
        default_seconds: As the table of the run has it; likewise the other times.
        best_config: Knob -> value, as JSON takes it.
        values: Turns a config into values that JSON takes.
        ended: Whether the finalists are timed; None where there are none.
        run_seconds: What measuring took, finalists included; likewise `build_seconds`.
    """

    key: str
    name: str
    flop: int | None
    uses: int
    measurements: tuple[Measurement, ...]
    rounds: tuple[Round, ...]
    default_seconds: float | None
    best_seconds: float | None
    torch_seconds: float | None
    default_won: bool
    best_config: Mapping[str, Any]
    values: Callable[[KnobValues], Mapping[str, Any]]
    ended: bool | None
    build_seconds: float
    run_seconds: float

    @property
    def outcomes(self) -> Counter[str]:
        """How often the measurements ended how."""
        return Counter(str(m.outcome) for m in self.measurements)

    @property
    def phase_seconds(self) -> dict[str, float]:
        """For each of `PHASES`, the seconds that it computed for this layer."""
        seconds = {
            phase: math.fsum(r.phase_seconds.get(phase, 0.0) for r in self.rounds)
            for phase in _SEARCH_PHASES
        }
        seconds |= {"build": self.build_seconds, "run": self.run_seconds}
        return {phase: seconds[phase] for phase in PHASES}

    def speed(self, seconds: float) -> float:
        """GFLOP/s; executions a second where nobody knows the work."""
        return self.flop / seconds / 1e9 if self.flop else 1 / seconds

    @property
    def speed_unit(self) -> str:
        """Of `speed`."""
        return "GFLOP/s" if self.flop else "executions per second"


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run folder.

    Attributes:
        path: As it was given, without a password.
        title: The last part of it.
        what: The network, or the name of the function.
        machine: What the times were taken on.
        state: One sentence.
        going: Whether a process is at it now and has layers to finish.
        began: When the first measurement was kept, UTC; None without one.
        latest: When the last one was.
        settings: The manifest.
        damaged: Names of journal parts that cannot be read.
        drifts: Which devices became faster or slower, a line each.
    """

    path: str
    title: str
    what: str
    policy: str
    env: str
    seed: int
    machine: str
    compiler: str
    state: str
    going: bool
    began: datetime | None
    latest: datetime | None
    subjects: tuple[Subject, ...]
    settings: Mapping[str, Any]
    versions: Mapping[str, str]
    damaged: tuple[str, ...]
    drifts: tuple[str, ...]

    @property
    def measurements(self) -> int:
        """Over all subjects."""
        return sum(len(subject.measurements) for subject in self.subjects)


def load_run(path: Place) -> Run:
    """Read a run folder; changes nothing, and may be called while the run is going on.

    Raises:
        RunFolderError: It is no run folder, or cannot be read.
        UnknownNameError: The run is of a network or layer that this version does not know.
    """
    folder, manifest = open_folder(path), history.read_manifest(path)
    records, damaged = read_records(path)
    rounds, damaged_rounds = read_rounds(path)
    parts = _Parts(records=records, rounds=rounds)
    if manifest.get("kind") == "function":
        subjects: tuple[Subject, ...] = (_function(manifest, parts),)
    else:
        state = history.load(path)
        subjects = tuple(_layer(r, state.ended, parts) for r in state.result.layers)
    going = is_in_use(path)
    last = records[-1] if records else None
    return Run(
        path=folder.name,
        title=folder.title,
        what=str(manifest.get("network", manifest.get("measure", ""))),
        policy=str(manifest["policy"]),
        env=str(manifest.get("env", "")),
        seed=manifest["seed"],
        machine=_text(manifest.get("machine")) or (last.provenance.machine if last else ""),
        compiler=_text(manifest.get("compiler")) or (last.provenance.compiler if last else ""),
        state=_state(subjects, going=going),
        going=going and not all(subject.ended for subject in subjects),
        began=records[0].measured_at if records else None,
        latest=last.measured_at if last else None,
        subjects=subjects,
        settings=manifest,
        versions=last.provenance.versions if last else {},
        damaged=(*damaged, *damaged_rounds),
        drifts=tuple(drifts(records)),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Parts:
    """What the journals of a run hold."""

    records: Sequence[Record]
    rounds: Sequence[Round]

    def of(self, task: str) -> tuple[list[Measurement], tuple[Round, ...]]:
        measured = [r.measurement for r in self.records if r.measurement.task == task]
        return measured, tuple(r for r in self.rounds if r.task == task)


def _layer(result: LayerResult, ended: Sequence[int], parts: _Parts) -> Subject:
    layer = result.layer
    measured, rounds = parts.of(layer.task.key)
    return Subject(
        key=layer.task.key,
        name=f"Layer {layer.index}: {layer.name}",
        flop=layer.task.flop,
        uses=layer.uses,
        measurements=tuple(m for m in measured if m.purpose.counted),
        rounds=rounds,
        default_seconds=result.default_seconds,
        best_seconds=result.best_seconds,
        torch_seconds=result.torch_seconds,
        default_won=result.default_won,
        best_config=_choices(result.best_config),
        values=_choices,
        ended=layer.index in ended,
        build_seconds=math.fsum(m.build_seconds for m in measured),
        run_seconds=math.fsum(m.run_seconds for m in measured),
    )


def _function(manifest: Mapping[str, Any], parts: _Parts) -> Subject:
    """What `tune_function` tuned; its journal holds the default and the search, no finalists."""
    measured, rounds = parts.of(manifest["measure"])
    timed = [m for m in measured if m.ok]
    best = min(timed, key=lambda m: m.seconds, default=None)
    default = next((m for m in timed if m.purpose is Purpose.DEFAULT), None)
    values = partial(_plain, manifest)
    return Subject(
        key=manifest["measure"],
        name=manifest["measure"],
        flop=None,
        uses=1,
        measurements=tuple(measured),
        rounds=rounds,
        default_seconds=default.seconds if default else None,
        best_seconds=best.seconds if best else None,
        torch_seconds=None,
        default_won=best is not None and best is default,
        best_config=values(best.config) if best else {},
        values=values,
        ended=None,
        build_seconds=math.fsum(m.build_seconds for m in measured),
        run_seconds=math.fsum(m.run_seconds for m in measured),
    )


def _choices(config: KnobValues) -> dict[str, list[int]]:
    return {name: list(choice) for name, choice in config.items()}


def _plain(manifest: Mapping[str, Any], config: KnobValues) -> dict[str, Plain]:
    """A function's config by its own values."""
    tunables = Tunables.of(manifest["knobs"], where="the manifest")
    space = DesignSpace(manifest["measure"], tunables.knobs())
    return tunables.plain(space.config(config))


def _state(subjects: Sequence[Subject], *, going: bool) -> str:
    layers = [subject for subject in subjects if subject.ended is not None]
    ended = sum(bool(subject.ended) for subject in layers)
    if layers and ended == len(layers):
        return "finished"
    so_far = f"{ended} of {len(layers)} layers are finished" if layers else ""
    if going:
        return f"going on: {so_far}" if so_far else "going on"
    if not any(subject.measurements for subject in subjects):
        return "nothing is measured yet"
    return f"ended early: {so_far}" if so_far else "ended"


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
