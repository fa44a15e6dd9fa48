"""The journal: an append-only Parquet record of every measurement of a run."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from chameleon_ray.measure import Measurement, Outcome, Purpose
from chameleon_ray.parts import Kind, PartStore, last_number, read_parts, read_tables
from chameleon_ray.storage import Place

SCHEMA_VERSION = 2  # 2: which device measured


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

    def same_origin(self, other: Provenance) -> bool:
        """Whether two measurements were made of the same code, on the same kind of machine."""
        return all(
            getattr(self, name) == getattr(other, name)
            for name in ("machine", "compiler", "template")
        )


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


def read_records(place: Place) -> tuple[list[Record], list[str]]:
    """All records in a journal's folder, by job, and the names of all damaged parts.

    Changes nothing, and may be called while a run is going on. Parts that a journal has set aside
    before are among the damaged ones.

    Raises:
        RunFolderError: A newer version wrote the records, or they cannot be read.
    """
    return read_parts(place, _KIND)


def read_record_tables(place: Place, columns: Sequence[str]) -> tuple[list[Any], list[str]]:
    """Some columns of all records as Arrow tables, and the names of damaged parts.

    Raises:
        RunFolderError: As of `read_records`.
    """
    return read_tables(place, _KIND, columns)


def last_job(place: Place) -> int:
    """The number of the last record; 0 if there is none.

    Raises:
        RunFolderError: The folder cannot be read.
    """
    return last_number(place, _KIND)


def drifts(records: Sequence[Record]) -> list[str]:
    """Which devices drifted or were shared, and which measurements that makes doubtful, in lines.

    Doubtful is what a device measured since it was last seen to be as before. Winners are not
    chosen by that: finalists are timed in turns.

    Args:
        records: Of a run, by job.
    """
    lines = []
    since: dict[str, list[int]] = {}
    for record in records:
        m = record.measurement
        recent = since.setdefault(m.device, [])
        if m.purpose is not Purpose.REFERENCE:
            recent.append(record.job)
            continue
        if m.outcome is Outcome.DRIFTED:
            jobs = f"; doubtful: jobs {recent[0]} to {recent[-1]} of it" if recent else ""
            lines.append(f"{record.measured_at:%H:%M:%S} UTC, {m.device}: {m.message}{jobs}.")
        if not m.message or m.outcome is Outcome.DRIFTED:
            recent.clear()
    shared = Counter(r.measurement.device for r in records if any(r.measurement.others))
    return lines + [
        f"{device}: other programs computed on it during {count} measurements, whose times may be "
        "too long; `nvidia-smi` names them."
        for device, count in shared.items()
    ]


class Journal:
    """The records of one run, with one writer at a time.

    Args:
        place: Where the parts lie; made by the first append.
        provenance: Written with every record appended.
    """

    def __init__(self, place: Place, provenance: Provenance) -> None:
        self._store = PartStore(place, _KIND)
        self._provenance = provenance

    @property
    def damaged(self) -> list[str]:
        """The names of damaged parts that reading has set aside, in this run or before."""
        return self._store.damaged

    def append(self, measurements: Sequence[Measurement]) -> list[Record]:
        """Write measurements as one part; when this returns, they are kept.

        Raises:
            RunFolderError: They could not be written; what was appended before is safe.
        """
        if not measurements:
            return []
        now = datetime.now(UTC)

        def records(first: int) -> list[Record]:
            return [
                Record(job=job, measured_at=now, measurement=m, provenance=self._provenance)
                for job, m in enumerate(measurements, start=first)
            ]

        return list(self._store.append(records))

    def records(self) -> list[Record]:
        """All records by job. Damaged parts are renamed to `*.damaged`: see `damaged`.

        Raises:
            RunFolderError: A newer version wrote the records, or they cannot be read.
        """
        return self._store.items()


def _columns() -> dict[str, Any]:
    import pyarrow as pa

    text = pa.string()
    return {
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
        "device": text,
        "clock_mhz": pa.list_(pa.int32()),
        "celsius": pa.list_(pa.int32()),
        "others": pa.list_(pa.int32()),
        "measured_at": pa.timestamp("us", tz="UTC"),
        "machine": text,
        "compiler": text,
        "versions": text,
        "template": text,
        "env": text,
        "policy": text,
        "seed": pa.int64(),
    }


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
        "device": m.device,
        "clock_mhz": m.clock_mhz,
        "celsius": m.celsius,
        "others": m.others,
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
        device=row.get("device") or "",
        clock_mhz=tuple(row.get("clock_mhz") or ()),
        celsius=tuple(row.get("celsius") or ()),
        others=tuple(row.get("others") or ()),
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


_KIND = Kind(
    name="records",
    version=SCHEMA_VERSION,
    columns=_columns,
    key="job",
    number=lambda record: record.job,
    row=_row,
    item=_record,
)
