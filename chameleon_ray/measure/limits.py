"""What a process that runs generated code has and may do; it does this to itself.

It is no sandbox: the code runs as the same user, and may read and write what that user may. It
keeps mistakes small, and secrets out of an environment that a crash report or a kernel's own
messages could spill.
"""

from __future__ import annotations

import os
import re
import resource
from collections.abc import Sequence
from pathlib import Path

_KEPT = re.compile(
    r"(PATH|HOME|USER|LOGNAME|SHELL|LANG|LANGUAGE|TZ|TMPDIR|TEMP|TMP|VIRTUAL_ENV|XDG_CACHE_HOME|CC|CXX)"
    r"|(LC_|PYTHON|LD_|DYLD_|CONDA_|OMP_|GOMP_|KMP_|MKL_|OPENBLAS_|TVM_|LLVM_|CUDA|NVIDIA_|NVCC_"
    r"|ROCR?_|HIP_|HSA_|CUPY_|TORCH_|CHAMELEON_).*"
)
_FILE_BYTES = 2**30  # the largest file it may write
_MORE_TASKS = 4096  # processes and threads beyond those that the user has already
_SPARE_CPU_SECONDS = 10


def confine(*, memory_bytes: int, keep: Sequence[str] = ()) -> None:
    """Drop the environment but for what compilers and devices read, and set limits.

    Args:
        memory_bytes: Of data; more is a MemoryError.
        keep: Names of further variables to keep.
    """
    for name in set(os.environ) - set(keep):
        if not _KEPT.fullmatch(name):
            del os.environ[name]
    _limit(resource.RLIMIT_DATA, memory_bytes)
    _limit(resource.RLIMIT_FSIZE, _FILE_BYTES)
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_NPROC, _tasks_of_user() + _MORE_TASKS)


def allow_cpu(seconds: float) -> None:
    """Let this process compute so long from now, on all cores together; more is SIGXCPU."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    soft = int(used.ru_utime + used.ru_stime + seconds) + _SPARE_CPU_SECONDS
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (_lower(soft, hard), hard))


def _limit(what: int, value: int) -> None:
    """A limit that cannot be raised again; a lower one that is there already stays."""
    soft, hard = resource.getrlimit(what)
    resource.setrlimit(what, (_lower(value, soft), _lower(value, hard)))


def _lower(value: int, limit: int) -> int:
    return value if limit == resource.RLIM_INFINITY else min(value, limit)


def _tasks_of_user() -> int:
    """Processes and threads of this user."""
    tasks = 0
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if process.stat().st_uid == os.getuid():
                tasks += sum(1 for _ in (process / "task").iterdir())
        except OSError:
            continue
    return tasks
