"""The explorers that are compared, each set to score as many configs a round as the others."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from chameleon_ray.explorers import Candidates, Ensemble, Explorer, make_explorer, report_of
from chameleon_ray.explorers.around import EnumeratingExplorer, SparingExplorer
from chameleon_ray.settings import (
    AnnealingSettings,
    GeneticSettings,
    PpoSettings,
    RandomSettings,
)
from chameleon_ray.space import Configs, DesignSpace, Score, Vector

MEMBERS_ONLY = ("ppo_mean", "annealing_members", "annealing_near", "genetic_members", "descent")
ALWAYS = ("ppo", "ppo_lr0", "ppo_keen", "annealing", "annealing_cold")
OTHERS = ("genetic", "genetic_fresh", "random", "nearby", "enumerate")
SPARING = ("ppo_sparing", "random_sparing", "tokens_sparing", "carried_sparing")
TOKENS = ("tokens", "tokens_lr0", "carried", "carried_lr0")
EXPLORERS = (*ALWAYS, *OTHERS, *MEMBERS_ONLY, *SPARING, *TOKENS)
ENUMERABLE = 1_000_000

Settings = PpoSettings | AnnealingSettings | GeneticSettings | RandomSettings

TOKEN_SETTINGS = {
    "hidden": 32,
    "learning_rate": 3e-4,
    "discount": 0.97,
    "gae": 0.95,
    "entropy_coefficient": 0.01,
}

_WALKERS, _PARTS = 128, 8


class Counted:
    """A score that counts the configs it is asked for; its members count with it."""

    def __init__(self, score: Score, count: list[int]) -> None:
        self.score, self.count = score, count

    def __call__(self, configs: Configs) -> Vector:
        """The score of a batch."""
        self.count[0] += len(configs)
        return self.score(configs)


class CountedEnsemble(Counted):
    """The same for an ensemble; ranking by all members at the end is not counted."""

    score: Ensemble

    def predict(self, configs: Configs) -> tuple[Vector, npt.NDArray[np.float32]]:
        """As the ensemble."""
        return self.score.predict(configs)

    def member(self, rng: np.random.Generator) -> Score:
        """As the ensemble."""
        return Counted(self.score.member(rng), self.count)


class Averaged:
    """An explorer that sees an ensemble's mean alone; the members come in for the sampler."""

    def __init__(self, explorer: Explorer) -> None:
        self.explorer = explorer

    @property
    def report(self) -> object:
        """Of the explorer."""
        return report_of(self.explorer)

    def explore(
        self, space: DesignSpace, score: Score, starts: Configs, rng: np.random.Generator
    ) -> Candidates:
        """One round."""
        found = self.explorer.explore(space, Counted(score, [0]), starts, rng)  # hides the members
        if not isinstance(score, Ensemble):
            return found
        return Candidates.scored(space, found.configs, score)

    def close(self) -> None:
        """Free what the explorer holds."""
        self.explorer.close()


class ByMember:
    """Several explorers, each of which sees one member of the ensemble a round."""

    def __init__(self, explorers: Sequence[Explorer], *, near: bool = False) -> None:
        self.explorers, self.near = explorers, near

    def explore(
        self, space: DesignSpace, score: Ensemble, starts: Configs, rng: np.random.Generator
    ) -> Candidates:
        """One round."""
        found = []
        for number, explorer in enumerate(self.explorers):
            if self.near:  # a quarter of the chains starts at the best measured configs
                known = starts[number :: len(self.explorers)][: _WALKERS // _PARTS // 4]
                others = space.random(_WALKERS // _PARTS - len(known), rng)
                explorer._chains = np.concatenate([known, others])  # noqa: SLF001
            found.append(explorer.explore(space, score.member(rng), starts, rng).configs)
        return Candidates.scored(space, space.distinct(np.concatenate(found)), score)

    def close(self) -> None:
        """Nothing is held."""


class Descent:
    """Steepest descent of one member after another: any one knob set to any choice."""

    def __init__(self, scored: int) -> None:
        self.scored = scored

    def explore(
        self, space: DesignSpace, score: Ensemble, starts: Configs, rng: np.random.Generator
    ) -> Candidates:
        """One round; a descent begins at the best of a few starts, measured and random."""
        found, left = [starts[:0]], self.scored
        while left > 0:
            member = score.member(rng)
            some = rng.permutation(starts)[:8]
            here = np.concatenate([some, space.random(8, rng)])
            scores = member(here)
            best, config = scores.max(), here[scores.argmax()]
            found.append(here)
            while left > 0:
                around = _one_knob(space, config)
                left -= len(around)
                scores = member(around)
                found.append(around)
                if scores.max() <= best:
                    break
                best, config = scores.max(), around[scores.argmax()]
        return Candidates.scored(space, space.distinct(np.concatenate(found)), score)

    def close(self) -> None:
        """Nothing is held."""


class Nearby:
    """Half of the draws anywhere, half around the best measured configs: a few knobs drawn anew."""

    def __init__(self, scored: int) -> None:
        self.scored = scored

    def explore(
        self, space: DesignSpace, score: Score, starts: Configs, rng: np.random.Generator
    ) -> Candidates:
        """One round; the better a measured config, the more is drawn around it."""
        anywhere = space.random(self.scored // 2, rng)
        if not len(starts):
            return Candidates.scored(space, anywhere, score)
        near = [starts]
        chances = 1 / np.arange(1, len(starts) + 1)
        while sum(map(len, near)) < self.scored // 2:
            bases = starts[rng.choice(len(starts), size=self.scored, p=chances / chances.sum())]
            few = rng.integers(1, 4, size=(self.scored, 1)) / len(space.sizes)
            drawn = rng.integers(0, space.sizes, size=bases.shape).astype(np.int32)
            mutants = np.where(rng.random(bases.shape) < few, drawn, bases)
            near.append(space.distinct(mutants[space.valid(mutants)]))
        around = np.concatenate(near)[: self.scored // 2]
        both = space.distinct(np.concatenate([anywhere, around]))
        return Candidates.scored(space, both, score)

    def close(self) -> None:
        """Nothing is held."""


class Fresh:
    """An explorer made anew each round: its walkers start where the best measured configs are."""

    def __init__(self, make: Callable[[], Explorer]) -> None:
        self.make = make

    def explore(
        self, space: DesignSpace, score: Score, starts: Configs, rng: np.random.Generator
    ) -> Candidates:
        """One round."""
        return self.make().explore(space, score, starts, rng)

    def close(self) -> None:
        """Nothing is held."""


def _one_knob(space: DesignSpace, config: Configs) -> Configs:
    """The valid configs with one knob set to another choice, `(n, knobs)`."""
    rows = []
    for knob, size in enumerate(space.sizes):
        around = np.repeat(config[None, :], size, axis=0)
        around[:, knob] = np.arange(size)
        rows.append(np.delete(around, config[knob], axis=0))
    found = np.concatenate(rows)
    return found[space.valid(found)]


def build(
    name: str,
    space: DesignSpace,
    *,
    scored: int,
    seed: int,
    weights: Mapping[str, Vector] | None = None,
) -> Explorer:
    """An explorer of a space that scores about `scored` configs a round.

    `ppo` has the settings of policies/chameleon.yaml. `keen` learns ten times as fast and is hardly
    paid for entropy. `mean` hides the members of an ensemble, `members` shows one of them to
    each eighth of the walkers (PPO does so by itself). `cold` starts at a twentieth of AutoTVM's
    temperature; `near` is as cold, and a quarter of its chains start at the best measured configs.
    `fresh` begins each round at the best measured configs instead of going on. `sparing` walks or
    draws every fourth round only, as `explore_every` of policies/chameleon.yaml. `tokens` is the
    agent for any space, from first weights; `carried` begins with `weights`.
    """
    steps = scored // _WALKERS
    ppo = PpoSettings(episodes=_WALKERS, steps=steps, waves=_PARTS, early_stop=None)
    keen = replace(ppo, learning_rate=1e-2, entropy_coefficient=0.003)
    tokens = replace(ppo, agent="tokens", **TOKEN_SETTINGS)
    walk = AnnealingSettings(chains=_WALKERS, steps=steps - 1, early_stop=10**6)
    cold = replace(walk, start_temperature=0.05)
    bred = GeneticSettings(population=_WALKERS, generations=steps)
    small = replace(bred, population=_WALKERS // 2, generations=2 * steps // _PARTS)
    draws = RandomSettings(draws=scored)

    def whole(settings: Settings) -> Explorer:
        return make_explorer(settings, seed=seed)

    def carried(settings: PpoSettings) -> Explorer:
        return make_explorer(settings, seed=seed, weights=weights)

    def parts(settings: Settings) -> list[Explorer]:
        return [make_explorer(settings, seed=seed) for _ in range(_PARTS)]

    chains = _WALKERS // _PARTS
    makers: dict[str, Callable[[], Explorer]] = {
        "ppo": lambda: whole(ppo),
        "ppo_lr0": lambda: whole(replace(ppo, learning_rate=0.0)),
        "ppo_keen": lambda: whole(keen),
        "ppo_mean": lambda: Averaged(whole(ppo)),
        "annealing": lambda: Averaged(whole(walk)),
        "annealing_cold": lambda: Averaged(whole(cold)),
        "annealing_members": lambda: ByMember(parts(replace(walk, chains=chains))),
        "annealing_near": lambda: ByMember(parts(replace(cold, chains=chains)), near=True),
        "genetic": lambda: Averaged(whole(bred)),
        "genetic_members": lambda: ByMember(parts(small)),
        "random": lambda: Averaged(whole(draws)),
        "enumerate": lambda: EnumeratingExplorer(space.all_valid(limit=ENUMERABLE)),
        "genetic_fresh": lambda: Averaged(Fresh(lambda: whole(bred))),
        "nearby": lambda: Nearby(scored),
        "ppo_sparing": lambda: SparingExplorer(whole(ppo), every=4),
        "random_sparing": lambda: SparingExplorer(Averaged(whole(draws)), every=4),
        "descent": lambda: Descent(scored),
        "tokens": lambda: whole(tokens),
        "tokens_lr0": lambda: whole(replace(tokens, learning_rate=0.0)),
        "carried": lambda: carried(tokens),
        "carried_lr0": lambda: carried(replace(tokens, learning_rate=0.0)),
        "tokens_sparing": lambda: SparingExplorer(whole(tokens), every=4),
        "carried_sparing": lambda: SparingExplorer(carried(tokens), every=4),
    }
    return makers[name]()
