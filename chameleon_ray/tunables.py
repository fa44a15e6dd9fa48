"""Tunables: named parameters with plain values, as other tuners and `tune_function` take them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from chameleon_ray.errors import SettingsError
from chameleon_ray.space import Configs, Knob

Plain = bool | int | float | str


@dataclass(frozen=True, slots=True, kw_only=True)
class Tunables:
    """What each parameter may be, and the knobs that stand for it.

    Numbers are put into ascending order, so that a step of one is a small change, and what is not
    a number keeps the order given and counts as unordered. A knob's choices are the values
    themselves where all of them are whole and none is negative, or else their positions: the
    search sees no more than which comes after which.

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
                raise SettingsError(
                    f"{where}: {name} of the configuration {dict(wrong)} is not among {values}."
                ) from None
        return np.array(columns, dtype=np.int32).reshape(len(columns), -1).T.copy()

    def plain(self, config: Configs) -> dict[str, Plain]:
        """One config `(knobs,)` by value; the inverse of `indices`."""
        pairs = zip(self.values.items(), config, strict=True)
        return {name: values[int(index)] for (name, values), index in pairs}


def _place(place: Mapping[Plain, int], value: object) -> int | None:
    try:
        return place.get(value)  # type: ignore[call-overload, no-any-return, unused-ignore]
    except TypeError:  # a list, say
        return None


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
    return tuple(sorted(plain)) if _are_numbers(plain) else tuple(plain)


def _are_numbers(values: Sequence[Plain]) -> bool:
    return not any(isinstance(value, str) for value in values)


def _knob(name: str, values: tuple[Plain, ...]) -> Knob:
    whole = all(isinstance(value, int) and 0 <= value < 2**62 for value in values)
    numbers = [int(value) for value in values] if whole else range(len(values))
    return Knob(name=name, choices=tuple((n,) for n in numbers), ordered=_are_numbers(values))
