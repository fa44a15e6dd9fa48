"""What an agent is trained on: walks under models such as a search would meet, with the truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from chameleon_ray.cost_model import make_cost_model
from chameleon_ray.devices import Device
from chameleon_ray.environment import Moves, random_starts
from chameleon_ray.errors import SettingsError
from chameleon_ray.explorers import Ensemble
from chameleon_ray.settings import ForestSettings, GaussianSettings, StagedSettings
from chameleon_ray.space import Configs, Score

MEASURED = (16, 24, 32, 48, 64, 128)  # measurements that an exercise's model is fitted to
MODEL = StagedSettings(
    until=32, first=ForestSettings(trees=32), then=GaussianSettings(draws=8, temper=0.3)
)  # as in policies/chameleon.yaml
_BEST = 32  # measured configs that an explorer is told of
_TRIES = 100  # random subsets, until one has a config that works


@dataclass(frozen=True, slots=True, kw_only=True)
class Exercise:
    """A model of a space, fitted to a random subset of it.

    Attributes:
        device: Its place among the devices.
        measured: How many measurements the model is fitted to.
        score: The model's.
        best: The best measured configs `(m, knobs)`, the best first.
        seconds: Of the best of them: a share of 1 is as fast.
    """

    device: int
    measured: int
    score: Score
    best: Configs
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """Some walks under one score of an exercise.

    Attributes:
        device: Its place among the devices.
        score: What the walkers see: a member of the model, or its mean.
        best: The best measured configs `(m, knobs)`.
        seconds: Of the best of them.
        starts: int32 `(n, knobs)`.
        seeds: What each walk draws its luck from, `(n,)`.
        steps: Of each walk.
    """

    device: int
    score: Score
    best: Configs
    seconds: float
    starts: Configs
    seeds: npt.NDArray[np.int64]
    steps: int


def draw_exercise(
    devices: Sequence[Device], at: int, rng: np.random.Generator, *, measured: int | None = None
) -> Exercise:
    """Measure a random subset of a device's space, and fit the model to it.

    Args:
        devices: To choose from.
        at: Which of them.
        rng: Draws the subset, and the model's seed.
        measured: How many; None: drawn from `MEASURED`.

    Raises:
        SettingsError: No config that was drawn works.
    """
    device = devices[at]
    number = int(rng.choice(MEASURED)) if measured is None else measured
    for _ in range(_TRIES):
        configs = device.space.random(number, rng)
        seconds = device.times(configs)
        if np.isfinite(seconds).any():
            break
    else:
        raise SettingsError(f"{device.name}: nothing that was drawn from it works.")
    fitness = (seconds.min() / seconds).astype(np.float32)
    model = make_cost_model(MODEL, seed=int(rng.integers(2**31)))
    model.fit(device.space, configs, fitness)
    best = configs[np.argsort(-fitness, kind="stable")][:_BEST]
    return Exercise(
        device=at,
        measured=number,
        score=model.score(),
        best=best[: int(np.isfinite(seconds).sum())],
        seconds=float(seconds.min()),
    )


def visit(
    exercise: Exercise, moves: Moves, rng: np.random.Generator, *, walkers: int, steps: int
) -> Visit:
    """Walks under a random member of an exercise's model; a quarter starts at the best measured.

    Args:
        exercise: What is known of the space.
        moves: Of the space.
        rng: Draws the member, starts and seeds.
        walkers: How many walks.
        steps: Of each.
    """
    score = exercise.score.member(rng) if isinstance(exercise.score, Ensemble) else exercise.score
    near = exercise.best[rng.integers(len(exercise.best), size=walkers // 4)]
    anywhere = random_starts(moves.space, walkers - len(near), rng)
    return Visit(
        device=exercise.device,
        score=score,
        best=exercise.best,
        seconds=exercise.seconds,
        starts=np.concatenate([near, anywhere]),
        seeds=rng.integers(0, 2**63, size=walkers),
        steps=steps,
    )
