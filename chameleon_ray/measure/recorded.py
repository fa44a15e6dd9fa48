"""Recorded devices: spaces of real kernels that somebody measured whole, replayed.

A recorded space is a file in Kernel Tuner's cache format or in the T4 results format, plain or
gzipped. Its configurations are the space: what the kernel's restrictions forbid is not in it.
Nothing is built and nothing is timed, so every number that comes from here was measured by whoever
recorded the file, on the device that it names.

A file that `chameleon-ray record` wrote says of which task and template it is. Where this version
has that template, its features are those of the live space, and the task's default is known.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from chameleon_ray.derived import products_of
from chameleon_ray.errors import SettingsError, UnknownNameError, UnsupportedError
from chameleon_ray.measure import Measurement, Outcome, Purpose
from chameleon_ray.measure.cache_file import CacheFile, read_cache_file
from chameleon_ray.space import Choice, Configs, DesignSpace, Knob, Listing
from chameleon_ray.tasks import LayerTask, NamedTask, Target, task_from_key
from chameleon_ray.templates import default_config, design_space, gpu_template, has_template_of
from chameleon_ray.tunables import Tunables

_OUTCOMES = {
    **{str(outcome): outcome for outcome in Outcome if outcome is not Outcome.OK},
    "CompilationFailedConfig": Outcome.BUILD_ERROR,
    "RuntimeFailedConfig": Outcome.RUN_ERROR,
    "InvalidConfig": Outcome.INVALID_STATIC,
    "compile": Outcome.BUILD_ERROR,
    "runtime": Outcome.RUN_ERROR,
    "timeout": Outcome.RUN_TIMEOUT,
    "constraints": Outcome.INVALID_STATIC,
    "correctness": Outcome.WRONG_OUTPUT,
}
_SUFFIXES = (".json", ".json.gz")


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveTask:
    """What a file of our own was measured of, where this version has the template.

    Attributes:
        task: The layer's computation.
        space: Its design space on the target that was measured.
        default: Its default config `(knobs,)`.
    """

    task: LayerTask
    space: DesignSpace
    default: Configs


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
        complete: Whether the file holds its whole space, as far as it says.
        live: The task it was recorded of, if it is one of ours.
    """

    name: str
    kernel: str
    device: str
    tunables: Tunables
    configs: Configs
    seconds: npt.NDArray[np.float64]
    failures: tuple[str, ...]
    complete: bool = True
    live: LiveTask | None = None

    @property
    def task(self) -> NamedTask:
        """What is tuned."""
        if self.live is None:
            return NamedTask(key=self.name)
        return NamedTask(key=self.name, flop=self.live.task.flop)

    @cached_property
    def space(self) -> DesignSpace:
        """The recorded configurations and no others."""
        knobs = self.tunables.knobs()
        if self.live is None:
            derive = products_of([knob for knob in knobs if len(knob.choices[0]) == 1])
            return DesignSpace(self.name, knobs, derive=derive, listed=self.configs)
        return self.live.space.only(self.configs, name=self.name)

    @cached_property
    def default(self) -> Configs | None:
        """The default config `(knobs,)` of a task of ours; None if it is not in the file."""
        if self.live is None or not self.space.valid(self.live.default[None, :])[0]:
            return None
        return self.live.default

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
        self._listing = Listing(recorded.space, recorded.configs)

    def submit(self, configs: Configs, *, purpose: Purpose) -> Iterator[tuple[int, Measurement]]:
        """Row and measurement of configs `(n, knobs)`, in their order."""
        return enumerate(self._measured(configs, purpose))

    def compare(self, configs: Configs, *, torch: bool) -> list[Measurement]:
        """The recorded times of finalists; there is no torch here."""
        del torch
        return list(self._measured(configs, Purpose.FINALIST))

    def _measured(self, configs: Configs, purpose: Purpose) -> Iterator[Measurement]:
        for config, row in zip(configs, self._listing.find(configs), strict=True):
            yield self._measurement(config, int(row), purpose)

    def _measurement(self, config: Configs, row: int, purpose: Purpose) -> Measurement:
        recorded = self._recorded
        failure = "NotRecorded" if row < 0 else recorded.failures[row]
        seconds = () if failure else (float(recorded.seconds[row]),)
        if self._sleep:
            time.sleep(sum(seconds))
        return Measurement(
            task=recorded.name,
            config=recorded.space.describe(config),
            purpose=purpose,
            outcome=_OUTCOMES.get(failure, Outcome.RUN_ERROR) if failure else Outcome.OK,
            message=failure,
            repeat_seconds=seconds,
        )


def kernel_of(recorded: RecordedSpace) -> str:
    """What a space is an instance of: as its file says, or its name before the device."""
    return recorded.kernel or recorded.name.partition("_")[0]


def load_recorded(path: Path | str) -> RecordedSpace:
    """Read a recorded space.

    Args:
        path: A `.json` or `.json.gz` file in Kernel Tuner's cache format or the T4 results format,
            or the name of a shipped one.

    Raises:
        SettingsError: The file cannot be read, is cut off, is in another format, or holds no
            configuration with a time.
        UnknownNameError: There is no shipped space of this name.
    """
    path = find_recorded(path)
    found = read_cache_file(path)
    tunables = Tunables.of(found.values, where=str(path))
    seconds = np.array([np.nan if e.seconds is None else e.seconds for e in found.entries])
    if np.isnan(seconds).all():
        raise SettingsError(
            f"{path}: all of its {len(seconds)} configurations failed; there is nothing to find."
        )
    recorded = RecordedSpace(
        name=path.name.removesuffix(".gz").removesuffix(".json"),
        kernel=found.kernel,
        device=found.device,
        tunables=tunables,
        configs=_configs(found, tunables, path),
        seconds=seconds,
        failures=tuple(e.failure for e in found.entries),
        complete=found.own.get("complete") is not False,
        live=_live(found.own, tunables),
    )
    _check_distinct(recorded, found, path)
    return recorded


def shipped() -> dict[str, Path]:
    """The recorded spaces that come with the package: name -> file."""
    folder = Path(__file__).parent.parent / "spaces"
    return {path.name.split(".")[0]: path for path in sorted(folder.glob("*.json.gz"))}


def find_recorded(path: Path | str) -> Path:
    """The file that a path or the name of a shipped space stands for.

    Raises:
        UnknownNameError: It is no path, and there is no shipped space of this name.
        SettingsError: It is a folder.
    """
    name, known = str(path), shipped()
    if "/" in name or name.endswith(_SUFFIXES) or Path(name).is_file():
        return Path(name).expanduser()
    if Path(name).is_dir():
        raise SettingsError(f"{name} is a folder; name the .json or .json.gz files in it.")
    if name not in known:
        where = "a recorded space is a .json or .json.gz file, or a shipped one"
        raise UnknownNameError("space", name, known, where=where)
    return known[name]


def _configs(found: CacheFile, tunables: Tunables, path: Path) -> Configs:
    """The entries as rows of choice indices, `(n, knobs)`."""
    known = [{n: e.config[n] for n in tunables.values if n in e.config} for e in found.entries]
    return tunables.indices(known, where=str(path))


def _check_distinct(recorded: RecordedSpace, found: CacheFile, path: Path) -> None:
    seen: set[bytes] = set()
    for config, entry in zip(recorded.configs, found.entries, strict=True):
        if config.tobytes() in seen:
            raise SettingsError(
                f"{path}: the configuration {entry.name} stands in it twice; leave one of them."
            )
        seen.add(config.tobytes())


def _choices(knob: Knob) -> tuple[str, tuple[Choice, ...]]:
    return knob.name, knob.choices  # whether they have an order, the task knows better


def _live(own: Mapping[str, Any], tunables: Tunables) -> LiveTask | None:
    """The task that a file of ours names, if its template has not changed since."""
    try:
        kind: Any = str(own.get("kind", "llvm"))
        target = Target(
            kind=kind,
            model=str(own.get("model", "native")),
            lanes=int(own["lanes"]),
            cores=int(own["cores"]),
            template=gpu_template(str(own["template"])),
        )
        task = task_from_key(str(own["task"]))
        if not has_template_of(task, target, str(own["template"])):
            return None
        space = design_space(task, target)
    except (KeyError, TypeError, ValueError, ZeroDivisionError, UnsupportedError):
        return None
    if [_choices(knob) for knob in space.knobs] != [_choices(knob) for knob in tunables.knobs()]:
        return None
    return LiveTask(task=task, space=space, default=default_config(task, target))
