"""From what a YAML file holds to settings; what does not fit is told with file, key and remedy."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from functools import cache
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from chameleon_ray import settings
from chameleon_ray.env_settings import RepeatSettings
from chameleon_ray.errors import SettingsError, UnknownNameError
from chameleon_ray.settings import (
    AdaptiveSettings,
    AnnealingSettings,
    CostModelSettings,
    ForestSettings,
    GaussianSettings,
    GeneticSettings,
    GreedySettings,
    MeasuredSettings,
    PluginSettings,
    PpoSettings,
    RandomSettings,
    StagedSettings,
    ThompsonSettings,
)

T = TypeVar("T")


def parse(kind: type[T], data: object, *, where: str) -> T:
    """Settings of `kind` from what a YAML file holds.

    Args:
        kind: `Policy` or `Env`.
        data: Nested dicts, lists and plain values.
        where: The file, for messages.

    Raises:
        SettingsError: A value of the wrong type or out of range; the message names file, key,
            value and limit.
        UnknownNameError: A key that is not known; the message names the known ones.
    """
    try:
        parsed: T = _adapter(kind).validate_python({} if data is None else data)  # type: ignore[arg-type]  # a class can be hashed
    except ValidationError as error:
        raise _explain(kind, error, where) from None
    return parsed


@cache
def _adapter(kind: type) -> TypeAdapter[Any]:
    """Made once: that takes longer than to read a hundred presets."""
    return TypeAdapter(kind)


def _explain(kind: type, error: ValidationError, where: str) -> SettingsError | UnknownNameError:
    problem = error.errors(include_url=False)[0]
    path = [str(p) for p in problem["loc"]]
    key = ".".join(p for p in path if p not in _KINDS) or "(the whole file)"
    found = problem["input"]
    if problem["type"] == "unexpected_keyword_argument":
        return UnknownNameError("key", key, _known_keys(kind, path[:-1]), where=where)
    if problem["type"] == "union_tag_invalid":
        return UnknownNameError(f"{key}.kind", problem["ctx"]["tag"], _names(key), where=where)
    if problem["type"] == "literal_error":
        known = re.findall(r"'([^']*)'", problem["ctx"]["expected"])
        return UnknownNameError(key, found, known, where=where)
    if problem["type"].startswith("string_") and key.removesuffix(".kind") in _KINDS_OF:
        return UnknownNameError(key, found, _names(key.removesuffix(".kind")), where=where)
    if "options" in path:
        key = f"{path[0]}.options"
    default = _default(kind, path)
    text = _what_is_wrong(problem, key, default)
    without = f" Without the key it is {_yaml(default)}." if default is not None else ""
    return SettingsError(f"{where}: {key}: {text}.{without}")


def _names(part: str) -> list[str]:
    """What can stand for a part of the search, or for what measures."""
    return [*_KINDS_OF[part], f"package.module:{'function' if part == 'measurer' else 'Class'}"]


_WRONG = {
    "greater_than": "{found} is too small; give {number} above {limit}",
    "greater_than_equal": "{found} is too small; give {number} of at least {limit}",
    "less_than_equal": "{found} is too large; give {number} of at most {limit}",
    "int_parsing": "{found} is not a whole number; give one",
    "int_type": "{found} is not a whole number; give one",
    "int_from_float": "{found} is not a whole number; give one",
    "float_parsing": "{found} is not a number; give one",
    "float_type": "{found} is not a number; give one",
    "finite_number": "{found} is not finite; give a number that is",
    "bool_parsing": "{found} is neither true nor false; give one of them",
    "bool_type": "{found} is neither true nor false; give one of them",
    settings.BOOLEAN: "{found} is no number; give {number} (YAML takes yes and on for true)",
    "string_type": "{found} is not a text; put it in quotes",
    "tuple_type": "{found} is not a list; write [A, B]",
    "dataclass_type": "{found} is not a mapping; write `key: value`, a line each",
    "union_tag_not_found": "must be a mapping such as {example} (found {found})",
}
_NO_OPTIONS = (
    "{found} cannot stand there; write a mapping of names to plain values: numbers, texts, true or "
    "false"
)


def _what_is_wrong(problem: Mapping[str, Any], key: str, default: float | None) -> str:
    """What was found, and what would do.

    Args:
        problem: As pydantic tells it.
        key: Whose value it is.
        default: Of a key that wants a number or a boolean.
    """
    found = "nothing" if problem["input"] is None else _yaml(problem["input"])
    form = _NO_OPTIONS if key.endswith(".options") else _WRONG.get(problem["type"])
    if form is None:
        return f"{problem['msg'].removeprefix('Value error, ')} (found {found})"
    limits = problem.get("ctx", {})
    return form.format(
        found=found,
        number="a whole number" if isinstance(default, int) else "a number",
        limit=_yaml(next((limits[name] for name in ("gt", "ge", "le") if name in limits), 0)),
        example=f"{{kind: {_KINDS_OF[key][0]}}}" if key in _KINDS_OF else "",
    )


def _default(kind: Any, path: list[str]) -> float | None:
    """The default of the number or boolean that `path` leads to; None if it is neither."""
    owner = _settings_at(kind, path[:-1])
    if not path or not dataclasses.is_dataclass(owner):
        return None
    default = next((f.default for f in dataclasses.fields(owner) if f.name == path[-1]), None)
    return default if isinstance(default, int | float) else None


def _yaml(value: object) -> str:
    """A value, as a user would have written it."""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.10g}" if isinstance(value, float) else repr(value)


def _known_keys(kind: Any, path: list[str]) -> list[str]:
    """The keys of the settings that `path` leads to."""
    prefix = ".".join(p for p in path if p not in _KINDS)
    names = [f.name for f in dataclasses.fields(_settings_at(kind, path))]
    return [f"{prefix}.{name}" if prefix else name for name in names]


def _settings_at(kind: Any, path: list[str]) -> Any:
    """The settings that `path` leads to; a union's member is chosen by its kind."""
    for step in path:
        if step in _KINDS:
            kind = _KINDS[step]
        elif not dataclasses.is_dataclass(kind) or step not in _hints(kind):
            break
        else:
            kind = _hints(kind)[step]
    return kind


def _hints(kind: Any) -> dict[str, Any]:
    nested = {
        "cost_model": CostModelSettings,
        "repeats": RepeatSettings,
        "first": ForestSettings,
        "then": GaussianSettings,
    }
    return {f.name: nested.get(f.name, object) for f in dataclasses.fields(kind)}


_KINDS: dict[str, type] = {
    "ppo": PpoSettings,
    "annealing": AnnealingSettings,
    "genetic": GeneticSettings,
    "random": RandomSettings,
    "adaptive": AdaptiveSettings,
    "greedy": GreedySettings,
    "thompson": ThompsonSettings,
    "xgb": CostModelSettings,
    "forest": ForestSettings,
    "gaussian": GaussianSettings,
    "staged": StagedSettings,
    "measured": MeasuredSettings,
    "plugin": PluginSettings,
}
_KINDS_OF = {
    "measurer": ("tvm", "simulated", "recorded"),
    "explorer": ("ppo", "annealing", "genetic", "random"),
    "sampler": ("adaptive", "greedy", "thompson"),
    "cost_model": ("xgb", "forest", "gaussian", "staged", "measured"),
}
