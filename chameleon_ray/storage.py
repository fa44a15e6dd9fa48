"""Where the files of a run lie: a folder of this machine, or one of an object store by its URL.

Both are the same few operations on whole files.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol, TypeVar
from urllib.parse import unquote, urlsplit

from chameleon_ray.errors import RunFolderError
from chameleon_ray.files import write_whole
from chameleon_ray.store import StoreFolder

Place = Path | str  # a path, or a URL such as s3://bucket/runs/mine

T = TypeVar("T")

_AT_ONCE = 8  # requests to a store
_URL = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)


class Folder(Protocol):
    """A flat folder of files that are whole or not there.

    All operations raise OSError where they fail, of it FileNotFoundError where there is no file.

    Attributes:
        name: For messages, without a password.
        title: The last part of the name.
        address: By which another process of this machine opens it.
        remedy: What a user can do where it fails.
        path: Where it lies, if that is on this machine.
    """

    name: str
    title: str
    address: str
    remedy: str
    path: Path | None

    def kind(self) -> str:
        """What is there now: `folder`, `file`, or nothing."""

    def names(self) -> list[str]:
        """What the folder holds, sorted; nothing if there is no folder."""

    def read(self, name: str) -> bytes:
        """A whole file."""

    def write(self, name: str, content: bytes) -> None:
        """Write a file in the place of what is there; when this returns, it is kept."""

    def rename(self, name: str, new: str) -> None:
        """Give a file another name."""

    def remove(self, name: str) -> None:
        """Remove a file."""

    def make(self) -> None:
        """Make the folder where there is none."""

    def discard(self) -> None:
        """Remove the folder with the files that it holds."""


def open_folder(place: Place) -> Folder:
    """The folder of a path or a URL; it need not exist.

    Raises:
        RunFolderError: Nothing here can open such a URL.
    """
    if isinstance(place, Path) or not _URL.match(place):
        return LocalFolder(Path(place))
    if not place.lower().startswith("file:"):
        return StoreFolder(place)
    url = urlsplit(place)
    if url.netloc not in {"", "localhost"}:
        raise RunFolderError(f"{place}: write three slashes: file:///folder.")
    return LocalFolder(Path(unquote(url.path)))


def for_each(folder: Folder, operation: Callable[[str], T], names: Sequence[str]) -> list[T]:
    """What an operation of a folder answers for each file; several at a time where each waits."""
    if folder.path is not None:
        return [operation(name) for name in names]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return list(pool.map(operation, names))


def reason(error: OSError) -> str:
    """What went wrong, to be followed by a full stop."""
    return (error.strerror or str(error)).rstrip(".")


class LocalFolder:
    """A folder of this machine, or one that is mounted on it."""

    remedy = "Free space on that disk, or check that you may write there"

    def __init__(self, path: Path) -> None:
        self.path: Path | None = path
        self.name, self.title = str(path), path.resolve().name
        self.address = str(path.resolve())
        self._path = path

    def kind(self) -> str:
        """See `Folder`."""
        if self._path.is_dir():
            return "folder"
        return "file" if self._path.exists() else ""

    def names(self) -> list[str]:
        """See `Folder`."""
        try:
            return sorted(path.name for path in self._path.iterdir())
        except (FileNotFoundError, NotADirectoryError):
            return []

    def read(self, name: str) -> bytes:
        """See `Folder`."""
        return (self._path / name).read_bytes()

    def write(self, name: str, content: bytes) -> None:
        """See `Folder`."""
        write_whole(self._path / name, content)

    def rename(self, name: str, new: str) -> None:
        """See `Folder`."""
        (self._path / name).rename(self._path / new)

    def remove(self, name: str) -> None:
        """See `Folder`."""
        (self._path / name).unlink()

    def make(self) -> None:
        """See `Folder`."""
        self._path.mkdir(parents=True, exist_ok=True)

    def discard(self) -> None:
        """See `Folder`."""
        for name in self.names():
            self.remove(name)
        self._path.rmdir()
