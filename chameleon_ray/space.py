"""Design spaces: ordered knobs, static constraints, and batches of configs as index arrays.

A config is a row of choice indices, one per knob; a batch is an int32 array `(n, knobs)`.
Everything works on batches, and nothing enumerates: a space of 10^10 configs costs the same as
one of ten.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from chameleon_ray.errors import SettingsError, UnknownNameError

Configs = npt.NDArray[np.int32]
Features = npt.NDArray[np.float32]
Vector = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]
Values = Mapping[str, npt.NDArray[np.int64]]
Score = Callable[[Configs], Vector]
Choice = tuple[int, ...]
Draft = Callable[[Values], npt.NDArray[np.float64]]
KnobValues = Mapping[str, Choice]

_EXACT = 2**62  # below it, a mixed-radix number of a config fits an int64
_SMALL = 2**17  # a space of so many configs may be listed as a whole
_COUNTABLE = 1_000_000  # of a space of more configs it is not asked how many are valid
_FRUITLESS = 100  # draws in a row without anything new, after which there is nothing left


@dataclass(frozen=True, slots=True, kw_only=True)
class Knob:
    """One decision of a template (Table 1).

    Attributes:
        name: As in Table 1.
        choices: Each a tuple of the same length: the factors of a split, or one number.
        ordered: Whether a step from a choice to the next is a small change.
        labels: What the choices stand for, if they are places in a list of something else.
    """

    name: str
    choices: tuple[Choice, ...]
    ordered: bool = True
    labels: tuple[str, ...] = ()

    def __len__(self) -> int:
        """The number of choices."""
        return len(self.choices)


@dataclass(frozen=True, slots=True, kw_only=True)
class Constraint:
    """A condition that can be checked on knob values alone, before anything is built.

    Attributes:
        name: What the condition demands, for messages.
        holds: Knob values of n configs -> bool array `(n,)`. Picklable.
    """

    name: str
    holds: Callable[[Values], BoolArray]


def no_derived_features(_values: Values) -> dict[str, npt.NDArray[np.float64]]:
    """The features of a space whose knobs say it all."""
    return {}


class DesignSpace:
    """The knobs of a task on a target, their static constraints and their features.

    Args:
        name: Identifies task, target and template version.
        knobs: In order; column `i` of a batch belongs to knob `i`.
        constraints: All must hold for a config to be valid.
        derive: Knob values -> named columns `(n,)`, all positive, of what follows from them
            (threads, bytes, reuse). They enter the features by their logarithm. Picklable.
        listed: If given, only these configs `(n, knobs)` are valid: a space that was written down.
        draft: Knob values -> the logarithm of the speed that arithmetic expects, float64 `(n,)`, up
            to a constant: what is known before anything is measured. Picklable.

    Raises:
        SettingsError: A knob has no choice, or two knobs have one name.
    """

    def __init__(
        self,
        name: str,
        knobs: Sequence[Knob],
        *,
        constraints: Sequence[Constraint] = (),
        derive: Callable[[Values], dict[str, npt.NDArray[np.float64]]] = no_derived_features,
        listed: Configs | None = None,
        draft: Draft | None = None,
    ) -> None:
        self.name = name
        self.knobs = tuple(knobs)
        self.constraints = tuple(constraints)
        self._derive, self.draft = derive, draft
        empty = [k.name for k in self.knobs if not k.choices]
        if empty or len({k.name for k in self.knobs}) < len(self.knobs):
            raise SettingsError(f"{name}: knobs need choices ({empty}) and distinct names.")
        self._tables = {k.name: np.array(k.choices, dtype=np.int64) for k in self.knobs}
        self.sizes: npt.NDArray[np.int32] = np.array([len(k) for k in self.knobs], dtype=np.int32)
        self._listed = None if listed is None else self.distinct(np.asarray(listed, dtype=np.int32))

    def __repr__(self) -> str:
        return f"DesignSpace({self.name!r}, {len(self.knobs)} knobs, {self.size:,} configs)"

    @cached_property
    def size(self) -> int:
        """The number of configs, valid or not."""
        size = 1
        for knob in self.knobs:
            size *= len(knob)
        return size

    @cached_property
    def ordered(self) -> BoolArray:
        """Which knobs have an order, `(knobs,)`."""
        return np.array([k.ordered for k in self.knobs])

    def values(self, configs: Configs) -> Values:
        """What the indices stand for: knob name -> int64 array `(n, parts)`."""
        return {k.name: self._tables[k.name][configs[:, i]] for i, k in enumerate(self.knobs)}

    def valid(self, configs: Configs) -> BoolArray:
        """Which configs every static constraint allows, `(n,)`."""
        allowed = np.ones(len(configs), dtype=np.bool_)
        if self._listed is not None:
            allowed &= self._listing.find(configs) >= 0
        if self.constraints and len(configs):
            values = self.values(configs)
            for constraint in self.constraints:
                allowed &= constraint.holds(values)
        return allowed

    @cached_property
    def _listing(self) -> Listing:
        assert self._listed is not None  # noqa: S101 - asked for a listed space only
        return Listing(self, self._listed)

    def broken(self, config: Configs) -> list[str]:
        """The names of the constraints that one config `(knobs,)` breaks."""
        rows = config[None, :]
        values = self.values(rows)
        names = [c.name for c in self.constraints if not c.holds(values)[0]]
        if self._listed is not None and self._listing.find(rows)[0] < 0:
            names.append("a listed config")
        return names

    def features(self, configs: Configs) -> Features:
        """log2 of every knob value and of what follows from them, float32 `(n, features)`."""
        values = self.values(configs)
        columns = [*values.values(), *(c[:, None] for c in self._derive(values).values())]
        if not columns:
            return np.zeros((len(configs), 0), dtype=np.float32)
        table = np.concatenate(columns, axis=1, dtype=np.float32, casting="same_kind")
        np.log2(np.maximum(table, 0) + 1, out=table)
        return table

    def with_knob_features(self) -> DesignSpace:
        """The same space, with features of the knobs alone."""
        return DesignSpace(
            self.name,
            self.knobs,
            constraints=self.constraints,
            listed=self._listed,
            draft=self.draft,
        )

    def only(self, configs: Configs, *, name: str) -> DesignSpace:
        """The same space, of which only these configs `(n, knobs)` are valid."""
        return DesignSpace(
            name,
            self.knobs,
            constraints=self.constraints,
            derive=self._derive,
            listed=configs,
            draft=self.draft,
        )

    @cached_property
    def feature_names(self) -> tuple[str, ...]:
        """What the columns of `features` are."""
        parts = [f"{k.name}[{i}]" for k in self.knobs for i in range(self._tables[k.name].shape[1])]
        first = np.zeros((1, len(self.knobs)), dtype=np.int32)
        return (*parts, *self._derive(self.values(first)))

    def encode(self, configs: Configs) -> npt.NDArray[np.generic]:
        """One sortable, hashable number per config, `(n,)`: equal exactly if the configs are."""
        if self.size < _EXACT:
            radix = np.concatenate([[1], np.cumprod(self.sizes[:-1].astype(np.int64))])
            numbers: npt.NDArray[np.int64] = configs.astype(np.int64) @ radix
            return numbers
        rows = np.ascontiguousarray(configs, dtype=np.int32)
        whole: npt.NDArray[np.void] = rows.view(f"V{4 * rows.shape[1]}")[:, 0]
        return whole

    def distinct(self, configs: Configs) -> Configs:
        """Each config once, in the order of first appearance."""
        _, first = np.unique(self.encode(configs), return_index=True)
        once: Configs = configs[np.sort(first)]
        return once

    def contains(self, among: Configs, configs: Configs) -> BoolArray:
        """Which of `configs` stand in `among`, `(n,)`."""
        return Listing(self, among).find(configs) >= 0

    def move(self, configs: Configs, steps: npt.NDArray[np.integer]) -> Configs:
        """Where the walkers stand after `steps` `(n, knobs)`: clipped at the ends of each knob.

        A move into a statically forbidden config leaves the walker where it is.
        """
        moved = np.clip(configs + steps, 0, self.sizes - 1).astype(np.int32)
        return np.where(self.valid(moved)[:, None], moved, configs)

    def neighbours(self, config: Configs) -> Configs:
        """The valid configs one step along one knob away from one config `(knobs,)`."""
        steps = np.concatenate([np.eye(len(self.knobs)), -np.eye(len(self.knobs))])
        around = config[None, :] + steps.astype(np.int32)
        inside = ((around >= 0) & (around < self.sizes)).all(axis=1)
        around = around[inside]
        return around[self.valid(around)]

    def random(self, n: int, rng: np.random.Generator, *, avoid: Configs | None = None) -> Configs:
        """Up to `n` distinct valid configs, uniform over the space, none of them in `avoid`.

        Fewer come back only if there are no more, or if a hundred large draws in a row find none.
        """
        if self._listed is not None or self.size <= min(_SMALL, 16 * n):
            everything = self.all_valid()
            if avoid is not None and len(avoid):
                everything = everything[~self.contains(avoid, everything)]
            return everything[rng.permutation(len(everything))[:n]]
        found = np.empty((0, len(self.knobs)), dtype=np.int32)
        fruitless = 0
        while len(found) < n and fruitless < _FRUITLESS:
            draw = rng.integers(0, self.sizes, size=(min(max(64, 4 * n), _SMALL), len(self.knobs)))
            batch = draw.astype(np.int32)
            batch = batch[self.valid(batch)]
            if avoid is not None and len(avoid):
                batch = batch[~self.contains(avoid, batch)]
            before = len(found)
            found = self.distinct(np.concatenate([found, batch]))
            fruitless = 0 if len(found) > before else fruitless + 1
        return found[:n]

    def all_valid(self, *, limit: int = _COUNTABLE) -> Configs:
        """Every valid config of a small or a listed space, `(n, knobs)`.

        Raises:
            SettingsError: The space has more than `limit` configs, valid or not.
        """
        if self._listed is not None:
            return self._listed[self.valid(self._listed)] if self.constraints else self._listed
        if self.size > limit:
            raise SettingsError(
                f"{self.name} has {self.size:,} configs; listing stops at {limit:,}."
            )
        grid = np.indices(tuple(self.sizes), dtype=np.int32).reshape(len(self.knobs), -1).T
        return grid[self.valid(grid)]

    def count_valid(self) -> int | None:
        """How many configs are valid; None if there are too many to look at each."""
        listed = self._listed is not None
        return len(self.all_valid()) if listed or self.size <= _COUNTABLE else None

    def estimate_valid(self) -> int:
        """About how many configs are valid, by the same random draws at each call; three digits."""
        draws = np.random.default_rng(0).integers(0, self.sizes, size=(_SMALL, len(self.knobs)))
        share = float(self.valid(draws.astype(np.int32)).mean())
        return int(float(f"{share * self.size:.3g}"))

    def describe(self, config: Configs) -> dict[str, Choice]:
        """One config `(knobs,)` by knob value."""
        return {k.name: k.choices[int(i)] for k, i in zip(self.knobs, config, strict=True)}

    def config(self, values: Mapping[str, Sequence[int]]) -> Configs:
        """The config `(knobs,)` with these knob values; the inverse of `describe`.

        Raises:
            UnknownNameError: A knob is missing, or has no such choice.
        """
        row = []
        for knob in self.knobs:
            if knob.name not in values:
                raise UnknownNameError("knob", knob.name, values, where=self.name)
            choice = tuple(values[knob.name])
            if choice not in knob.choices:
                shown = [*map(str, knob.choices[:8]), "..."]
                raise UnknownNameError(f"choice of {knob.name}", choice, shown, where=self.name)
            row.append(knob.choices.index(choice))
        return np.array(row, dtype=np.int32)


class Listing:
    """Configs in which others are looked up: sorted once, asked often.

    Args:
        space: Whose configs they are.
        configs: int32 `(n, knobs)`, distinct.
    """

    def __init__(self, space: DesignSpace, configs: Configs) -> None:
        self._space = space
        codes = space.encode(configs)
        self._order = np.argsort(codes, kind="stable")
        self._codes = codes[self._order]

    def find(self, configs: Configs) -> npt.NDArray[np.int64]:
        """Where each of the configs `(m, knobs)` stands, `(m,)`; -1 for one that does not."""
        if not len(self._codes):
            return np.full(len(configs), -1)
        codes = self._space.encode(configs)
        places = np.minimum(np.searchsorted(self._codes, codes), len(self._codes) - 1)
        return np.where(self._codes[places] == codes, self._order[places], -1)


def split(name: str, extent: int, parts: int) -> Knob:
    """All ways to write `extent` as an ordered product of `parts` factors, outermost first.

    The choices stand in a Gray code: a step of one moves exactly one prime factor from one part
    to another, the smallest change that a split allows. The innermost part varies slowest.
    """
    codes = [list(_compositions(power, parts)) for power in _prime_powers(extent).values()]
    choices = []
    for exponents in _reflected(codes):
        factors = [1] * parts
        for prime, exponent in zip(_prime_powers(extent), exponents, strict=True):
            factors = [f * prime**e for f, e in zip(factors, reversed(exponent), strict=True)]
        choices.append(tuple(factors))
    return Knob(name=name, choices=tuple(choices))


def options(name: str, numbers: Sequence[int], *, ordered: bool = True) -> Knob:
    """A knob whose choices are plain numbers."""
    return Knob(name=name, choices=tuple((n,) for n in numbers), ordered=ordered)


def _prime_powers(number: int) -> dict[int, int]:
    """Prime -> exponent, the largest prime first."""
    powers: dict[int, int] = {}
    prime = 2
    while number > 1:
        while number % prime == 0:
            powers[prime] = powers.get(prime, 0) + 1
            number //= prime
        prime += 1
    return dict(sorted(powers.items(), reverse=True))


def _compositions(total: int, parts: int) -> Iterator[tuple[int, ...]]:
    """Ways to share `total` units among `parts`; each differs from the last by one unit moved."""
    if parts == 1:
        yield (total,)
        return
    for first in range(total + 1):
        rest = list(_compositions(total - first, parts - 1))
        for tail in rest if first % 2 == 0 else reversed(rest):
            yield (first, *tail)


def _reflected(codes: Sequence[Sequence[Choice]]) -> Iterator[tuple[Choice, ...]]:
    """The product of sequences, in the order in which one entry at a time moves by one place."""
    if not codes:
        yield ()
        return
    forward = list(_reflected(codes[1:]))
    for head, tails in zip(codes[0], itertools.cycle([forward, forward[::-1]]), strict=False):
        for tail in tails:
            yield (head, *tail)
