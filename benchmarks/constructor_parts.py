"""A constructor without a network: it sets knob by knob, with masks off a list of valid configs."""

from __future__ import annotations

from functools import cache

import numpy as np

from chameleon_ray.explorers import Candidates, Ensemble
from chameleon_ray.space import Configs, DesignSpace, Score, Vector

_WAVES, _BACKED = 8, 4.0


class Constructor:
    """Draws configs knob by knob from a tree of all valid configs, an eighth for each member."""

    def __init__(self, scored: int, temperature: float | None) -> None:
        self.scored, self.temperature = scored, temperature

    def explore(
        self, space: DesignSpace, score: Score, starts: Configs, rng: np.random.Generator
    ) -> Candidates:
        """One round."""
        tree, found, quota = tree_of(space), starts[:0], self.scored // _WAVES
        for _ in range(_WAVES):
            member = score.member(rng) if isinstance(score, Ensemble) else score
            weights = [np.ones(len(level)) for level in tree.levels]
            if self.temperature is not None:
                weights = tree.exact(member(tree.leaves), self.temperature)
            elif len(found):
                weights = tree.learned(space, found, member(found))
            drawn = space.distinct(tree.draw(weights, 8 * quota, rng))
            new = drawn[~space.contains(found, drawn)]
            found = np.concatenate([found, new[:quota]])
        return Candidates.scored(space, found, score)

    def close(self) -> None:
        """Nothing is held."""


class Tree:
    """The valid configs in lexical order; `levels[d]`: where each prefix of d + 1 knobs begins."""

    def __init__(self, configs: Configs) -> None:
        self.leaves = configs[np.lexsort(configs.T[::-1])]
        new = np.zeros(len(configs), dtype=np.bool_)
        new[0], self.levels = True, []
        for column in self.leaves.T:
            new[1:] |= column[1:] != column[:-1]
            self.levels.append(np.flatnonzero(new))

    def exact(self, scores: Vector, temperature: float) -> list[Vector]:
        """The weight of each prefix by its best completion: 1 for the best of its siblings."""
        weights, above = [], np.zeros(1, dtype=np.intp)
        logs = np.log(np.maximum(scores, 1e-6))
        for level in self.levels:
            best, parents = (np.maximum.reduceat(logs, at) for at in (level, above))
            parent = np.searchsorted(above, level, side="right") - 1
            weights.append(np.exp((best - parents[parent]) / temperature))
            above = level
        return weights

    def learned(self, space: DesignSpace, configs: Configs, scores: Vector) -> list[Vector]:
        """The weight of each prefix by how many of the best tenth begin with it."""
        elite = configs[np.argsort(-scores, kind="stable")[: max(8, len(scores) // 10)]]
        among = np.isin(space.encode(self.leaves), space.encode(elite)).astype(float)
        weights = []
        for knob, level in enumerate(self.levels):
            often = np.bincount(elite[:, knob], minlength=space.sizes[knob]) + 0.1
            usual = (often / often.sum())[self.leaves[level, knob]]
            weights.append(np.add.reduceat(among, level) + _BACKED * usual)
        return weights

    def draw(self, weights: list[Vector], n: int, rng: np.random.Generator) -> Configs:
        """`n` configs: of the choices that can follow a prefix, one by its weight."""
        low, high = np.zeros(n, dtype=np.intp), np.full(n, len(self.leaves))
        for level, weight in zip(self.levels, weights, strict=True):
            first, last = np.searchsorted(level, low), np.searchsorted(level, high)
            sums = np.concatenate([[0.0], np.cumsum(weight, dtype=float)])
            at = sums[first] + rng.random(n) * (sums[last] - sums[first])
            node = np.clip(np.searchsorted(sums, at, side="right") - 1, first, last - 1)
            low, high = level[node], np.append(level, len(self.leaves))[node + 1]
        return self.leaves[low]


@cache
def tree_of(space: DesignSpace) -> Tree:
    """Of all valid configs."""
    return Tree(space.all_valid())
