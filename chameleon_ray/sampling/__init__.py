"""Samplers pick the few candidates worth measuring."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from chameleon_ray.errors import SettingsError
from chameleon_ray.plugins import load
from chameleon_ray.settings import (
    AdaptiveSettings,
    GreedySettings,
    ImprovementSettings,
    PluginSettings,
    Policy,
    ThompsonSettings,
)
from chameleon_ray.space import BoolArray, Configs, DesignSpace

Labels = npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True, kw_only=True)
class Clustering:
    """What a sampler clustered.

    Attributes:
        points: The configs `(n, knobs)`, the best-scored first.
        labels: The cluster of each, `(n,)`.
    """

    points: Configs
    labels: Labels


class Ranking(Protocol):
    """What a sampler needs of `explorers.Candidates`."""

    @property
    def configs(self) -> Configs:
        """Distinct configs `(n, knobs)`, the best-scored first."""

    @property
    def members(self) -> npt.NDArray[np.float32] | None:
        """What each member of an ensemble predicts, `(members, n)`; None without an ensemble."""


def unmeasured(
    space: DesignSpace, candidates: Ranking, visited: Configs, *, sampler: str
) -> tuple[Configs, npt.NDArray[np.float32]]:
    """The valid candidates that are not measured yet `(n, knobs)`, and what members hold of them.

    Args:
        space: The task's space.
        candidates: The best-scored first.
        visited: What was measured, `(m, knobs)`.
        sampler: Which one asks, for the message.

    Raises:
        SettingsError: The score has no members.
    """
    if candidates.members is None:
        raise SettingsError(
            f"the sampler {sampler} needs a cost model with members: staged, gaussian or forest."
        )
    new = space.valid(candidates.configs) & ~space.contains(visited, candidates.configs)
    return candidates.configs[new], candidates.members[:, new]


def filled(
    space: DesignSpace, chosen: Configs, batch: int, visited: Configs, rng: np.random.Generator
) -> Configs:
    """The chosen configs `(n, knobs)` and, if they are less than a batch, random new ones."""
    taken = np.concatenate([visited, chosen])
    return np.concatenate([chosen, space.random(batch - len(chosen), rng, avoid=taken)])


class Sampler(Protocol):
    """Picks the configs to measure next (section 3.3).

    Lifecycle: made once per task, called once per round; keeps nothing between calls.
    """

    def choose(
        self,
        space: DesignSpace,
        candidates: Ranking,
        visited: Configs,
        failed: BoolArray,
        rng: np.random.Generator,
    ) -> Configs:
        """The next configs to measure.

        Args:
            space: The task's space.
            candidates: What an exploration walked through, the best-scored first.
            visited: What was measured, `(m, knobs)`.
            failed: Which of those failed, `(m,)`.
            rng: The only source of randomness.

        Returns:
            Distinct, statically valid configs `(n, knobs)`, none of them in `visited`, in the
            order in which they should be measured. None only if nothing new was found at all.
        """


def make_sampler(policy: Policy) -> Sampler:
    """The sampler that the policy describes."""
    match policy.sampler:
        case AdaptiveSettings() as settings:
            from chameleon_ray.sampling.adaptive import AdaptiveSampler

            return AdaptiveSampler(settings, candidates=policy.candidates)
        case GreedySettings() as settings:
            from chameleon_ray.sampling.greedy import GreedySampler

            return GreedySampler(settings)
        case ThompsonSettings() as settings:
            from chameleon_ray.sampling.thompson import ThompsonSampler

            return ThompsonSampler(settings)
        case ImprovementSettings() as settings:
            from chameleon_ray.sampling.improvement import ImprovementSampler

            return ImprovementSampler(settings)
        case PluginSettings() as settings:
            sampler: Sampler = load(settings.kind, what="sampler")(**settings.options)
            return sampler
