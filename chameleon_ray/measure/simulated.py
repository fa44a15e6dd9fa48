"""A simulated device: an analytic model of a CPU, for tests and for trying a search without one.

Its times are made up and every place that shows them says so. The model, for a config with a
register tile of r vectors:

    seconds = flop / peak / (latency hiding * spilling * load pressure * balance) + memory
    latency hiding   min(1, r / 12)            an FMA takes 4 cycles, and two start in each
    spilling         1 up to 28 accumulators, then 28 / r
    load pressure    min(1, FMAs per load / 2)
    balance          chunks / (cores * ceil(chunks / cores))
    memory           bytes that the chunks of one core stream, at `bandwidth`, doubled beyond L2
    unrolling        code below 8 or above 4096 FMAs costs 15%

A wrong choice of `unroll_explicit` costs 3%, and each repeat carries 1% of seeded noise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from chameleon_ray.measure import Kernel
from chameleon_ray.measure.backend import Backend
from chameleon_ray.settings import Env
from chameleon_ray.space import KnobValues
from chameleon_ray.tasks import Conv2d, Target
from chameleon_ray.templates import design_space

COMPILER = "simulated device 1"

_PEAK_FLOPS_PER_CORE = 100e9
_BANDWIDTH = 20e9  # bytes per second
_L2_BYTES = 2**20
_NOISE = 0.01


def simulated_seconds(task: Conv2d, target: Target, config: KnobValues) -> float:
    """The model's time of one execution, without noise.

    Raises:
        UnknownNameError: A knob or a choice is not of the task's space.
    """
    space = design_space(task, target)
    row = space.config(config)[None, :]
    values: list[float] = (np.exp2(space.features(row)[0].astype(np.float64)) - 1).tolist()
    feature = dict(zip(space.feature_names, values, strict=True))
    f, y, x = (config[name] for name in ("tile_f", "tile_y", "tile_x"))
    tile = f[2] * y[2] * x[2]
    body = tile * config["tile_rc"][1] * config["tile_ry"][1] * config["tile_rx"][1]
    chunks = task.batch * f[0] * y[0] * x[0]
    hiding = min(1.0, tile / 12)
    spilling = min(1.0, 28 / tile)
    pressure = min(1.0, feature["fma_per_load"] / 16 / 2)
    balance = chunks / (target.cores * math.ceil(chunks / target.cores))
    unrolling = 0.85 if not 8 <= body <= 4096 else 1.0
    explicit = 1.0 if config["unroll_explicit"][0] == (body > 64) else 0.97
    peak = _PEAK_FLOPS_PER_CORE * target.cores
    compute = task.flop / (peak * hiding * spilling * pressure * balance * unrolling * explicit)
    chunk_bytes = feature["chunk_input_bytes"] + feature["chunk_weight_bytes"]
    streamed = chunk_bytes * chunks / target.cores * (2 if chunk_bytes > _L2_BYTES else 1)
    return compute + streamed / _BANDWIDTH


class SimulatedKernel:
    """A kernel that only knows its time."""

    def __init__(self, seconds: float, rng: np.random.Generator) -> None:
        self._seconds, self._rng = seconds, rng

    def time(self, calls: int) -> float:
        """Simulated seconds of one execution, the mean over `calls`."""
        return self._seconds * (1 + _NOISE * abs(self._rng.standard_normal()) / math.sqrt(calls))

    def error(self) -> float:
        """Zero: there is no output."""
        return 0.0


class SimulatedBuilder:
    """Makes kernels that need no compiler."""

    def __init__(self, target: Target, seed: int) -> None:
        self._target, self._seed = target, seed

    def build(self, task: Conv2d, config: KnobValues) -> Kernel:
        """The kernel of one config; its noise depends on the seed and the config alone."""
        state = [self._seed, *(n for choice in config.values() for n in choice)]
        seconds = simulated_seconds(task, self._target, config)
        return SimulatedKernel(seconds, np.random.default_rng(state))


class SimulatedRunner:
    """Takes three simulated repeats."""

    def run(self, kernel: Kernel, best_seconds: float | None) -> tuple[float, tuple[float, ...]]:
        """Relative error, and simulated seconds of each repeat."""
        del best_seconds  # nothing is saved by stopping early
        return kernel.error(), tuple(kernel.time(1) for _ in range(3))

    def compare(self, kernels: Sequence[Kernel]) -> list[tuple[float, ...]]:
        """Simulated seconds of each repeat, for each kernel."""
        return [tuple(kernel.time(1) for _ in range(5)) for kernel in kernels]


def backend(env: Env, target: Target, seed: int) -> Backend:
    """The simulated device for a target."""
    del env  # nothing of it matters here
    model = "simulated" if target.model == "native" else target.model
    resolved = Target(kind=target.kind, model=model, lanes=target.lanes, cores=target.cores)
    return Backend(
        builder=SimulatedBuilder(resolved, seed),
        runner=SimulatedRunner(),
        target=resolved,
        compiler=COMPILER,
        has_torch=False,
    )
