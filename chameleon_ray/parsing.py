"""From what a YAML file holds to settings; what does not fit is told with file, key and remedy."""

from __future__ import annotations

import dataclasses
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

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
        return TypeAdapter(kind).validate_python({} if data is None else data)
    except ValidationError as error:
        raise _explain(kind, error, where) from None


def _explain(kind: type, error: ValidationError, where: str) -> SettingsError | UnknownNameError:
    problem = error.errors(include_url=False)[0]
    path = [str(p) for p in problem["loc"]]
    key = ".".join(p for p in path if p not in _KINDS) or "(the whole file)"
    if problem["type"] == "unexpected_keyword_argument":
        return UnknownNameError("key", key, _known_keys(kind, path[:-1]), where=where)
    if problem["type"] == "union_tag_invalid":
        known = [*_KINDS_OF[key], "package.module:Class"]
        return UnknownNameError(f"{key}.kind", problem["ctx"]["tag"], known, where=where)
    found = problem.get("input")
    if problem["type"] == "union_tag_not_found":
        example = f"{{kind: {_KINDS_OF[key][0]}}}"
        return SettingsError(
            f"{where}: {key}: must be a mapping such as {example} (found {found!r})."
        )
    text = problem["msg"].removeprefix("Value error, ")
    return SettingsError(f"{where}: {key}: {text} (found {found!r}).")


def _known_keys(kind: Any, path: list[str]) -> list[str]:
    """The keys of the settings that `path` leads to; a union's member is chosen by its kind."""
    prefix = ".".join(p for p in path if p not in _KINDS)
    for step in path:
        if step in _KINDS:
            kind = _KINDS[step]
        elif not dataclasses.is_dataclass(kind) or step not in _hints(kind):
            break
        else:
            kind = _hints(kind)[step]
    names = [f.name for f in dataclasses.fields(kind)]
    return [f"{prefix}.{name}" if prefix else name for name in names]


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
    "explorer": ("ppo", "annealing", "genetic", "random"),
    "sampler": ("adaptive", "greedy", "thompson"),
    "cost_model": ("xgb", "forest", "gaussian", "staged", "measured"),
}
