"""What is shown of each layer: what it tells, and until that is more, what the journal holds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from chameleon_ray.measure import Measurement, Purpose
from chameleon_ray.results import LayerProgress


def held(
    rows: Sequence[LayerProgress], known: Iterable[Measurement], *, most: int
) -> dict[int, LayerProgress]:
    """The layers as a journal has them, by number.

    Args:
        rows: All layers of the run, before anything is measured.
        known: What the journal answers.
        most: Cap of one layer's measurements: it asks for no more.
    """
    by_task = {row.layer.task.key: row for row in rows}
    for m in known:
        row = by_task.get(m.task)
        if row is None or not m.purpose.counted or row.measurements >= most:
            continue
        by_task[m.task] = with_one_more(row, m)
    return {row.layer.index: row for row in by_task.values()}


def with_one_more(row: LayerProgress, m: Measurement) -> LayerProgress:
    """A row after another measurement of its layer's budget."""
    seconds = m.seconds if m.ok else None
    return replace(
        row,
        measurements=row.measurements + 1,
        default_seconds=seconds if m.purpose is Purpose.DEFAULT else row.default_seconds,
        best_seconds=min((s for s in (row.best_seconds, seconds) if s), default=None),
    )


def with_held(
    told: Mapping[int, LayerProgress], journal: Mapping[int, LayerProgress]
) -> tuple[LayerProgress, ...]:
    """A row for each layer that is known, by number.

    Args:
        told: What the layers told of themselves. One that goes on begins at 0 again, and catches
            up with the journal within seconds.
        journal: What `held` found.
    """
    return tuple(
        _shown(told.get(index) or journal[index], journal.get(index))
        for index in sorted({*told, *journal})
    )


def _shown(row: LayerProgress, before: LayerProgress | None) -> LayerProgress:
    if before is None or row.ended or row.measurements >= before.measurements:
        return row
    return replace(
        row,
        measurements=before.measurements,
        default_seconds=before.default_seconds,
        best_seconds=before.best_seconds,
    )
