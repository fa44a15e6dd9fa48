"""Which settings of a policy are searched, and between what: from a file, checked before anything.

```yaml
enumerate: 0                                      # one value: the same in all samples
explorer.learning_rate: {log: [1.0e-4, 1.0e-2]}   # between two numbers, by their logarithm
cost_model.then.temper: {range: [0.1, 0.9]}       # between two numbers
sampler.batch: [2, 4, 8]                          # one of these
```
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from chameleon_ray import presets
from chameleon_ray.errors import SettingsError
from chameleon_ray.parsing import parse
from chameleon_ray.policy_search.ranges import Between, Choice, Range, Settings, Value, drawn
from chameleon_ray.settings import Policy

_FORMS = (
    "write a list of values [2, 4, 8], {range: [LOW, HIGH]} or {log: [LOW, HIGH]}, or one value, "
    "which is then the same in all samples"
)
_PROBES = 200  # samples drawn to see whether values go together


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """What is searched.

    Attributes:
        ranges: Of the settings searched, at least one.
        fixed: Settings that all samples have in common and the base policy need not have.
    """

    ranges: tuple[Range, ...]
    fixed: Settings

    def all_of(self, sample: Settings) -> dict[str, Value]:
        """What a sample changes of the base policy."""
        return {**self.fixed, **sample}


def read_declared(path: Path, base: Policy) -> Declared:
    """What a file says is to be searched.

    Raises:
        SettingsError: The file cannot be read or is not YAML; a range is none, or has a value that
            the setting cannot have; nothing is left to search.
        UnknownNameError: A setting that the policy does not have; the message names those it has.
    """
    found = presets.read(path)
    if not isinstance(found, Mapping):
        raise SettingsError(f"{path}: no settings: write `setting: what it may be`, a line each.")
    ranges: list[Range] = []
    fixed: dict[str, Value] = {}
    for name, what in _flat(found):
        where = f"{path}: {name}"
        if name.rpartition(".")[2] == "kind":
            raise SettingsError(
                f"{where}: a kind decides which other settings there are. Search one kind at a "
                "time: give a policy that has it with --policy."
            )
        if isinstance(what, list | Mapping):
            ranges.append(_range(name, what, value_of(base, name), where=where))
        else:
            fixed[name] = what
    declared = Declared(ranges=tuple(ranges), fixed=fixed)
    check(declared, base, where=str(path))
    return declared


def check(declared: Declared, base: Policy, *, where: str) -> None:
    """See that every value of every setting is possible, alone and together.

    Raises:
        ChameleonError: As of `read_declared`.
    """
    with_settings(base, declared.fixed, where=where)
    rng = np.random.default_rng(0)
    for r in declared.ranges:
        for value in r.ends():
            sample = {**drawn(declared.ranges, rng), r.setting: value}
            with_settings(base, declared.all_of(sample), where=where)
    if not declared.ranges:
        raise SettingsError(
            f"{where}: every setting has one value, so nothing is searched: {_FORMS}."
        )
    for _ in range(_PROBES):
        sample = drawn(declared.ranges, rng)
        try:
            with_settings(base, declared.all_of(sample), where=where)
        except SettingsError as error:
            raise SettingsError(
                f"{error} Any value of a setting must go with any of the others: leave out those "
                "that do not."
            ) from None


def with_settings(base: Policy, settings: Settings, *, where: str) -> Policy:
    """The policy with some settings changed.

    Args:
        base: The policy.
        settings: By dotted name.
        where: For messages.

    Raises:
        ChameleonError: There is no such setting, or it cannot have the value.
    """
    plain: dict[str, Any] = asdict(base)
    for name, value in settings.items():
        *path, last = name.split(".")
        at = plain
        for step in path:
            if not isinstance(at.get(step), dict):
                at[step] = {}
            at = at[step]
        at[last] = value
    return parse(Policy, plain, where=where)


def value_of(base: Policy, name: str) -> Value:
    """What the policy has for a setting; None if it has no such setting, or nothing for it."""
    at: Any = asdict(base)
    for step in name.split("."):
        if not isinstance(at, dict) or step not in at:
            return None
        at = at[step]
    return at if isinstance(at, bool | int | float | str) else None


def _flat(found: Mapping[Any, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted names and what stands for them; names may be nested as in a preset, too."""
    for key, what in found.items():
        name = f"{prefix}{key}"
        if isinstance(what, Mapping) and not set(what) & {"range", "log"}:
            yield from _flat(what, f"{name}.")
        else:
            yield name, what


def _range(name: str, what: Any, now: Value, *, where: str) -> Range:
    if isinstance(what, list):
        plain = all(isinstance(v, bool | int | float | str | None) for v in what)
        if not plain or len(what) < 2 or len({(type(v), v) for v in what}) < len(what):
            raise SettingsError(
                f"{where}: {what!r} is no choice: give two plain values or more, each once."
            )
        return Choice(setting=name, values=tuple(what))
    if len(what) != 1:
        raise SettingsError(f"{where}: {what!r} is no range: {_FORMS}.")
    ((form, ends),) = what.items()
    if isinstance(now, bool | str):
        raise SettingsError(f"{where}: it is no number (now {now!r}): list its values, [A, B].")
    numbers = [_as_number(end) for end in ends] if isinstance(ends, list) else []
    known = [n for n in numbers if n is not None]
    if len(numbers) != 2 or len(known) != 2 or not known[0] < known[1]:
        raise SettingsError(
            f"{where}: {form}: {ends!r} is not two numbers, the smaller one first: write "
            f"{{{form}: [LOW, HIGH]}}."
        )
    low, high = known
    if form == "log" and low <= 0:
        raise SettingsError(f"{where}: {low:g} has no logarithm: begin above 0, or take {{range}}.")
    whole = isinstance(now, int) and low == round(low) and high == round(high)
    if isinstance(now, int) and not whole:
        raise SettingsError(f"{where}: it is a whole number: give whole ends, not {ends!r}.")
    return Between(setting=name, low=low, high=high, log=form == "log", whole=whole)


def _as_number(value: object) -> float | None:
    """A number; YAML takes 1e-4, without a dot, for a text."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except ValueError:
        return None
    return number if np.isfinite(number) else None
