"""What is measured before anything is learned: the default, its neighbours, and a first look."""

from __future__ import annotations

import numpy as np

from chameleon_ray.settings import Policy
from chameleon_ray.space import Configs, DesignSpace

_POOL = 2048  # random configs from which a spread-out batch is chosen


def first_batch(
    space: DesignSpace, policy: Policy, rng: np.random.Generator, *, default: Configs | None = None
) -> Configs:
    """The configs that a policy measures first, distinct and valid, `(n, knobs)`.

    Args:
        space: The task's space.
        policy: How many neighbours of the default, how many others, and how those are drawn.
        rng: The only source of randomness.
        default: The task's default `(knobs,)`, which comes first; None if it has none.
    """
    known = np.empty((0, len(space.knobs)), dtype=np.int32)
    if default is not None:
        around = rng.permutation(space.neighbours(default))[: policy.neighbours]
        known = np.concatenate([default[None, :], around])
    if policy.start == "spread":
        others = spread(space, policy.initial, rng, avoid=known)
    else:
        others = space.random(policy.initial, rng, avoid=known)
    return np.concatenate([known, others])


def spread(space: DesignSpace, n: int, rng: np.random.Generator, *, avoid: Configs) -> Configs:
    """Up to `n` valid configs, each as far as can be from those before it and from `avoid`.

    Distance is that between choice indices, every knob scaled to [0, 1], summed over the knobs.
    The configs are chosen among random ones.
    """
    pool = space.random(_POOL, rng, avoid=avoid)
    scale = 1 / np.maximum(space.sizes - 1, 1)
    points, taken = pool * scale, avoid * scale
    nearest = np.full(len(pool), np.inf)
    for point in taken:
        nearest = np.minimum(nearest, np.abs(points - point).sum(axis=1))
    chosen: list[int] = []
    for _ in range(min(n, len(pool))):
        chosen.append(int(nearest.argmax()))
        nearest = np.minimum(nearest, np.abs(points - points[chosen[-1]]).sum(axis=1))
        nearest[chosen] = -1.0
    return pool[chosen]
