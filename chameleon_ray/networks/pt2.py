"""Files of `torch.export.save`, read without running anything that they pickle."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from chameleon_ray.errors import SettingsError

# What torch.export.load would unpickle with no questions asked (torch/export/pt2_archive).
_OBJECTS = ("/constants/custom_obj_", "/constants/opaque_obj_")
_FORCE = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"


def load(path: str, *, trust: bool) -> torch.export.ExportedProgram:
    """The program of a file.

    Args:
        path: Of the file.
        trust: Whether whatever it pickles may be run.

    Raises:
        SettingsError: It is not such a file, or pickles more than tensors and is not trusted.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (OSError, zipfile.BadZipFile) as error:
        raise SettingsError(f"{path}: not a file of torch.export.save: {error}.") from error
    objects = [name for name in names if any(part in name for part in _OBJECTS)]
    if objects and not trust:
        raise SettingsError(
            f"{path}: it pickles objects, such as {objects[0]}, which may run anything when they "
            "are loaded. If you trust whoever made it, add --trust."
        )
    try:
        with _tensors_only(unless=trust):
            return torch.export.load(path)
    except Exception as error:  # whatever a damaged archive leads to
        remedy = "" if trust else " If it holds more than tensors and you trust it, add --trust."
        raise SettingsError(
            f"{path}: not a whole file of torch.export.save: {str(error).splitlines()[0]}.{remedy}"
        ) from error


@contextmanager
def _tensors_only(*, unless: bool) -> Iterator[None]:
    """Whatever torch loads, it unpickles tensors and plain containers only."""
    before = os.environ.get(_FORCE)
    if not unless:
        os.environ[_FORCE] = "1"
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(_FORCE, None)
        else:
            os.environ[_FORCE] = before
