"""The best configs of many runs in one Parquet file: to be merged, shared, and shipped.

A row is the best that is known of a task on a kind of machine; `best` reads rows for a target.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from chameleon_ray.errors import RunFolderError, SettingsError
from chameleon_ray.files import write_whole
from chameleon_ray.history import layer_result, network_of, of_layer, read_manifest
from chameleon_ray.measure.backend import target_of
from chameleon_ray.records import read_records
from chameleon_ray.space import KnobValues
from chameleon_ray.storage import Place
from chameleon_ray.store import shown
from chameleon_ray.tasks import Target

SUFFIX = ".parquet"
_VERSION = 2

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What is known best of a task on a kind of machine.

    Attributes:
        task: Its key.
        kind: Of the target, as `model`, `lanes` and `cores`.
        template: Versions of the templates.
        compiler: Name and version of what made the code.
        config: Knob values.
        seconds: What it took.
        cold_weights: Whether it read its filters from memory then, as it does in a network.
        default_seconds: What the default took beside it, if it was timed.
        machine: In words.
        run: Where it was measured.
    """

    task: str
    kind: str
    model: str
    lanes: int
    cores: int
    template: str
    compiler: str
    config: KnobValues
    seconds: float
    cold_weights: bool
    default_seconds: float | None
    machine: str
    run: str

    @property
    def key(self) -> tuple[object, ...]:
        """Of which a database has one entry."""
        known = self.task, self.kind, self.model, self.lanes, self.cores
        return *known, self.template, self.compiler

    @property
    def rank(self) -> tuple[bool, float]:
        """The less the better: what was timed as in a network, then what took less."""
        return not self.cold_weights, self.seconds

    def for_target(self, target: Target) -> bool:
        """Whether it is for as many cores and lanes, be it on another CPU."""
        return (self.kind, self.lanes, self.cores) == (target.kind, target.lanes, target.cores)


def entries_of(run: Place) -> list[Entry]:
    """The best of each layer of a run.

    Raises:
        RunFolderError: It is no run folder, or its times are simulated.
    """
    manifest = read_manifest(run)
    machine = str(manifest.get("machine", ""))
    target = target_of(machine, "direct")
    if target is None or target.kind != "llvm" or "simulated" in machine:
        raise RunFolderError(
            f"{shown(run)}: it was measured on {machine or 'a machine that it does not name'}, and "
            "what is deployed takes times of a CPU."
        )
    cold_weights = bool(manifest.get("env_settings", {}).get("cold_weights", False))
    records, _ = read_records(run)
    found = []
    for layer in network_of(manifest).layers:
        result = layer_result(layer, of_layer(layer, records), target=target)
        if result.best_seconds is not None:
            found.append(
                Entry(
                    task=layer.task.key,
                    kind=target.kind,
                    model=machine.partition(",")[0].split()[-1],
                    lanes=target.lanes,
                    cores=target.cores,
                    template=str(manifest.get("template", "")),
                    compiler=str(manifest.get("compiler", "")),
                    config=result.best_config,
                    seconds=result.best_seconds,
                    cold_weights=cold_weights,
                    default_seconds=result.default_seconds,
                    machine=machine,
                    run=shown(run),
                )
            )
    return found


def merged(entries: Iterable[Entry]) -> list[Entry]:
    """One entry for each task on each kind of machine: the best. By task and machine."""
    best = best_by(lambda entry: entry.key, entries)
    return [best[key] for key in sorted(best, key=lambda key: tuple(map(str, key)))]


def best_by(key: Callable[[Entry], Key], entries: Iterable[Entry]) -> dict[Key, Entry]:
    """The best of those that have the same key, the first of equals."""
    best: dict[Key, Entry] = {}
    for entry in entries:
        before = best.get(key(entry))
        if before is None or entry.rank < before.rank:
            best[key(entry)] = entry
    return best


def write_database(entries: Sequence[Entry], file: Path) -> None:
    """Write a database; whole or not at all.

    Raises:
        SettingsError: It cannot be written.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [
        {name: getattr(entry, name) for name in _COLUMNS} | {"config": json.dumps(entry.config)}
        for entry in entries
    ]
    types = {str: pa.string(), int: pa.int32(), float: pa.float64(), bool: pa.bool_()}
    schema = pa.schema(
        [(name, types[kind]) for name, kind in _COLUMNS.items()],
        metadata={"chameleon_ray_database": str(_VERSION)},
    )
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema), buffer, compression="zstd")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, buffer.getvalue())
    except OSError as error:
        raise SettingsError(f"{file} cannot be written: {error}.") from error


def read_database(file: Path) -> list[Entry]:
    """What a database holds.

    Raises:
        SettingsError: It is none, damaged, or of a newer version.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(file)
        version = int((table.schema.metadata or {})[b"chameleon_ray_database"])
        if version != _VERSION:
            remedy = "update" if version > _VERSION else "export it anew from its runs"
            raise SettingsError(
                f"{file}: another chameleon-ray wrote it (version {version}; this one reads "
                f"{_VERSION}): {remedy}."
            )
        return [_entry(row) for row in table.to_pylist()]
    except FileNotFoundError:
        raise SettingsError(f"{file}: there is no such file.") from None
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
        raise SettingsError(
            f"{file}: not a database that `chameleon-ray database` wrote: {error}."
        ) from error


def _entry(row: Mapping[str, Any]) -> Entry:
    config = {name: tuple(choice) for name, choice in json.loads(row["config"]).items()}
    return Entry(**{**{name: row[name] for name in _COLUMNS}, "config": config})


_COLUMNS: dict[str, type] = {
    "task": str,
    "kind": str,
    "model": str,
    "lanes": int,
    "cores": int,
    "template": str,
    "compiler": str,
    "config": str,
    "seconds": float,
    "cold_weights": bool,
    "default_seconds": float,
    "machine": str,
    "run": str,
}
