"""`fetch`: a run on a store comes home, as a run folder of this machine."""

from __future__ import annotations

import shutil
from pathlib import Path

from chameleon_ray.errors import RunFolderError, SettingsError
from chameleon_ray.history import read_manifest
from chameleon_ray.records import read_records
from chameleon_ray.run_folder import MANIFEST, MODEL
from chameleon_ray.storage import Folder, Place, for_each, open_folder, reason

_KEPT = (".parquet", ".damaged")  # of the journals
_MOST_LOOKS = 10


def fetch(run: Place, to: Path | None = None) -> tuple[Path, int]:
    """Copy a run's manifest, journals and model; the folder is there whole or not at all.

    The run may be going on: what is measured later is not in the copy. The copy can be shown, and
    gone on with, like any run folder.

    Args:
        run: URL or path of a run.
        to: A new or an empty folder; `runs/` and the run's last name if absent.

    Returns:
        The folder, and how many measurements it holds.

    Raises:
        RunFolderError: There is no run, or it cannot be read.
        SettingsError: The folder is not empty, or cannot be written.
    """
    read_manifest(run)  # a run, and no other folder
    source = open_folder(run)
    home = (to or Path("runs") / source.title).absolute()
    if home.exists() and (not home.is_dir() or any(home.iterdir())):
        raise SettingsError(
            f"{home} is there already and not empty; name another: chameleon-ray fetch "
            f"{source.name} FOLDER."
        )
    contents = _read(source)
    aside = home.with_name(f".{home.name}.fetched")
    try:
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        for name, content in contents.items():
            (aside / name).write_bytes(content)
        measurements = len(read_records(aside)[0])
        aside.rename(home)
    except OSError as error:
        raise SettingsError(f"{home} cannot be written: {reason(error)}.") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return home, measurements


def _read(source: Folder) -> dict[str, bytes]:
    """All files of a run, by name.

    Raises:
        RunFolderError: They cannot be read.
    """
    for _ in range(_MOST_LOOKS):
        try:
            names = [n for n in source.names() if n in (MANIFEST, MODEL) or n.endswith(_KEPT)]
            return dict(zip(names, for_each(source, source.read, names), strict=True))
        except FileNotFoundError:  # merged while we read: look again
            continue
        except OSError as error:
            raise RunFolderError(
                f"{source.name}: cannot be read: {reason(error)}. {source.remedy}."
            ) from error
    raise RunFolderError(f"{source.name}: its files keep changing; fetch it again.")
