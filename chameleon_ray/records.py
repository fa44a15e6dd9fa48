"""The journal: an append-only Parquet record of every measurement of a run.

Each append is one small file, written aside, synced and renamed, so that what was appended
survives a kill at any moment. Small files are merged now and then; a crash between the merge and
the removal of what it replaces leaves records twice on disk, and reading keeps one by job number.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from chameleon_ray.errors import RunFolderError
from chameleon_ray.measure import Measurement, Outcome, Purpose

SCHEMA_VERSION = 1

_MOST_SMALL = 32  # so many small parts are merged into one
_LARGE = 4096  # a part of so many records is left alone
_PART = re.compile(r"records-(\d+)-(\d+)\.parquet")


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """Where a run's measurements come from.

    Attributes:
        machine: The device that was timed.
        compiler: What generated its code, with version and target.
        versions: Package -> version.
        template: Version of the templates.
        env: Name of the env preset.
        policy: Name of the policy preset.
        seed: Of the run.
    """

    machine: str = ""
    compiler: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    template: str = ""
    env: str = ""
    policy: str = ""
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A measurement as the journal keeps it.

    Attributes:
        job: Counts up within a run, from 1.
        measured_at: When it was appended, UTC.
    """

    job: int
    measured_at: datetime
    measurement: Measurement
    provenance: Provenance


def read_records(folder: Path) -> tuple[list[Record], list[str]]:
    """All records in a journal's folder, by job, and the names of all damaged parts.

    Changes nothing, and may be called while a run is going on. Parts that a journal has set aside
    before are among the damaged ones.

    Raises:
        RunFolderError: A newer version wrote the records, or they cannot be read.
    """
    records, damaged = _read_now(folder)
    return records, sorted([*damaged, *_aside(folder)])


def _read_now(folder: Path) -> tuple[list[Record], list[str]]:
    """The records of all parts, and the names of those that turn out to be damaged."""
    for _ in range(10):
        try:
            return _read(_parts(folder))
        except FileNotFoundError:  # merged while we read: look again
            continue
        except OSError as error:
            raise _folder_error(folder, error) from error
    raise RunFolderError(f"{folder}: its records keep changing; is another run writing there?")


class Journal:
    """The records of one run, with one writer at a time.

    Args:
        folder: Where the parts lie; made by the first append.
        provenance: Written with every record appended.
    """

    def __init__(self, folder: Path, provenance: Provenance) -> None:
        self._folder = folder
        self._provenance = provenance
        self._last_job = 0
        self._opened = False

    @property
    def damaged(self) -> list[str]:
        """The names of damaged parts that reading has set aside, in this run or before."""
        return _aside(self._folder)

    def append(self, measurements: Sequence[Measurement]) -> list[Record]:
        """Write measurements as one part; when this returns, they are on disk.

        Raises:
            RunFolderError: They could not be written; what was appended before is safe.
        """
        if not measurements:
            return []
        now = datetime.now(UTC)
        try:
            self._open()
            self._merge()
            records = [
                Record(job=job, measured_at=now, measurement=m, provenance=self._provenance)
                for job, m in enumerate(measurements, start=self._last_job + 1)
            ]
            self._last_job = records[-1].job
            self._write(records)
        except OSError as error:
            raise _folder_error(self._folder, error) from error
        return records

    def records(self) -> list[Record]:
        """All records by job. Damaged parts are renamed to `*.damaged`: see `damaged`.

        Raises:
            RunFolderError: A newer version wrote the records, or they cannot be read.
        """
        records, damaged = _read_now(self._folder)
        try:
            self._set_aside(damaged)
        except OSError as error:
            raise _folder_error(self._folder, error) from error
        return records

    def _open(self) -> None:
        """Once, before the first write: clear what a killed writer left, go on counting jobs."""
        if self._opened:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        for leftover in self._folder.glob("records-*.tmp"):
            leftover.unlink()
        names = (_PART.match(path.name) for path in self._folder.iterdir())
        self._last_job = max((int(match[2]) for match in names if match), default=0)
        self._opened = True

    def _write(self, records: Sequence[Record]) -> Path:
        """One part with these records, all of it or nothing."""
        path = self._folder / f"records-{records[0].job:08d}-{records[-1].job:08d}.parquet"
        aside = path.with_suffix(".tmp")
        try:
            with aside.open("wb") as file:
                file.write(_encode(records))
                file.flush()
                os.fsync(file.fileno())
            aside.rename(path)
        except BaseException:
            aside.unlink(missing_ok=True)
            raise
        _sync_folder(self._folder)
        return path

    def _merge(self) -> None:
        """Many small parts become one; each step leaves every record on disk at least once."""
        small = [path for path in _parts(self._folder) if _jobs_of(path) < _LARGE]
        if len(small) < _MOST_SMALL:
            return
        records, damaged = _read(small)
        self._set_aside(damaged)
        if not records:
            return
        merged = self._write(records)
        for path in small:
            if path != merged and path.name not in damaged:
                path.unlink()

    def _set_aside(self, damaged: Sequence[str]) -> None:
        for name in damaged:
            (self._folder / name).rename(self._folder / f"{name}.damaged")


def _aside(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("records-*.damaged"))


def _parts(folder: Path) -> list[Path]:
    """The parts by their first job; none if there is no such folder yet."""
    return sorted(path for path in folder.glob("records-*.parquet") if _PART.fullmatch(path.name))


def _jobs_of(path: Path) -> int:
    """How many jobs a part's name spans."""
    match = _PART.fullmatch(path.name)
    return int(match[2]) - int(match[1]) + 1 if match else 0


def _sync_folder(folder: Path) -> None:
    """Make renames in a folder survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _folder_error(folder: Path, error: OSError) -> RunFolderError:
    return RunFolderError(
        f"{folder}: cannot keep records there: {error.strerror or error}. Free space on that disk, "
        "or check that you may write there, and start the same command again: it goes on from "
        "the last record."
    )


def _read(parts: Sequence[Path]) -> tuple[list[Record], list[str]]:
    """The records of these parts, each job once, and the names of the damaged parts."""
    records: dict[int, Record] = {}
    damaged = []
    for path in parts:
        found = _decode(path.read_bytes(), path)
        if found is None:
            damaged.append(path.name)
        else:
            records.update((record.job, record) for record in found)
    return [records[job] for job in sorted(records)], damaged


def _schema() -> Any:
    import pyarrow as pa

    text = pa.string()
    columns = {
        "task": text,
        "config": pa.map_(text, pa.list_(pa.int64())),
        "purpose": text,
        "job": pa.int64(),
        "outcome": text,
        "message": text,
        "repeat_seconds": pa.list_(pa.float64()),
        "build_seconds": pa.float64(),
        "run_seconds": pa.float64(),
        "error": pa.float64(),
        "measured_at": pa.timestamp("us", tz="UTC"),
        "machine": text,
        "compiler": text,
        "versions": text,
        "template": text,
        "env": text,
        "policy": text,
        "seed": pa.int64(),
    }
    return pa.schema(list(columns.items()), metadata={"schema_version": str(SCHEMA_VERSION)})


def _encode(records: Sequence[Record]) -> bytes:
    """A whole Parquet file, with a checksum on every page."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.Table.from_pylist([_row(record) for record in records], schema=_schema())
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", write_page_checksum=True)
    return bytes(sink.getvalue())


def _decode(data: bytes, path: Path) -> list[Record] | None:
    """The records of one Parquet file, or None if it is damaged.

    Raises:
        RunFolderError: A newer version wrote it.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True)
        version = int((file.schema_arrow.metadata or {})[b"schema_version"])
        if version <= SCHEMA_VERSION:
            return [_record(row) for row in file.read().to_pylist()]
    except (pa.ArrowException, OSError, ValueError, KeyError):
        return None
    raise RunFolderError(
        f"{path}: written with schema {version} of the journal; this version knows schemas up to "
        f"{SCHEMA_VERSION}. Update chameleon-ray to read it."
    )


def _row(record: Record) -> dict[str, object]:
    m, p = record.measurement, record.provenance
    return {
        "task": m.task,
        "config": list(m.config.items()),
        "purpose": m.purpose.value,
        "job": record.job,
        "outcome": m.outcome.value,
        "message": m.message.encode(errors="replace").decode(),  # compilers say what they like
        "repeat_seconds": m.repeat_seconds,
        "build_seconds": m.build_seconds,
        "run_seconds": m.run_seconds,
        "error": m.error,
        "measured_at": record.measured_at,
        "machine": p.machine,
        "compiler": p.compiler,
        "versions": json.dumps(dict(p.versions), sort_keys=True),
        "template": p.template,
        "env": p.env,
        "policy": p.policy,
        "seed": p.seed,
    }


def _record(row: dict[str, Any]) -> Record:
    measurement = Measurement(
        task=row["task"],
        config={knob: tuple(value) for knob, value in row["config"]},
        purpose=Purpose(row["purpose"]),
        outcome=Outcome(row["outcome"]),
        message=row["message"],
        repeat_seconds=tuple(row["repeat_seconds"]),
        build_seconds=row["build_seconds"],
        run_seconds=row["run_seconds"],
        error=row["error"],
    )
    provenance = Provenance(
        machine=row["machine"],
        compiler=row["compiler"],
        versions=json.loads(row["versions"]),
        template=row["template"],
        env=row["env"],
        policy=row["policy"],
        seed=row["seed"],
    )
    return Record(
        job=row["job"],
        measured_at=row["measured_at"].astimezone(UTC),
        measurement=measurement,
        provenance=provenance,
    )
