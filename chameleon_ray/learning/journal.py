"""Journals as sources: what runs measured, column by column; a million rows take seconds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from chameleon_ray.errors import UnsupportedError
from chameleon_ray.learning.numbers import of_device, of_task
from chameleon_ray.learning.sources import MOST_ROWS, Source, kept_rows
from chameleon_ray.measure import Outcome, Purpose
from chameleon_ray.measure.backend import target_of
from chameleon_ray.records import read_record_tables
from chameleon_ray.space import Choice, Configs, DesignSpace, Listing
from chameleon_ray.storage import Place
from chameleon_ray.tasks import task_from_key
from chameleon_ray.templates import design_space, gpu_template, has_template_of

COLUMNS = (
    "job",
    "task",
    "machine",
    "template",
    "purpose",
    "outcome",
    "repeat_seconds",
    "config",
)
_COUNTED = [purpose.value for purpose in Purpose if purpose.counted]
_OF_THE_DEVICE = (Outcome.DEVICE_LOST.value, Outcome.DRIFTED.value)  # not of the config


@dataclass(frozen=True, slots=True, kw_only=True)
class _Origin:
    """What a source was measured of, and where."""

    name: str
    task: str
    machine: str
    template: str


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
    return list(sources_of_table(table, name=name)), remark


def sources_of_table(table: Any, *, name: str) -> Iterator[Source]:
    """A source for each task, machine and template of an Arrow table of `COLUMNS`."""
    import pyarrow.compute as pc

    kept = pc.and_(
        pc.is_in(table["purpose"], value_set=_strings(_COUNTED)),
        pc.invert(pc.is_in(table["outcome"], value_set=_strings(_OF_THE_DEVICE))),
    )
    table = table.filter(kept)
    seconds = _medians(table["repeat_seconds"], table["outcome"])
    keys = [table[column].combine_chunks().dictionary_encode() for column in COLUMNS[1:4]]
    codes = np.array([key.indices.to_numpy() for key in keys]).reshape(3, -1)
    groups, places = np.unique(codes, axis=1, return_inverse=True)
    for at, group in enumerate(groups.T):
        rows = np.flatnonzero(places.ravel() == at)
        task, machine, template = (
            key.dictionary[int(code)].as_py() for key, code in zip(keys, group, strict=True)
        )
        rows = rows[kept_rows(seconds[rows], MOST_ROWS)]
        configs = table["config"].take(rows).to_pylist()
        origin = _Origin(name=name, task=task, machine=machine, template=template)
        yield from _source(origin, configs, seconds[rows])


def _strings(values: Sequence[str]) -> Any:
    import pyarrow as pa

    return pa.array(values, pa.string())


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
    ok = pc.equal(outcomes, Outcome.OK.value).to_numpy(zero_copy_only=False)
    medians[~ok.astype(bool)] = np.nan
    return medians


def _source(
    origin: _Origin, configs: Sequence[Any], seconds: npt.NDArray[np.float64]
) -> Iterator[Source]:
    """The source of one layer; none if this version has no such space, or nothing succeeded."""
    template = origin.template
    try:
        task, target = task_from_key(origin.task), target_of(origin.machine, gpu_template(template))
        if target is None:
            return
        space = design_space(task, target)
    except (UnsupportedError, ValueError):
        return
    found, known = _indices(space, configs)
    distinct = space.distinct(found)
    latest = np.full(len(distinct), np.nan)
    latest[Listing(space, distinct).find(found)] = seconds[known]  # a later one replaces an earlier
    if np.isnan(latest).all():
        return
    others = len(configs) - len(found)
    remark = f"{others} of its configs are none of this version's" if others else ""
    if not has_template_of(task, target, template):
        remark = "another version of the template; what knobs and layers share is used"
    yield Source(
        name=f"{origin.name}, {origin.task}",
        task=origin.task,
        device=origin.machine,
        space=space,
        configs=distinct,
        seconds=latest,
        numbers={**of_task(task), **of_device(origin.machine)},
        remark=remark,
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
