"""When a layer learned up to where: kept, so that a run that goes on learns the same again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from chameleon_ray.learning.past import Past, draft_of
from chameleon_ray.parts import Kind, PartStore
from chameleon_ray.run_folder import LESSONS
from chameleon_ray.space import DesignSpace
from chameleon_ray.storage import Place


class Lessons(Protocol):
    """What a search is taught as it goes."""

    def at(self, round_: int) -> Past | None:
        """What is known of others when a round begins, counted from 0; None if that is nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FixedLessons:
    """The same from the first round to the last.

    Attributes:
        past: What is known.
    """

    past: Past

    def at(self, round_: int) -> Past | None:
        """See `Lessons`."""
        del round_
        return self.past


@dataclass(frozen=True, slots=True, kw_only=True)
class DraftedLessons:
    """The space's draft for as long as nothing else is known.

    Attributes:
        lessons: What else there is; None: nothing ever.
        space: What is searched.
    """

    lessons: Lessons | None
    space: DesignSpace

    def at(self, round_: int) -> Past | None:
        """See `Lessons`."""
        known = self.lessons.at(round_) if self.lessons else None
        return known or draft_of(self.space)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lesson:
    """What one layer was taught before one of its rounds.

    Attributes:
        number: Counts up within a run, from 1.
        task: Key of the task.
        round: Of the task, from 0.
        until: The last job of the journal that it was taught.
    """

    number: int
    task: str
    round: int
    until: int


class LessonJournal:
    """The lessons of one run, with one writer at a time.

    Args:
        place: The run folder.
    """

    def __init__(self, place: Place) -> None:
        self._store = PartStore(place, _KIND)
        self._known = {(one.task, one.round): one.until for one in self._store.items()}

    @property
    def damaged(self) -> list[str]:
        """Names of damaged parts, which are set aside: what they held is taught anew."""
        return self._store.damaged

    def until(self, task: str, round_: int, *, now: int) -> int:
        """Up to which job a task is taught before a round: as before, or, if that is new, `now`.

        Raises:
            RunFolderError: It cannot be kept.
        """
        if (task, round_) not in self._known:
            self._store.append(
                lambda first: [Lesson(number=first, task=task, round=round_, until=now)]
            )
            self._known[task, round_] = now
        return self._known[task, round_]


def _columns() -> dict[str, Any]:
    import pyarrow as pa

    return {"number": pa.int64(), "task": pa.string(), "round": pa.int64(), "until": pa.int64()}


def _row(lesson: Lesson) -> dict[str, object]:
    return {name: getattr(lesson, name) for name in ("number", "task", "round", "until")}


def _item(row: Mapping[str, Any]) -> Lesson:
    return Lesson(**row)


_KIND = Kind(
    name=LESSONS,
    version=1,
    columns=_columns,
    key="number",
    number=lambda lesson: lesson.number,
    row=_row,
    item=_item,
)
