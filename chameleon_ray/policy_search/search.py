"""`search_policy()`: samples, the winner, a search without each kernel, the verdict, the preset."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from chameleon_ray.compare import Standing
from chameleon_ray.errors import RunFolderError
from chameleon_ray.policy_search.declared import with_settings
from chameleon_ray.policy_search.experiment import own_sample, run_experiment
from chameleon_ray.policy_search.grounds import Ground
from chameleon_ray.policy_search.judging import Fold, as_chosen, left_out, verdict
from chameleon_ray.policy_search.plan import Plan
from chameleon_ray.policy_search.ranges import Settings
from chameleon_ray.policy_search.samples import Evaluation, Journal, Scored, finalists
from chameleon_ray.policy_search.trainable import Scoring
from chameleon_ray.run_lock import InUseError, lock
from chameleon_ray.scores import Table
from chameleon_ray.searches import Search
from chameleon_ray.session import answer, ray_session, terminating_as_interrupt
from chameleon_ray.settings import Policy
from chameleon_ray.storage import open_folder

OnProgress = Callable[[str, int, int], None]  # what is done, how much of it, of how much

_NO_NAME = re.compile(r"[^\w.-]")  # what the name of a file is better without
_KEPT = "Every finished search is kept; the same command goes on."


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What came of a search of settings.

    Attributes:
        plan: What was asked for.
        evaluations: All that was scored on all spaces.
        winner: The best of all spaces.
        policy: The base policy with the winner's settings.
        is_base: Whether that is the base policy itself: nothing sampled was better.
        folds: What was chosen without each kernel; none of a single kernel, or if not judged.
        verdict: Base and chosen elsewhere on what was left out, with fresh seeds; as of `compare`.
        seconds: The search on all spaces, then each kernel's, then judging; of this call.
    """

    plan: Plan
    evaluations: Sequence[Evaluation]
    winner: Scored
    policy: Policy
    is_base: bool
    folds: tuple[Fold, ...]
    verdict: Sequence[Table]
    seconds: Mapping[str, float]


def search_policy(plan: Plan, on_progress: OnProgress | None = None) -> Found:
    """Search the settings of a policy, as planned.

    Args:
        plan: What is asked for.
        on_progress: Called after each iteration of a sample, and each search of the verdict.

    Raises:
        MachineError: Ray does not start, or a process died over and over.
        RunFolderError: The folder is in use, of another search, or cannot be written.
        KeyboardInterrupt: On SIGINT and SIGTERM; the same call goes on.
    """
    folder = open_folder(plan.out)
    try:
        folder.make()
        held = lock(folder)
    except InUseError as other:
        raise RunFolderError(
            f"{plan.out} is in use by {other}; wait for it to end, or choose another folder with "
            "--out."
        ) from None
    except OSError as error:
        raise RunFolderError(
            f"{plan.out} cannot be used: {error.strerror or error}. Choose another with --out."
        ) from error
    try:
        journal = Journal.open(plan.out / "samples.json", plan.question)
        cpus = plan.how.at_once
        with ray_session(address=None, cpus=cpus), terminating_as_interrupt():
            return _Course(plan, on_progress or _silent).result(journal)
    finally:
        held.release()


class _Course:
    """One call, with Ray started and the folder ours."""

    def __init__(self, plan: Plan, on_progress: OnProgress) -> None:
        self._plan, self._on_progress = plan, on_progress
        self._own = own_sample(plan.base, plan.declared.ranges)
        self._seconds: dict[str, float] = {}

    def result(self, journal: Journal) -> Found:
        plan = self._plan
        winner = self._best("all spaces", plan.ground, journal)
        folds = [
            self._fold(kernel, spaces)
            for kernel, spaces in left_out(plan.ground.kernels).items()
            if plan.judge_seeds
        ]
        return Found(
            plan=plan,
            evaluations=journal.evaluations,
            winner=winner,
            policy=self._policy(winner),
            is_base=winner.settings == self._own and not plan.declared.fixed,
            folds=tuple(folds),
            verdict=self._verdict(folds),
            seconds=self._seconds,
        )

    def _best(self, what: str, ground: Ground, journal: Journal) -> Scored:
        """The best of those that went all the way, on some of the spaces."""
        plan, began = self._plan, time.monotonic()
        scoring = Scoring(ground=ground, base=plan.base, declared=plan.declared, seeds=plan.seeds)
        run_experiment(
            scoring, plan.how, journal, lambda done, total: self._on_progress(what, done, total)
        )
        _complete(scoring, journal, self._own)
        self._seconds[what] = time.monotonic() - began
        return max(finalists(journal.evaluations, self._own), key=lambda scored: scored.mean)

    def _fold(self, kernel: str, spaces: tuple[str, ...]) -> Fold:
        """What is chosen without a kernel: the whole search again, which never sees it."""
        plan = self._plan
        others = [space for space in plan.ground.kernels if space not in spaces]
        path = plan.out / f"samples-without-{_NO_NAME.sub('_', kernel)}.json"
        journal = Journal.open(path, plan.question)
        best = self._best(f"without {kernel}", plan.ground.only(others), journal)
        return Fold(kernel=kernel, spaces=spaces, chosen=best)

    def _verdict(self, folds: Sequence[Fold]) -> list[Table]:
        plan, began = self._plan, time.monotonic()
        searches: list[Search] = []
        for fold in folds:
            policies = [(plan.base_name, plan.base), (_name(fold), self._policy(fold.chosen))]
            found = plan.ground.only(fold.spaces).judged(
                policies, plan.judge_seeds, self._judging(fold)
            )
            searches += as_chosen(found, base=plan.base_name)
        if not searches:
            return []
        self._seconds["judging"] = time.monotonic() - began
        return verdict(searches, base=plan.base_name, trials=plan.trials)

    def _judging(self, fold: Fold) -> Callable[[Standing], None]:
        what = f"judging on {fold.kernel}"
        return lambda standing: self._on_progress(what, standing.done, standing.total)

    def _policy(self, scored: Scored) -> Policy:
        changed = self._plan.declared.all_of(scored.settings)
        return with_settings(self._plan.base, changed, where="a sample")


def _complete(scoring: Scoring, journal: Journal, own: Settings | None) -> None:
    """Score finalists with the seeds that they have not had.

    The base policy's own settings may have been stopped, and members of a population change.
    """
    import ray

    ground = ray.put(scoring.ground)
    wanted: dict[Any, tuple[Scored, int]] = {}
    resources = dict(scoring.ground.resources)
    cpus = resources.pop("CPU", 0.0)
    task = ray.remote(_scores).options(num_cpus=cpus, resources=resources)
    for scored in finalists(journal.evaluations, own):
        policy = with_settings(
            scoring.base, scoring.declared.all_of(scored.settings), where="a sample"
        )
        for number, seed in enumerate(scoring.seeds, start=1):
            if number not in scored.means:
                wanted[task.remote(ground, policy, seed)] = (scored, number)
    for reference, (scored, number) in wanted.items():
        found = answer(reference, then=_KEPT)
        journal.tell(
            Evaluation(sample=scored.sample, number=number, settings=scored.settings, scores=found)
        )


def _scores(ground: Ground, policy: Policy, seed: int) -> dict[str, float]:
    return ground.scores(policy, seed)


def _name(fold: Fold) -> str:
    return f"chosen without {fold.kernel}"


def _silent(_what: str, _done: int, _total: int) -> None:
    pass
