"""Explorers propose candidates by walking a space under a score; they never see hardware."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from chameleon_ray.plugins import load
from chameleon_ray.settings import (
    AnnealingSettings,
    Explorer as ExplorerSettings,
    GeneticSettings,
    PluginSettings,
    Policy,
    PpoSettings,
    RandomSettings,
)
from chameleon_ray.space import Configs, DesignSpace, Score, Vector


@runtime_checkable
class Ensemble(Protocol):
    """A score with members, which can be asked one by one: what the measurements leave open."""

    def __call__(self, configs: Configs) -> Vector:
        """What they expect together, float32 `(n,)`."""

    def predict(self, configs: Configs) -> tuple[Vector, npt.NDArray[np.float32]]:
        """What they expect together, float32 `(n,)`, and one by one, float32 `(members, n)`."""

    def member(self, rng: np.random.Generator) -> Score:
        """One member, drawn at random."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidates:
    """The distinct configs that an exploration walked through, the best-scored first.

    Attributes:
        configs: int32 `(n, knobs)`.
        scores: Predicted fitness, float32 `(n,)`, not increasing.
        members: What each member of an ensemble predicts, float32 `(members, n)`; None if the
            score has no members.
        evaluated: How many configs were scored to find them: annealing scores every proposal, PPO
            the distinct configs of each wave.
    """

    configs: Configs
    scores: Vector
    members: npt.NDArray[np.float32] | None = None
    evaluated: int = 0

    @classmethod
    def ranked(cls, space: DesignSpace, configs: Configs, scores: Vector) -> Candidates:
        """Candidates from walked configs in any order, with repetitions."""
        _, first = np.unique(space.encode(configs), return_index=True)
        order = first[np.argsort(-scores[first], kind="stable")]
        return cls(configs=configs[order], scores=scores[order], evaluated=len(configs))

    @classmethod
    def walked(
        cls, space: DesignSpace, configs: Configs, scores: Vector, score: Score
    ) -> Candidates:
        """Candidates from walked configs and their scores; scored anew if `score` has members."""
        if isinstance(score, Ensemble):
            return cls.scored(space, space.distinct(configs), score)
        return cls.ranked(space, configs, scores)

    @classmethod
    def scored(cls, space: DesignSpace, configs: Configs, score: Score) -> Candidates:
        """Candidates from distinct configs without a score; with the members of an ensemble."""
        if not isinstance(score, Ensemble):
            return cls.ranked(space, configs, score(configs))
        scores, members = score.predict(configs)
        order = np.argsort(-scores, kind="stable")
        return cls(
            configs=configs[order],
            scores=scores[order],
            members=members[:, order],
            evaluated=len(configs),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class WalkReport:
    """What the walks of a round did, and what the agent learned from them.

    Attributes:
        steps: Steps walked; each was scored.
        wave_scores: The mean predicted fitness of the steps of each wave.
        steps_by_worker: Steps that each env runner walked; 0 is the layer's own process.
        entropy: Of the agent's directions, nats, summed over the knobs; of the last minibatch of
            each wave's update, like the two that follow.
        value_loss: Mean squared error of what the critic expected.
        policy_loss: PPO's clipped loss.
    """

    steps: int
    wave_scores: tuple[float, ...]
    steps_by_worker: Mapping[int, int]
    entropy: tuple[float, ...] = ()
    value_loss: tuple[float, ...] = ()
    policy_loss: tuple[float, ...] = ()


def report_of(explorer: Explorer) -> WalkReport | None:
    """How an explorer's last round went: its `report`; None if it has none or did not walk."""
    report = getattr(explorer, "report", None)
    return report if isinstance(report, WalkReport) else None


class Explorer(Protocol):
    """Walks a space under a score (section 3.2).

    Lifecycle: made once per task; `explore` is called once per round with the newly fitted score;
    what the explorer learned stays with it. `close` frees worker processes.
    """

    def explore(
        self, space: DesignSpace, score: Score, starts: Configs, rng: np.random.Generator
    ) -> Candidates:
        """One round.

        Args:
            space: The task's space.
            score: Predicted fitness of a batch.
            starts: The best measured configs `(m, knobs)`, the best first; walks may start there.
            rng: The only source of randomness.
        """

    def close(self) -> None:
        """Free what the explorer holds."""


def explorer_of(
    policy: Policy,
    *,
    space: DesignSpace,
    seed: int,
    weights: Mapping[str, Vector] | None = None,
) -> Explorer:
    """As `make_explorer`, for a space, and spared where the policy says so."""
    from chameleon_ray.explorers.around import EnumeratingExplorer, SparingExplorer, all_valid

    everything = all_valid(space, policy.enumerate) if policy.enumerate else None
    if everything is not None:
        return EnumeratingExplorer(everything)
    explorer = make_explorer(policy.explorer, seed=seed, weights=weights)
    if policy.explore_every > 1:
        return SparingExplorer(explorer, every=policy.explore_every)
    return explorer


def make_explorer(
    settings: ExplorerSettings, *, seed: int, weights: Mapping[str, Vector] | None = None
) -> Explorer:
    """The explorer that the settings describe.

    Args:
        settings: Its kind and what can be set of it.
        seed: Of an agent's first weights.
        weights: What an agent of tokens starts with instead (`learning.agent_file`); other
            explorers have no use for them.
    """
    match settings:
        case PpoSettings():
            from chameleon_ray.explorers.ppo import PpoExplorer

            return PpoExplorer(settings, seed=seed, weights=weights)
        case AnnealingSettings():
            from chameleon_ray.explorers.annealing import AnnealingExplorer

            return AnnealingExplorer(settings)
        case GeneticSettings():
            from chameleon_ray.explorers.genetic import GeneticExplorer

            return GeneticExplorer(settings)
        case PluginSettings():
            explorer: Explorer = load(settings.kind, what="explorer")(**settings.options)
            return explorer
        case RandomSettings():
            from chameleon_ray.explorers.random import RandomExplorer

            return RandomExplorer(settings)
