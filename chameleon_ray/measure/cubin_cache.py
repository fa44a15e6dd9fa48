"""Machine code that was compiled before, by any run of this user: finalists, and searches again.

A file is named after what it was compiled from and by, so that it is never out of date. A folder
that cannot be written to is done without.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

_MOST_BYTES = 2**30
_UNUSABLE = (OSError, RuntimeError)  # a user without a home, among others
_MAGIC = b"\x7fELF"


def folder() -> Path:
    """Where the files lie: below `XDG_CACHE_HOME`, or `~/.cache`."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "chameleon-ray" / "cubins"


def compiled(source: str, made_by: str, compile_source: Callable[[], bytes]) -> bytes:
    """The machine code of a source: from the cache, or compiled, and kept.

    Args:
        source: CUDA C++.
        made_by: The compiler, its version, its options and what it compiles for.
        compile_source: Compiles it.
    """
    name = hashlib.sha256(f"{made_by}\n{source}".encode()).hexdigest()
    with contextlib.suppress(*_UNUSABLE):
        path = folder() / f"{name}.cubin"
        found = path.read_bytes()
        if found.startswith(_MAGIC):
            os.utime(path)  # the ones that were not used for longest go first
            return found
    cubin = compile_source()
    if cubin.startswith(_MAGIC):
        with contextlib.suppress(*_UNUSABLE):
            _keep(folder() / f"{name}.cubin", cubin)
    return cubin


def _keep(path: Path, cubin: bytes) -> None:
    """Write a file that is there as a whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle, unfinished = tempfile.mkstemp(dir=path.parent)
    with os.fdopen(handle, "wb") as file:
        file.write(cubin)
    Path(unfinished).replace(path)


def prune(most_bytes: int = _MOST_BYTES) -> None:
    """Throw away what was not used for longest, until half of what is allowed is left."""
    with contextlib.suppress(*_UNUSABLE):
        files = sorted((f.stat().st_mtime, f.stat().st_size, f) for f in folder().iterdir())
        total = sum(size for _, size, _ in files)
        if total <= most_bytes:
            return
        for _, size, file in files:
            file.unlink(missing_ok=True)
            total -= size
            if total <= most_bytes / 2:
                return
