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
    """What all layers of a run may learn from: what it was given, and what each of them measures.

    It computes while a layer waits for it, in that layer's lease of the cores.

    Args:
        experience: What was measured before.
        run: Folder of the run.
        target: What is tuned for.
        machine: The device, in words.
    """

    def __init__(self, experience: Experience, *, run: Place, target: Target, machine: str) -> None:
        self._experience, self._run = experience, run
        self._target, self._machine = target, machine
        self._lessons = LessonJournal(run)

    def damaged(self) -> list[str]:
        """Names of parts of the lessons that could not be read."""
        return self._lessons.damaged

    def past(self, task: LayerTask, round_: int) -> Past | None:
        """What is known of others before a round of a layer; the same again if it is asked again.

        Raises:
            RunFolderError: The journal cannot be read, or what was taught cannot be kept.
        """
        until = self._lessons.until(task.key, round_, now=last_job(self._run))
        found, _ = sources_of_run(self._run, name="this run", until=until) if until else ([], "")
        others = [source for source in found if source.task != task.key]
        space = design_space(task, self._target)
        numbers = {**of_task(task), **of_device(self._machine)}
        return past_of(space, numbers, [*self._experience.sources, *others])


class LearnerActor(Learner):
    """A learner in a process of its own.

    Args:
        experience: One reference to it, in a tuple: what is inside one, Ray hands on as it is.
        how: See `Learner`.
    """

    def __init__(self, experience: tuple[Any], **how: Any) -> None:
        super().__init__(ray.get(experience[0]), **how)


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedLearner:
    """The lessons of one layer.

    Attributes:
        learner: Handle of the actor.
        task: The layer's.
    """

    learner: Any
    task: LayerTask

    def at(self, round_: int) -> Past | None:
        """See `learning.lessons.Lessons`."""
        past: Past | None = ray.get(self.learner.past.remote(self.task, round_))
        return past


def start_learner(experience: Any, *, run: Place, target: Target, machine: str) -> Any:
    """A learner on this node; it works until it is killed.

    Args:
        experience: Reference to one. Keep it: a learner that Ray starts again needs it again.
        run: See `Learner`.
        target: See `Learner`.
        machine: See `Learner`.
    """
    here = ray.get_runtime_context().get_node_id()
    actor = ray.remote(LearnerActor).options(
        num_cpus=0,
        max_restarts=-1,
        max_task_retries=-1,
        scheduling_strategy=NodeAffinitySchedulingStrategy(here, soft=False),
    )
    return actor.remote((experience,), run=run, target=target, machine=machine)
