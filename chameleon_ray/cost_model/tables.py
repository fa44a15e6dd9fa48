"""Functions of a config that are sums of what one knob, or two knobs, decide."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from chameleon_ray.space import Configs

Groups = tuple[tuple[int, ...], ...]
Bins = Mapping[int, npt.NDArray[np.intp]]

_CHUNK = 8192  # configs asked about at a time: what they need stays in the cache


@dataclass(frozen=True, slots=True, kw_only=True)
class Tables:
    """Functions of a config, each a sum of terms.

    Attributes:
        groups: The knob, or the two knobs, of each term.
        tables: For each term, float32 `(choices, functions)`: of two knobs, the choices of the
            first vary slowest.
        means: What is added to each function, float32 `(functions,)`.
        sizes: Number of choices of each knob, as the tables know them.
        bins: Of a knob that the tables know more coarsely: the bin of each of its choices.
    """

    groups: Groups
    tables: tuple[npt.NDArray[np.float32], ...]
    means: npt.NDArray[np.float32]
    sizes: tuple[int, ...]
    bins: Bins = field(default_factory=dict)

    def __call__(self, configs: Configs) -> npt.NDArray[np.float32]:
        """Every function at every config, float32 `(functions, n)`."""
        out = np.tile(self.means, (len(configs), 1))
        for start in range(0, len(configs), _CHUNK):
            columns = binned(configs[start : start + _CHUNK], self.bins).T.astype(np.intp)
            sums = out[start : start + _CHUNK]
            term = np.empty_like(sums)
            for group, table in zip(self.groups, self.tables, strict=True):
                place = columns[group[0]]
                for knob in group[1:]:
                    place = place * self.sizes[knob] + columns[knob]
                sums += np.take(table, place, axis=0, out=term, mode="clip")  # "raise" would copy
        return out.T

    @property
    def functions(self) -> int:
        """How many there are."""
        return len(self.means)

    def only(self, *functions: int) -> Tables:
        """Some of them, in this order."""
        tables = tuple(table[:, functions] for table in self.tables)
        return replace(self, tables=tables, means=self.means[list(functions)])

    def nearer(self, share: np.float32) -> Tables:
        """Each function moved towards the first: such a share of their difference is left."""

        def moved(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
            first = values[..., :1]
            return first + share * (values - first)

        tables = tuple(moved(table) for table in self.tables)
        return replace(self, tables=tables, means=moved(self.means))


def binned(configs: Configs, bins: Bins) -> Configs:
    """The configs `(n, knobs)` with bins in place of the choices of some knobs."""
    if not bins:
        return configs
    configs = configs.copy()
    for knob, places in bins.items():
        configs[:, knob] = places[configs[:, knob]]
    return configs
