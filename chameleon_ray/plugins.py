"""Parts of a user's own, named in a preset as `package.module:name`."""

from __future__ import annotations

import importlib
from typing import Any

from chameleon_ray.errors import SettingsError


def load(name: str, *, what: str) -> Any:
    """The class or function that `name` stands for.

    Args:
        name: `package.module:name`.
        what: What it is used as, for the message.

    Raises:
        SettingsError: It cannot be imported.
    """
    module, _, attribute = name.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise SettingsError(
            f"{what}: {name!r} cannot be imported: {error}. It is looked for on Python's path; set "
            "PYTHONPATH to the folder that holds it."
        ) from error
