"""A policy's parts put together: the same loop for a layer, a recorded space and a function."""

from __future__ import annotations

from collections.abc import Callable, Generator

import numpy as np

from chameleon_ray.cost_model import make_cost_model
from chameleon_ray.explorers import explorer_of
from chameleon_ray.measure import Measurer
from chameleon_ray.phases import Phases
from chameleon_ray.rounds import Round
from chameleon_ray.sampling import make_sampler
from chameleon_ray.settings import Policy
from chameleon_ray.space import Configs, DesignSpace
from chameleon_ray.starts import first_batch
from chameleon_ray.task_tuner import Budget, History, tune_task
from chameleon_ray.tasks import Task


def search(
    task: Task,
    space: DesignSpace,
    policy: Policy,
    *,
    measurer: Measurer,
    budget: Budget,
    seed: int,
    rng: np.random.Generator,
    phases: Phases,
    default: Configs | None = None,
    hopeless: int = 0,
    observe: Callable[[Round], None] = lambda _round: None,
) -> Generator[History, None, None]:
    """Search a space as a policy says; closing it frees what the explorer holds.

    Args:
        task: What is tuned.
        space: Its space.
        policy: How to search.
        measurer: The hardware.
        budget: When to stop.
        seed: Of the explorer's and the cost model's own random choices.
        rng: Of all others.
        phases: Where the time goes.
        default: Measured first `(knobs,)`; None if there is none.
        hopeless: So many failures without a success end the search, but no fewer than the first
            batch.
        observe: Told of each round, once its batch is measured.

    Yields:
        Everything measured so far, after each batch.

    Raises:
        NothingValidError: Nothing that was measured is valid, and that is hopeless.
    """
    if policy.features == "knobs":
        space = space.with_knob_features()
    first = first_batch(space, policy, rng, default=default)
    explorer = explorer_of(policy, space=space, seed=seed)
    try:
        yield from tune_task(
            task,
            space,
            first=first,
            has_default=default is not None,
            explorer=explorer,
            sampler=make_sampler(policy),
            measurer=measurer,
            cost_model=make_cost_model(policy.cost_model, seed=seed),
            budget=budget,
            rng=rng,
            phases=phases,
            hopeless=max(hopeless, len(first)),
            observe=observe,
        )
    finally:
        explorer.close()
