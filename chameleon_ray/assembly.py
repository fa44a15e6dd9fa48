"""A policy's parts put together: the same loop for a layer, a recorded space and a function."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from chameleon_ray.cost_model import make_cost_model
from chameleon_ray.explorers import explorer_of, make_explorer
from chameleon_ray.learning.agent_file import Weights
from chameleon_ray.learning.beginning import BeginningExplorer, TrustingSampler
from chameleon_ray.learning.lessons import DraftedLessons, Lessons
from chameleon_ray.learning.warm import WarmCostModel
from chameleon_ray.measure import Measurer
from chameleon_ray.phases import Phases
from chameleon_ray.rounds import Round
from chameleon_ray.sampling import make_sampler
from chameleon_ray.settings import Policy
from chameleon_ray.space import Configs, DesignSpace
from chameleon_ray.starts import first_batch
from chameleon_ray.task_tuner import TaskTuner
from chameleon_ray.tasks import Task

_BATCH = 8  # while a past is trusted, where the policy's sampler has no batch of its own


def preload(policy: Policy) -> None:
    """Import what a search as a policy says uses: it takes seconds, and is not to be among them."""
    make_explorer(policy.explorer, seed=0).close()
    make_sampler(policy)
    make_cost_model(policy.cost_model, seed=0)


def search(
    task: Task,
    space: DesignSpace,
    policy: Policy,
    *,
    measurer: Measurer,
    budget: int,
    seed: int,
    rng: np.random.Generator,
    phases: Phases,
    default: Configs | None = None,
    hopeless: int | None = 32,
    observe: Callable[[Round], None] = lambda _round: None,
    lessons: Lessons | None = None,
    weights: Weights | None = None,
) -> TaskTuner:
    """Search a space as a policy says. The explorer is made here; closing the search frees it.

    Args:
        task: What is tuned.
        space: Its space.
        policy: How to search.
        measurer: The hardware.
        budget: At most so many measurements.
        seed: Of the explorer's and the cost model's own random choices.
        rng: Of all others.
        phases: Where the time goes.
        default: Measured first `(knobs,)`, if the policy is to know it; None if there is none.
        hopeless: So many failures without a success end the search in an error; None: never.
        observe: Told of each round, once its batch is measured.
        lessons: What is known of other layers and devices. If that is something when the search
            begins, it begins there; the policy's own first batch follows if that proves wrong.
        weights: What an agent of tokens begins with (`learning.agent_file`).

    Returns:
        The search; nothing has been measured yet.

    Raises:
        NothingValidError: While it is iterated: nothing measured is valid, and that is hopeless.
    """
    if policy.features == "knobs":
        space = space.with_knob_features()
    default = default if policy.default == "first" else None
    first = first_batch(space, policy, rng, default=default)
    explorer = explorer_of(policy, space=space, seed=seed, weights=weights)
    sampler = make_sampler(policy)
    cost_model = make_cost_model(policy.cost_model, seed=seed)
    if policy.draft:
        lessons = DraftedLessons(lessons=lessons, space=space)
    if lessons is not None:
        cost_model = model = WarmCostModel(cost_model, lessons, space, seed=seed)
        explorer = BeginningExplorer(explorer, model)
        known = int(default is not None) if model.past else len(first)
        batch = getattr(policy.sampler, "batch", _BATCH)
        sampler = TrustingSampler(sampler, batch=batch, reserve=first[known:], model=model)
        first = first[:known]
    return TaskTuner(
        task,
        space,
        first=first,
        has_default=default is not None,
        explorer=explorer,
        sampler=sampler,
        measurer=measurer,
        cost_model=cost_model,
        budget=budget,
        rng=rng,
        phases=phases,
        depth=policy.pipeline_depth,
        hopeless=hopeless,
        observe=observe,
    )
