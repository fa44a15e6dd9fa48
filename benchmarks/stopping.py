"""Can a search tell when to stop? What a layer would lose if it ended once nothing is promised.

    python benchmarks/stopping.py [SPACE...] [--seeds 0-9] [--trials 256] [--json]

Policy `chameleon` searches recorded spaces. Before each batch, the gain that its drawn functions
promise is noted: the mean over them of their best score at what is not measured yet, over the best
measured, less one. A rule stops a search after so many rounds in a row that promised less than so
much. Beside what each rule loses stands what a fixed number of attempts loses that is as large on
the mean: a rule that knows nothing would do as well.
"""

from __future__ import annotations

import argparse
import itertools
import json
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table

from chameleon_ray.cli_shared import parse_seeds
from chameleon_ray.measure.recorded import RecordedSpace, load_recorded, shipped
from chameleon_ray.presets import load_policy
from chameleon_ray.replay import replay
from chameleon_ray.sampling import Ranking
from chameleon_ray.sampling.thompson import ThompsonSampler
from chameleon_ray.settings import PluginSettings, ThompsonSettings
from chameleon_ray.space import BoolArray, Configs, DesignSpace

_GAINS, _ROUNDS = (0.0, 0.01, 0.02), (2, 4, 8)

Scores = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A rule and what it does.

    Attributes:
        gain: What a round must promise at least, as a share of the best measured fitness.
        rounds: So many in a row that promise less end the search.
        attempts: At which it ends, on the mean.
        loss: Score at the end of the budget less that where it ends, on the mean.
        fixed_loss: What every search loses that ends after `attempts`, on the mean.
    """

    gain: float
    rounds: int
    attempts: float
    loss: float
    fixed_loss: float


class Watching(ThompsonSampler):
    """The policy's sampler; notes what each round promises, and after how many attempts."""

    promised: list[tuple[int, float]] = []  # noqa: RUF012 - read after each search

    def __init__(self, batch: int) -> None:
        super().__init__(ThompsonSettings(batch=batch))

    def choose(
        self,
        space: DesignSpace,
        candidates: Ranking,
        visited: Configs,
        failed: BoolArray,
        rng: np.random.Generator,
    ) -> Configs:
        """As without it."""
        assert candidates.members is not None  # noqa: S101 - Thompson asks for them
        new = ~space.contains(visited, candidates.configs)
        if new.any():
            gain = candidates.members[:, new].max(axis=1).mean() - 1
            self.promised.append((len(visited), float(gain)))
        return super().choose(space, candidates, visited, failed, rng)


def searched(
    space: RecordedSpace, seed: int, trials: int
) -> tuple[Scores, list[tuple[int, float]]]:
    """The score after each attempt, and what was promised after how many."""
    name, policy = load_policy("chameleon")
    assert isinstance(policy.sampler, ThompsonSettings)  # noqa: S101 - of the shipped policy
    watching = PluginSettings(kind="__main__:Watching", options={"batch": policy.sampler.batch})
    Watching.promised.clear()
    found = replay(space, replace(policy, sampler=watching), name=name, trials=trials, seed=seed)
    best = np.array([np.inf if s is None else s for s in found.best_seconds])
    return space.optimum_seconds / best, list(Watching.promised)


def stops_at(promised: list[tuple[int, float]], gain: float, rounds: int, end: int) -> int:
    """After how many attempts a rule ends a search of `end` attempts."""
    row = 0
    for attempts, promise in promised:
        row = row + 1 if promise < gain else 0
        if row == rounds:
            return attempts
    return end


def judged(found: list[tuple[Scores, list[tuple[int, float]]]]) -> list[Rule]:
    """What each rule does to the searches."""
    rules = []
    for gain, rounds in itertools.product(_GAINS, _ROUNDS):
        ends = [stops_at(promised, gain, rounds, len(scores)) for scores, promised in found]
        mean = float(np.mean(ends))
        losses = [s[-1] - s[end - 1] for (s, _), end in zip(found, ends, strict=True)]
        fixed = [s[-1] - s[min(round(mean), len(s)) - 1] for s, _ in found]
        rules.append(
            Rule(
                gain=gain,
                rounds=rounds,
                attempts=round(mean, 1),
                loss=round(float(np.mean(losses)), 4),
                fixed_loss=round(float(np.mean(fixed)), 4),
            )
        )
    return rules


def main() -> None:
    """Search, and print what each rule does."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("spaces", nargs="*", default=[str(path) for path in shipped().values()])
    parser.add_argument("--seeds", default="0-9")
    parser.add_argument("--trials", type=int, default=256)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    spaces = [load_recorded(path) for path in options.spaces]
    wanted = itertools.product(spaces, parse_seeds(options.seeds))
    rules = judged([searched(space, seed, options.trials) for space, seed in wanted])
    if options.json:
        print(json.dumps([asdict(rule) for rule in rules]))
        return
    table = Table("gain below", "rounds", "attempts", "loses", "a fixed number loses")
    for rule in rules:
        row: list[Any] = [rule.gain, rule.rounds, rule.attempts, rule.loss, rule.fixed_loss]
        table.add_row(*map(str, row))
    Console().print(table)


if __name__ == "__main__":
    main()
