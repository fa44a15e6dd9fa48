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
