"""Journals as sources: what runs measured, column by column; a million rows take seconds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from chameleon_ray.derived import products_of
from chameleon_ray.errors import UnsupportedError
from chameleon_ray.learning.numbers import Numbers, of_device, of_task
from chameleon_ray.learning.sources import MOST_ROWS, Source, kept_rows
from chameleon_ray.measure import Outcome, Purpose
from chameleon_ray.measure.backend import target_of
from chameleon_ray.records import read_record_tables
from chameleon_ray.run_folder import MANIFEST, manifest_of
from chameleon_ray.space import Choice, Configs, DesignSpace, Listing
from chameleon_ray.storage import Place, open_folder
from chameleon_ray.tasks import task_from_key
from chameleon_ray.templates import design_space, gpu_template, has_template_of
from chameleon_ray.tunables import Tunables

_ORIGIN = ("task", "machine", "template")
COLUMNS = ("job", *_ORIGIN, "purpose", "outcome", "repeat_seconds", "config")
_COUNTED = [purpose.value for purpose in Purpose if purpose.counted]
_REMEDY = "Put a copy of it back, or leave the run out."
_OF_THE_DEVICE = (Outcome.DEVICE_LOST.value, Outcome.DRIFTED.value)  # not of the config


@dataclass(frozen=True, slots=True)
class _Origin:
    """What a source was measured of, and where."""

    name: str
    task: str
    machine: str
    template: str


@dataclass(frozen=True, slots=True)
class _Known:
    """What this version knows of an origin."""

    space: DesignSpace
    numbers: Numbers
    remark: str = ""


_Look = Callable[[_Origin], _Known | None]


def sources_of_run(run: Place, *, name: str, until: int | None = None) -> tuple[list[Source], str]:
    """What a run has measured, a source for each layer; and what of it is damaged, in words.

    Args:
        run: Its folder; it may be going on.
        name: What to call it.
        until: Only the records up to this job; None: all.

    Raises:
        RunFolderError: A newer version wrote the journal, or it cannot be read.
    """
    import pyarrow as pa

    tables, damaged = read_record_tables(run, COLUMNS)
    remark = f"{name}: {', '.join(damaged)} cannot be read and is left out" if damaged else ""
    if not tables:
        return [], remark
    table = pa.concat_tables(tables)
    if until is not None:
        table = table.filter(pa.compute.less_equal(table["job"], until))
    return list(_sources(table, name, _look_in(run))), remark


def sources_of_table(table: Any, *, name: str) -> Iterator[Source]:
    """A source for each layer, machine and template of an Arrow table of `COLUMNS`."""
    return _sources(table, name, _layer)


def _look_in(run: Place) -> _Look:
    """How the space of what a run has measured is known: of a function, the run says it."""
    folder = open_folder(run)
    manifest = manifest_of(folder, remedy=_REMEDY)
    if manifest is None or manifest.get("kind") != "function":
        return _layer
    where = f"{folder.name}/{MANIFEST}: knobs"
    knobs = Tunables.of(manifest.get("knobs", {}), where=where).knobs()
    name = str(manifest.get("measure", "function"))
    return partial(_function, DesignSpace(name, knobs, derive=products_of(knobs)))


def _sources(table: Any, name: str, look: _Look) -> Iterator[Source]:
    counted = _is_in(table["purpose"], _COUNTED) & ~_is_in(table["outcome"], _OF_THE_DEVICE)
    seconds = _medians(table["repeat_seconds"], table["outcome"])
    keys = [table[column].combine_chunks().dictionary_encode() for column in _ORIGIN]
    codes = np.zeros(len(table), dtype=np.int64)
    for key in keys:
        codes = codes * len(key.dictionary) + key.indices.to_numpy()
    for code in np.unique(codes[counted]):
        rows = np.flatnonzero(counted & (codes == code))
        words = [key.dictionary[key.indices[int(rows[0])].as_py()].as_py() for key in keys]
        rows = rows[kept_rows(seconds[rows], MOST_ROWS)]
        configs = table["config"].take(rows).to_pylist()
        origin = _Origin(name, *words)
        if known := look(origin):
            yield from _source(origin, known, configs, seconds[rows])


def _is_in(column: Any, values: Sequence[str]) -> npt.NDArray[np.bool_]:
    """Which rows of a column of text `(n,)` have one of these values."""
    import pyarrow as pa
    import pyarrow.compute as pc

    found = pc.is_in(column, value_set=pa.array(values, pa.string()))
    return np.asarray(found.to_numpy(zero_copy_only=False), dtype=np.bool_)


def _medians(repeats: Any, outcomes: Any) -> npt.NDArray[np.float64]:
    """The median of each row's times `(n,)`; NaN where it failed."""
    import pyarrow.compute as pc

    lists = repeats.combine_chunks()
    flat = lists.flatten().to_numpy(zero_copy_only=False)
    lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False)
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]]).astype(np.int64)
    medians = np.full(len(lengths), np.nan)
    for length in np.unique(lengths[lengths > 0]):
        rows = np.flatnonzero(lengths == length)
        medians[rows] = np.median(flat[starts[rows, None] + np.arange(length)], axis=1)
    medians[~_is_in(outcomes, [Outcome.OK.value])] = np.nan
    return medians


def _layer(origin: _Origin) -> _Known | None:
    """A layer; None if this version has no such space."""
    template = origin.template
    try:
        task, target = task_from_key(origin.task), target_of(origin.machine, gpu_template(template))
        if target is None:
            return None
        space = design_space(task, target)
    except (UnsupportedError, ValueError):
        return None
    numbers = {**of_task(task), **of_device(origin.machine)}
    if has_template_of(task, target, template):
        return _Known(space, numbers)
    remark = "another version of the template; what knobs and layers share is used"
    return _Known(space, numbers, remark)


def _function(space: DesignSpace, origin: _Origin) -> _Known:
    return _Known(space, of_device(origin.machine))


def _source(
    origin: _Origin, known: _Known, configs: Sequence[Any], seconds: npt.NDArray[np.float64]
) -> Iterator[Source]:
    """The source of one layer or function; none if nothing succeeded."""
    space = known.space
    found, rows = _indices(space, configs)
    distinct = space.distinct(found)
    latest = np.full(len(distinct), np.nan)
    latest[Listing(space, distinct).find(found)] = seconds[rows]  # a later one replaces an earlier
    if np.isnan(latest).all():
        return
    others = len(configs) - len(found)
    gone = f"{others} of its configs are none of this version's" if others else ""
    yield Source(
        name=f"{origin.name}, {origin.task}",
        task=origin.task,
        device=origin.machine,
        space=space,
        configs=distinct,
        seconds=latest,
        numbers=known.numbers,
        remark=known.remark or gone,
    )


def _indices(space: DesignSpace, configs: Sequence[Any]) -> tuple[Configs, npt.NDArray[np.intp]]:
    """Configs by knob value as rows of choice indices, and which of them have such choices."""
    places: list[tuple[str, dict[Choice, int]]] = [
        (knob.name, {choice: at for at, choice in enumerate(knob.choices)}) for knob in space.knobs
    ]
    rows, known = [], []
    for at, config in enumerate(configs):
        values = dict(config)
        row = [choices.get(tuple(values.get(name, ())), -1) for name, choices in places]
        if min(row) >= 0:
            rows.append(row)
            known.append(at)
    found = np.array(rows, dtype=np.int32).reshape(len(rows), len(space.knobs))
    return found, np.array(known, dtype=np.intp)
