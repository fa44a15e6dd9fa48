"""A folder of an object store: `storage.Folder` by `pyarrow.fs`, or by an fsspec package.

Arrow itself speaks to S3, Google Cloud Storage and Azure.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from chameleon_ray.errors import RunFolderError

_PASSWORD = re.compile(r"(?<=://)[^/@:]*:[^/@]*@")  # s3://key:secret@bucket/...
_SECRET = re.compile(r"([?&][^=&]*(?:key|secret|token|password|sig)[^=&]*=)[^&\s]*", re.IGNORECASE)


def shown(place: Path | str) -> str:
    """A path or URL for messages: without a password, and without the values of keys and tokens."""
    return _SECRET.sub(r"\1***", _PASSWORD.sub("", str(place), count=1))


class StoreFolder:
    """A folder of an object store, where a file is there whole once it is written.

    Args:
        url: Such as `s3://bucket/runs/mine?region=eu-central-1`.

    Raises:
        RunFolderError: Nothing here can open such a URL.
    """

    remedy = (
        "Check that the bucket exists, that the network reaches it, and that the credentials of "
        "this machine may list, read, write and delete there"
    )

    def __init__(self, url: str) -> None:
        self.path: Path | None = None
        self.name, self.address = shown(url), url
        self._files, self._root = _file_system(url)
        self.title = self._root.rpartition("/")[2]
        if "/" not in self._root:
            raise RunFolderError(f"{self.name}: name a folder too, as in s3://bucket/runs/mine.")

    def kind(self) -> str:
        """See `Folder`."""
        with _as_os_errors():
            return {2: "file", 3: "folder"}.get(
                self._files.get_file_info(self._root).type.value, ""
            )

    def names(self) -> list[str]:
        """See `Folder`."""
        from pyarrow.fs import FileSelector

        with _as_os_errors():
            found = self._files.get_file_info(FileSelector(self._root, allow_not_found=True))
        return sorted(file.base_name for file in found)

    def read(self, name: str) -> bytes:
        """See `Folder`."""
        with (
            _as_os_errors(),
            self._files.open_input_stream(self._at(name), compression=None) as file,
        ):
            return bytes(file.read())

    def write(self, name: str, content: bytes) -> None:
        """See `Folder`."""
        with (
            _as_os_errors(),
            self._files.open_output_stream(self._at(name), compression=None) as file,
        ):
            file.write(content)

    def rename(self, name: str, new: str) -> None:
        """See `Folder`."""
        with _as_os_errors():
            self._files.move(self._at(name), self._at(new))

    def remove(self, name: str) -> None:
        """See `Folder`."""
        with _as_os_errors():
            self._files.delete_file(self._at(name))

    def make(self) -> None:
        """See `Folder`."""
        with _as_os_errors():
            self._files.create_dir(self._root, recursive=True)

    def discard(self) -> None:
        """See `Folder`."""
        with _as_os_errors():
            self._files.delete_dir(self._root)

    def _at(self, name: str) -> str:
        return f"{self._root}/{name}"


def _file_system(url: str) -> tuple[Any, str]:
    """The file system of a URL, as Arrow sees it, and the folder in it.

    Raises:
        RunFolderError: There is none.
    """
    import pyarrow as pa

    try:
        files, root = _native(url) or _of_fsspec(url)
    except (ImportError, ValueError, pa.ArrowException) as error:
        raise RunFolderError(
            f"{shown(url)}: cannot be opened: {shown(str(error)).rstrip('.')}. Give a folder, or a "
            "URL of s3://, gs://, abfs:// or of an fsspec package that is installed here."
        ) from error
    except Exception as error:  # fsspec packages raise errors of their own
        why = shown(str(error)).rstrip(".")
        raise RunFolderError(
            f"{shown(url)}: cannot be opened: {why}. {StoreFolder.remedy}."
        ) from error
    return files, root.rstrip("/")


def _native(url: str) -> tuple[Any, str] | None:
    """By Arrow itself; None if it does not know such URLs."""
    import pyarrow as pa
    from pyarrow.fs import FileSystem

    small = "&" if urlsplit(url).query else "?"
    tried = [url]
    if url.lower().startswith("s3:"):
        tried.insert(0, f"{url}{small}allow_delayed_open=true")  # a small file in one request
    for attempt in tried:
        try:
            files: tuple[Any, str] = FileSystem.from_uri(attempt)
        except pa.ArrowNotImplementedError:  # built without it
            return None
        except pa.ArrowInvalid as error:
            if "Unrecognized filesystem" in str(error):
                return None
            if attempt is tried[-1]:
                raise
        else:
            return files
    return None


def _of_fsspec(url: str) -> tuple[Any, str]:
    from fsspec.core import url_to_fs
    from pyarrow.fs import FSSpecHandler, PyFileSystem

    files, root = url_to_fs(url, use_listings_cache=False)  # others write there, too
    return PyFileSystem(FSSpecHandler(files)), root


@contextmanager
def _as_os_errors() -> Iterator[None]:
    """Whatever the library of a store raises, as OSError."""
    try:
        yield
    except (OSError, ImportError):
        raise
    except Exception as error:  # likewise
        raise OSError(f"{type(error).__name__}: {error}") from error
