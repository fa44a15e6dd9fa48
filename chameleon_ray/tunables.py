"""Tunables: named parameters with plain values, as other tuners and `tune_function` take them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from chameleon_ray.errors import SettingsError
from chameleon_ray.space import Choice, Configs, Knob, KnobValues, split

Plain = bool | int | float | str

_SPLIT = re.compile(r"[1-9]\d{0,5}(x[1-9]\d{0,5}){1,3}")
_LARGEST_SPLIT = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Tunables:
    """What each parameter may be, and the knobs that stand for it.

    Numbers are put into ascending order, so that a step of one is a small change. So are splits,
    texts such as `4x2x16` of equally many factors with one product: they stand in the Gray code of
    `space.split`, and the search sees their factors. Other texts keep the order given and count as
    unordered. A knob's choices are the values themselves where all of them are whole and none is
    negative, or else their positions: the search sees no more than which comes after which.

    Attributes:
        values: Name -> distinct values.
    """

    values: Mapping[str, tuple[Plain, ...]]

    @classmethod
    def of(cls, given: Mapping[str, Sequence[Plain]], *, where: str) -> Tunables:
        """Check what a user or a file states.

        Args:
            given: Name -> values.
            where: The file or the argument, for messages.

        Raises:
            SettingsError: There are no parameters; one has no value, one twice, or one that is
                neither a number nor text.
        """
        if not isinstance(given, Mapping) or not given:
            raise SettingsError(
                f"{where}: no parameters to tune; give a mapping such as {{'block': [32, 64]}}."
            )
        return cls(values={str(n): _checked(str(n), v, where) for n, v in given.items()})

    def knobs(self) -> list[Knob]:
        """One for each parameter, in order."""
        return [_knob(name, values) for name, values in self.values.items()]

    def indices(self, configs: Sequence[Mapping[str, Plain]], *, where: str) -> Configs:
        """Configs by value as rows of choice indices, int32 `(n, knobs)`.

        Raises:
            SettingsError: A config lacks a parameter, or has a value that is not among the known.
        """
        columns = []
        for name, values in self.values.items():
            place = {value: index for index, value in enumerate(values)}
            try:
                columns.append([place[config[name]] for config in configs])
            except (KeyError, TypeError):
                wrong = next(c for c in configs if _place(place, c.get(name)) is None)
                raise SettingsError(_not_among(name, values, wrong, where)) from None
        return np.array(columns, dtype=np.int32).reshape(len(columns), -1).T.copy()

    def plain(self, config: Configs) -> dict[str, Plain]:
        """One config `(knobs,)` by value; the inverse of `indices`."""
        pairs = zip(self.values.items(), config, strict=True)
        return {name: values[int(index)] for (name, values), index in pairs}

    def from_knobs(self) -> Callable[[KnobValues], dict[str, Plain]]:
        """What turns a config, as the choices of its knobs, into values."""
        known = {
            name: dict(zip(knob.choices, values, strict=True))
            for (name, values), knob in zip(self.values.items(), self.knobs(), strict=True)
        }
        return lambda config: {name: of[tuple(config[name])] for name, of in known.items()}


def _place(place: Mapping[Plain, int], value: object) -> int | None:
    try:
        return place.get(value)  # type: ignore[call-overload, no-any-return, unused-ignore]
    except TypeError:  # a list, say
        return None


def _not_among(
    name: str, values: tuple[Plain, ...], config: Mapping[str, Plain], where: str
) -> str:
    known = ", ".join([*map(repr, values[:12]), *(["..."] if len(values) > 12 else [])])
    if name not in config:
        return f"{where}: the configuration {dict(config)} has no {name}; its values: {known}."
    return f"{where}: {name} of the configuration {dict(config)} is not among its values: {known}."


def _checked(name: str, values: Sequence[Plain], where: str) -> tuple[Plain, ...]:
    if isinstance(values, str) or not isinstance(values, Sequence | np.ndarray) or not len(values):
        raise SettingsError(f"{where}: {name}: give a list of at least one value, not {values!r}.")
    plain = [v.item() if isinstance(v, np.generic) else v for v in values]
    wrong = [v for v in plain if not isinstance(v, bool | int | float | str) or v != v]  # noqa: PLR0124 - NaN
    if wrong:
        raise SettingsError(f"{where}: {name}: {wrong[0]!r} is neither a number nor text.")
    if len(set(plain)) < len(plain):
        twice = next(v for v in plain if plain.count(v) > 1)
        raise SettingsError(f"{where}: {name}: {twice!r} stands twice.")
    if _are_numbers(plain):
        return tuple(sorted(plain))
    order = _splits(name, plain)
    return tuple(sorted(plain, key=lambda v: order[str(v)][0])) if order else tuple(plain)


def _are_numbers(values: Sequence[Plain]) -> bool:
    return not any(isinstance(value, str) for value in values)


def _splits(name: str, values: Sequence[Plain]) -> dict[str, tuple[int, Choice]]:
    """Each split's place in the Gray code, and its factors; empty if these are no splits."""
    texts = [v for v in values if isinstance(v, str) and _SPLIT.fullmatch(v)]
    factors = [tuple(map(int, text.split("x"))) for text in texts]
    kinds = {(len(f), math.prod(f)) for f in factors}
    if len(texts) < len(values) or len(kinds) != 1:
        return {}
    ((parts, product),) = kinds
    if product > _LARGEST_SPLIT:
        return {}
    place = {choice: at for at, choice in enumerate(split(name, product, parts).choices)}
    return {text: (place[f], f) for text, f in zip(texts, factors, strict=True)}


def _knob(name: str, values: tuple[Plain, ...]) -> Knob:
    if order := _splits(name, values):
        return Knob(name=name, choices=tuple(order[str(value)][1] for value in values))
    whole = all(not isinstance(v, str) and v == v // 1 and 0 <= v < 2**62 for v in values)
    numbers = [int(value) for value in values] if whole else range(len(values))
    return Knob(
        name=name,
        choices=tuple((n,) for n in numbers),
        ordered=_are_numbers(values),
        labels=() if whole else tuple(map(repr, values)),
    )
