"""Walks whose agent sees the score at every step: they are scored as they go."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from chameleon_ray.environment import DIRECTIONS, Moves
from chameleon_ray.explorers.rollout import (
    FloatArray,
    Luck,
    Share,
    Walked,
    WalkRunner,
    by_episode,
    draw_luck,
    estimate_advantages,
    log_probabilities,
)
from chameleon_ray.space import Configs, Score, Vector
from chameleon_ray.token_agent import NumpyTokenAgent
from chameleon_ray.tokens import FEATURES, Tokens, Walkers


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredWalk:
    """Episodes as they happened, time first, with what their agent saw.

    Attributes:
        walked: Where they went, and by which actions; all go to the last step.
        tokens: What the agent saw before each step, float32 `(steps, n, knobs, features)`.
        scores: Where the walkers stood, `(steps + 1, n)`.
        values: What the critic expected before each step, `(steps, n)`.
    """

    walked: Walked
    tokens: Tokens
    scores: FloatArray
    values: FloatArray


def walk_scored(
    agent: NumpyTokenAgent,
    moves: Moves,
    starts: Configs,
    luck: Luck,
    *,
    score: Score,
    best: Configs,
) -> ScoredWalk:
    """Step all episodes together to their last step, scoring each step.

    Args:
        agent: Emits logits and values.
        moves: Where a direction leads.
        starts: int32 `(episodes, knobs)`.
        luck: For exactly these episodes; its length is the number of steps.
        score: Predicted fitness of a batch.
        best: The best measured configs `(m, knobs)`: what they have in common is seen.
    """
    (n, knobs), steps = starts.shape, luck.gumbel.shape[1]
    configs = np.empty((steps + 1, n, knobs), dtype=np.int32)
    actions = np.empty((steps, n, knobs), dtype=np.int8)
    logits = np.empty((steps, n, knobs * DIRECTIONS), dtype=np.float32)
    tokens = np.empty((steps, n, knobs, len(FEATURES)), dtype=np.float32)
    scores = np.empty((steps + 1, n), dtype=np.float32)
    values = np.empty((steps, n), dtype=np.float32)
    configs[0], scores[0] = starts, score(starts)
    walkers = Walkers(moves, configs[0], scores[0], steps=steps, best=best)
    for step in range(steps):
        tokens[step] = walkers.tokens
        logits[step], values[step] = agent.logits_and_values(walkers.tokens)
        noisy = (logits[step] + luck.gumbel[:, step]).reshape(n, DIRECTIONS, knobs)
        actions[step] = noisy.argmax(axis=1)
        jumps = None if luck.jumps is None else luck.jumps[:, step]
        configs[step + 1], _ = moves.step(walkers.configs, actions[step], jumps)
        scores[step + 1] = score(configs[step + 1])
        walkers.advance(actions[step], configs[step + 1], scores[step + 1])
    alive = np.ones((steps, n), dtype=np.bool_)
    walked = Walked(configs=configs, actions=actions, logits=logits, alive=alive)
    return ScoredWalk(walked=walked, tokens=tokens, scores=scores, values=values)


def gains(scores: FloatArray) -> FloatArray:
    """By how much each step scored better than its walk ever had: `(steps + 1, n)` -> `(steps, n)`.

    They add up to what the walk has come to: the search needs its best config, not its mean.
    """
    best = np.maximum.accumulate(scores, axis=0)
    found: FloatArray = np.diff(best, axis=0)
    return found


def share_of(
    found: ScoredWalk,
    rewards: FloatArray,
    *,
    moves: Moves,
    worker: int,
    discount: float,
    gae: float,
) -> Share:
    """What the learner and the search want of some walks.

    Args:
        found: The walks.
        rewards: Of each step, `(steps, n)`.
        moves: Of their space.
        worker: Who walked.
        discount: Of the reward of the next step.
        gae: Of the estimate at the next step.
    """
    walked, rows = found.walked, found.walked.alive.T
    advantages = estimate_advantages(
        rewards, found.values, walked.alive, discount=discount, gae=gae
    )
    actions = by_episode(walked.actions, rows)
    configs, scores = _distinct(moves, walked.configs, found.scores)
    return Share(
        worker=worker,
        observations=by_episode(found.tokens, rows),
        actions=actions,
        logp=log_probabilities(by_episode(walked.logits, rows), actions),
        rewards=by_episode(rewards, rows),
        advantages=by_episode(advantages, rows),
        targets=by_episode(advantages + found.values, rows),
        configs=configs,
        scores=scores,
    )


def _distinct(moves: Moves, configs: Configs, scores: FloatArray) -> tuple[Configs, Vector]:
    visited = configs.reshape(-1, configs.shape[-1])
    _, first = np.unique(moves.space.encode(visited), return_index=True)
    return visited[first], scores.reshape(-1)[first]


class TokenRunner(WalkRunner):
    """Walks the assigned episodes with a `TokenAgent`."""

    def sample(self, **_unused: Any) -> Share:
        """Walk the assigned episodes, scoring every step."""
        score, starts, seeds, best = self._share
        env = self.env.unwrapped
        luck = draw_luck(seeds, env.steps, env.moves)
        agent = NumpyTokenAgent.of(self.module.unwrapped())
        found = walk_scored(agent, env.moves, starts, luck, score=score, best=best)
        share = share_of(
            found,
            gains(found.scores),
            moves=env.moves,
            worker=self.worker_index,
            discount=self.config.gamma,
            gae=self.config.lambda_,
        )
        self._increase_sampled_metrics(len(share.rewards), len(starts))
        return share
