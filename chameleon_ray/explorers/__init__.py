"""Explorers propose candidates by walking a space under a score; they never see hardware."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from chameleon_ray.plugins import load
from chameleon_ray.settings import (
    AnnealingSettings,
    Explorer as ExplorerSettings,
    PluginSettings,
    PpoSettings,
    RandomSettings,
)
from chameleon_ray.space import Configs, DesignSpace, Score, Vector


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidates:
    """The distinct configs that an exploration walked through, the best-scored first.

    Attributes:
        configs: int32 `(n, knobs)`.
        scores: Predicted fitness, float32 `(n,)`, not increasing.
    """

    configs: Configs
    scores: Vector

    @classmethod
    def ranked(cls, space: DesignSpace, configs: Configs, scores: Vector) -> Candidates:
        """Candidates from walked configs in any order, with repetitions."""
        _, first = np.unique(space.encode(configs), return_index=True)
        order = first[np.argsort(-scores[first], kind="stable")]
        return cls(configs=configs[order], scores=scores[order])


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


def make_explorer(settings: ExplorerSettings, *, seed: int) -> Explorer:
    """The explorer that the settings describe; `seed` initialises an agent's weights."""
    match settings:
        case PpoSettings():
            from chameleon_ray.explorers.ppo import PpoExplorer

            return PpoExplorer(settings, seed=seed)
        case AnnealingSettings():
            from chameleon_ray.explorers.annealing import AnnealingExplorer

            return AnnealingExplorer(settings)
        case PluginSettings():
            explorer: Explorer = load(settings.kind, what="explorer")(**settings.options)
            return explorer
        case RandomSettings():
            from chameleon_ray.explorers.random import RandomExplorer

            return RandomExplorer(settings)
