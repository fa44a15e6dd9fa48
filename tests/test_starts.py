"""The first batch: what is measured before anything is learned."""

import numpy as np
import pytest

from chameleon_ray.settings import Policy
from chameleon_ray.space import DesignSpace, options
from chameleon_ray.starts import first_batch, spread

SPACE = DesignSpace("s", [options("a", range(9)), options("b", range(9)), options("c", range(9))])
DEFAULT = np.array([4, 4, 4], dtype=np.int32)


@pytest.mark.parametrize("start", ["random", "spread"])
def test_the_default_its_neighbours_and_others_without_repetition(start):
    """One default, three of its neighbours, ten others; all distinct."""
    policy = Policy(initial=10, neighbours=3, start=start)
    first = first_batch(SPACE, policy, np.random.default_rng(0), default=DEFAULT)
    assert first[0].tolist() == DEFAULT.tolist()
    assert (np.abs(first[1:4] - DEFAULT).sum(axis=1) == 1).all()
    assert len(first) == len(np.unique(first, axis=0)) == 14


def test_without_a_default_there_are_only_the_others():
    """A recorded space has none."""
    first = first_batch(SPACE, Policy(initial=10, neighbours=3), np.random.default_rng(0))
    assert len(first) == 10


def test_spread_out_ones_are_farther_apart_than_random_ones():
    """The smallest distance between any two is larger, over several seeds."""
    nothing = np.empty((0, 3), dtype=np.int32)
    gaps = {"spread": 0.0, "random": 0.0}
    for seed in range(5):
        rng = np.random.default_rng(seed)
        for name, batch in (
            ("spread", spread(SPACE, 8, rng, avoid=nothing)),
            ("random", SPACE.random(8, rng)),
        ):
            distances = np.abs(batch[:, None, :] - batch).sum(axis=2)
            gaps[name] += distances[np.triu_indices(8, 1)].min()
    assert gaps["spread"] > 2 * gaps["random"]


def test_spread_keeps_away_from_what_is_known():
    """Beside a corner that is known, the first is far from it."""
    corner = np.zeros((1, 3), dtype=np.int32)
    first = spread(SPACE, 1, np.random.default_rng(0), avoid=corner)
    assert first.sum() >= 20


def test_a_space_with_fewer_configs_gives_what_it_has():
    """Four configs, ten wanted."""
    small = DesignSpace("small", [options("a", range(4))])
    assert (
        len(first_batch(small, Policy(initial=10, start="spread"), np.random.default_rng(0))) == 4
    )


def test_neighbours_of_a_default_that_is_not_known_are_refused():
    """A key that would do nothing is an error."""
    with pytest.raises(ValueError, match="neighbours are those of the default"):
        Policy(default="apart", neighbours=4)
