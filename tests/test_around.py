"""Explorers that spare walks: small spaces are enumerated, and walks serve several rounds."""

import numpy as np

from chameleon_ray.explorers import Candidates, explorer_of
from chameleon_ray.explorers.around import EnumeratingExplorer, SparingExplorer
from chameleon_ray.settings import Policy, RandomSettings
from chameleon_ray.space import DesignSpace, options

SPACE = DesignSpace("s", [options("a", range(20)), options("b", range(20))])


def score(configs):
    """Best at the far corner."""
    return configs.sum(axis=1).astype(np.float32)


class Walks:
    """Counts its walks; finds three configs."""

    def __init__(self):
        self.walks, self.closed = 0, False

    def explore(self, space, score, starts, rng):
        self.walks += 1
        found = np.array([[0, 0], [1, 1], [2, 2]], dtype=np.int32)
        return Candidates.ranked(space, found, score(found))

    def close(self):
        self.closed = True


def test_a_small_space_is_scored_whole():
    """Every config is a candidate, the best first."""
    found = explorer_of(Policy(enumerate=400), space=SPACE, seed=0).explore(
        SPACE, score, SPACE.all_valid()[:0], np.random.default_rng(0)
    )
    assert len(found.configs) == 400
    assert found.configs[0].tolist() == [19, 19]


def test_a_larger_space_is_explored():
    """One config too many, and the policy's own explorer walks."""
    policy = Policy(enumerate=399, explorer=RandomSettings(draws=7))
    explorer = explorer_of(policy, space=SPACE, seed=0)
    assert not isinstance(explorer, EnumeratingExplorer)
    found = explorer.explore(SPACE, score, SPACE.all_valid()[:0], np.random.default_rng(0))
    assert len(found.configs) == 7


def test_walks_serve_several_rounds():
    """Of seven rounds, the first, fourth and seventh walk."""
    walks = Walks()
    explorer, rng = SparingExplorer(walks, every=3), np.random.default_rng(0)
    for _ in range(7):
        explorer.explore(SPACE, score, SPACE.all_valid()[:0], rng)
    assert walks.walks == 3
    explorer.close()
    assert walks.closed


def test_between_walks_the_neighbours_of_the_best_are_candidates():
    """What was found, the best measured, and what is one step from them, ranked anew."""
    explorer = SparingExplorer(Walks(), every=2)
    best = np.array([[10, 10]], dtype=np.int32)
    for _ in range(2):
        found = explorer.explore(SPACE, score, best, np.random.default_rng(0))
    rows = {tuple(row) for row in found.configs.tolist()}
    assert {(0, 0), (1, 1), (2, 2), (10, 10), (9, 10), (11, 10), (10, 9), (10, 11)} == rows
    assert found.configs[0].sum() == 21
