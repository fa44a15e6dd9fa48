"""The learner: the actor of a run from which its layers learn, of others and of each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from chameleon_ray.learning.journal import sources_of_run
from chameleon_ray.learning.lessons import LessonJournal
from chameleon_ray.learning.numbers import of_device, of_task
from chameleon_ray.learning.past import Past, past_of
from chameleon_ray.learning.reading import Experience
from chameleon_ray.records import last_job
from chameleon_ray.storage import Place
from chameleon_ray.tasks import LayerTask, Target
from chameleon_ray.templates import design_space


class Learner:
    """What all layers of a run may learn from: what it is given, and what each of them measures.

    It computes while a layer waits for it, in that layer's lease of the cores.

    Args:
        run: Folder of the run.
        target: What is tuned for.
        machine: The device, in words.
    """

    def __init__(self, *, run: Place, target: Target, machine: str) -> None:
        self._run, self._target, self._machine = run, target, machine
        self._lessons = LessonJournal(run)

    def damaged(self) -> list[str]:
        """Names of parts of the lessons that could not be read."""
        return self._lessons.damaged

    def past(self, experience: Experience, task: LayerTask, round_: int) -> Past | None:
        """What is known of others before a round of a layer; the same again if it is asked again.

        Raises:
            RunFolderError: The journal cannot be read, or what was taught cannot be kept.
        """
        until = self._lessons.until(task.key, round_, now=last_job(self._run))
        found, _ = sources_of_run(self._run, name="this run", until=until) if until else ([], "")
        others = [source for source in found if source.task != task.key]
        space = design_space(task, self._target)
        numbers = {**of_task(task), **of_device(self._machine)}
        return past_of(space, numbers, [*experience.sources, *others])


@dataclass(frozen=True, slots=True, kw_only=True)
class Teacher:
    """The learner of a run, as its other processes know it.

    Attributes:
        actor: Handle of the learner. Ray starts it again if it dies.
        experience: Reference to what was measured before. It goes with every question: an actor
            that is started again is given nothing.
    """

    actor: Any
    experience: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedTeacher:
    """The lessons of one layer.

    Attributes:
        teacher: Who is asked.
        task: The layer's.
    """

    teacher: Teacher
    task: LayerTask

    def at(self, round_: int) -> Past | None:
        """See `learning.lessons.Lessons`."""
        teacher = self.teacher
        asked = teacher.actor.past.remote(teacher.experience, self.task, round_)
        past: Past | None = ray.get(asked)
        return past


def start_learner(experience: Experience, *, run: Place, target: Target, machine: str) -> Teacher:
    """A learner on this node; it works until it is killed."""
    here = ray.get_runtime_context().get_node_id()
    actor = ray.remote(Learner).options(
        num_cpus=0,
        max_restarts=-1,
        max_task_retries=-1,
        scheduling_strategy=NodeAffinitySchedulingStrategy(here, soft=False),
    )
    started = actor.remote(run=run, target=target, machine=machine)
    return Teacher(actor=started, experience=ray.put(experience))
