"""The loop of the paper's Figure 3, for one task."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from chameleon_ray.cost_model import CostModel, fitness
from chameleon_ray.errors import NothingValidError
from chameleon_ray.explorers import Explorer
from chameleon_ray.measure import Measurement, Measurer, Purpose
from chameleon_ray.measure.broker import histogram
from chameleon_ray.phases import Phases
from chameleon_ray.rounds import Round, round_of
from chameleon_ray.sampling import Sampler
from chameleon_ray.space import BoolArray, Configs, DesignSpace, Vector
from chameleon_ray.tasks import Task


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """When to stop.

    Attributes:
        measurements: At most so many, failed ones and the default included.
        deadline: No new batch after this moment, in seconds of `time.time()`.
    """

    measurements: int
    deadline: float | None = None

    def left(self, used: int) -> int:
        """How many may still be measured."""
        over = self.deadline is not None and time.time() >= self.deadline
        return 0 if over else max(0, self.measurements - used)


class History:
    """What was measured of a task, in the order in which it was chosen.

    A config that is measured again counts with its later measurement.
    """

    def __init__(self, task: Task, space: DesignSpace) -> None:
        self._task, self._space = task, space
        self.configs: Configs = np.empty((0, len(space.knobs)), dtype=np.int32)
        self.measurements: list[Measurement] = []

    def add(self, configs: Configs, measurements: list[Measurement]) -> None:
        """Append measurements of configs `(n, knobs)`; each config of a call must be new to it."""
        new = ~self._space.contains(self.configs, configs)
        for i in np.flatnonzero(~new):
            at = int(np.flatnonzero((self.configs == configs[i]).all(axis=1))[0])
            self.measurements[at] = measurements[i]
        self.configs = np.concatenate([self.configs, configs[new]])
        self.measurements += [m for m, fresh in zip(measurements, new, strict=True) if fresh]

    @property
    def failed(self) -> BoolArray:
        """Which configs have no time, `(n,)`."""
        return np.array([not m.ok for m in self.measurements], dtype=np.bool_)

    @property
    def fitness(self) -> Vector:
        """Of each config, `(n,)`."""
        return fitness(self._task.flop, self.measurements)

    def best(self, n: int) -> Configs:
        """The up to `n` fittest valid configs, the fittest first."""
        order = np.argsort(-self.fitness, kind="stable")
        return self.configs[order[~self.failed[order]][:n]]

    @property
    def best_seconds(self) -> float | None:
        """The shortest time."""
        return min((m.seconds for m in self.measurements if m.ok), default=None)


def tune_task(
    task: Task,
    space: DesignSpace,
    *,
    first: Configs,
    has_default: bool = True,
    explorer: Explorer,
    sampler: Sampler,
    measurer: Measurer,
    cost_model: CostModel,
    budget: Budget,
    rng: np.random.Generator,
    phases: Phases,
    hopeless: int | None = 32,
    observe: Callable[[Round], None] = lambda _round: None,
) -> Iterator[History]:
    """Figure 3, one iteration of the caller's loop for each of its own.

    Args:
        task: What to tune.
        space: Its design space.
        first: What is measured before anything is learned `(n, knobs)`.
        has_default: Whether the very first of them is the default; it is recorded as such.
        explorer: Walks the space: S.
        sampler: Picks from it what is measured: S'.
        measurer: The hardware.
        cost_model: Learns from it.
        budget: When to stop.
        rng: The only source of randomness.
        phases: Where the time goes.
        hopeless: So many failures without a single success, or a whole budget of them, end the
            search in an error; None: never. The first batch is measured in any case.
        observe: Told of each round, once its batch is measured.

    Yields:
        Everything measured so far, after each batch.

    Raises:
        NothingValidError: Nothing that was measured is valid, and that is hopeless.
    """
    history = History(task, space)
    if has_default:
        yield _measure(history, measurer, first[:1], budget, Purpose.DEFAULT)
    yield _measure(history, measurer, first[has_default:], budget, Purpose.SEARCH)
    for number in itertools.count(1):
        if hopeless is not None and _hopeless(history, min(hopeless, budget.measurements)):
            raise NothingValidError(_nothing_valid(task, history))
        if not budget.left(len(history.configs)):
            return
        with phases.phase("fit"):
            cost_model.fit(space, history.configs, history.fitness)
        with phases.phase("explore"):
            score = phases.giving_way(cost_model.score())
            candidates = explorer.explore(space, score, history.best(32), rng)
        with phases.phase("sample"):
            chosen = sampler.choose(space, candidates, history.configs, history.failed, rng)
        if not len(chosen):
            return  # the whole space is measured
        before = len(history.configs)
        _measure(history, measurer, chosen, budget, Purpose.SEARCH)
        observe(
            round_of(
                task=task.key,
                number=number,
                measured_before=before,
                candidates=candidates,
                chosen=history.configs[before:],
                measurements=history.measurements[before:],
                explorer=explorer,
                sampler=sampler,
            )
        )
        yield history


def _measure(
    history: History, measurer: Measurer, configs: Configs, budget: Budget, purpose: Purpose
) -> History:
    """Measure as many as the budget allows, and wait for all: their order is that of `configs`."""
    configs = configs[: budget.left(len(history.configs))]
    measurer.submit(configs, purpose=purpose)
    measured = dict(measurer.results())
    history.add(configs, [measured[i] for i in range(len(configs))])
    return history


def _hopeless(history: History, failures: int) -> bool:
    return len(history.configs) >= max(1, failures) and bool(history.failed.all())


def _nothing_valid(task: Task, history: History) -> str:
    counts = ", ".join(f"{n} {name}" for name, n in histogram(history.measurements).items())
    example = history.measurements[0]
    return (
        f"{task.key}: none of the first {len(history.configs)} measurements is valid ({counts}). "
        f"The first one's whole message:\n{example.message}\n"
        "`chameleon-ray doctor` tells what of this machine works."
    )
