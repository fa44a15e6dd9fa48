"""Where presets are found and how they are read: the home of YAML.

A preset is named by a path (`mine.yaml`, `./lab/mine.yaml`), or by a name that is looked for in
the folder `envs/` or `policies/` where the user stands, then among the shipped ones.
"""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Any, Literal

import yaml

from chameleon_ray.env_settings import Env
from chameleon_ray.errors import SettingsError, UnknownNameError
from chameleon_ray.parsing import parse
from chameleon_ray.plugins import load
from chameleon_ray.settings import PluginSettings, Policy

Folder = Literal["envs", "policies", "clusters"]

_METHODS = {"explorer": "explore", "sampler": "choose", "cost_model": "score"}

_SINGULAR: dict[Folder, str] = {"envs": "env", "policies": "policy", "clusters": "cluster"}
_SUFFIXES = (".yaml", ".yml")


def load_policy(name: str) -> tuple[str, Policy]:
    """The policy of this name or path, and what to call it: the name, or the path as given.

    Raises:
        UnknownNameError: There is no such policy, or the file holds an unknown key.
        SettingsError: The file cannot be read, is not YAML, or holds a value that cannot be used;
            a part of the user's own cannot be imported, or is not such a part.
    """
    path = find("policies", name)
    policy = parse(Policy, read(path), where=str(path))
    for part, method in _METHODS.items():
        _check_plugin(getattr(policy, part), method, where=f"{path}: {part}")
    return name, policy


def _check_plugin(part: object, method: str, *, where: str) -> None:
    if not isinstance(part, PluginSettings):
        return
    if not hasattr(load(part.kind, what=where), method):
        raise SettingsError(
            f"{where}: {part.kind!r} has no {method}(): name a class that has; docs/presets.md "
            "tells what each part must do."
        )


def load_env(name: str) -> tuple[str, Env]:
    """The env of this name or path, and what to call it: the name, or the path as given.

    Raises:
        UnknownNameError: There is no such env, or the file holds an unknown key.
        SettingsError: The file cannot be read, is not YAML, or holds a value that cannot be used.
    """
    path = find("envs", name)
    return name, parse(Env, read(path), where=str(path))


def known(folder: Folder) -> list[str]:
    """The names that stand for a preset here: the user's own and the shipped ones, sorted."""
    return sorted({path.stem for place in _places(folder) for path in place.glob("*.yaml")})


def find(folder: Folder, name: str) -> Path:
    """The file that a name or a path stands for.

    Raises:
        UnknownNameError: There is no preset of this name.
        SettingsError: A path was given, and no file is there.
    """
    if "/" in name or name.endswith(_SUFFIXES):
        path = Path(name).expanduser()
        if not path.is_file():
            names = ", ".join(known(folder))
            raise SettingsError(
                f"{name}: no such file. Give the path of a .yaml file, or one of: {names}."
            )
        return path
    for place in _places(folder):
        if (path := place / f"{name}.yaml").is_file():
            return path
    raise UnknownNameError(_SINGULAR[folder], name, known(folder))


def read(path: Path) -> object:
    """What a YAML file holds: nested dicts, lists and plain values; None of comments alone.

    Raises:
        SettingsError: The file cannot be read, is empty, or is not YAML; the message names file
            and line.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise SettingsError(f"{path}: not a text file in UTF-8.") from None
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read: {error.strerror}.") from None
    if not text.strip():
        raise SettingsError(
            f"{path}: it is empty. For a preset with every default, write a description into it."
        )
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        line = f", line {mark.line + 1}" if mark else ""
        raise SettingsError(f"{path}{line}: not valid YAML: {error.problem}.") from None
    except yaml.YAMLError as error:
        raise SettingsError(f"{path}: not valid YAML: {error}.") from None


class _Loader(yaml.SafeLoader):
    """YAML's safe subset, where a key that stands twice is an error and not the last one's."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:  # noqa: FBT001, FBT002 - PyYAML's signature
        keys = set()
        for key, _ in node.value:
            if key.value in keys:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key.value!r} stands twice", key.start_mark
                )
            keys.add(key.value)
        return super().construct_mapping(node, deep=deep)


def _places(folder: Folder) -> tuple[Path, Path]:
    """Where presets of a kind are looked for: the user's folder first, then the shipped one."""
    package = Path(__file__).parent
    shipped = package / "_presets"  # in a wheel; in a checkout they stand beside the package
    return Path(folder), (shipped if shipped.is_dir() else package.parent) / folder
