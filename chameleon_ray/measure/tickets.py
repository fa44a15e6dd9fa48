"""Jobs with their answers in the future."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from chameleon_ray.measure import Job, Measurement, Purpose
from chameleon_ray.space import KnobValues

Key = tuple[str, Purpose, tuple[tuple[str, tuple[int, ...]], ...]]


def answer_key(task: str, purpose: Purpose, config: KnobValues) -> Key:
    """What makes two measurements the same, in one run."""
    return task, purpose, tuple(sorted((name, tuple(choice)) for name, choice in config.items()))


def keys_of(jobs: Sequence[Job]) -> tuple[Key, ...]:
    """The same, for jobs that are yet to be measured."""
    return tuple(answer_key(job.task.key, job.purpose, job.config) for job in jobs)


class Known(dict[Key, Measurement]):
    """What was measured before, in the order in which it was."""

    def __init__(self) -> None:
        super().__init__()
        self._finals: dict[str, set[Key]] = {}

    def add(self, m: Measurement) -> None:
        """One more; the same job's later measurement counts.

        Finalists are forgotten when their task is searched after them: they are timed once more.
        """
        key = answer_key(m.task, m.purpose, m.config)
        self[key] = m
        if m.purpose in (Purpose.FINALIST, Purpose.TORCH):
            self._finals.setdefault(m.task, set()).add(key)
        elif m.purpose.counted:
            for outdated in self._finals.pop(m.task, ()):
                self.pop(outdated, None)


@dataclass(slots=True, kw_only=True, eq=False)
class Ticket:
    """A job, or several to be timed in turns, and its measurements in the future.

    Attributes:
        lost: How many hosts were lost with it.
    """

    keys: tuple[Key, ...]
    jobs: tuple[Job, ...]
    answer: asyncio.Future[list[Measurement]]
    lost: int = 0

    @classmethod
    def of(cls, jobs: tuple[Job, ...]) -> Ticket:
        """Not answered yet."""
        answer = asyncio.get_running_loop().create_future()
        return cls(keys=keys_of(jobs), jobs=jobs, answer=answer)
