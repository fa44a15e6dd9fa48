"""Whether chosen settings are better where they were not chosen: one kernel left out at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from chameleon_ray.compare import curves
from chameleon_ray.policy_search.samples import Scored
from chameleon_ray.scores import Table, tabulate
from chameleon_ray.searches import Search

CHOSEN = "chosen elsewhere"  # the policy, in tables: on each space another, which never saw it


@dataclass(frozen=True, slots=True, kw_only=True)
class Fold:
    """A search of settings that did without one kernel.

    Attributes:
        kernel: What was left out.
        spaces: Its spaces.
        chosen: The best on the others.
    """

    kernel: str
    spaces: tuple[str, ...]
    chosen: Scored


def left_out(kernels: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """The spaces of each kernel; none if there is one kernel alone, which leaves no others."""
    found: dict[str, tuple[str, ...]] = {}
    for space, kernel in kernels.items():
        found[kernel] = (*found.get(kernel, ()), space)
    return found if len(found) > 1 else {}


def as_chosen(searches: Sequence[Search], *, base: str) -> list[Search]:
    """Searches of a fold, under one name for whatever was chosen in it."""
    return [
        s if s.key.policy == base else replace(s, key=replace(s.key, policy=CHOSEN))
        for s in searches
    ]


def verdict(searches: Sequence[Search], *, base: str, trials: int) -> list[Table]:
    """The base policy's scores and the chosen ones', by space and over all, paired by seed."""
    ordered = sorted(curves(searches), key=lambda c: c.policy != base)
    return tabulate(ordered, trials=trials, rng=np.random.default_rng(0))
