"""What follows from plain numbers: features for kernels known by nothing but their knobs."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from chameleon_ray.space import Knob, Values

MOST_FACTORS = 12  # knobs that are multiplied in pairs; with more, columns outgrow points
_DEEPEST = 8  # 2**8 and what it divides are equally round


@dataclass(frozen=True, slots=True, kw_only=True)
class Products:
    """Columns for `DesignSpace`: products of two knobs, and how round each number is.

    Sizes of a kernel act through their products (threads of a block, elements of a tile), and
    hardware prefers multiples of powers of two (warps, banks, vectors, lines). A tree cuts one
    column at a time and would need many points to find either out.

    Attributes:
        factors: Names of the knobs that are multiplied in pairs.
        rounded: Names of the knobs of which it counts how often two divides them.
    """

    factors: tuple[str, ...]
    rounded: tuple[str, ...]

    def __call__(self, values: Values) -> dict[str, npt.NDArray[np.float64]]:
        """Knob values of n configs -> named columns `(n,)`."""
        columns = {
            f"{one}*{other}": values[one][:, 0].astype(np.float64) * values[other][:, 0]
            for one, other in itertools.combinations(self.factors, 2)
        }
        for name in self.rounded:
            columns[f"twos({name})"] = twos(values[name][:, 0])
        return columns


def products_of(knobs: Sequence[Knob]) -> Products:
    """The columns worth having for these knobs; choices are single numbers."""
    counting = sizes(knobs)
    uneven = (knob.name for knob in counting if any(n & (n - 1) for (n,) in knob.choices))
    factors = counting if len(counting) <= MOST_FACTORS else []
    return Products(factors=tuple(knob.name for knob in factors), rounded=tuple(uneven))


def sizes(knobs: Sequence[Knob]) -> list[Knob]:
    """The knobs that count something and leave a choice: neither flags nor names."""
    return [k for k in knobs if k.ordered and len(k) > 1 and max(map(max, k.choices)) > 1]


def twos(numbers: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """How often two divides each number, float64 `(n,)`; 0 for 0."""
    count = np.zeros(len(numbers))
    for power in range(1, _DEEPEST + 1):
        count += (numbers > 0) & (numbers % (1 << power) == 0)
    return count
