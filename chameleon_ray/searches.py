"""The finished searches of a comparison: one small Parquet file each, in one folder.

A search is named by what it depends on, so that a comparison that is started again finds what is
there and computes the rest. Any tool that reads Parquet reads the folder as one table.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from chameleon_ray.errors import RunFolderError
from chameleon_ray.files import write_whole
from chameleon_ray.measure.recorded import RecordedSpace, kernel_of
from chameleon_ray.settings import Policy

SCHEMA_VERSION = 1

_NOT_THE_SEARCH = ("description", "measurements")  # the comparison says how much is measured


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchKey:
    """What a search's course depends on, besides this program.

    Attributes:
        space: Name of the space.
        space_digest: Of its configurations and times.
        policy: What the policy is called.
        policy_digest: Of its settings.
        seed: Of every random choice.
        trials: Attempts allowed.
    """

    space: str
    space_digest: str
    policy: str
    policy_digest: str
    seed: int
    trials: int

    @property
    def file(self) -> str:
        """The name of the file of this search."""
        return f"search-{digest(asdict(self))}.parquet"


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """A finished search.

    Attributes:
        key: Which one.
        kernel: What the space is an instance of.
        reference_seconds: The shortest time of a recorded space; None if it is not known.
        best_seconds: The shortest time after each attempt; None before the first success. Of a live
            comparison: that of what the search held for its best, timed in turns; it may rise.
        outcomes: How often the attempts ended how.
        phase_seconds: What the search itself took, by phase.
        device: What was measured on; empty if the space does not say.
        versions: Package -> version.
    """

    key: SearchKey
    kernel: str
    reference_seconds: float | None
    best_seconds: tuple[float | None, ...]
    outcomes: Mapping[str, int]
    phase_seconds: Mapping[str, float]
    device: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)


SEARCHES = "searches"  # where they lie in the folder of a comparison


class Searches:
    """A folder of finished searches; several processes may write to it.

    Args:
        folder: Made by the first search written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def find(self, key: SearchKey) -> Search | None:
        """The search of this key; None if it is not there, or if its file is damaged.

        Raises:
            RunFolderError: The file cannot be read, or a newer version wrote it.
        """
        path = self.folder / key.file
        try:
            found = _decode(path.read_bytes(), path)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _folder_error(self.folder, error) from error
        return found[0] if found and found[0].key == key else None

    def all(self) -> list[Search]:
        """Every search that is there, by name of its file; damaged files are left out.

        Raises:
            RunFolderError: A file cannot be read, or a newer version wrote it.
        """
        found: list[Search] = []
        try:
            for path in sorted(self.folder.glob("search-*.parquet")):
                found += _decode(path.read_bytes(), path) or []
        except OSError as error:
            raise _folder_error(self.folder, error) from error
        return found

    def write(self, search: Search) -> None:
        """Keep a search; when this returns it is on disk, whole.

        Raises:
            RunFolderError: It could not be written.
        """
        path = self.folder / search.key.file
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_whole(path, _encode([search]))
        except OSError as error:
            raise _folder_error(self.folder, error) from error


def policy_digest(policy: Policy) -> str:
    """Of everything in a policy that the course of a search depends on."""
    settings = {k: v for k, v in asdict(policy).items() if k not in _NOT_THE_SEARCH}
    return digest(settings)


def space_digest(recorded: RecordedSpace) -> str:
    """Of a recorded space's kernel, parameters, configurations, times, failures and template."""
    values = {name: list(v) for name, v in recorded.tunables.values.items()}
    template = recorded.live.space.name if recorded.live else ""
    hashed = hashlib.sha256(_plain([kernel_of(recorded), values, recorded.failures, template]))
    hashed.update(recorded.configs.tobytes())
    hashed.update(recorded.seconds.tobytes())
    return hashed.hexdigest()[:16]


def digest(value: object) -> str:
    """Sixteen hexadecimal digits that stand for a plain value."""
    return hashlib.sha256(_plain(value)).hexdigest()[:16]


def _plain(value: object) -> bytes:
    return json.dumps(value, sort_keys=True).encode()


def _folder_error(folder: Path, error: OSError) -> RunFolderError:
    return RunFolderError(
        f"{folder}: cannot keep searches there: {error.strerror or error}. Free space on that "
        "disk, or choose a folder that you may write to with --out; the same command goes on from "
        "the last search kept."
    )


def _schema() -> Any:
    import pyarrow as pa

    text, whole, real = pa.string(), pa.int64(), pa.float64()
    columns = {
        "space": text,
        "space_digest": text,
        "kernel": text,
        "policy": text,
        "policy_digest": text,
        "seed": whole,
        "trials": whole,
        "reference_seconds": real,
        "best_seconds": pa.list_(real),
        "outcomes": pa.map_(text, whole),
        "phase_seconds": pa.map_(text, real),
        "device": text,
        "versions": pa.map_(text, text),
    }
    return pa.schema(list(columns.items()), metadata={"schema_version": str(SCHEMA_VERSION)})


def _encode(searches: list[Search]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.Table.from_pylist([_row(search) for search in searches], schema=_schema())
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", write_page_checksum=True)
    return bytes(sink.getvalue())


def _decode(data: bytes, path: Path) -> list[Search] | None:
    """The searches of a file; None if it is damaged."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True)
        version = int((file.schema_arrow.metadata or {})[b"schema_version"])
        if version <= SCHEMA_VERSION:
            return [_search(row) for row in file.read().to_pylist()]
    except (pa.ArrowException, OSError, ValueError, KeyError):
        return None
    raise RunFolderError(
        f"{path}: written with schema {version}; this version knows schemas up to "
        f"{SCHEMA_VERSION}. Update chameleon-ray, or choose another folder with --out."
    )


_MAPS = ("outcomes", "phase_seconds", "versions")


def _row(search: Search) -> dict[str, object]:
    row: dict[str, Any] = asdict(search)
    maps = {name: list(row[name].items()) for name in _MAPS}
    key: dict[str, object] = row.pop("key")
    return key | row | maps


def _search(row: dict[str, Any]) -> Search:
    key = {name: row.pop(name) for name in SearchKey.__dataclass_fields__}
    maps = {name: dict(row.pop(name)) for name in _MAPS}
    return Search(key=SearchKey(**key), **row | maps | {"best_seconds": tuple(row["best_seconds"])})
