"""Files of measured configurations: Kernel Tuner's cache, and the T4 results format.

What is read here is named as the files name it; `recorded` makes a space of it. Fields that are
not known are ignored. https://kerneltuner.github.io and https://github.com/odgaard/TuningSchema
tell the formats.
"""

from __future__ import annotations

import gzip
import json
import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chameleon_ray.errors import SettingsError
from chameleon_ray.tunables import Plain

NO_TIME = "NoTime"  # what a failure without a name is called
OWN = "chameleon_ray"  # where a cache that this program wrote says more than the format can

_NEVER_SECONDS = 1e17  # older files mark a failure by a time of 1e20 milliseconds
_UNIT_SECONDS = {
    **dict.fromkeys(("s", "sec", "second", "seconds"), 1.0),
    **dict.fromkeys(("ms", "millisecond", "milliseconds"), 1e-3),
    **dict.fromkeys(("us", "microsecond", "microseconds"), 1e-6),
    **dict.fromkeys(("ns", "nanosecond", "nanoseconds"), 1e-9),
}
_DEFAULT_UNIT = "ms"  # what Kernel Tuner writes


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One configuration of a file.

    Attributes:
        name: What to call it in messages.
        config: Parameter -> value; there may be more in it.
        seconds: Of one execution; None if it failed.
        failure: The name of the failure; empty if there is a time.
    """

    name: str
    config: Mapping[str, Plain]
    seconds: float | None
    failure: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheFile:
    """What a file holds.

    Attributes:
        kernel: Name of the kernel, if the file says it.
        device: Name of the device, if the file says it.
        values: Parameter -> its values, in order.
        entries: At least one.
        own: What this program wrote beside the format's fields; empty in the files of others.
    """

    kernel: str
    device: str
    values: Mapping[str, Sequence[Plain]]
    entries: Sequence[Entry]
    own: Mapping[str, Any]


def read_cache_file(path: Path) -> CacheFile:
    """Read a `.json` or `.json.gz` file.

    Raises:
        SettingsError: It cannot be read, is cut off, is in another format or holds nothing.
    """
    found = _read(path)
    given = None
    if isinstance(found.get("cache"), dict):
        ours = isinstance(found.get(OWN), dict)
        entries = [_of_cache(k, entry, path, ours=ours) for k, entry in found["cache"].items()]
        given = found.get("tune_params")
    elif isinstance(found.get("results"), list):
        unit = _unit_of(found)
        entries = [_of_t4(n, result, unit, path) for n, result in enumerate(found["results"])]
    else:
        raise SettingsError(
            f"{path}: neither Kernel Tuner's cache format (it has no 'cache') nor the T4 results "
            "format (it has no 'results'); docs/recorded.md tells both."
        )
    if not entries:
        raise SettingsError(f"{path}: holds no configuration; run the tuner that writes it first.")
    own = found.get(OWN)
    names = _names(found, given, entries, path)
    return CacheFile(
        kernel=_text(found.get("kernel_name")),
        device=_text(found.get("device_name")),
        values={name: _choices(name, given, entries, path) for name in names},
        entries=entries,
        own=own if isinstance(own, dict) else {},
    )


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _read(path: Path) -> dict[str, Any]:
    """The JSON object in a file."""
    try:
        data = path.read_bytes()
        text = (gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data).decode("utf-8-sig")
        found = json.loads(text, object_pairs_hook=_once)
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise SettingsError(
            f"{path}: the gzip file is cut off or damaged; copy it again."
        ) from None
    except OSError as error:
        raise SettingsError(
            f"{path}: cannot be read: {error.strerror or error}. Give a .json or .json.gz file, or "
            "the name of a shipped space."
        ) from None
    except UnicodeDecodeError:
        raise SettingsError(
            f"{path}: not a text file in UTF-8. Give a .json or .json.gz file."
        ) from None
    except json.JSONDecodeError as error:
        raise SettingsError(f"{path}, line {error.lineno}: {_fault(error)}") from None
    except (ValueError, RecursionError) as error:  # a number of 5000 digits, 5000 brackets
        raise SettingsError(f"{path}: not a cache that can be read: {error}.") from None
    if not isinstance(found, dict):
        raise SettingsError(f"{path}: not a JSON object; docs/recorded.md tells the formats.")
    return found


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object each of whose names stands in it once: JSON would keep the last, in silence."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{twice!r} stands twice in one object; leave one of them")
    return found


def _fault(error: json.JSONDecodeError) -> str:
    text = error.doc.rstrip()
    if not text:
        return "the file is empty."
    if not text.startswith("{") or (text.endswith("}") and error.pos < len(text)):
        return f"not JSON: {error.msg}. Give a cache of Kernel Tuner or T4 results."
    return (
        "the file is cut off. Copy it again; a cache that Kernel Tuner still writes to is whole "
        "once its run has ended."
    )


def _of_cache(key: str, entry: object, path: Path, *, ours: bool) -> Entry:
    """Kernel Tuner's cache: `time` is milliseconds, or the name of a failure."""
    if not isinstance(entry, dict) or not entry.keys() & {"time", "__error__"}:
        raise SettingsError(
            f"{path}: the configuration {_short(key)} has no 'time': neither milliseconds nor the "
            "name of a failure."
        )
    found = entry.get("__error__") or entry.get("time")
    if ours and isinstance(found, str):
        found = _text(entry.get("outcome")) or found
    return _entry(_short(key), entry, found, 1e-3)


def _of_t4(number: int, result: object, unit: str, path: Path) -> Entry:
    """T4 results: the objective among `measurements`, and `invalidity`."""
    config = result.get("configuration") if isinstance(result, dict) else None
    if not isinstance(result, dict) or not isinstance(config, dict) or not config:
        raise SettingsError(f"{path}: result {number} has no 'configuration'.")
    name = f"of result {number}"
    validity = result.get("invalidity", "correct")
    if validity != "correct":
        return _entry(name, config, str(validity), 1.0)
    value, unit = _t4_time(result, unit)
    return _entry(name, config, value, _UNIT_SECONDS[unit])


def _t4_time(result: Mapping[str, Any], unit: str) -> tuple[object, str]:
    """The time and its unit: measured as `time`, or as the objective, or the mean of the runs."""
    measured: dict[str, tuple[object, str]] = {}
    listed = result.get("measurements")
    for one in listed if isinstance(listed, list) else ():
        if isinstance(one, dict):
            name = _text(one.get("name"))
            stated = _text(one.get("unit")).lower() or (unit if name == "time" else "")
            measured[name] = one.get("value"), stated
    objectives = result.get("objectives")
    for name in ("time", *(objectives if isinstance(objectives, list) else ())):
        if isinstance(name, str) and measured.get(name, (None, ""))[1] in _UNIT_SECONDS:
            return measured[name]
    times = result.get("times")
    runs = times.get("runtimes") if isinstance(times, dict) else None
    numbers = [r for r in runs if isinstance(r, int | float)] if isinstance(runs, list) else []
    return (math.fsum(numbers) / len(numbers) if numbers else None), unit


def _unit_of(found: Mapping[str, Any]) -> str:
    """The unit of T4 times that state none."""
    metadata = found.get("metadata")
    unit = _text(metadata.get("timeunit")).lower() if isinstance(metadata, dict) else ""
    return unit if unit in _UNIT_SECONDS else _DEFAULT_UNIT


def _entry(name: str, config: Mapping[str, Plain], value: object, unit_seconds: float) -> Entry:
    seconds = _seconds(value, unit_seconds)
    failure = "" if seconds else value if isinstance(value, str) and value else NO_TIME
    return Entry(name=name, config=config, seconds=seconds, failure=failure)


def _seconds(value: object, unit_seconds: float) -> float | None:
    """A time that can be; None for the name of a failure, NaN, infinity, zero and less."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    seconds = min(value, 1e300) * unit_seconds  # a whole number may exceed every float
    return float(seconds) if math.isfinite(seconds) and 0 < seconds < _NEVER_SECONDS else None


def _names(
    found: Mapping[str, Any], given: object, entries: Sequence[Entry], path: Path
) -> list[str]:
    """The parameters in order."""
    if not isinstance(given, dict):
        if "cache" in found:
            raise SettingsError(
                f"{path}: has no 'tune_params', the mapping of parameters to their values."
            )
        return [str(name) for name in entries[0].config]
    names = found.get("tune_params_keys", list(given))
    known = isinstance(names, list) and all(isinstance(n, str) and n in given for n in names)
    if not known or not names or len(set(names)) < len(names):
        raise SettingsError(
            f"{path}: tune_params_keys ({_short(names)}) are not the parameters of tune_params "
            f"({_short(list(given))})."
        )
    return list(names)


def _choices(name: str, given: object, entries: Sequence[Entry], path: Path) -> Sequence[Plain]:
    """The values of a parameter, each once: as stated, or else those that occur."""
    occurring = (entry.config[name] for entry in entries if name in entry.config)
    stated = given[name] if isinstance(given, dict) else occurring
    try:
        return list(dict.fromkeys(stated))
    except TypeError:
        raise SettingsError(
            f"{path}: the values of {name} are not a list of numbers and texts."
        ) from None


def _short(value: object) -> str:
    """As text of at most a line."""
    text = str(value)
    return text if len(text) <= 100 else f"{text[:97]}..."
