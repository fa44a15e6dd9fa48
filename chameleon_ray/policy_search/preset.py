"""A policy as a preset: a YAML file that `--policy` takes, and a word on where it comes from."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import yaml

from chameleon_ray.errors import RunFolderError
from chameleon_ray.files import write_whole
from chameleon_ray.settings import Policy

_WIDTH = 98


def preset(policy: Policy, told: Sequence[str]) -> str:
    """The file's text: a comment, then whatever differs from the defaults of `settings`.

    Args:
        policy: The policy.
        told: Paragraphs of the comment.
    """
    comment = "\n#\n".join(
        textwrap.fill(text, _WIDTH, initial_indent="# ", subsequent_indent="# ") for text in told
    )
    body = yaml.safe_dump(_differing(policy), sort_keys=False, width=_WIDTH, allow_unicode=True)
    return f"{comment}\n\n{body}"


def write_preset(path: Path, policy: Policy, told: Sequence[str]) -> None:
    """Write the file.

    Raises:
        RunFolderError: It cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, preset(policy, told).encode())
    except OSError as error:
        raise RunFolderError(
            f"{path}: cannot be written: {error.strerror or error}. Free space, or choose another "
            "folder with --out."
        ) from error


def _differing(settings: Any) -> dict[str, Any]:
    """As a mapping, without what is as it would be anyway; a part always says its kind."""
    own = getattr(settings, "kind", "")
    default = type(settings)(**({"kind": own} if ":" in own else {}))  # a part of the user's own
    found = {}
    for f in fields(settings):
        value, usual = getattr(settings, f.name), getattr(default, f.name)
        if f.name == "kind":
            found[f.name] = value
        elif is_dataclass(value) and not isinstance(value, type):
            if value != usual or type(value) is not type(usual):
                found[f.name] = _differing(value)
        elif value != usual:
            found[f.name] = value
    return found
