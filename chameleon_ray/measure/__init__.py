"""What a measurement is, and who makes one.

A `Builder` turns knob values into a kernel, a `Runner` times it; both work inside a child process
that may crash, hang or be killed. A `Measurer` is what the search sees: configs go in, exactly one
`Measurement` each comes out, as they finish, and nothing is raised because of a config.
"""

from __future__ import annotations

import enum
import itertools
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from chameleon_ray.space import Configs, KnobValues
from chameleon_ray.tasks import LayerTask


class Outcome(enum.StrEnum):
    """How a measurement ended."""

    OK = "ok"
    INVALID_STATIC = "invalid_static"
    BUILD_ERROR = "build_error"
    BUILD_TIMEOUT = "build_timeout"
    RUN_ERROR = "run_error"
    RUN_TIMEOUT = "run_timeout"
    WRONG_OUTPUT = "wrong_output"
    CRASHED = "crashed"
    DEVICE_LOST = "device_lost"
    DRIFTED = "drifted"

    @property
    def deadly(self) -> bool:
        """Whether the process that built and ran the candidate is gone."""
        return self in _DEADLY


_DEADLY = (Outcome.CRASHED, Outcome.BUILD_TIMEOUT, Outcome.RUN_TIMEOUT, Outcome.DEVICE_LOST)


class Purpose(enum.StrEnum):
    """Why a measurement was made.

    `DEFAULT` is the default at the head of a search, `BASELINE` the default beside a search that
    does not know it. `FINALIST` and `TORCH` are timed together, interleaved, at the end of a task;
    `TORCH` is torch's own kernel for the task and has no config. `REFERENCE` tells whether a device
    is as fast as it was; if it is not, the outcome is `drifted`.
    """

    DEFAULT = "default"
    SEARCH = "search"
    BASELINE = "baseline"
    FINALIST = "finalist"
    TORCH = "torch"
    REFERENCE = "reference"

    @property
    def counted(self) -> bool:
        """Whether it is one of the budget's measurements."""
        return self in (Purpose.DEFAULT, Purpose.SEARCH)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One config to measure.

    Attributes:
        task: What to compute.
        config: Knob values, or empty for torch's kernel.
        purpose: Why.
        best_seconds: The task's best time so far: a clearly slower candidate is timed less.
        breaks: The static constraints that the config breaks; if any, it is not built.
    """

    task: LayerTask
    config: KnobValues
    purpose: Purpose = Purpose.SEARCH
    best_seconds: float | None = None
    breaks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """What came of one config.

    Attributes:
        task: Key of the task.
        config: Knob values; empty for torch's kernel.
        purpose: Why it was measured.
        outcome: How it ended.
        message: The whole of what was said about a failure.
        repeat_seconds: Seconds of one execution of the kernel, for each repeat.
        build_seconds: Wall time of generating and compiling.
        run_seconds: Wall time of checking and timing.
        error: max|a-b| / max|b| against torch, if it was computed.
        device: Name of what measured it; empty if nothing did.
        clock_mhz: Of a GPU, before and after the run; empty of a CPU.
        celsius: How hot it was, likewise.
        others: How many other processes computed on it, likewise.
    """

    task: str
    config: KnobValues
    purpose: Purpose
    outcome: Outcome
    message: str = ""
    repeat_seconds: tuple[float, ...] = ()
    build_seconds: float = 0.0
    run_seconds: float = 0.0
    error: float | None = None
    device: str = ""
    clock_mhz: tuple[int, ...] = ()
    celsius: tuple[int, ...] = ()
    others: tuple[int, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether there is a time."""
        return self.outcome is Outcome.OK

    @property
    def doubtful(self) -> bool:
        """Whether times around it may be off: the device drifted, or was shared."""
        return self.outcome is Outcome.DRIFTED or any(self.others)

    @property
    def seconds(self) -> float:
        """Seconds of one execution: the median of the repeats.

        Raises:
            ValueError: The measurement failed, so there is no time.
        """
        if not self.ok:
            raise ValueError(f"a measurement that ended as {self.outcome} has no time")
        return statistics.median(self.repeat_seconds)


class Kernel(Protocol):
    """Compiled code with its inputs in place."""

    def time(self, calls: int) -> float:
        """Seconds of one execution, the mean over `calls` in a row."""

    def error(self) -> float:
        """max|a-b| / max|b| of one execution into a poisoned output, against torch."""


class Builder(Protocol):
    """Turns knob values into what its runner takes; lives in a child process.

    Several may be there at once: what one builds must not overwrite another. Where another process
    runs them, they can be pickled.
    """

    def build(self, task: LayerTask, config: KnobValues) -> Any:
        """Generate and compile; raises whatever the compiler raises."""


class Runner(Protocol):
    """Times kernels; lives in a child process."""

    def run(self, kernel: Any, best_seconds: float | None) -> tuple[float, tuple[float, ...]]:
        """Check and time what was built: relative error and seconds of each repeat."""

    def compare(self, kernels: Sequence[Any]) -> list[tuple[float, ...]]:
        """Time several in turns: seconds of each repeat, for each."""


class Measurer(Protocol):
    """Turns configs of one task into measurements; several batches may be under way at once.

    `compare` is called once, at the end.
    """

    def submit(self, configs: Configs, *, purpose: Purpose) -> Iterator[tuple[int, Measurement]]:
        """Begin to measure configs `(n, knobs)`; returns at once.

        Returns:
            Their measurements as they finish, one each, with the row of its config.
        """

    def compare(self, configs: Configs, *, torch: bool) -> list[Measurement]:
        """Finalists `(n, knobs)` timed in turns; with `torch`, its own kernel is the last."""


def histogram(measurements: Iterable[Measurement]) -> Mapping[str, int]:
    """Outcome -> how many, the most frequent first."""
    names = sorted(m.outcome.value for m in measurements)
    counts = {name: len(list(group)) for name, group in itertools.groupby(names)}
    return dict(sorted(counts.items(), key=lambda item: -item[1]))
