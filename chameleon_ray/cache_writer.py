"""Recordings as files in Kernel Tuner's cache format, schema 1.1.0: `measure.recorded` reads them.

What the format cannot say stands in the field `chameleon_ray`.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chameleon_ray.files import unwritable, write_whole
from chameleon_ray.measure import Measurement, Outcome
from chameleon_ray.measure.cache_file import OWN
from chameleon_ray.records import Record
from chameleon_ray.space import KnobValues
from chameleon_ray.tunables import Plain

SUFFIXES = (".json", ".json.gz")

_SCHEMA = "1.1.0"
_NAMES = {  # what Kernel Tuner knows; the outcome itself stands beside it
    Outcome.INVALID_STATIC: "InvalidConfig",
    Outcome.BUILD_ERROR: "CompilationFailedConfig",
    Outcome.BUILD_TIMEOUT: "CompilationFailedConfig",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """What a file says.

    Attributes:
        kernel: Name of the kernel.
        device: What it was measured on.
        problem_size: Of the kernel, as far as one can say it in numbers.
        parameters: Name -> the values that it can have.
        values: A measured config as the values of its parameters.
        records: One of each config, one success at least.
        own: What the format has no place for.
    """

    kernel: str
    device: str
    problem_size: Sequence[int]
    parameters: Mapping[str, Sequence[Plain]]
    values: Callable[[KnobValues], Mapping[str, Plain]]
    records: Sequence[Record]
    own: Mapping[str, object]


def write_recording(recording: Recording, path: Path) -> None:
    """Write the file, gzipped if its name ends so.

    Raises:
        SettingsError: It cannot be written.
    """
    provenance = recording.records[-1].provenance
    ours = {
        "env": provenance.env,
        "policy": provenance.policy,
        "seed": provenance.seed,
        "versions": dict(provenance.versions),
    }
    value = {
        "schema_version": _SCHEMA,
        "device_name": recording.device,
        "kernel_name": recording.kernel,
        "problem_size": list(recording.problem_size),
        "tune_params_keys": list(recording.parameters),
        "tune_params": {name: list(v) for name, v in recording.parameters.items()},
        "objective": "time",
        OWN: {**recording.own, **ours},
        "cache": dict(_entry(record, recording) for record in recording.records),
    }
    _save(value, path)


def _entry(record: Record, recording: Recording) -> tuple[str, dict[str, Any]]:
    """One configuration as Kernel Tuner writes it: times are milliseconds."""
    m = record.measurement
    values = recording.values(m.config)
    config = {name: values[name] for name in recording.parameters}
    return ",".join(map(str, config.values())), {
        **config,
        **_result(m),
        "times": [seconds * 1e3 for seconds in m.repeat_seconds],
        "compile_time": m.build_seconds * 1e3,
        "verification_time": 0,
        "benchmark_time": m.run_seconds * 1e3,
        "strategy_time": 0,
        "framework_time": 0,
        "timestamp": record.measured_at.isoformat(),
    }


def _result(m: Measurement) -> dict[str, Any]:
    if m.ok:
        return {"time": m.seconds * 1e3}
    message = (m.message.strip().splitlines() or [""])[-1]
    name = _NAMES.get(m.outcome, "RuntimeFailedConfig")
    return {"time": name, "outcome": str(m.outcome), "message": message[:200]}


def _save(value: object, path: Path) -> None:
    """Write a file whole.

    Raises:
        SettingsError: It cannot be written.
    """
    data = json.dumps(value, allow_nan=False).encode()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)
    except OSError as error:
        raise unwritable(path, error) from None
