"""AutoTVM's genetic algorithm, which stands for TensorComprehensions in the paper's figures."""

from __future__ import annotations

import numpy as np

from chameleon_ray.environment import random_starts
from chameleon_ray.explorers import Candidates
from chameleon_ray.settings import GeneticSettings
from chameleon_ray.space import Configs, DesignSpace, Score, Vector

_TRIES = 20  # times that a forbidden child is bred again before a parent stands in for it


class GeneticExplorer:
    """Breeds configs: parents by fitness, one cut, now and then a knob drawn anew.

    As in AutoTVM's code: a generation's parents are its predecessor and the fittest ever seen,
    drawn in proportion to their fitness; a child takes the knobs before a random cut from one
    parent and the others from another; each knob mutates with a small chance. Under a learned
    score it breeds several generations a round; with the cost model `measured` one generation is
    bred from what the last one was measured to be.

    Args:
        settings: Sizes and chances.
    """

    def __init__(self, settings: GeneticSettings) -> None:
        self._settings = settings
        self._population: Configs | None = None
        self._elite: Configs | None = None

    def explore(
        self, space: DesignSpace, score: Score, starts: Configs, rng: np.random.Generator
    ) -> Candidates:
        """The configs of the next generations.

        Args:
            space: The task's space; the same in every call.
            score: Fitness of a batch.
            starts: The best measured configs; with random ones, the first generation's parents.
            rng: The only source of randomness.

        Raises:
            SettingsError: No valid config was found.
        """
        size = self._settings.population
        parents = self._population
        if parents is None:
            parents = np.concatenate([starts, random_starts(space, size, rng)])[:size]
        elite = parents[:0] if self._elite is None else self._elite
        bred = []
        for _ in range(self._settings.generations):
            pool = space.distinct(np.concatenate([elite, parents]))
            scores = np.asarray(score(pool), dtype=np.float32)
            elite = pool[np.argsort(-scores, kind="stable")[: self._settings.elite]]
            parents = breed(space, pool, scores, size, rng, mutation=self._settings.mutation)
            bred.append(parents)
        self._population, self._elite = parents, elite
        return Candidates.scored(space, space.distinct(np.concatenate(bred)), score)

    def close(self) -> None:
        """Nothing is held outside this object."""


def breed(
    space: DesignSpace,
    pool: Configs,
    scores: Vector,
    n: int,
    rng: np.random.Generator,
    *,
    mutation: float,
) -> Configs:
    """`n` valid children, int32 `(n, knobs)`.

    Args:
        space: What they are configs of.
        pool: Possible parents `(m, knobs)`.
        scores: Their fitness `(m,)`, not negative; how likely each is to be a parent.
        n: How many.
        rng: The only source of randomness.
        mutation: Chance of each knob to be drawn anew.
    """
    weights = np.maximum(scores.astype(np.float64), 0)
    chances = weights / weights.sum() if weights.any() else None
    children = pool[rng.choice(len(pool), size=n, p=chances)]
    undone = np.arange(n)
    for _ in range(_TRIES):
        mothers = pool[rng.choice(len(pool), size=len(undone), p=chances)]
        fathers = pool[rng.choice(len(pool), size=len(undone), p=chances)]
        cuts = rng.integers(0, len(space.knobs), size=len(undone))
        bred = np.where(np.arange(len(space.knobs)) < cuts[:, None], mothers, fathers)
        mutants = rng.integers(0, space.sizes, size=bred.shape, dtype=np.int32)
        bred = np.where(rng.random(bred.shape) < mutation, mutants, bred)
        valid = space.valid(bred)
        children[undone[valid]] = bred[valid]
        undone = undone[~valid]
        if not len(undone):
            break
    return children
