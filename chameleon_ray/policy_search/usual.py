"""What is searched of a policy unless a file says otherwise: the settings of its parts that count.

The middle of most ranges is the paper's number (Tables 7, 8 and 9).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from chameleon_ray.policy_search.declared import Declared, value_of
from chameleon_ray.policy_search.ranges import Between, Choice, Range, Value
from chameleon_ray.settings import (
    AdaptiveSettings,
    AnnealingSettings,
    CostModelSettings,
    ForestSettings,
    GaussianSettings,
    GeneticSettings,
    GreedySettings,
    ImprovementSettings,
    Policy,
    PpoSettings,
    RandomSettings,
    StagedSettings,
    ThompsonSettings,
)


def usual(policy: Policy, *, walks: bool, default: bool, trials: int) -> Declared:
    """The usual ranges of a policy's settings.

    Args:
        policy: The policy that is to be bettered.
        walks: Whether its explorer is used: a space that is scored whole has no use for one.
        default: Whether the spaces have a default configuration, which may be measured first.
        trials: Attempts of a search: at most half of them are made before anything is learned.
    """
    first = [n for n in (2, 4, 8, 16, 32, 64) if 2 * n <= max(trials, 8)]
    ranges = [_choice("initial", *first)]
    if default and policy.default == "first":
        ranges.append(_choice("neighbours", 0, 4, 8, 16))
    if walks:
        ranges += _explorer(policy)
    ranges += [*_sampler(policy), *_cost_model("cost_model", policy.cost_model)]
    return Declared(
        ranges=tuple(_with_own(r, value_of(policy, r.setting)) for r in ranges), fixed={}
    )


def _with_own(r: Range, own: Value) -> Range:
    """The range, widened to hold what the policy itself has: its own settings are a sample, too."""
    if r.holds(own) or isinstance(own, bool) or not isinstance(own, int | float):
        return r
    if isinstance(r, Choice):
        numbers = [value for value in r.values if isinstance(value, int | float)]
        return replace(r, values=tuple(sorted([*numbers, own])))
    return replace(r, low=min(r.low, own), high=max(r.high, own))


def _explorer(policy: Policy) -> Iterator[Range]:
    yield _choice("explore_every", 1, 2, 4)
    match policy.explorer:
        case PpoSettings():
            yield from _ppo(policy.explorer.waves)
        case AnnealingSettings():
            yield _choice("explorer.chains", 32, 64, 128, 256)
            yield _choice("explorer.steps", 125, 250, 500, 1000)
            yield _log("explorer.start_temperature", 0.01, 2.0)
        case GeneticSettings():
            yield _choice("explorer.population", 50, 100, 200, 400)
            yield _choice("explorer.elite", 1, 3, 10, 30)
            yield _log("explorer.mutation", 0.02, 0.5)
            yield _choice("explorer.generations", 1, 2, 5, 10)
        case RandomSettings():
            yield _choice("explorer.draws", 64, 512, 4096, 32768)
        case _:
            return  # a part of the user's own: its options are listed in a file


def _ppo(waves: int) -> Iterator[Range]:
    """Table 9, and the episode of Table 7: 128 walks of 500 steps."""
    walks = [n * waves for n in (1, 2, 4, 8, 16, 32, 64, 128) if 64 <= n * waves <= 256]
    if len(walks) > 1:
        yield _choice("explorer.episodes", *walks)
    yield _choice("explorer.steps", 100, 200, 500)
    yield _log("explorer.learning_rate", 1e-4, 1e-2)
    yield Between(setting="explorer.discount", low=0.5, high=0.99)
    yield Between(setting="explorer.gae", low=0.8, high=1.0)
    yield _choice("explorer.epochs", 1, 3, 6, 10)
    yield Between(setting="explorer.clip", low=0.1, high=0.5)
    yield _log("explorer.value_coefficient", 0.25, 4.0)
    yield _log("explorer.entropy_coefficient", 1e-3, 0.3)


def _sampler(policy: Policy) -> Iterator[Range]:
    match policy.sampler:
        case AdaptiveSettings():
            yield Between(setting="sampler.threshold", low=1.05, high=4.0)
            yield _choice("sampler.exploit", 0, 2, 4, 8)
        case GreedySettings():
            yield _choice("sampler.batch", 4, 8, 16, 32, 64)
            yield Between(setting="sampler.epsilon", low=0.0, high=0.3)
        case ThompsonSettings() | ImprovementSettings():
            yield _choice("sampler.batch", 1, 2, 4, 8, 16)
        case _:
            return


def _cost_model(at: str, model: object) -> Iterator[Range]:
    match model:
        case CostModelSettings():
            yield _choice(f"{at}.max_depth", 2, 3, 4, 6)
            yield _log(f"{at}.learning_rate", 0.05, 0.5)
        case ForestSettings():
            yield _choice(f"{at}.trees", 16, 32, 64, 128)
            yield Between(setting=f"{at}.clip", low=0.2, high=1.0)
        case GaussianSettings():
            yield _choice(f"{at}.draws", 4, 8, 16, 32)
            yield Between(setting=f"{at}.temper", low=0.05, high=1.0)
            yield Between(setting=f"{at}.clip", low=0.2, high=1.0)
        case StagedSettings():
            yield _choice(f"{at}.until", 16, 24, 32, 48, 64)
            yield from _cost_model(f"{at}.first", model.first)
            yield from _cost_model(f"{at}.then", model.then)
        case _:
            return


def _choice(setting: str, *values: Value) -> Range:
    return Choice(setting=setting, values=values)


def _log(setting: str, low: float, high: float) -> Range:
    return Between(setting=setting, low=low, high=high, log=True)
