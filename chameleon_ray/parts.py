"""Append-only Parquet: what the journals of a run folder have in common.

Each append is one small file, written aside, synced and renamed, so that what was appended
survives a kill at any moment. Small files are merged now and then; a crash between the merge and
the removal of what it replaces leaves items twice on disk, and reading keeps one by number.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from chameleon_ray.errors import RunFolderError
from chameleon_ray.files import clear_leftovers, write_whole

T = TypeVar("T")

_MOST_SMALL = 32  # so many small parts are merged into one
_LARGE = 4096  # a part of so many items is left alone
_PART = re.compile(r"[a-z]+-(\d+)-(\d+)\.parquet")


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind(Generic[T]):
    """How one kind of item is kept.

    Attributes:
        name: Parts are called `<name>-<first>-<last>.parquet`.
        version: Of the columns. Parts of a newer version are refused.
        columns: Name -> Arrow type, in their order.
        number: An item's number, which counts up within a folder, from 1.
        row: An item as a row.
        item: A row as an item.
    """

    name: str
    version: int
    columns: Callable[[], dict[str, Any]]
    number: Callable[[T], int]
    row: Callable[[T], dict[str, object]]
    item: Callable[[dict[str, Any]], T]


def read_parts(folder: Path, kind: Kind[T]) -> tuple[list[T], list[str]]:
    """All items of a folder, by number, and the names of all damaged parts.

    Changes nothing, and may be called while a run is going on. Parts that a store has set aside
    before are among the damaged ones.

    Raises:
        RunFolderError: A newer version wrote the parts, or they cannot be read.
    """
    items, damaged = _read_now(folder, kind)
    return items, sorted([*damaged, *_aside(folder, kind.name)])


class PartStore(Generic[T]):
    """The parts of one kind in one folder, with one writer at a time.

    Args:
        folder: Where the parts lie; made by the first append.
        kind: What they hold.
    """

    def __init__(self, folder: Path, kind: Kind[T]) -> None:
        self._folder, self._kind = folder, kind
        self._last = 0
        self._opened = False
        _encode([], kind)  # loads libraries for 0.4 s: not beside the first kernels timed

    @property
    def damaged(self) -> list[str]:
        """The names of damaged parts that reading has set aside, now or before."""
        return _aside(self._folder, self._kind.name)

    def append(self, make: Callable[[int], Sequence[T]]) -> Sequence[T]:
        """Write as one part what `make` makes; when this returns, it is on disk.

        Args:
            make: Gets the first free number; numbers its items from there. One item at least.

        Raises:
            RunFolderError: They could not be written; what was appended before is safe.
        """
        try:
            self._open()
            self._merge()
            items = make(self._last + 1)
            self._last = self._kind.number(items[-1])
            self._write(items)
        except OSError as error:
            raise _folder_error(self._folder, error) from error
        return items

    def items(self) -> list[T]:
        """All items by number. Damaged parts are renamed to `*.damaged`: see `damaged`.

        Raises:
            RunFolderError: A newer version wrote the parts, or they cannot be read.
        """
        items, damaged = _read_now(self._folder, self._kind)
        try:
            self._set_aside(damaged)
        except OSError as error:
            raise _folder_error(self._folder, error) from error
        return items

    def _open(self) -> None:
        """Once, before the first write: clear what a killed writer left, go on counting."""
        if self._opened:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        clear_leftovers(self._folder, f"{self._kind.name}-*")
        names = (_PART.match(path.name) for path in self._folder.glob(f"{self._kind.name}-*"))
        self._last = max((int(match[2]) for match in names if match), default=0)
        self._opened = True

    def _write(self, items: Sequence[T]) -> Path:
        """One part with these items, all of it or nothing."""
        first, last = self._kind.number(items[0]), self._kind.number(items[-1])
        path = self._folder / f"{self._kind.name}-{first:08d}-{last:08d}.parquet"
        write_whole(path, _encode(items, self._kind))
        return path

    def _merge(self) -> None:
        """Many small parts become one; each step leaves every item on disk at least once."""
        small = [p for p in _parts(self._folder, self._kind.name) if _spanned(p) < _LARGE]
        if len(small) < _MOST_SMALL:
            return
        items, damaged = _read(small, self._kind)
        self._set_aside(damaged)
        if not items:
            return
        merged = self._write(items)
        for path in small:
            if path != merged and path.name not in damaged:
                path.unlink()

    def _set_aside(self, damaged: Sequence[str]) -> None:
        for name in damaged:
            (self._folder / name).rename(self._folder / f"{name}.damaged")


def _aside(folder: Path, name: str) -> list[str]:
    return sorted(path.name for path in folder.glob(f"{name}-*.damaged"))


def _parts(folder: Path, name: str) -> list[Path]:
    """The parts by their first number; none if there is no such folder yet."""
    return sorted(path for path in folder.glob(f"{name}-*.parquet") if _PART.fullmatch(path.name))


def _spanned(path: Path) -> int:
    """How many numbers a part's name spans."""
    match = _PART.fullmatch(path.name)
    return int(match[2]) - int(match[1]) + 1 if match else 0


def _folder_error(folder: Path, error: OSError) -> RunFolderError:
    return RunFolderError(
        f"{folder}: cannot keep records there: {error.strerror or error}. Free space on that disk, "
        "or check that you may write there, and start the same command again: it goes on from "
        "the last record."
    )


def _read_now(folder: Path, kind: Kind[T]) -> tuple[list[T], list[str]]:
    """The items of all parts, and the names of those that turn out to be damaged."""
    for _ in range(10):
        try:
            return _read(_parts(folder, kind.name), kind)
        except FileNotFoundError:  # merged while we read: look again
            continue
        except OSError as error:
            raise _folder_error(folder, error) from error
    raise RunFolderError(f"{folder}: its {kind.name} keep changing; is another run writing there?")


def _read(parts: Sequence[Path], kind: Kind[T]) -> tuple[list[T], list[str]]:
    """The items of these parts, each number once, and the names of the damaged parts."""
    items: dict[int, T] = {}
    damaged = []
    for path in parts:
        found = _decode(path.read_bytes(), path, kind)
        if found is None:
            damaged.append(path.name)
        else:
            items.update((kind.number(item), item) for item in found)
    return [items[number] for number in sorted(items)], damaged


def _encode(items: Sequence[T], kind: Kind[T]) -> bytes:
    """A whole Parquet file, with a checksum on every page."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema(list(kind.columns().items()), metadata={"schema_version": str(kind.version)})
    table = pa.Table.from_pylist([kind.row(item) for item in items], schema=schema)
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", write_page_checksum=True)
    return bytes(sink.getvalue())


def _decode(data: bytes, path: Path, kind: Kind[T]) -> list[T] | None:
    """The items of one Parquet file, or None if it is damaged.

    Raises:
        RunFolderError: A newer version wrote it.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True)
        version = int((file.schema_arrow.metadata or {})[b"schema_version"])
        if version <= kind.version:
            return [kind.item(row) for row in file.read().to_pylist()]
    except (pa.ArrowException, OSError, ValueError, KeyError):
        return None
    raise RunFolderError(
        f"{path}: written with schema {version} of the journal; this version knows schemas up to "
        f"{kind.version}. Update chameleon-ray to read it."
    )
