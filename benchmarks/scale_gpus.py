"""Logical GPUs for `scale.py gpus`: Ray counts them, and each has its host, a runner and a builder.

They are SIMULATED: a kernel takes what `measure.simulated_gpu` says, and a measurement as long as
CHAMELEON_SLEEPS says. What is real is the path of a GPU's measurements from process to process.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from chameleon_ray.env_settings import Env
from chameleon_ray.measure.backend import Backend, Part
from chameleon_ray.measure.simulated import SimulatedKernel, SimulatedRunner
from chameleon_ray.measure.simulated_gpu import gpu_seconds
from chameleon_ray.ray_access import guard_ray
from chameleon_ray.space import KnobValues
from chameleon_ray.tasks import Conv2d, Target
from chameleon_ray.templates import design_space

SECONDS = "CHAMELEON_SLEEPS"  # in the environment of the processes that measure
ENV = "measurer: scale_gpus:backend\ntarget: cuda\nrunners: 1\nlayers_at_once: 12\n"


class Builder:
    """Makes kernels that take as long as the analytic model says."""

    def __init__(self, target: Target) -> None:
        self._target = target

    def build(self, task: Conv2d, config: KnobValues) -> SimulatedKernel:
        """The kernel of one config.

        Raises:
            RuntimeError: Its blocks do not fit.
        """
        space = design_space(task, self._target)
        (seconds,) = gpu_seconds(task, space, space.config(config)[None, :])
        if np.isnan(seconds):
            raise RuntimeError("too many resources requested for launch")
        return SimulatedKernel(float(seconds), np.random.default_rng(0))


def backend(_env: Env, target: Target, _seed: int, _part: Part = "whole") -> Backend:
    """A logical GPU."""
    resolved = Target(kind="cuda", model="sm_90", lanes=target.lanes, cores=30)
    return Backend(
        builder=Builder(resolved),
        runner=SimulatedRunner(float(os.environ[SECONDS])),
        target=resolved,
        compiler="simulated",
        has_torch=False,
        machine="simulated GPU sm_90, 30 SMs",
        unit=os.environ.get("CUDA_VISIBLE_DEVICES", ""),
    )


@contextmanager
def gpus(count: int, seconds: float) -> Iterator[str]:
    """A Ray that counts so many, which take so long for a measurement; its address."""
    from ray.cluster_utils import Cluster

    guard_ray()
    os.environ["PYTHONPATH"] = str(Path(__file__).parent)
    os.environ[SECONDS] = str(seconds)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 16, "num_gpus": count})
    try:
        yield cluster.address
    finally:
        cluster.shutdown()
