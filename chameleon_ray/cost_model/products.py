"""What two knobs decide by the product of their numbers: threads of a block, size of a tile."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from chameleon_ray.derived import MOST_FACTORS, sizes
from chameleon_ray.space import Configs, Knob

_LARGEST = 2**53  # whole numbers up to here are exact as floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Product:
    """The product of two knobs' numbers, as if it were a knob of its own.

    Attributes:
        pair: Both knobs' columns.
        knob: Its choices are the different products, ascending.
        places: intp `(choices, choices)`: which of those the choices of the two multiply to.
    """

    pair: tuple[int, int]
    knob: Knob
    places: npt.NDArray[np.intp]

    @property
    def weights(self) -> npt.NDArray[np.float64]:
        """How many pairs of choices multiply to each, `(products,)`."""
        return np.bincount(self.places.ravel()).astype(np.float64)

    def of(self, configs: Configs) -> npt.NDArray[np.intp]:
        """The choice of `knob` that each config `(n, knobs)` makes, `(n,)`."""
        one, other = self.pair
        return self.places[configs[:, one], configs[:, other]]


def products(knobs: Sequence[Knob], pairs: Collection[tuple[int, int]]) -> list[Product]:
    """The products worth telling apart, of knobs that count something, if those are not too many.

    Of two splits into as many parts, those of the same level are multiplied: the threads of one
    axis with those of the other.

    Args:
        knobs: All of a space.
        pairs: The columns of those that may be multiplied.
    """
    counting = sizes(knobs)
    if len(counting) > MOST_FACTORS:
        return []
    factors = [i for i, knob in enumerate(knobs) if knob in counting]
    return [
        product
        for pair in itertools.combinations(factors, 2)
        if pair in pairs
        for product in _of_pair(pair, *(knobs[i] for i in pair))
    ]


def _of_pair(pair: tuple[int, int], one: Knob, other: Knob) -> Iterator[Product]:
    """One for each level; none of numbers too large to count anything."""
    largest = max(map(max, one.choices)) * max(map(max, other.choices))
    if len(one.choices[0]) != len(other.choices[0]) or largest > _LARGEST:
        return
    numbers = (np.array(knob.choices, dtype=np.int64).T for knob in (one, other))
    for level, (left, right) in enumerate(zip(*numbers, strict=True)):
        found, places = np.unique(np.multiply.outer(left, right), return_inverse=True)
        if len(found) > 1:
            yield Product(
                pair=pair,
                knob=Knob(
                    name=f"{one.name}*{other.name}[{level}]",
                    choices=tuple((n,) for n in found.tolist()),
                ),
                places=places.reshape(len(one), len(other)),
            )
