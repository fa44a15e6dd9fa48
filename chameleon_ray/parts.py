"""Append-only Parquet: what the journals of a run folder have in common.

Each append is one small file that is there whole or not at all, so that what was appended survives
a kill at any moment. Small files are merged now and then; a crash between the merge and the removal
of what it replaces leaves items twice, and reading keeps one by number.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np

from chameleon_ray.errors import RunFolderError
from chameleon_ray.storage import Folder, Place, for_each, open_folder, reason

T = TypeVar("T")

_LOOKS = 10  # at a folder that is being merged
_MOST_SMALL = 32  # so many small parts are merged into one
_LARGE = 4096  # a part of so many items is left alone
_DICTIONARY = 256  # from so many items on, dictionaries and statistics pay
_PART = re.compile(r"[a-z]+-(\d+)-(\d+)\.parquet")


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind(Generic[T]):
    """How one kind of item is kept.

    Attributes:
        name: Parts are called `<name>-<first>-<last>.parquet`.
        version: Of the columns. Parts of a newer version are refused.
        columns: Name -> Arrow type, in their order.
        key: The column of an item's number, which counts up within a folder, from 1.
        number: The number of an item.
        row: An item as a row.
        item: A row as an item.
    """

    name: str
    version: int
    columns: Callable[[], dict[str, Any]]
    key: str
    number: Callable[[T], int]
    row: Callable[[T], dict[str, object]]
    item: Callable[[dict[str, Any]], T]


def read_parts(place: Place, kind: Kind[T]) -> tuple[list[T], list[str]]:
    """All items of a folder, by number, and the names of all damaged parts.

    Changes nothing, and may be called while a run is going on. Parts that a store has set aside
    before are among the damaged ones.

    Raises:
        RunFolderError: A newer version wrote the parts, or they cannot be read.
    """
    folder = open_folder(place)
    items, damaged = _read_now(folder, kind)
    return items, sorted([*damaged, *_aside(folder, kind.name)])


def read_tables(place: Place, kind: Kind[T], columns: Sequence[str]) -> tuple[list[Any], list[str]]:
    """Some columns of all parts of a folder as Arrow tables, and the names of damaged parts.

    For what would be too slow or too large item by item. Changes nothing. An item may stand in two
    parts, if it was merged a moment ago; its number tells.

    Raises:
        RunFolderError: A newer version wrote the parts, or they cannot be read.
    """
    folder = open_folder(place)
    for _ in range(_LOOKS):
        with _keeping(folder), suppress(FileNotFoundError):  # merged while we read: look again
            names = _parts(folder, kind.name)
            tables, damaged = _tables(folder, names, kind, columns)
            return tables, sorted([*damaged, *_aside(folder, kind.name)])
    raise RunFolderError(_changing(folder, kind))


def last_number(place: Place, kind: Kind[T]) -> int:
    """The largest number of an item in a folder, by the names of the parts; 0 if there is none.

    Raises:
        RunFolderError: The folder cannot be read.
    """
    folder = open_folder(place)
    with _keeping(folder):
        names = _parts(folder, kind.name)
    return max((_last(name) for name in names), default=0)


class PartStore(Generic[T]):
    """The parts of one kind in one folder, with one writer at a time.

    Args:
        place: Where the parts lie; made by the first append.
        kind: What they hold.

    Raises:
        RunFolderError: There is no opening such a place.
    """

    def __init__(self, place: Place, kind: Kind[T]) -> None:
        self._folder, self._kind = open_folder(place), kind
        self._last = self._small = 0
        self._known: set[str] = set()
        self._opened = False
        _encode(_table([], kind))  # loads libraries for 0.4 s: not beside the first kernels timed

    @property
    def damaged(self) -> list[str]:
        """The names of damaged parts that reading has set aside, now or before."""
        return _aside(self._folder, self._kind.name)

    def append(self, make: Callable[[int], Sequence[T]]) -> Sequence[T]:
        """Write as one part what `make` makes; when this returns, it is kept.

        Args:
            make: Gets the first free number; numbers its items from there. One item at least.

        Raises:
            RunFolderError: They could not be written; what was appended before is safe.
        """
        with _keeping(self._folder):
            self._open()
            self._look_for_others()
            self._merge()
            items = make(self._last + 1)
            self._last = self._kind.number(items[-1])
            self._small += 1
            self._write(_table(items, self._kind))
        return items

    def items(self) -> list[T]:
        """All items by number. Damaged parts are renamed to `*.damaged`: see `damaged`.

        Raises:
            RunFolderError: A newer version wrote the parts, or they cannot be read.
        """
        items, damaged = _read_now(self._folder, self._kind)
        with _keeping(self._folder):
            self._set_aside(damaged)
        return items

    def _open(self) -> None:
        """Once, before the first write: clear what a killed writer left, go on counting."""
        if self._opened:
            return
        self._folder.make()
        for name in self._folder.names():
            if name.startswith(f".{self._kind.name}-") and name.endswith(".tmp"):
                self._folder.remove(name)
            elif name.startswith(f"{self._kind.name}-") and (match := _PART.match(name)):
                self._last = max(self._last, int(match[2]))
        self._known = set(_parts(self._folder, self._kind.name))
        self._small = len(self._small_parts())
        self._opened = True

    def _look_for_others(self) -> None:
        """No lock keeps others off a store, only a lease: no part of theirs is written over.

        Raises:
            RunFolderError: Somebody else has written parts since this began.
        """
        if self._folder.path is not None:
            return
        others = set(_parts(self._folder, self._kind.name)) - self._known
        if others:
            raise RunFolderError(
                f"{self._folder.name}: another process has written {min(others)} there. Nothing "
                "of it is overwritten; end one of the two, and start the same command again."
            )

    def _write(self, table: Any) -> str:
        """One part with the items of an Arrow table, all of it or nothing."""
        numbers = table[self._kind.key]
        first, last = numbers[0].as_py(), numbers[-1].as_py()
        name = f"{self._kind.name}-{first:08d}-{last:08d}.parquet"
        self._known.add(name)
        self._folder.write(name, _encode(table))
        return name

    def _merge(self) -> None:
        """Many small parts become one; each step leaves every item there at least once."""
        if self._small < _MOST_SMALL:
            return
        small = self._small_parts()
        tables, damaged = _tables(self._folder, small, self._kind)
        self._set_aside(damaged)
        if not tables:
            return
        merged = self._write(_merged(tables, self._kind))
        replaced = [name for name in small if name != merged and name not in damaged]
        for_each(self._folder, self._folder.remove, replaced)
        self._small = len(self._small_parts())

    def _small_parts(self) -> list[str]:
        return [p for p in _parts(self._folder, self._kind.name) if _spanned(p) < _LARGE]

    def _set_aside(self, damaged: Sequence[str]) -> None:
        for name in damaged:
            self._folder.rename(name, f"{name}.damaged")


def _aside(folder: Folder, name: str) -> list[str]:
    with _keeping(folder):
        names = folder.names()
    return [n for n in names if n.startswith(f"{name}-") and n.endswith(".damaged")]


def _parts(folder: Folder, name: str) -> list[str]:
    """The names of the parts by their first number; none if there is no such folder yet."""
    return [n for n in folder.names() if n.startswith(f"{name}-") and _PART.fullmatch(n)]


def _last(name: str) -> int:
    """The last number of a part's name."""
    match = _PART.fullmatch(name)
    return int(match[2]) if match else 0


def _spanned(name: str) -> int:
    """How many numbers a part's name spans."""
    match = _PART.fullmatch(name)
    return int(match[2]) - int(match[1]) + 1 if match else 0


@contextmanager
def _keeping(folder: Folder) -> Iterator[None]:
    """What the file system says, for users.

    Raises:
        RunFolderError: Instead of an OSError.
    """
    try:
        yield
    except OSError as error:
        raise RunFolderError(
            f"{folder.name}: cannot keep records there: {reason(error)}. "
            f"{folder.remedy}, and start the same command again: it goes on from the last record."
        ) from error


def _read_now(folder: Folder, kind: Kind[T]) -> tuple[list[T], list[str]]:
    """The items of all parts, and the names of those that turn out to be damaged."""
    for _ in range(_LOOKS):
        with _keeping(folder), suppress(FileNotFoundError):  # merged while we read: look again
            return _read(folder, _parts(folder, kind.name), kind)
    raise RunFolderError(_changing(folder, kind))


def _changing(folder: Folder, kind: Kind[T]) -> str:
    return f"{folder.name}: its {kind.name} keep changing; is another run writing there?"


def _read(folder: Folder, parts: Sequence[str], kind: Kind[T]) -> tuple[list[T], list[str]]:
    """The items of these parts, each number once, and the names of the damaged parts."""
    items: dict[int, T] = {}
    tables, damaged = _tables(folder, parts, kind)
    for table in tables:
        items.update((kind.number(item), item) for item in map(kind.item, table.to_pylist()))
    return [items[number] for number in sorted(items)], damaged


def _tables(
    folder: Folder, parts: Sequence[str], kind: Kind[T], columns: Sequence[str] = ()
) -> tuple[list[Any], list[str]]:
    """The parts as Arrow tables, all columns or some, and the names of those that are damaged."""
    tables, damaged = [], []
    for name, content in zip(parts, for_each(folder, folder.read, parts), strict=True):
        table = _decode(content, f"{folder.name}/{name}", kind, columns)
        if table is None:
            damaged.append(name)
        else:
            tables.append(table)
    return tables, damaged


def _merged(tables: Sequence[Any], kind: Kind[T]) -> Any:
    """One Arrow table of the present schema with the items of all, each number once, in order."""
    import pyarrow as pa

    schema = _schema(kind)
    present = [
        t if t.schema.equals(schema) else _table([*map(kind.item, t.to_pylist())], kind)
        for t in tables
    ]
    together = pa.concat_tables(present)
    _, first = np.unique(together[kind.key].to_numpy(), return_index=True)
    return together.take(first)


def _schema(kind: Kind[T]) -> Any:
    import pyarrow as pa

    return pa.schema(list(kind.columns().items()), metadata={"schema_version": str(kind.version)})


def _table(items: Sequence[T], kind: Kind[T]) -> Any:
    """Items as an Arrow table."""
    import pyarrow as pa

    return pa.Table.from_pylist([kind.row(item) for item in items], schema=_schema(kind))


def _encode(table: Any) -> bytes:
    """A whole Parquet file, with a checksum on every page."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink, large = pa.BufferOutputStream(), len(table) >= _DICTIONARY
    pq.write_table(
        table,
        sink,
        compression="zstd",
        use_dictionary=large,
        write_statistics=large,
        write_page_checksum=True,
    )
    return bytes(sink.getvalue())


def _decode(data: bytes, path: str, kind: Kind[T], columns: Sequence[str] = ()) -> Any:
    """One Parquet file as an Arrow table, all columns or some, or None if it is damaged.

    Raises:
        RunFolderError: A newer version wrote it.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True)
        version = int((file.schema_arrow.metadata or {})[b"schema_version"])
        if version < kind.version:
            return file.read(columns=list(columns) or None)
        if version == kind.version:
            return file.read(columns=list(columns or kind.columns()))
    except (pa.ArrowException, OSError, ValueError, KeyError):
        return None
    raise RunFolderError(
        f"{path}: written with schema {version} of the journal; this version knows schemas up to "
        f"{kind.version}. Update chameleon-ray to read it."
    )
