"""A user's own function as the hardware: called here, in this thread, one config at a time."""

from __future__ import annotations

import numbers
import reprlib
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from chameleon_ray.measure import Measurement, Outcome, Purpose
from chameleon_ray.space import Configs, DesignSpace, KnobValues
from chameleon_ray.tunables import Plain, Tunables

_SHORTEST_SECONDS, _LONGEST_SECONDS = 1e-30, 1e30  # beyond, a fitness is no float32


class FunctionMeasurer:
    """Asks a function for the seconds of a config (`measure.Measurer`).

    The function returns seconds, or a sequence of them, one for each repeat, of which the median
    counts; it raises for a failure. Whatever else it returns is a failure too. What is no
    `Exception` (Ctrl-C) passes.

    Args:
        measure: Config by value -> seconds.
        tunables: Turns configs into values.
        space: The knobs of the same.
        task: Key of what is measured.
        known: What was measured before: it is not measured again.
        record: Called with each new measurement as soon as it is there, as a list of one.
        observe: Called with each measurement then, the known ones included.

    Attributes:
        measured: All measurements so far in order, the known ones that were asked for included.
    """

    def __init__(
        self,
        measure: Callable[[dict[str, Any]], object],
        tunables: Tunables,
        space: DesignSpace,
        *,
        task: str,
        known: Iterable[Measurement] = (),
        record: Callable[[list[Measurement]], object] | None = None,
        observe: Callable[[Measurement], None] | None = None,
    ) -> None:
        self._measure, self._tunables, self._space, self._task = measure, tunables, space, task
        self._known = {_key(m.config): m for m in known}
        self._record, self._observe = record, observe
        self.measured: list[Measurement] = []

    def submit(self, configs: Configs, *, purpose: Purpose) -> Iterator[tuple[int, Measurement]]:
        """Row and measurement of configs `(n, knobs)`; one is measured for each `next`."""
        return enumerate(self._answer(config, purpose) for config in configs)

    def compare(self, configs: Configs, *, torch: bool) -> list[Measurement]:
        """Finalists measured once more, one after the other; there is no torch here."""
        del torch
        return [self._measured(config, Purpose.FINALIST) for config in configs]

    def _answer(self, config: Configs, purpose: Purpose) -> Measurement:
        measurement = self._known.get(_key(self._space.describe(config)))
        if measurement is None:
            measurement = self._measured(config, purpose)
        self.measured.append(measurement)
        if self._observe is not None:
            self._observe(measurement)
        return measurement

    def _measured(self, config: Configs, purpose: Purpose) -> Measurement:
        start = time.perf_counter()
        repeats, message = self._asked(self._tunables.plain(config))
        measurement = Measurement(
            task=self._task,
            config=self._space.describe(config),
            purpose=purpose,
            outcome=Outcome.OK if repeats else Outcome.RUN_ERROR,
            message=message,
            repeat_seconds=repeats,
            run_seconds=time.perf_counter() - start,
        )
        if self._record is not None:
            self._record([measurement])
        return measurement

    def _asked(self, config: dict[str, Plain]) -> tuple[tuple[float, ...], str]:
        """The seconds of each repeat, or none and a message."""
        try:
            returned = self._measure(config)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a kernel may fail in any way
            theirs = error.__traceback__.tb_next if error.__traceback__ else None
            text = "".join(traceback.format_exception(type(error), error, theirs))
            return (), text.strip()
        return seconds_of(returned)


def seconds_of(returned: object) -> tuple[tuple[float, ...], str]:
    """What a function returned as seconds of each repeat; none and a message if it is no time.

    Any positive real number will do, numpy's scalars and fractions included, and any sequence of
    them.
    """
    several = isinstance(returned, Sequence) and not isinstance(returned, str | bytes)
    several = several or (isinstance(returned, np.ndarray) and returned.ndim > 0)
    found = list(returned) if several else [returned]  # type: ignore[call-overload]
    seconds = [_number(value) for value in found]
    wrong = [value for value, s in zip(found, seconds, strict=True) if not _is_time(s)]
    if found and not wrong:
        return tuple(s for s in seconds if s is not None), ""
    what = reprlib.repr(wrong[0] if wrong else returned)
    among = " among the repeats" if several and wrong else ""
    return (), (
        f"measure returned {what}{among}; it must return seconds, a positive number or a "
        "sequence of them, or raise."
    )


def _number(value: object) -> float | None:
    """A real number as a float; None if it is none. A bool is none."""
    odd = isinstance(value, bool | np.bool_ | str | bytes)
    if odd or (isinstance(value, numbers.Complex) and not isinstance(value, numbers.Real)):
        return None
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError, RuntimeError):
        return None


def _is_time(seconds: float | None) -> bool:
    return seconds is not None and _SHORTEST_SECONDS < seconds < _LONGEST_SECONDS


def _key(config: KnobValues) -> frozenset[tuple[str, tuple[int, ...]]]:
    return frozenset((name, tuple(choice)) for name, choice in config.items())
