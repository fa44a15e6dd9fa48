"""The loop of the paper's Figure 3, for one task."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from chameleon_ray.cost_model import CostModel, fitness
from chameleon_ray.errors import NothingValidError
from chameleon_ray.explorers import Explorer
from chameleon_ray.measure import Measurement, Measurer, Purpose, histogram
from chameleon_ray.phases import Phases
from chameleon_ray.rounds import Round, round_of
from chameleon_ray.sampling import Sampler
from chameleon_ray.space import BoolArray, Configs, DesignSpace, Vector
from chameleon_ray.tasks import Task

_ATTACHED = {"_measurer", "_phases", "_observe"}


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


@dataclass(slots=True, kw_only=True)
class _Batch:
    """Configs that are being measured.

    Attributes:
        configs: `(n, knobs)`.
        purpose: Why.
        answers: Their measurements, as they finish; None while nobody is attached to wait.
        round: How they were picked; None of what was measured before a model knew.
    """

    configs: Configs
    purpose: Purpose
    answers: Iterator[tuple[int, Measurement]] | None
    round: Round | None = None


class TaskTuner(Iterator[History]):
    """Figure 3 for one task: everything measured so far, after each batch.

    With a `depth` of more than one, so many batches are under way at a time: the next one is chosen
    while the one before it is measured, as if that came out as predicted. Batches are waited for in
    the order in which they were chosen, so that a search depends on times alone, and not on when
    they were known.

    It can be pickled between two batches, also with others under way. What it is attached to stays
    behind, and `attach` gives it what it goes on with: batches that were under way are submitted
    anew, for a measurer that knows their measurements by then to answer.

    Args:
        task: What to tune.
        space: Its design space.
        first: What is measured before anything is learned `(n, knobs)`.
        has_default: Whether the very first of them is the default; it is recorded as such.
        explorer: Walks the space: S. `close` frees it, and so do the end and an error.
        sampler: Picks from it what is measured: S'.
        measurer: The hardware.
        cost_model: Learns from it.
        budget: At most so many measurements, failed ones and the default included.
        rng: The only source of randomness.
        phases: Where the time goes.
        depth: Batches under way at a time; 1 is the paper's loop.
        hopeless: So many failures without a single success, or a whole budget of them, end the
            search in an error; None: never. The first batch is measured in any case.
        observe: Told of each round, once its batch is measured.

    Attributes:
        history: Everything measured so far.
    """

    def __init__(
        self,
        task: Task,
        space: DesignSpace,
        *,
        first: Configs,
        has_default: bool = True,
        explorer: Explorer,
        sampler: Sampler,
        measurer: Measurer,
        cost_model: CostModel,
        budget: int,
        rng: np.random.Generator,
        phases: Phases,
        depth: int = 1,
        hopeless: int | None = 32,
        observe: Callable[[Round], None] = lambda _round: None,
    ) -> None:
        self._task, self._space, self._rng = task, space, rng
        self._explorer, self._sampler, self._cost_model = explorer, sampler, cost_model
        self._budget, self._depth, self._hopeless = budget, depth, hopeless
        self.history, self._number = History(task, space), 0
        self._to_start = [(first[:1], Purpose.DEFAULT)] if has_default else []
        if len(first) > has_default:
            self._to_start.append((first[has_default:], Purpose.SEARCH))
        self._under_way: deque[_Batch] = deque()
        self._closed = False
        self.attach(measurer, phases, observe)

    def attach(self, measurer: Measurer, phases: Phases, observe: Callable[[Round], None]) -> None:
        """Say what measures from now on, where the time goes, and who is told of rounds."""
        self._measurer, self._phases, self._observe = measurer, phases, observe
        for batch in self._under_way:
            batch.answers = measurer.submit(batch.configs, purpose=batch.purpose)

    def __getstate__(self) -> dict[str, Any]:
        under_way = deque(replace(batch, answers=None) for batch in self._under_way)
        state = self.__dict__ | {"_under_way": under_way}
        return {name: state[name] for name in state.keys() - _ATTACHED}

    def __next__(self) -> History:
        """The next batch, measured.

        Raises:
            NothingValidError: Nothing that was measured is valid, and that is hopeless.
        """
        if not self._closed:
            try:
                if self._to_start:
                    self._submit(*self._to_start.pop(0))
                else:
                    self._fill()
                if self._under_way:
                    return self._wait(self._under_way.popleft())
            except BaseException:
                self.close()
                raise
            self.close()
        raise StopIteration

    def allow(self, measurements: int) -> None:
        """From now on the budget is so many; what is under way is waited for in any case."""
        self._budget = measurements

    def close(self) -> None:
        """End it and free what the explorer holds; once or more often."""
        self._closed = True
        self._explorer.close()

    def _fill(self) -> None:
        """Choose batches until as many are under way as may be, or nothing is left to measure."""
        measured, failures = self.history, self._hopeless
        if failures is not None:
            failures = max(1, min(failures, self._budget))
            if len(measured.configs) >= failures and measured.failed.all():
                raise NothingValidError(_nothing_valid(self._task, measured))
        while len(self._under_way) < self._depth and self._left:
            chosen, round_ = self._choose()
            if not len(chosen):
                return  # the whole space is measured
            self._submit(chosen, Purpose.SEARCH, round_)

    @property
    def _left(self) -> int:
        """How many may still be submitted."""
        pending = sum(len(batch.configs) for batch in self._under_way)
        return max(0, self._budget - len(self.history.configs) - pending)

    def _choose(self) -> tuple[Configs, Round]:
        """What to measure next, and how it was picked."""
        space, history, phases = self._space, self.history, self._phases
        pending = [batch.configs for batch in self._under_way]
        configs = np.concatenate([history.configs, *pending])
        with phases.phase("fit"):
            believed = [self._believed(batch) for batch in pending]
            self._cost_model.fit(space, configs, np.concatenate([history.fitness, *believed]))
        with phases.phase("explore"):
            score = phases.giving_way(self._cost_model.score())
            candidates = self._explorer.explore(space, score, history.best(32), self._rng)
        with phases.phase("sample"):
            failed = np.zeros(len(configs), dtype=np.bool_)
            failed[: len(history.configs)] = history.failed
            chosen = self._sampler.choose(space, candidates, configs, failed, self._rng)
        self._number += 1
        round_ = round_of(
            task=self._task.key,
            number=self._number,
            measured_before=len(configs),
            candidates=candidates,
            explorer=self._explorer,
            sampler=self._sampler,
        )
        return chosen, round_

    def _believed(self, pending: Configs) -> Vector:
        """The fitness that the model expects of configs `(n, knobs)`, `(n,)`."""
        best = self.history.fitness.max(initial=0)
        return np.float32(best) * self._cost_model.score()(pending)

    def _submit(self, configs: Configs, purpose: Purpose, round_: Round | None = None) -> None:
        """Begin to measure as many as the budget allows."""
        configs = configs[: self._left]
        answers = self._measurer.submit(configs, purpose=purpose)
        self._under_way.append(
            _Batch(configs=configs, purpose=purpose, answers=answers, round=round_)
        )

    def _wait(self, batch: _Batch) -> History:
        """Until all of a batch is measured; their order is that of its configs."""
        assert batch.answers is not None  # noqa: S101 - `attach` comes first
        answers = dict(batch.answers)
        measured = [answers[row] for row in range(len(batch.configs))]
        self.history.add(batch.configs, measured)
        if batch.round is not None:
            self._observe(batch.round.ended(batch.configs, measured))
        return self.history


def _nothing_valid(task: Task, history: History) -> str:
    counts = ", ".join(f"{n} {name}" for name, n in histogram(history.measurements).items())
    example = history.measurements[0]
    return (
        f"{task.key}: none of the first {len(history.configs)} measurements is valid ({counts}). "
        f"The first one's whole message:\n{example.message}\n"
        "`chameleon-ray doctor` tells what of this machine works."
    )
