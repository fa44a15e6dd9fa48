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

A wrong choice of `unroll_explicit` costs 3%, and each repeat carries 1% of seeded noise. What a
template's features do not tell, such as the bytes that a chunk streams, costs nothing.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from chameleon_ray.env_settings import Env
from chameleon_ray.measure import Kernel, Measurement, Outcome, Purpose
from chameleon_ray.measure.backend import Backend
from chameleon_ray.space import Configs, DesignSpace, KnobValues
from chameleon_ray.tasks import LayerTask, Target
from chameleon_ray.templates import design_space

Seconds = npt.NDArray[np.float64]

COMPILER = "simulated device 1"

_PEAK_FLOPS_PER_CORE = 100e9
_BANDWIDTH = 20e9  # bytes per second
_L2_BYTES = 2**20
_NOISE = 0.01
_ROUNDING = 1e-6  # features are float32 logarithms


def simulated_seconds(task: LayerTask, target: Target, config: KnobValues) -> float:
    """The model's time of one execution, without noise.

    Raises:
        UnknownNameError: A knob or a choice is not of the task's space.
    """
    space = design_space(task, target)
    return float(simulated_seconds_of(task, target, space, space.config(config)[None, :])[0])


def simulated_seconds_of(
    task: LayerTask, target: Target, space: DesignSpace, configs: Configs
) -> Seconds:
    """The model's time of one execution of each config, without noise, float64 `(n,)`.

    Args:
        task: What is computed.
        target: On what.
        space: The task's space on the target, with its derived features.
        configs: int32 `(n, knobs)`.
    """
    feature = _by_name(space, configs)
    values = space.values(configs)
    tile, chunks = feature["register_tile"], feature["parallel_chunks"]
    body = feature.get("body", tile)
    hiding = np.minimum(1.0, tile / 12)
    spilling = np.minimum(1.0, 28 / tile)
    pressure = np.minimum(1.0, feature["fma_per_load"] / 16 / 2)
    balance = chunks / (target.cores * np.ceil(chunks / target.cores))
    unrolling = np.where((body >= 8) & (body <= 4096), 1.0, 0.85)
    wanted = (body > 64).astype(np.int64)
    as_wanted = values["unroll_explicit"][:, 0] == wanted if "unroll_explicit" in values else True
    explicit = np.where(as_wanted, 1.0, 0.97)
    peak = _PEAK_FLOPS_PER_CORE * target.cores
    compute = task.flop / (peak * hiding * spilling * pressure * balance * unrolling * explicit)
    chunk_bytes = sum(
        (feature[name] for name in ("chunk_input_bytes", "chunk_weight_bytes") if name in feature),
        np.zeros(len(configs)),
    )
    streamed = chunk_bytes * chunks / target.cores * np.where(chunk_bytes > _L2_BYTES, 2, 1)
    seconds: Seconds = compute + streamed / _BANDWIDTH
    return seconds


def _by_name(space: DesignSpace, configs: Configs) -> dict[str, Seconds]:
    """The features of configs by name, not as logarithms; whole numbers are whole."""
    columns = np.exp2(space.features(configs).astype(np.float64)) - 1
    whole = np.rint(columns)
    columns = np.where(np.abs(columns - whole) < _ROUNDING * np.maximum(whole, 1), whole, columns)
    return dict(zip(space.feature_names, columns.T, strict=True))


class SimulatedMeasurer:
    """Asks a function for the seconds of whole batches (`measure.Measurer`), in this process.

    For devices that are a formula, or a model fitted to a real one; nothing is built or timed.

    Args:
        task: Key of what is measured.
        space: What the configs are of.
        seconds: Configs `(n, knobs)` -> seconds of one execution, float64 `(n,)`; NaN where the
            kernel fails.
    """

    def __init__(
        self, task: str, space: DesignSpace, seconds: Callable[[Configs], Seconds]
    ) -> None:
        self._task, self._space, self._seconds = task, space, seconds

    def submit(self, configs: Configs, *, purpose: Purpose) -> Iterator[tuple[int, Measurement]]:
        """Row and measurement of configs `(n, knobs)`, in their order."""
        return enumerate(self._measured(configs, purpose))

    def compare(self, configs: Configs, *, torch: bool) -> list[Measurement]:
        """The times of finalists; there is no torch here."""
        del torch
        return self._measured(configs, Purpose.FINALIST)

    def _measured(self, configs: Configs, purpose: Purpose) -> list[Measurement]:
        if not len(configs):
            return []
        measured = []
        for config, seconds in zip(configs, self._seconds(configs).tolist(), strict=True):
            failed = math.isnan(seconds)
            measured.append(
                Measurement(
                    task=self._task,
                    config=self._space.describe(config),
                    purpose=purpose,
                    outcome=Outcome.RUN_ERROR if failed else Outcome.OK,
                    message="fails on the simulated device" if failed else "",
                    repeat_seconds=() if failed else (seconds,),
                )
            )
        return measured


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
        self._spaces: dict[LayerTask, DesignSpace] = {}

    def build(self, task: LayerTask, config: KnobValues) -> Kernel:
        """The kernel of one config; its noise depends on the seed and the config alone."""
        state = [self._seed, *(n for choice in config.values() for n in choice)]
        space = self._spaces.get(task) or design_space(task, self._target)
        self._spaces[task] = space
        row = space.config(config)[None, :]
        (seconds,) = simulated_seconds_of(task, self._target, space, row).tolist()
        return SimulatedKernel(seconds, np.random.default_rng(state))


class SimulatedRunner:
    """Takes simulated repeats.

    Args:
        sleep_seconds: How long that takes for each kernel.
    """

    def __init__(self, sleep_seconds: float = 0.0) -> None:
        self._sleep_seconds = sleep_seconds

    def run(self, kernel: Kernel, best_seconds: float | None) -> tuple[float, tuple[float, ...]]:
        """Relative error, and simulated seconds of each repeat."""
        del best_seconds  # nothing is saved by stopping early
        time.sleep(self._sleep_seconds)
        return kernel.error(), tuple(kernel.time(1) for _ in range(3))

    def compare(self, kernels: Sequence[Kernel]) -> list[tuple[float, ...]]:
        """Simulated seconds of each repeat, for each kernel."""
        time.sleep(self._sleep_seconds * len(kernels))
        return [tuple(kernel.time(1) for _ in range(5)) for kernel in kernels]


def backend(env: Env, target: Target, seed: int) -> Backend:
    """The simulated device for a target."""
    model = "simulated" if target.model == "native" else target.model
    resolved = Target(kind=target.kind, model=model, lanes=target.lanes, cores=target.cores)
    return Backend(
        builder=SimulatedBuilder(resolved, seed),
        runner=SimulatedRunner(env.measurement_seconds),
        target=resolved,
        compiler=COMPILER,
        has_torch=False,
    )
