"""Files that are whole or not there."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from chameleon_ray.errors import SettingsError


def write_whole(path: Path, data: bytes) -> None:
    """Write a file beside its place and rename it; when this returns it is on disk.

    What a killed writer leaves begins with a dot and ends in `.tmp`: readers of a folder pass it
    over, and the next writer of a journal removes it.

    Raises:
        OSError: It could not be written; what stood there still stands.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with aside.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            aside.unlink(missing_ok=True)
        raise
    _sync(path.parent)


def check_out(path: Path, endings: Sequence[str]) -> None:
    """Whether `--out` can be written in the end; its folder is made.

    Raises:
        SettingsError: It has another ending, is a folder, or its folder cannot be written.
    """
    if not path.name.endswith(tuple(endings)):
        raise SettingsError(f"--out: {path} must end in {' or '.join(endings)}: it is one file.")
    if path.is_dir():
        raise SettingsError(f"--out: {path} is a folder; give a file.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):  # some folders refuse though they are ours
            pass
    except OSError as error:
        raise unwritable(path, error) from None


def unwritable(path: Path, error: OSError) -> SettingsError:
    """That a file cannot be written, and what to do."""
    return SettingsError(
        f"--out: {path} cannot be written: {error.strerror or error}. Give another --out; what "
        "a run has measured is safe in its folder."
    )


def _sync(folder: Path) -> None:
    """Make renames in a folder survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
