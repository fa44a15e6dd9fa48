"""AutoTVM's simulated annealing (Table 8), all chains as one batch."""

from __future__ import annotations

import numpy as np

from chameleon_ray.environment import random_starts
from chameleon_ray.explorers import Candidates
from chameleon_ray.settings import AnnealingSettings
from chameleon_ray.space import BoolArray, Configs, DesignSpace, Score, Vector

_WATCHED = 64  # AutoTVM's plan size: the candidates whose change keeps the chains going
_TRIES = 32  # draws for a chain around which much is forbidden
_COLDEST = 1e-5  # added to the temperature, as in AutoTVM's code


class AnnealingExplorer:
    """Markov chains that accept a worse config the less, the colder it is.

    As in AutoTVM: the temperature falls linearly to 0 within a round; a proposal is accepted with
    probability exp(min((new - old) / temperature, 1)); the chains stop early when the best
    proposals have not changed for a while, and go on in the next round from where they stood.
    Two things differ. Measured configs count among the best proposals, because an explorer does not
    know what was measured. And every config that a chain proposed is a candidate, not the best 64
    alone.

    Args:
        settings: Table 8.
    """

    def __init__(self, settings: AnnealingSettings) -> None:
        self._settings = settings
        self._chains: Configs | None = None

    def explore(
        self, space: DesignSpace, score: Score, starts: Configs, rng: np.random.Generator
    ) -> Candidates:
        """One run of the chains.

        Args:
            space: The task's space; the same in every call.
            score: Predicted fitness of a batch.
            starts: Not used: chains start at random.
            rng: The only source of randomness.

        Raises:
            SettingsError: No valid config was found.
        """
        del starts
        settings = self._settings
        chains = self._chains
        if chains is None:
            chains = random_starts(space, min(settings.chains, space.size), rng)
        scores = score(chains)
        best = _Best(space, chains, scores)
        walked, walked_scores = [chains], [scores]
        temperature = settings.start_temperature
        cooling = temperature / (settings.steps + 1)
        step, changed = 0, 0
        while step < settings.steps and step < changed + settings.early_stop:
            proposals = propose(space, chains, rng)
            proposed = score(proposals)
            accepted = accept(proposed - scores, temperature, rng)
            chains = np.where(accepted[:, None], proposals, chains)
            scores = np.where(accepted, proposed, scores)
            if best.update(proposals, proposed):
                changed = step
            walked.append(proposals)
            walked_scores.append(proposed)
            temperature -= cooling
            step += 1
        self._chains = chains if settings.persistent else None
        return Candidates.walked(
            space, np.concatenate(walked), np.concatenate(walked_scores), score
        )

    def close(self) -> None:
        """Nothing is held outside this object."""


def propose(space: DesignSpace, chains: Configs, rng: np.random.Generator) -> Configs:
    """Each chain with one knob set to another choice, drawn until it is allowed.

    AutoTVM draws a knob and a choice until the config differs; so a knob of n choices is the one
    that changes with a probability proportional to (n - 1) / n, and its new choice is uniform
    among the others. A chain around which nothing allowed is found stays where it is.

    Args:
        space: What the chains walk.
        chains: int32 `(n, knobs)`.
        rng: Draws knobs and choices.
    """
    weights = (space.sizes - 1) / space.sizes
    proposals, undone = chains.copy(), np.arange(len(chains))
    for _ in range(_TRIES if weights.any() else 0):
        knobs = rng.choice(len(weights), size=len(undone), p=weights / weights.sum())
        drawn = chains[undone]
        rows = np.arange(len(undone))
        here, sizes = drawn[rows, knobs], space.sizes[knobs]
        drawn[rows, knobs] = (here + rng.integers(1, sizes)) % sizes
        allowed = space.valid(drawn)
        proposals[undone[allowed]] = drawn[allowed]
        undone = undone[~allowed]
        if not len(undone):
            break
    return proposals


def accept(gains: Vector, temperature: float, rng: np.random.Generator) -> BoolArray:
    """Which proposals the chains take, `(n,)`.

    Args:
        gains: Score of the proposal less the score of the chain, `(n,)`.
        temperature: Of this step.
        rng: Draws a number in [0, 1) for each chain.
    """
    chances = np.exp(np.minimum(gains / (temperature + _COLDEST), 1))
    taken: BoolArray = rng.random(len(gains)) < chances
    return taken


class _Best:
    """The best distinct configs seen; tells when a batch changes them."""

    def __init__(self, space: DesignSpace, configs: Configs, scores: Vector) -> None:
        self._space = space
        self._codes = space.encode(configs[:0])
        self._scores = scores[:0]
        self.update(configs, scores)

    def update(self, configs: Configs, scores: Vector) -> bool:
        """Take in a batch; whether it changed anything."""
        if len(self._scores) == _WATCHED:
            better = scores > self._scores[-1]
            configs, scores = configs[better], scores[better]
        codes, first = np.unique(self._space.encode(configs), return_index=True)
        new = ~np.isin(codes, self._codes)
        if not new.any():
            return False
        codes = np.concatenate([self._codes, codes[new]])
        scores = np.concatenate([self._scores, scores[first[new]]])
        order = np.argsort(-scores, kind="stable")[:_WATCHED]
        self._codes, self._scores = codes[order], scores[order]
        return True
