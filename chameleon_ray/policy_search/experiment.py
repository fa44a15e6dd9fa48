"""Samples of settings as trials of one experiment of Ray Tune, kept as they come in."""

from __future__ import annotations

import importlib.util
import math
import random
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from ray import tune as ray_tune

from chameleon_ray.errors import MachineError, SettingsError
from chameleon_ray.policy_search.declared import value_of
from chameleon_ray.policy_search.ranges import Range, Value, drawn, perturbed, tidied
from chameleon_ray.policy_search.samples import Evaluation, Journal
from chameleon_ray.policy_search.trainable import MEAN, SCORE, SampleTrainable, Scoring
from chameleon_ray.session import last_line
from chameleon_ray.settings import Policy

Scheduler = Literal["asha", "pbt", "none"]
Searcher = Literal["random", "optuna"]
Told = Callable[[int, int], None]  # iterations done or spared, and all that there are

_MOST_FAILURES = 2  # of a sample's process; what it had searched is kept
_HALVES = 2  # ASHA: at each rung the better half goes on
_RUNGS = 8  # the first rung is at an eighth of the iterations
_POPULATION = 4  # members at least; a quarter of them, the worst, copy of a quarter, the best


@dataclass(frozen=True, slots=True, kw_only=True)
class How:
    """How samples are proposed, and which are stopped.

    Attributes:
        samples: Settings tried; with `pbt` at most.
        scheduler: `asha` stops the worse half at each rung; `pbt` lets the worst of a population
            copy settings of the best and change them; `none`.
        searcher: `random`, or `optuna`, which learns from the samples scored.
        at_once: Samples under way at the same time, a core each.
        seed: Of all draws.
    """

    samples: int
    scheduler: Scheduler
    searcher: Searcher
    at_once: int
    seed: int

    def rungs(self, iterations: int) -> list[int]:
        """After how many of the iterations ASHA looks who goes on; none without it."""
        first = max(1, iterations // _RUNGS)
        rungs = [first * _HALVES**n for n in range(iterations)]
        return [rung for rung in rungs if rung < iterations] if self.scheduler == "asha" else []

    def check(self) -> None:
        """See that the parts go together and are installed.

        Raises:
            SettingsError: They do not, or are not.
        """
        if self.scheduler == "pbt" and self.searcher != "random":
            raise SettingsError(
                "--scheduler pbt proposes samples itself: take --search random, or --scheduler "
                "asha with --search optuna."
            )
        if self.searcher == "optuna" and importlib.util.find_spec("optuna") is None:
            raise SettingsError(
                "--search optuna: Optuna is not installed. Install it with "
                "`pip install 'chameleon-ray[search]'`, or take --search random."
            )


def run_experiment(scoring: Scoring, how: How, journal: Journal, told: Told) -> None:
    """Score samples; the journal has what came of them.

    Ray has been started. What was proposed before is proposed again, first.

    Args:
        scoring: Where and how a sample is scored.
        how: How samples are proposed and stopped.
        journal: Of this experiment.
        told: Called after each iteration.

    Raises:
        MachineError: The process of a sample died over and over.
    """
    ranges = scoring.declared.ranges
    samples = _members(how, scoring) if how.scheduler == "pbt" else how.samples
    points = _points(scoring, how, journal, samples)
    with tempfile.TemporaryDirectory(prefix="chameleon-ray-tune-") as storage:
        tuner = ray_tune.Tuner(
            ray_tune.with_resources(
                ray_tune.with_parameters(SampleTrainable, scoring=scoring),
                dict(scoring.ground.resources),
            ),
            param_space={r.setting: r.domain() for r in ranges},
            tune_config=ray_tune.TuneConfig(
                metric=SCORE if how.scheduler == "pbt" else MEAN,
                mode="max",
                num_samples=samples,
                search_alg=_searcher(how, points),
                scheduler=_scheduler(how, ranges, len(scoring.seeds)),
                reuse_actors=True,
            ),
            run_config=ray_tune.RunConfig(
                storage_path=storage,
                callbacks=[_Keeper(journal, ranges, samples, len(scoring.seeds), told)],
                verbose=0,
                failure_config=ray_tune.FailureConfig(max_failures=_MOST_FAILURES),
                checkpoint_config=ray_tune.CheckpointConfig(checkpoint_at_end=False),
            ),
        )
        results = tuner.fit()
    if results.errors:
        raise MachineError(
            f"a sample could not be scored: {last_line(results.errors[0])} Every finished search "
            "is kept; the same command goes on."
        )


def own_sample(base: Policy, ranges: Sequence[Range]) -> dict[str, Value] | None:
    """The base policy's own settings as a sample; None if they lie outside the ranges."""
    own = {r.setting: value_of(base, r.setting) for r in ranges}
    return own if all(r.holds(own[r.setting]) for r in ranges) else None


def _members(how: How, scoring: Scoring) -> int:
    """So large a population tries about so many settings: its worst quarter changes each time."""
    generations = len(scoring.seeds)
    return min(how.samples, max(_POPULATION, math.ceil(how.samples / (1 + generations / 4))))


def _points(scoring: Scoring, how: How, journal: Journal, samples: int) -> list[dict[str, Value]]:
    """The samples known beforehand: the base policy's own, then random ones.

    A random sample depends on the seed and its number alone. Of Optuna's those are known that it
    proposed before a kill.
    """
    ranges = scoring.declared.ranges
    own = own_sample(scoring.base, ranges)
    if how.searcher == "optuna":
        before = [settings for _, settings in sorted(journal.proposed.items())]
        return before or ([own] if own else [])
    rest = range(1 if own else 0, samples)
    others = [drawn(ranges, np.random.default_rng([how.seed, number])) for number in rest]
    return [own, *others] if own else others


def _searcher(how: How, points: list[dict[str, Value]]) -> Any:
    if how.searcher == "random":
        from ray.tune.search.basic_variant import BasicVariantGenerator

        return BasicVariantGenerator(points_to_evaluate=points)
    import optuna
    from ray.tune.search import ConcurrencyLimiter
    from ray.tune.search.optuna import OptunaSearch

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    # Gone on with, it is not to draw what it drew at first.
    sampler = optuna.samplers.TPESampler(seed=how.seed + 7919 * len(points), multivariate=True)
    search = OptunaSearch(points_to_evaluate=points or None, sampler=sampler)
    return ConcurrencyLimiter(search, max_concurrent=how.at_once)


def _scheduler(how: How, ranges: Sequence[Range], iterations: int) -> Any:
    rungs = how.rungs(iterations)
    if rungs:
        return ray_tune.schedulers.ASHAScheduler(
            max_t=iterations,
            grace_period=rungs[0],
            reduction_factor=_HALVES,
        )
    if how.scheduler == "pbt":
        rng = np.random.default_rng(how.seed)
        random.seed(how.seed)  # whom Tune's PBT copies is drawn there
        return ray_tune.schedulers.PopulationBasedTraining(
            time_attr="training_iteration",
            perturbation_interval=1,
            custom_explore_fn=lambda config: perturbed(ranges, tidied(ranges, config), rng),
            synch=True,  # scores of one seed are compared with scores of the same
        )
    return None


class _Keeper(ray_tune.Callback):
    """Writes down what is proposed and what comes of it."""

    def __init__(
        self, journal: Journal, ranges: Sequence[Range], samples: int, iterations: int, told: Told
    ) -> None:
        self._journal, self._ranges, self._told = journal, ranges, told
        self._iterations, self._all = iterations, samples * iterations
        self._done: dict[int, int] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune keeps its callbacks to restore an experiment by, and ours goes on anew."""
        return {}

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Tune calls this as a sample begins or goes on."""
        del iteration, info
        self._journal.propose(trials.index(trial), tidied(self._ranges, trial.config))

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """Tune calls this after each iteration of a sample."""
        del iteration, info
        sample, number = trials.index(trial), result["training_iteration"]
        self._journal.tell(
            Evaluation(
                sample=sample, number=number, settings=result["settings"], scores=result["scores"]
            )
        )
        self._tell(sample, number)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Tune calls this when a sample has had all iterations or is stopped."""
        del iteration, info
        self._tell(trials.index(trial), self._iterations)

    def _tell(self, sample: int, number: int) -> None:
        self._done[sample] = number
        self._told(sum(self._done.values()), self._all)
