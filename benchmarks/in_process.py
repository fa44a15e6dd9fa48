"""Kernels that a benchmark builds and times in its own process."""

from __future__ import annotations

import os

from chameleon_ray.env_settings import Env
from chameleon_ray.measure.backend import Backend, open_backend
from chameleon_ray.measure.tvm import resolve_target
from chameleon_ray.tasks import Target


def opened(cores: int, model: str = "native") -> tuple[Backend, Target]:
    """What builds kernels for so many cores of this machine, and the target. Call it once.

    Raises:
        MachineError: It is no CPU that LLVM knows, or this machine lacks what it has.
    """
    os.environ.update(TVM_NUM_THREADS=str(cores), TVM_THREAD_POOL_SPIN_COUNT="2000")
    target = resolve_target(Target(model=model, cores=cores))
    return open_backend(Env(model=model, cores=cores), target, 0), target
