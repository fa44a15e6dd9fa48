"""A deployed network beside what its owner would otherwise use, in turns: `chameleon-ray bench`."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from chameleon_ray.deploy.contenders import (
    NAMES,
    Array,
    Contender,
    GoneError,
    Name,
    Started,
    Work,
)
from chameleon_ray.deploy.folder import Deployed, read
from chameleon_ray.errors import MachineError
from chameleon_ray.measure.reference import relative_error
from chameleon_ray.networks.source import Input, parse_inputs, source_of

_QUIET_SECONDS = 0.05  # for the idle threads of whose turn it was to stop spinning
_TURN_SECONDS = 0.1
_INPUTS = 16  # on which outputs are compared
_LEAST_SPREAD = 1e-3  # of outputs over them, as a share of the largest number
_MOST_CALLS = 50  # of a turn


@dataclass(frozen=True, slots=True, kw_only=True)
class Timed:
    """What came of one contender.

    Attributes:
        seconds: Median of a call; None if it does not run.
        low: With `high`, a 95% interval of the median, over turns.
        start_seconds: From the start of its process to its first output.
        peak_bytes: The most memory that its process has had.
        error: max|a-b| / max|b| of its outputs against torch's, the largest over 16 random inputs.
        reason: Why it does not run.
    """

    name: Name
    seconds: float | None = None
    low: float | None = None
    high: float | None = None
    start_seconds: float | None = None
    peak_bytes: int | None = None
    error: float | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """All of them.

    Attributes:
        deployed: What was timed.
        threads: That each could use.
        blind: Whether its outputs hardly depend on the input, so that errors tell nothing; None if
            that is not known.
    """

    deployed: Deployed
    threads: int
    timed: tuple[Timed, ...]
    blind: bool | None = None


def bench(
    folder: Path,
    *,
    trust: bool = False,
    turns: int = 20,
    names: Sequence[Name] = NAMES,
    on_start: Callable[[Name], None] | None = None,
) -> Comparison:
    """Time a deployed network, and torch and others with the same model, in turns.

    Args:
        folder: That `deploy` made.
        trust: Whether what a `.pt2` file pickles may be run.
        turns: Of each contender.
        names: Which contenders.
        on_start: Told which one is being started.

    Raises:
        SettingsError: It is no such folder.
        MachineError: Ours does not run.
    """
    deployed = read(folder)
    written = ",".join(deployed.inputs)
    source = source_of(deployed.network, written, trust=trust)
    if source is None:  # deploy takes models only
        raise MachineError(f"{folder}: {deployed.network} is no model.")
    arrays, *more = some_inputs(parse_inputs(written))
    threads = deployed.target.cores
    work = Work(folder=folder, source=source, arrays=arrays, threads=threads, more=tuple(more))
    with ExitStack() as stack:
        running: dict[Name, Contender] = {}
        started: dict[Name, Started | str] = {}
        for name in names:
            if on_start is not None:
                on_start(name)
            one = Contender(name, work)
            stack.callback(one.close)
            started[name] = one.started()
            if isinstance(started[name], Started):
                running[name] = one
            else:
                one.close()
        if isinstance(started.get("chameleon"), str):
            raise MachineError(f"{folder}: it does not run here: {started['chameleon']}.")
        times = in_turns(running, turns, started)
        peaks = {name: one.peak_bytes() for name, one in running.items()}
    outputs = (s.outputs for n in _REFERENCES if isinstance(s := started.get(n), Started))
    reference = next(outputs, None)
    return Comparison(
        deployed=deployed,
        threads=threads,
        timed=tuple(
            timed(name, started[name], times.get(name, []), peaks.get(name), reference)
            for name in names
        ),
        blind=None if reference is None else _all_alike(reference),
    )


_REFERENCES: tuple[Name, ...] = ("torch_eager", "torch_folded", "onnxruntime")


def some_inputs(takes: Sequence[Input]) -> list[tuple[Array, ...]]:
    """For each of some executions, what a model takes."""
    return [tuple(some_input(of, seed) for of in takes) for seed in range(_INPUTS)]


def some_input(of: Input, seed: int = 0) -> Array:
    """Numbers as of an image, or indices, the same each time."""
    rng = np.random.default_rng(seed)
    if of.dtype == "float32":
        return rng.standard_normal(of.shape, dtype=np.float32)
    return rng.integers(0, 2, of.shape).astype(of.dtype)


def in_turns(
    running: Mapping[Name, Contender], turns: int, started: dict[Name, Started | str]
) -> dict[Name, list[float]]:
    """The median seconds of a call, of each turn of each contender; who ends on the way is out."""
    times: dict[Name, list[float]] = {name: [] for name in running}
    calls = dict.fromkeys(running, 3)
    for turn in range(turns + 1):  # the first tells how long a call takes
        for name, one in running.items():
            if name not in times:
                continue
            time.sleep(_QUIET_SECONDS)
            try:
                seconds = statistics.median(one.times(calls[name]))
            except GoneError as error:
                started[name] = str(error)
                del times[name]
                continue
            if turn:
                times[name].append(seconds)
            else:
                calls[name] = max(1, min(_MOST_CALLS, round(_TURN_SECONDS / seconds)))
    return times


def timed(
    name: Name,
    started: Started | str,
    times: Sequence[float],
    peak: int | None,
    reference: Sequence[Array] | None,
) -> Timed:
    """What came of a contender: how it started, the seconds of its turns, and what is right."""
    if isinstance(started, str):
        return Timed(name=name, reason=started)
    low, high = interval(times)
    return Timed(
        name=name,
        seconds=statistics.median(times),
        low=low,
        high=high,
        start_seconds=started.start_seconds,
        peak_bytes=peak,
        error=None if reference is None else _largest_error(started.outputs, reference),
    )


def _largest_error(found: Sequence[Array], right: Sequence[Array]) -> float:
    """Over all outputs; infinite if they are not as many."""
    if [x.shape for x in found] != [x.shape for x in right]:
        return math.inf
    return max(map(_error, found, right))


def _all_alike(outputs: Sequence[Array]) -> bool:
    """Whether those of all executions differ by less than what errors are to tell."""
    each = len(outputs) // _INPUTS
    return not any(_varies(np.stack(outputs[of::each])) for of in range(each))


def _varies(output: Array) -> bool:
    """Whether one output, over executions `(n, ...)`, does."""
    spread = np.abs(output - output[0]).max(initial=0)
    return bool(spread > _LEAST_SPREAD * np.abs(output).max(initial=0))


def _error(found: Array, right: Array) -> float:
    """As of layers; absolute, where all that is right are zeros."""
    return relative_error(found, right) if right.any() else float(np.abs(found).max())


def interval(times: Sequence[float]) -> tuple[float, float]:
    """A 95% interval of the median, by bootstrap over turns."""
    from scipy import stats

    found = stats.bootstrap((times,), np.median, method="percentile", rng=0)
    return float(found.confidence_interval.low), float(found.confidence_interval.high)
