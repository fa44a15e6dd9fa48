"""Adaptive exploration (section 3.2): RLlib's PPO, in waves of episodes."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import ray
import torch
import torch._dynamo  # here, so that the seconds are not those of the first optimiser
from ray.rllib.algorithms.ppo import PPO
from ray.rllib.core import COMPONENT_LEARNER, COMPONENT_RL_MODULE, DEFAULT_MODULE_ID
from ray.rllib.core.columns import Columns
from ray.rllib.core.learner.learner import ENTROPY_KEY, POLICY_LOSS_KEY, VF_LOSS_KEY
from ray.rllib.evaluation.postprocessing import Postprocessing
from ray.rllib.policy.sample_batch import MultiAgentBatch, SampleBatch
from ray.rllib.utils.metrics import (
    ENV_RUNNER_RESULTS,
    LEARNER_RESULTS,
    NUM_ENV_STEPS_SAMPLED,
    NUM_ENV_STEPS_SAMPLED_LIFETIME,
    WEIGHTS_SEQ_NO,
)

from chameleon_ray.environment import random_starts
from chameleon_ray.errors import SettingsError
from chameleon_ray.explorers import Candidates, Ensemble, WalkReport
from chameleon_ray.explorers.rollout import Share, WalkRunner, Walks
from chameleon_ray.explorers.token_rollout import TokenRunner
from chameleon_ray.policy import ppo_config
from chameleon_ray.ray_access import start_ray
from chameleon_ray.settings import PpoSettings
from chameleon_ray.space import Configs, DesignSpace, Score, Vector

Algorithm = TypeVar("Algorithm", bound=PPO)

_BEST_SHARE = 4  # one walk in so many starts at a best measured config
_OF_THREE = float(-np.log(3))  # log probability of a direction of what is no knob
_LEARNED = (ENTROPY_KEY, VF_LOSS_KEY, POLICY_LOSS_KEY)


class ExplorationAlgorithm(PPO):
    """RLlib's PPO whose training iteration is a round: waves of walks, an update after each."""

    _walks: Walks | ray.ObjectRef
    _waves: int
    _settings: PpoSettings
    _rng: np.random.Generator
    shares: list[list[Share]]
    learned: list[dict[str, float]]

    def begin(self, walks: Walks, settings: PpoSettings, rng: np.random.Generator) -> None:
        """State what the next `train()` walks and learns.

        Args:
            walks: Score, starts and seeds.
            settings: How minibatches are drawn.
            rng: Draws the minibatches.
        """
        self._waves = len(walks.starts)
        self._walks = ray.put(walks) if settings.workers else walks
        self._settings, self._rng, self.shares, self.learned = settings, rng, [], []

    def training_step(self) -> None:
        """One round."""
        for wave in range(self._waves):
            shares = self._walk(wave)
            self.shares.append(shares)
            steps = sum(len(share.rewards) for share in shares)
            self.metrics.log_value((ENV_RUNNER_RESULTS, NUM_ENV_STEPS_SAMPLED), steps, reduce="sum")
            self.metrics.log_value(
                (ENV_RUNNER_RESULTS, NUM_ENV_STEPS_SAMPLED_LIFETIME), steps, reduce="lifetime_sum"
            )
            rows, size = minibatch_rows(self._settings, steps, self._rng)
            results = self.learner_group.update(
                batch=training_batch(shares, rows), minibatch_size=size, num_epochs=1
            )
            told = results[0][DEFAULT_MODULE_ID]
            self.learned.append({key: float(told[key].peek()) for key in _LEARNED})
            self.metrics.aggregate(results, key=LEARNER_RESULTS)

    def _walk(self, wave: int) -> list[Share]:
        """Walk a wave on every env runner, and what a lost one leaves undone in this process."""
        group, workers = self.env_runner_group, self._settings.workers
        state = self.learner_group.get_state(
            components=f"{COMPONENT_LEARNER}/{COMPONENT_RL_MODULE}", inference_only=True
        )[COMPONENT_LEARNER]
        order = _Order(walks=self._walks, state=state, wave=wave, shares=max(1, workers))
        found: list[Share] = group.foreach_env_runner(order, local_env_runner=False)
        shares = {share.worker - 1: share for share in found}
        for undone in set(range(order.shares)) - set(shares):
            shares[undone] = order(group.local_env_runner, undone)
        return [shares[index] for index in range(order.shares)]

    def _setup_logdir(self) -> None:
        """Nothing is logged, so no folder is made in ~/ray_results."""
        self._logdir = tempfile.gettempdir()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Order:
    """What an env runner is asked to do for a wave; it runs in that runner's process.

    It carries all that is needed, so that a restarted runner has no old score and no old weights.
    """

    walks: Walks | ray.ObjectRef
    state: dict[str, Any]
    wave: int
    shares: int

    def __call__(self, runner: WalkRunner, share: int | None = None) -> Share:
        """Walk a share of the wave's episodes: by default the one of this runner's index."""
        known = runner.fetch(self.walks)
        cuts = np.linspace(0, known.seeds.shape[1], self.shares + 1).astype(int)
        index = runner.worker_index - 1 if share is None else share
        mine = slice(cuts[index], cuts[index + 1])
        runner.set_state({key: self.state[key] for key in (COMPONENT_RL_MODULE, WEIGHTS_SEQ_NO)})
        runner.assign(
            known.scores[self.wave],
            known.starts[self.wave, mine],
            known.seeds[self.wave, mine],
            known.best,
        )
        return runner.sample()


def minibatch_rows(
    settings: PpoSettings, steps: int, rng: np.random.Generator
) -> tuple[npt.NDArray[np.int64], int]:
    """Which rows of a wave the learner sees, minibatch after minibatch, for all epochs.

    `sweep` shuffles the wave for each epoch and cuts it into minibatches of equal size, at most
    `minibatch`, dropping a remainder smaller than their number. `draw` takes one minibatch per
    epoch, with replacement.

    Returns:
        Row numbers `(epochs * minibatches * size,)`, and the size.
    """
    if settings.batch == "draw":
        return rng.integers(0, steps, settings.epochs * settings.minibatch), settings.minibatch
    pieces = -(-steps // settings.minibatch)
    size = steps // pieces
    epochs = [rng.permutation(steps)[: pieces * size] for _ in range(settings.epochs)]
    return np.concatenate(epochs), size


def training_batch(shares: list[Share], rows: npt.NDArray[np.int64]) -> MultiAgentBatch:
    """The rows of a wave as RLlib's learner takes them; advantages are normalised over the wave."""
    advantages = np.concatenate([share.advantages for share in shares])
    advantages = (advantages - advantages.mean()) / max(float(advantages.std()), 1e-4)
    columns = {
        Columns.OBS: padded([share.observations for share in shares])[rows],
        Columns.ACTIONS: padded([share.actions for share in shares])[rows],
        Columns.ACTION_LOGP: padded([share.logp for share in shares], fill=_OF_THREE)[rows],
        Postprocessing.ADVANTAGES: advantages[rows],
        Postprocessing.VALUE_TARGETS: np.concatenate([share.targets for share in shares])[rows],
    }
    return MultiAgentBatch({DEFAULT_MODULE_ID: SampleBatch(columns)}, env_steps=len(rows))


def padded(columns: Sequence[npt.NDArray[Any]], *, fill: float = 0.0) -> npt.NDArray[Any]:
    """Rows `(n, knobs, ...)` of several spaces as one array, as wide as the widest.

    Args:
        columns: One array for each share.
        fill: Stands where a space has no knob.
    """
    widest = max(column.shape[1] for column in columns)
    wide = []
    for column in columns:
        more = [(0, 0)] * column.ndim
        more[1] = (0, widest - column.shape[1])
        wide.append(np.pad(column, more, constant_values=fill) if more[1][1] else column)
    return np.concatenate(wide)


class PpoExplorer:
    """Adaptive exploration with an agent that is kept from round to round (section 3.2).

    RLlib needs Ray even without worker processes: where none runs, a small local one is started.
    Pickled, it keeps what its agent has learned, and builds the rest anew.

    Args:
        settings: Tables 7 and 9.
        seed: Of the agent's first weights.
        weights: What an agent of tokens carries over from elsewhere; None: nothing. It is as wide
            as these are, whatever `hidden` says.

    Attributes:
        report: What the last round did, or None before the first.

    Raises:
        SettingsError: There are weights, and the agent is not of tokens.
    """

    def __init__(
        self, settings: PpoSettings, *, seed: int, weights: Mapping[str, Vector] | None = None
    ) -> None:
        if weights is not None and settings.agent != "tokens":
            raise SettingsError(
                f"explorer: the agent {settings.agent!r} belongs to one space's knobs and cannot "
                "begin with weights of others; set agent: tokens."
            )
        self._settings = settings
        self._seed, self._weights = seed, weights
        self._algorithm: ExplorationAlgorithm | None = None
        self._space_name = ""
        self._agent: dict[str, Any] = {}  # what a pickled explorer had learned
        self.report: WalkReport | None = None

    def __getstate__(self) -> dict[str, Any]:
        agent = self._agent
        if self._algorithm is not None:
            agent = self._algorithm.learner_group.get_state(components=COMPONENT_LEARNER)
        return self.__dict__ | {"_algorithm": None, "_agent": agent}

    def explore(
        self, space: DesignSpace, score: Score, starts: Configs, rng: np.random.Generator
    ) -> Candidates:
        """One round: as many waves of episodes as the settings say, an update after each.

        Args:
            space: The task's space; the same in every call.
            score: Predicted fitness of a batch.
            starts: The best measured configs `(m, knobs)`, the best first.
            rng: The only source of randomness.

        Raises:
            SettingsError: No valid config was found.
            ValueError: Another space than before.
        """
        algorithm = self._algorithm or self._build(space)
        if space.name != self._space_name:
            raise ValueError(f"This explorer walks {self._space_name}, not {space.name}.")
        begin = self._episodes(space, score, starts, rng)
        with one_torch_thread():
            algorithm.begin(begin, self._settings, rng)
            algorithm.train()
        waves, algorithm.shares = algorithm.shares, []
        self.report = _report(waves, algorithm.learned)
        shares = [share for wave in waves for share in wave]
        configs = np.concatenate([share.configs for share in shares])
        scores = np.concatenate([share.scores for share in shares])
        return Candidates.walked(space, configs, scores, score)

    def close(self) -> None:
        """Free the agent and the worker processes."""
        if self._algorithm is not None:
            self._algorithm.stop()
            self._algorithm = None

    def _build(self, space: DesignSpace) -> ExplorationAlgorithm:
        self._algorithm = algorithm_of(
            self._settings,
            space=space,
            seed=self._seed,
            algorithm=ExplorationAlgorithm,
            env_runner=TokenRunner if self._settings.agent == "tokens" else WalkRunner,
            weights=self._weights,
        )
        if self._agent:
            self._algorithm.learner_group.set_state(self._agent)
            self._agent = {}
        self._space_name = self._space_name or space.name
        return self._algorithm

    def _episodes(
        self, space: DesignSpace, score: Score, starts: Configs, rng: np.random.Generator
    ) -> Walks:
        """The episodes of a round: best starts are dealt out evenly among the waves."""
        episodes, waves = self._settings.episodes, self._settings.waves
        wanted = episodes // _BEST_SHARE if self._settings.starts == "best" else 0
        known = np.asarray(starts, dtype=np.int32).reshape(-1, len(space.knobs))
        best = known[:wanted]
        others = random_starts(space, episodes - len(best), rng)
        dealt = np.concatenate([best, others]).reshape(episodes // waves, waves, -1)
        seeds = rng.integers(0, 2**63, size=(waves, episodes // waves))
        scores = (score,) * waves
        if isinstance(score, Ensemble):
            scores = tuple(score.member(rng) for _ in range(waves))
        return Walks(scores=scores, starts=dealt.swapaxes(0, 1).copy(), seeds=seeds, best=known)


def algorithm_of(
    settings: PpoSettings,
    *,
    space: DesignSpace,
    seed: int,
    algorithm: type[Algorithm],
    env_runner: type[WalkRunner],
    weights: Mapping[str, Vector] | None = None,
) -> Algorithm:
    """An algorithm of RLlib's, built; Ray is started where none runs (`policy.ppo_config`)."""
    config = ppo_config(
        settings,
        space=space,
        seed=seed,
        algorithm=algorithm,
        env_runner=env_runner,
        weights=weights,
    )
    with _quiet_ray():
        if not ray.is_initialized():
            start_ray(cpus=1 + settings.workers)
        built: Algorithm = config.build_algo()
        return built


@contextmanager
def _quiet_ray() -> Iterator[None]:
    """Hush RLlib's remarks on its own deprecated code."""
    loggers = [logging.getLogger(name) for name in ("ray", "ray.rllib")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextmanager
def one_torch_thread() -> Iterator[None]:
    """More threads are slower on networks this small, and add up in another order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _report(waves: list[list[Share]], learned: list[dict[str, float]]) -> WalkReport:
    by_worker: dict[int, int] = {}
    for share in (share for wave in waves for share in wave):
        by_worker[share.worker] = by_worker.get(share.worker, 0) + len(share.rewards)
    means = [float(np.concatenate([s.rewards for s in wave]).mean()) for wave in waves]
    entropy, value_loss, policy_loss = (tuple(told[key] for told in learned) for key in _LEARNED)
    return WalkReport(
        steps=sum(by_worker.values()),
        wave_scores=tuple(means),
        steps_by_worker=by_worker,
        entropy=entropy,
        value_loss=value_loss,
        policy_loss=policy_loss,
    )
