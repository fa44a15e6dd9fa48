"""A run's folder: one process at a time, and only ever the settings that it began with.

It holds `run.json`, what the run is, beside the journal's Parquet files.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from filelock import FileLock, Timeout

from chameleon_ray.env_settings import Env
from chameleon_ray.errors import RunFolderError
from chameleon_ray.files import write_whole
from chameleon_ray.settings import Policy

MANIFEST = "run.json"
_LOCK = "run.lock"


class AnyManifest(Protocol):
    """What a run is, as plain values: that of a network, or of a function."""

    def to_json(self) -> dict[str, Any]:
        """Whatever makes two runs different."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What the run of a network is.

    Two runs with equal manifests measure the same things in the same order. How far a run goes
    (layers, trials, time) is not part of it: going on may go further.
    """

    network: str
    env: str
    policy: str
    seed: int
    env_settings: Env
    policy_settings: Policy
    machine: str
    compiler: str
    template: str

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)


class RunFolder:
    """The folder of one run, locked while it is in use.

    Args:
        path: Made if it does not exist.
        option: How the user named it, for messages.

    Raises:
        RunFolderError: It is in use, cannot be written, or is a folder of something else.
    """

    def __init__(self, path: Path, *, option: str = "--run") -> None:
        self.path, self._option = path, option
        try:
            self._new = not path.exists()
            self._check_is_ours()
            path.mkdir(parents=True, exist_ok=True)
            self._lock = FileLock(path / _LOCK)
            self._lock.acquire(timeout=0)
        except Timeout:
            raise RunFolderError(
                f"{path} is in use by another process; wait for it to end, or choose another "
                f"folder with {option}."
            ) from None
        except OSError as error:
            raise RunFolderError(
                f"{path} cannot be used: {error.strerror}. Choose another folder with {option}."
            ) from error

    def _check_is_ours(self) -> None:
        if self.path.is_file():
            raise RunFolderError(f"{self.path} is a file; {self._option} takes a folder.")
        if not self._new and any(self.path.iterdir()) and not self._manifest_path.exists():
            names = {p.name for p in self.path.iterdir()} - {_LOCK}
            if names:
                raise RunFolderError(
                    f"{self.path} is not a run folder: it has no {MANIFEST} but other files, such "
                    f"as {min(names)}. Choose a new or an empty folder with {self._option}."
                )

    @property
    def _manifest_path(self) -> Path:
        return self.path / MANIFEST

    def begin(self, manifest: AnyManifest, *, layers: tuple[int, ...] = ()) -> None:
        """Write the manifest, or compare it with the one that is there.

        Args:
            manifest: What the run is.
            layers: Those of a network; the folder holds them besides those it held.

        Raises:
            RunFolderError: The folder was begun with something else; the message names what.
        """
        new = json.loads(json.dumps(manifest.to_json()))
        if self._manifest_path.exists():
            old = self._read()
            differing = list(_differences(old, new))
            if differing:
                raise RunFolderError(
                    f"{self.path} holds a run with other settings: {'; '.join(differing)}. "
                    f"Give the settings it began with, or another folder with {self._option}."
                )
            layers = tuple(sorted({*layers, *old.get("layers", ())}))
        further = {"layers": layers} if layers else {}
        self._write(json.dumps({**new, **further}, indent=1))

    def _read(self) -> dict[str, Any]:
        try:
            found = json.loads(self._manifest_path.read_text())
        except (OSError, ValueError) as error:
            raise RunFolderError(
                f"{self._manifest_path} cannot be read: {error}. Choose another folder with "
                f"{self._option}."
            ) from error
        if not isinstance(found, dict):
            raise RunFolderError(
                f"{self._manifest_path} is not the manifest of a run. Choose another folder with "
                f"{self._option}."
            )
        return found

    def _write(self, text: str) -> None:
        try:
            write_whole(self._manifest_path, text.encode())
        except OSError as error:
            raise RunFolderError(f"{self.path} cannot be written: {error.strerror}.") from error

    def close(self) -> None:
        """Let others use it. A new folder in which nothing was measured is removed again."""
        self._lock.release()
        left = {file.name for file in self.path.iterdir()} if self.path.is_dir() else set()
        if self._new and left <= {_LOCK, MANIFEST}:
            for name in left:
                (self.path / name).unlink()
            self.path.rmdir()


def is_in_use(path: Path) -> bool:
    """Whether a process is at this run now; changes nothing. False where locks cannot be asked."""
    try:
        import fcntl

        with (path / _LOCK).open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
    except (ImportError, OSError):
        pass
    return False


def _differences(old: Mapping[str, Any], new: Mapping[str, Any], at: str = "") -> list[str]:
    """`key: old there, new here` for each value that differs, nested keys joined by dots."""
    found = []
    for key, value in new.items():
        there = old.get(key)
        if isinstance(value, dict) and isinstance(there, dict):
            found += _differences(there, value, f"{at}{key}.")
        elif json.dumps(there) != json.dumps(value) and key != "description":
            found.append(f"{at}{key} is {there!r} there and {value!r} here")
    return found
