"""Sources: what was measured of one task on one device, as it is learned from."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from chameleon_ray.learning.numbers import Numbers, of_device, of_task
from chameleon_ray.measure.recorded import RecordedSpace, kernel_of
from chameleon_ray.space import Configs, DesignSpace, Listing, Vector

FLOOR = -2.5  # of a label: a twelfth of the best is as bad as a failure
_ENOUGH = 8  # configs that two sources share, from which their times tell whether they are one
_NOISE = 0.03  # standard deviation of the logarithm of their ratios, up to which they are
MOST_ROWS = 10_000  # of one source; the best half of them and a random one


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What was measured of one task on one device.

    Attributes:
        name: Where it comes from, for messages.
        task: Key of the task, or name of the kernel.
        device: In words.
        space: Makes features of its configs.
        configs: int32 `(n, knobs)`, distinct.
        seconds: float64 `(n,)`; NaN where the config failed.
        numbers: The layer and the device; empty where neither is known.
        remark: What a user should know about it; empty if there is nothing.
    """

    name: str
    task: str
    device: str
    space: DesignSpace
    configs: Configs
    seconds: npt.NDArray[np.float64]
    numbers: Numbers = field(default_factory=dict)
    remark: str = ""

    @property
    def labels(self) -> Vector:
        """The logarithm of the best time over each, float32 `(n,)`: 0 is best, `FLOOR` worst."""
        return labels_of(self.seconds)

    @property
    def digest(self) -> str:
        """Of what it teaches."""
        told = (
            f"{self.task} {self.device} {self.space.feature_names} {sorted(self.numbers.items())}"
        )
        hashed = hashlib.sha256(told.encode())
        hashed.update(self.configs.tobytes())
        hashed.update(self.seconds.tobytes())
        return hashed.hexdigest()[:16]

    def same_as(self, other: Source) -> bool:
        """Whether both are of one task on one device: then one says too much of the other.

        By their names, or by their times: those of a part, in another unit, or measured anew.
        """
        if self.task == other.task and _same_device(self.device, other.device):
            return True
        ratios = _ratios(self, other)
        return len(ratios) >= _ENOUGH and float(ratios.std()) < _NOISE


def has_knobs_of(source: Source, space: DesignSpace) -> bool:
    """Whether a source's configs are made of the same knobs, be their choices others.

    Choices that are places in a list, of texts or of fractions, say nothing where it is another.
    """
    return _shape(source.space) == _shape(space)


def _shape(space: DesignSpace) -> set[tuple[str, int, tuple[str, ...]]]:
    return {(knob.name, len(knob.choices[0]), knob.labels) for knob in space.knobs}


def _ratios(one: Source, other: Source) -> Vector:
    """The logarithms of the ratio of their times, of what both have measured, `(n,)`."""
    if not has_knobs_of(other, one.space):
        return np.empty(0, dtype=np.float32)
    columns = {knob.name: at for at, knob in enumerate(other.space.knobs)}
    places = []
    for knob in one.space.knobs:
        at = columns[knob.name]
        mine = {choice: place for place, choice in enumerate(knob.choices)}
        theirs = np.array([mine.get(choice, -1) for choice in other.space.knobs[at].choices])
        places.append(theirs[other.configs[:, at]])
    translated = np.array(places, dtype=np.int32).T
    known = np.flatnonzero((translated >= 0).all(axis=1))
    found = Listing(one.space, one.configs).find(translated[known])
    seconds = one.seconds[found], other.seconds[known]
    both = (found >= 0) & np.isfinite(seconds[0]) & np.isfinite(seconds[1])
    ratios: Vector = np.log(seconds[0][both] / seconds[1][both])
    return ratios


def _same_device(one: str, other: str) -> bool:
    """Whether two names are of one device: a recording adds the compiler to what a journal says."""
    return one == other or one.startswith(f"{other}, ") or other.startswith(f"{one}, ")


def labels_of(seconds: npt.NDArray[np.float64]) -> Vector:
    """The logarithm of the best time over each of `(n,)`, at least `FLOOR`; NaN counts as that."""
    shares = np.log(np.nanmin(seconds) / seconds)
    found: Vector = np.maximum(np.nan_to_num(shares, nan=FLOOR), FLOOR).astype(np.float32)
    return found


def of_recorded(recorded: RecordedSpace) -> Source:
    """A recorded space as a source, at most `MOST_ROWS` of it."""
    live = recorded.live
    rows = kept_rows(recorded.seconds, MOST_ROWS)
    return Source(
        name=recorded.name,
        task=live.task.key if live else kernel_of(recorded),
        device=recorded.device or recorded.name,
        space=recorded.space,
        configs=recorded.configs[rows],
        seconds=recorded.seconds[rows],
        numbers={
            **(of_task(live.task) if live else {}),
            **(of_device(recorded.device) or of_device(recorded.name.replace("_", " "))),
        },
    )


def kept_rows(seconds: npt.NDArray[np.float64], most: int) -> npt.NDArray[np.intp]:
    """Which rows of `(n,)` to keep if there are more than so many: the best half, and any."""
    if len(seconds) <= most:
        return np.arange(len(seconds))
    order = np.argsort(seconds, kind="stable")  # NaN last
    best, others = order[: most // 2], order[most // 2 :]
    drawn = np.random.default_rng(0).choice(others, most - len(best), replace=False)
    return np.sort(np.concatenate([best, drawn]))


def without(sources: Sequence[Source], tested: Source) -> list[Source]:
    """The sources that are not the very space under test."""
    return [source for source in sources if not source.same_as(tested)]
