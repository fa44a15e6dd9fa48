"""Walks a wave of episodes in numpy: RLlib's env runner, with one forward pass per step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import ray
from ray.rllib.env.single_agent_env_runner import SingleAgentEnvRunner

from chameleon_ray.agent import NumpyAgent
from chameleon_ray.environment import DIRECTIONS, Moves
from chameleon_ray.space import BoolArray, Configs, DesignSpace, Score, Vector

FloatArray = npt.NDArray[np.float32]
Seeds = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Walks:
    """What every env runner needs to know for one round.

    Attributes:
        scores: Predicted fitness of a batch, for each wave: of an ensemble, one member a wave.
        starts: Where the episodes start, int32 `(waves, episodes, knobs)`.
        seeds: What each episode draws its luck from, `(waves, episodes)`: an episode walks the
            same way in whichever process it runs.
        best: The best measured configs, int32 `(m, knobs)`: some agents look at them.
    """

    scores: tuple[Score, ...]
    starts: Configs
    seeds: Seeds
    best: Configs


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """The steps of some episodes of a wave, one row per step, episode after episode.

    Attributes:
        worker: The index of the env runner; 0 is the layer's own process.
        observations: float32 `(rows, knobs)`, before the step.
        actions: int8 `(rows, knobs)`, 0 to 2.
        logp: Log probability of each knob's direction, float32 `(rows, knobs)`.
        rewards: Predicted fitness of the config reached, float32 `(rows,)`.
        advantages: Generalised advantage estimates, float32 `(rows,)`, not normalised.
        targets: What the critic should have said, float32 `(rows,)`.
        configs: The distinct configs walked, starts included, int32 `(n, knobs)`.
        scores: Their predicted fitness, float32 `(n,)`.
    """

    worker: int
    observations: FloatArray
    actions: npt.NDArray[np.int8]
    logp: FloatArray
    rewards: Vector
    advantages: Vector
    targets: Vector
    configs: Configs
    scores: Vector


@dataclass(frozen=True, slots=True, kw_only=True)
class Luck:
    """Every random number that some episodes will need.

    Attributes:
        gumbel: Added to the logits, picks directions: float32 `(episodes, steps, 3 * knobs)`.
        jumps: Where knobs without order land, float32 `(episodes, steps, knobs)` in [0, 1), or
            None if no knob jumps.
    """

    gumbel: FloatArray
    jumps: FloatArray | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Walked:
    """Episodes as they happened, time first.

    Attributes:
        configs: Where the walkers stood, int32 `(steps + 1, episodes, knobs)`.
        actions: int8 `(steps, episodes, knobs)`.
        logits: float32 `(steps, episodes, 3 * knobs)`.
        alive: Which steps belong to an episode, bool `(steps, episodes)`.
    """

    configs: Configs
    actions: npt.NDArray[np.int8]
    logits: FloatArray
    alive: BoolArray


class WalkRunner(SingleAgentEnvRunner):
    """RLlib's env runner, except that `sample` walks a wave as a batch and scores it at the end.

    `assign` says which episodes the next `sample` walks.
    """

    _share: tuple[Score, Configs, Seeds, Configs]
    _fetched: tuple[ray.ObjectRef, Walks] | None = None

    def fetch(self, walks: Walks | ray.ObjectRef) -> Walks:
        """The round itself; a reference is resolved once."""
        if isinstance(walks, Walks):
            return walks
        if self._fetched is None or self._fetched[0] != walks:
            self._fetched = (walks, ray.get(walks))
        return self._fetched[1]

    def assign(self, score: Score, starts: Configs, seeds: Seeds, best: Configs) -> None:
        """Hand out the episodes of the next `sample`.

        Args:
            score: Predicted fitness of a batch.
            starts: int32 `(episodes, knobs)`.
            seeds: One for each episode.
            best: The best measured configs, int32 `(m, knobs)`.
        """
        self._share = (score, starts, seeds, best)

    def sample(self, **_unused: Any) -> Share:
        """Walk the assigned episodes to their ends, and score what they visited."""
        score, starts, seeds, _ = self._share
        env = self.env.unwrapped
        agent = NumpyAgent.of(self.module.unwrapped())
        walked = walk(agent, env.moves, starts, draw_luck(seeds, env.steps, env.moves))
        configs, scores, rewards = score_visited(env.moves.space, score, walked)
        observations = env.moves.observe(walked.configs[:-1])
        values = agent.values(observations.reshape(-1, starts.shape[1])).reshape(rewards.shape)
        advantages = estimate_advantages(
            rewards, values, walked.alive, discount=self.config.gamma, gae=self.config.lambda_
        )
        rows = walked.alive.T  # episode after episode, so that shares can be put side by side
        actions = by_episode(walked.actions, rows)
        share = Share(
            worker=self.worker_index,
            observations=by_episode(observations, rows),
            actions=actions,
            logp=log_probabilities(by_episode(walked.logits, rows), actions),
            rewards=by_episode(rewards, rows),
            advantages=by_episode(advantages, rows),
            targets=by_episode(advantages + values, rows),
            configs=configs,
            scores=scores,
        )
        self._increase_sampled_metrics(len(share.rewards), len(starts))
        return share


def draw_luck(seeds: Seeds, steps: int, moves: Moves) -> Luck:
    """The luck of each episode from a generator of its own.

    Args:
        seeds: One for each episode.
        steps: Most steps of an episode.
        moves: Says how many knobs there are and whether some of them jump.
    """
    knobs = len(moves.space.knobs)
    gumbel = np.empty((len(seeds), steps, knobs * DIRECTIONS), dtype=np.float32)
    jumps = np.empty((len(seeds), steps, knobs), dtype=np.float32) if moves.needs_luck else None
    for episode, seed in enumerate(seeds):
        rng = np.random.default_rng(int(seed))
        rng.standard_exponential(dtype=np.float32, out=gumbel[episode])
        if jumps is not None:
            rng.random(dtype=np.float32, out=jumps[episode])
    np.log(np.maximum(gumbel, np.float32(1e-30), out=gumbel), out=gumbel)
    return Luck(gumbel=np.negative(gumbel, out=gumbel), jumps=jumps)


def walk(agent: NumpyAgent, moves: Moves, starts: Configs, luck: Luck) -> Walked:
    """Step all episodes together until each has ended.

    A direction is drawn as the largest of the knob's three logits plus Gumbel noise, which is a
    draw from their softmax.

    Args:
        agent: Emits the logits.
        moves: Where a direction leads, and when an episode ends.
        starts: int32 `(episodes, knobs)`.
        luck: For exactly these episodes; its length is the most steps of an episode.
    """
    (episodes, knobs), most = starts.shape, luck.gumbel.shape[1]
    configs = np.empty((most + 1, episodes, knobs), dtype=np.int32)
    actions = np.empty((most, episodes, knobs), dtype=np.int8)
    logits = np.empty((most, episodes, knobs * DIRECTIONS), dtype=np.float32)
    alive = np.empty((most, episodes), dtype=np.bool_)
    configs[0], going, step = starts, np.ones(episodes, dtype=np.bool_), 0
    while step < most and going.any():
        here = configs[step]
        agent.logits(moves.observe(here), out=logits[step])
        noisy = logits[step] + luck.gumbel[:, step]
        chosen = noisy.reshape(episodes, DIRECTIONS, knobs).argmax(axis=1)
        jumps = None if luck.jumps is None else luck.jumps[:, step]
        configs[step + 1], stopped = moves.step(here, chosen, jumps)
        actions[step], alive[step] = chosen, going
        going = going & ~stopped
        step += 1
    return Walked(
        configs=configs[: step + 1],
        actions=actions[:step],
        logits=logits[:step],
        alive=alive[:step],
    )


def score_visited(
    space: DesignSpace, score: Score, walked: Walked
) -> tuple[Configs, Vector, Vector]:
    """Score each distinct config of the episodes once (section 3.2: at their end).

    Returns:
        The distinct configs `(n, knobs)`, starts included, their scores `(n,)`, and the score of
        the config that each step reached `(steps, episodes)`, 0 where no step was.
    """
    reached = walked.configs[1:][walked.alive]
    visited = np.concatenate([reached, walked.configs[0]])
    _, first, place = np.unique(space.encode(visited), return_index=True, return_inverse=True)
    distinct = visited[first]
    scores = np.asarray(score(distinct), dtype=np.float32)
    rewards = np.zeros(walked.alive.shape, dtype=np.float32)
    rewards[walked.alive] = scores[place[: len(reached)]]
    return distinct, scores, rewards


def estimate_advantages(
    rewards: FloatArray, values: FloatArray, alive: BoolArray, *, discount: float, gae: float
) -> FloatArray:
    """Generalised advantage estimates of a wave (Table 9); no value follows a last step.

    Args:
        rewards: float32 `(steps, episodes)`.
        values: What the critic said before each step, float32 `(steps, episodes)`.
        alive: Which steps belong to an episode, `(steps, episodes)`.
        discount: Of the reward of the next step.
        gae: Of the estimate at the next step.
    """
    values = np.where(alive, values, 0)
    later = np.zeros_like(values)
    later[:-1] = values[1:]
    advantages: FloatArray = np.where(alive, rewards + np.float32(discount) * later - values, 0)
    decay = np.float32(discount * gae)
    for step in range(len(advantages) - 2, -1, -1):
        advantages[step] += decay * advantages[step + 1]
    return advantages


def log_probabilities(logits: FloatArray, actions: npt.NDArray[np.int8]) -> FloatArray:
    """The log probability of each knob's direction, float32 `(rows, knobs)`.

    Args:
        logits: `(rows, 3 * knobs)`.
        actions: `(rows, knobs)`.
    """
    table = logits.reshape(len(actions), DIRECTIONS, -1)
    total = np.logaddexp(np.logaddexp(table[:, 0], table[:, 1]), table[:, 2])
    picked = np.take_along_axis(table, actions[:, None].astype(np.intp), axis=1)
    logp: FloatArray = picked[:, 0] - total
    return logp


def by_episode(columns: npt.NDArray[Any], rows: BoolArray) -> npt.NDArray[Any]:
    """`(steps, episodes, ...)` -> `(rows, ...)`: one episode after the other.

    Args:
        columns: Time first.
        rows: Which steps belong to an episode, `(episodes, steps)`.
    """
    return columns.swapaxes(0, 1)[rows]
