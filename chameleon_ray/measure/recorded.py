"""Recorded devices: spaces of real kernels that somebody measured whole, replayed.

A recorded space is a file in Kernel Tuner's cache format or in the T4 results format, plain or
gzipped. Its configurations are the space: what the kernel's restrictions forbid is not in it.
Nothing is built and nothing is timed, so every number that comes from here was measured by whoever
recorded the file, on the device that it names.
"""

from __future__ import annotations

import gzip
import json
import math
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from chameleon_ray.derived import products_of
from chameleon_ray.errors import SettingsError
from chameleon_ray.measure import Measurement, Outcome, Purpose
from chameleon_ray.space import Configs, DesignSpace
from chameleon_ray.tasks import NamedTask
from chameleon_ray.tunables import Plain, Tunables

_NEVER_SECONDS = 1e17  # older files mark a failure by a time of 1e20 milliseconds
_NO_TIME = "NoFiniteTime"
_OUTCOMES = {
    "CompilationFailedConfig": Outcome.BUILD_ERROR,
    "RuntimeFailedConfig": Outcome.RUN_ERROR,
    "InvalidConfig": Outcome.INVALID_STATIC,
    "compile": Outcome.BUILD_ERROR,
    "runtime": Outcome.RUN_ERROR,
    "timeout": Outcome.RUN_TIMEOUT,
    "constraints": Outcome.INVALID_STATIC,
    "correctness": Outcome.WRONG_OUTPUT,
}


@dataclass(frozen=True, kw_only=True)  # no slots: the space is cached in __dict__
class RecordedSpace:
    """Every configuration of a kernel with its time.

    Attributes:
        name: Of the file, without its suffixes.
        kernel: Name of the kernel, if the file says it.
        device: Name of the device, if the file says it.
        tunables: The parameters and their values.
        configs: int32 `(n, knobs)`, distinct.
        seconds: float64 `(n,)`; NaN where the configuration failed.
        failures: The recorded name of each failure, empty where there is a time; `(n,)`.
    """

    name: str
    kernel: str
    device: str
    tunables: Tunables
    configs: Configs
    seconds: npt.NDArray[np.float64]
    failures: tuple[str, ...]

    @property
    def task(self) -> NamedTask:
        """What is tuned."""
        return NamedTask(key=self.name)

    @cached_property
    def space(self) -> DesignSpace:
        """The recorded configurations and no others."""
        knobs = self.tunables.knobs()
        return DesignSpace(self.name, knobs, derive=products_of(knobs), listed=self.configs)

    @cached_property
    def optimum_seconds(self) -> float:
        """The shortest recorded time."""
        return float(np.nanmin(self.seconds))


class RecordedMeasurer:
    """Answers from a recorded space (`measure.Measurer`), without Ray and without TVM.

    Args:
        recorded: What was measured.
        sleep: Take as long as the kernel took: its recorded time, once.
    """

    def __init__(self, recorded: RecordedSpace, *, sleep: bool = False) -> None:
        self._recorded, self._sleep = recorded, sleep
        codes = recorded.space.encode(recorded.configs)
        self._order = np.argsort(codes, kind="stable")
        self._codes = codes[self._order]
        self._pending: list[tuple[Configs, Purpose]] = []

    def submit(self, configs: Configs, *, purpose: Purpose) -> None:
        """Queue configs `(n, knobs)`; returns at once."""
        self._pending.append((configs, purpose))

    def results(self) -> Iterator[tuple[int, Measurement]]:
        """Position and measurement of all that was submitted, in that order."""
        pending, self._pending = self._pending, []
        position = 0
        for configs, purpose in pending:
            for row, config in zip(self._rows(configs), configs, strict=True):
                yield position, self._measurement(int(row), config, purpose)
                position += 1

    def compare(self, configs: Configs, *, torch: bool) -> list[Measurement]:
        """The recorded times of finalists; there is no torch here."""
        del torch
        rows = zip(self._rows(configs), configs, strict=True)
        return [self._measurement(int(row), config, Purpose.FINALIST) for row, config in rows]

    def _rows(self, configs: Configs) -> npt.NDArray[np.intp]:
        """Where each config stands in the file, `(n,)`; -1 if it does not."""
        codes = self._recorded.space.encode(configs)
        places = np.minimum(np.searchsorted(self._codes, codes), len(self._codes) - 1)
        return np.where(self._codes[places] == codes, self._order[places], -1)

    def _measurement(self, row: int, config: Configs, purpose: Purpose) -> Measurement:
        recorded = self._recorded
        failure = recorded.failures[row] if row >= 0 else "NotRecorded"
        seconds = float(recorded.seconds[row])
        if self._sleep and not failure:
            time.sleep(seconds)
        return Measurement(
            task=recorded.name,
            config=recorded.space.describe(config),
            purpose=purpose,
            outcome=_OUTCOMES.get(failure, Outcome.RUN_ERROR) if failure else Outcome.OK,
            message=failure,
            repeat_seconds=() if failure else (seconds,),
        )


def load_recorded(path: Path | str) -> RecordedSpace:
    """Read a recorded space.

    Args:
        path: A `.json` or `.json.gz` file in Kernel Tuner's cache format or the T4 results format.

    Raises:
        SettingsError: The file cannot be read, is cut off, is in another format, or holds no
            configuration with a time.
    """
    path = Path(path)
    found = _read(path)
    if isinstance(found.get("cache"), dict):
        entries = _of_cache(found, path)
        given = found.get("tune_params")
    elif isinstance(found.get("results"), list):
        entries = _of_t4(found, path)
        given = None
    else:
        raise SettingsError(
            f"{path}: neither Kernel Tuner's cache format (it has no 'cache') nor the T4 results "
            "format (it has no 'results')."
        )
    if not entries:
        raise SettingsError(f"{path}: holds no configuration.")
    names = _names(found, given, entries, path)
    values = {name: _choices(name, given, entries) for name in names}
    tunables = Tunables.of(values, where=str(path))
    configs = tunables.indices([config for config, _ in entries], where=str(path))
    return _recorded(found, path, tunables, configs, [outcome for _, outcome in entries])


Entry = tuple[Mapping[str, Plain], "float | str"]  # a config, and its seconds or its failure's name


def _recorded(
    found: Mapping[str, Any],
    path: Path,
    tunables: Tunables,
    configs: Configs,
    outcomes: Sequence[float | str],
) -> RecordedSpace:
    seconds = np.array([o if isinstance(o, float) else np.nan for o in outcomes])
    if np.isnan(seconds).all():
        raise SettingsError(f"{path}: all of its {len(configs)} configurations failed.")
    recorded = RecordedSpace(
        name=path.name.removesuffix(".gz").removesuffix(".json"),
        kernel=str(found.get("kernel_name") or ""),
        device=str(found.get("device_name") or ""),
        tunables=tunables,
        configs=configs,
        seconds=seconds,
        failures=tuple("" if isinstance(o, float) else o for o in outcomes),
    )
    if len(np.unique(recorded.space.encode(configs))) < len(configs):
        raise SettingsError(f"{path}: a configuration stands in it twice.")
    return recorded


def _read(path: Path) -> dict[str, Any]:
    """The JSON object in a file."""
    try:
        data = path.read_bytes()
        if data[:2] == b"\x1f\x8b":
            data = gzip.decompress(data)
        found = json.loads(data)
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read: {error.strerror or error}.") from None
    except (EOFError, zlib.error):
        raise SettingsError(f"{path}: the gzip file is cut off or damaged.") from None
    except UnicodeDecodeError:
        raise SettingsError(f"{path}: not a text file in UTF-8.") from None
    except json.JSONDecodeError as error:
        cut = error.pos >= len(error.doc.rstrip()) - 1
        what = "the file is cut off" if cut else f"not JSON: {error.msg}"
        raise SettingsError(
            f"{path}, line {error.lineno}: {what}. A cache of Kernel Tuner is whole once its run "
            "has ended."
        ) from None
    if not isinstance(found, dict):
        raise SettingsError(f"{path}: not a JSON object.")
    return found


def _of_cache(found: Mapping[str, Any], path: Path) -> list[Entry]:
    """Kernel Tuner's cache: `time` is milliseconds, or the name of a failure."""
    entries: list[Entry] = []
    for key, entry in found["cache"].items():
        if not isinstance(entry, dict) or "time" not in entry:
            raise SettingsError(f"{path}: the configuration {key} has no 'time'.")
        entries.append((entry, _outcome(entry["time"])))
    return entries


def _of_t4(found: Mapping[str, Any], path: Path) -> list[Entry]:
    """T4 results: the objective among `measurements`, and `invalidity`."""
    entries: list[Entry] = []
    for number, result in enumerate(found["results"]):
        config = result.get("configuration") if isinstance(result, dict) else None
        if not isinstance(config, dict):
            raise SettingsError(f"{path}: result {number} has no 'configuration'.")
        validity = str(result.get("invalidity", "correct"))
        entries.append((config, _t4_time(result) if validity == "correct" else validity))
    return entries


_UNIT_SECONDS = {  # Kernel Tuner writes milliseconds
    **dict.fromkeys(("s", "sec", "second", "seconds"), 1.0),
    **dict.fromkeys(("", "ms", "millisecond", "milliseconds"), 0.001),
    **dict.fromkeys(("us", "microsecond", "microseconds"), 1e-06),
    **dict.fromkeys(("ns", "nanosecond", "nanoseconds"), 1e-09),
}


def _t4_time(result: Mapping[str, Any]) -> float | str:
    objective = (result.get("objectives") or ["time"])[0]
    for measurement in result.get("measurements") or ():
        if isinstance(measurement, dict) and measurement.get("name") == objective:
            unit = str(measurement.get("unit") or "").lower()
            return _outcome(measurement.get("value"), _UNIT_SECONDS.get(unit, 1e-3))
    return _NO_TIME


def _outcome(recorded: object, unit_seconds: float = 1e-3) -> float | str:
    """Seconds, or the name of a failure."""
    if isinstance(recorded, str):
        return recorded or _NO_TIME
    if isinstance(recorded, bool) or not isinstance(recorded, int | float):
        return _NO_TIME
    seconds = recorded * unit_seconds
    return float(seconds) if math.isfinite(seconds) and 0 < seconds < _NEVER_SECONDS else _NO_TIME


def _names(
    found: Mapping[str, Any], given: object, entries: Sequence[Entry], path: Path
) -> list[str]:
    """The parameters in order."""
    if not isinstance(given, dict):
        return [str(name) for name in entries[0][0]]
    names = found.get("tune_params_keys", list(given))
    if not isinstance(names, list) or not names or any(name not in given for name in names):
        raise SettingsError(
            f"{path}: tune_params_keys {names!r} do not fit the tune_params {list(given)}."
        )
    return names


def _choices(name: str, given: object, entries: Sequence[Entry]) -> Sequence[Plain]:
    """The values of a parameter: as stated, or else those that occur."""
    if isinstance(given, dict):
        stated: Sequence[Plain] = given[name]
        return stated
    return list(dict.fromkeys(config.get(name, "") for config, _ in entries))
