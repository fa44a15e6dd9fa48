"""A run's folder: one process at a time, and only ever the settings that it began with.

It holds `run.json`, what the run is, beside the journal's Parquet files; of a model that has no
name, the model.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from chameleon_ray.env_settings import Env
from chameleon_ray.errors import RunFolderError
from chameleon_ray.run_lock import OWN_FILES, InUseError, is_locked, lock
from chameleon_ray.settings import Policy
from chameleon_ray.storage import Folder, Place, open_folder, reason

MANIFEST = "run.json"
_WORDS = ("description", "untuned", "taught_by")  # of a manifest: they change nothing
NOTHING = "nothing"  # what cold runs learn from, and older ones did
LESSONS = "lessons"  # parts with this name: what a layer was taught, and when
MODEL = "model.pt2"  # in a run of torch.compile: the model, as it was tuned


class AnyManifest(Protocol):
    """What a run is, as plain values: that of a network, or of a function."""

    def to_json(self) -> dict[str, Any]:
        """Whatever makes two runs different."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What the run of a network is.

    Two runs with equal manifests measure the same things in the same order. How far a run goes
    (layers, trials, time) is not part of it: going on may go further.

    Attributes:
        model: The layers of a network that is not the paper's (`Network.to_json`).
        learns_from: What its layers learn from, in words.
        taught_by: Digests of the sources that it was given: it goes on with these, whatever else
            has come to lie beside them.
    """

    network: str
    model: Mapping[str, Any] | None = None
    env: str
    policy: str
    seed: int
    env_settings: Env
    policy_settings: Policy
    machine: str
    compiler: str
    template: str
    learns_from: str = NOTHING
    taught_by: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        known = asdict(self)
        return known if self.model else {k: v for k, v in known.items() if k != "model"}


class RunFolder:
    """The folder of one run, ours alone while it is in use.

    Args:
        place: Path or URL; made if it does not exist.
        option: How the user named it, for messages.

    Attributes:
        name: For messages.
        address: By which another process of this machine opens it.
        path: Where it is on this machine; None on a store.

    Raises:
        RunFolderError: It is in use, cannot be written, or is a folder of something else.
    """

    def __init__(self, place: Place, *, option: str = "--run") -> None:
        self._folder, self._option = open_folder(place), option
        self.name, self.address, self.path = (
            self._folder.name,
            self._folder.address,
            self._folder.path,
        )
        try:
            self._new = not self._folder.kind()
            self._check_is_ours()
            self._folder.make()
            self._lock = lock(self._folder)
        except InUseError as other:
            raise RunFolderError(
                f"{self.name} is in use by {other}; wait for it to end, or choose another "
                f"folder with {option}."
            ) from None
        except OSError as error:
            remedy = "" if self._folder.path else f"{self._folder.remedy}, or choose another folder"
            raise RunFolderError(
                f"{self.name} cannot be used: {reason(error)}. "
                f"{remedy or 'Choose another folder'} with {option}."
            ) from error

    def _check_is_ours(self) -> None:
        if self._folder.kind() == "file":
            raise RunFolderError(f"{self.name} is a file; {self._option} takes a folder.")
        names = set(self._folder.names()) - OWN_FILES
        if names and MANIFEST not in names:
            raise RunFolderError(
                f"{self.name} is not a run folder: it has no {MANIFEST} but other files, such "
                f"as {min(names)}. Choose a new or an empty folder with {self._option}."
            )

    def check(self) -> None:
        """Look whether the folder is still ours, which a lease on a store may cease to be.

        Raises:
            RunFolderError: It is not.
        """
        if lost := self._lock.lost():
            raise RunFolderError(
                f"{self.name}: {lost}. What was measured until now is there; the same command "
                f"with {self._option} goes on once no other process uses it."
            )

    def begin(self, manifest: AnyManifest, *, layers: tuple[int, ...] = ()) -> None:
        """Write the manifest, or compare it with the one that is there.

        Args:
            manifest: What the run is.
            layers: Those of a network; the folder holds them besides those it held.

        Raises:
            RunFolderError: The folder was begun with something else; the message names what.
        """
        new = json.loads(json.dumps(manifest.to_json()))
        remedy = f"Choose another folder with {self._option}."
        old = manifest_of(self._folder, remedy=remedy)
        if old is not None:
            if "learns_from" in new:
                old = {"learns_from": NOTHING} | old
            differing = list(_differences(old, new))
            if differing:
                raise RunFolderError(
                    f"{self.name} holds a run with other settings: {'; '.join(differing)}. "
                    f"Give the settings it began with, or another folder with {self._option}"
                    f"{self._teaches(new)}."
                )
            layers = tuple(sorted({*layers, *old.get("layers", ())}))
        further = {"layers": layers} if layers else {}
        self._write(json.dumps({**new, **further}, indent=1))

    def _teaches(self, new: Mapping[str, Any]) -> str:
        """How what is in the folder is of use to a run that cannot go on with it."""
        if "learns_from" not in new:
            return ""
        how = f"--learn-from {self.name}" if self._option == "--run" else "learn_from="
        return f", and learn from this one with {how}"

    def _write(self, text: str) -> None:
        try:
            self._folder.write(MANIFEST, text.encode())
        except OSError as error:
            raise RunFolderError(
                f"{self.name} cannot be written: {reason(error)}. {self._folder.remedy}."
            ) from error

    def close(self) -> None:
        """Let others use it. A new folder in which nothing was measured is removed again."""
        with suppress(OSError):  # of a store that has gone: its lease ends by itself
            self._lock.release()
            if (
                self._new
                and not self._lock.lost()
                and all(_tells_of_nothing(name) for name in self._folder.names())
            ):
                self._folder.discard()


def _tells_of_nothing(name: str) -> bool:
    """Whether a file of a run is there before anything is measured: our own, or of its lessons."""
    return name in {*OWN_FILES, MANIFEST} or name.startswith(f"{LESSONS}-")


def manifest_of(folder: Folder, *, remedy: str) -> dict[str, Any] | None:
    """What the manifest of a run says; None if there is none.

    Args:
        folder: Of the run, or not of one.
        remedy: What a user can do about one that cannot be read, as a sentence.

    Raises:
        RunFolderError: It cannot be read.
    """
    path = f"{folder.name}/{MANIFEST}"
    try:
        found = json.loads(folder.read(MANIFEST))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        why = reason(error) if isinstance(error, OSError) else error
        raise RunFolderError(f"{path}: cannot be read: {why}. {remedy}") from error
    if not isinstance(found, dict):
        raise RunFolderError(f"{path}: not the manifest of a run. {remedy}")
    return found


def taught_by(place: Place) -> list[str] | None:
    """Digests of the sources that a run began with; None if it has not begun, or does not tell.

    Raises:
        RunFolderError: Nothing here can open such a URL.
    """
    folder, known = open_folder(place), None
    with suppress(RunFolderError):  # of a damaged one, which whoever goes on with it is told
        known = manifest_of(folder, remedy="")
    digests = (known or {}).get("taught_by")
    return [str(digest) for digest in digests] if isinstance(digests, list) else None


def new_folder(what: str) -> str:
    """Where a run of something goes if nobody says so."""
    stem = re.sub(r"[^\w.-]+", "-", what.removeprefix("torchvision:")).strip("-.")
    return f"runs/{stem}-{time.strftime('%Y%m%d-%H%M%S')}"


def is_in_use(place: Place) -> bool:
    """Whether a process is at this run now; changes nothing. False where that cannot be told."""
    return is_locked(open_folder(place))


def _differences(old: Mapping[str, Any], new: Mapping[str, Any], at: str = "") -> list[str]:
    """`key: old there, new here` for each value that differs, nested keys joined by dots."""
    found = []
    for key, value in new.items():
        there = old.get(key)
        if isinstance(value, dict) and isinstance(there, dict):
            found += _differences(there, value, f"{at}{key}.")
        elif json.dumps(there) != json.dumps(value) and key not in _WORDS:
            found.append(f"{at}{key} is {there!r} there and {value!r} here")
    return found
