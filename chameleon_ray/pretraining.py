"""An agent that carries over, trained by RLlib's PPO on many spaces at once.

Every iteration walks on several spaces, each under a model fitted to a random subset of its
measurements: what a search would meet. The agent sees the model's score, and is paid for finding
what is truly faster than all that its walk had found, which a search cannot know and a recording
can. So it may come to mistrust a score that promises more the farther it is from what was measured.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import ray
from ray.rllib.algorithms.ppo import PPO
from ray.rllib.core import COMPONENT_LEARNER, COMPONENT_RL_MODULE, DEFAULT_MODULE_ID
from ray.rllib.utils.metrics import (
    ENV_RUNNER_RESULTS,
    LEARNER_RESULTS,
    NUM_ENV_STEPS_SAMPLED,
    NUM_ENV_STEPS_SAMPLED_LIFETIME,
    WEIGHTS_SEQ_NO,
)

from chameleon_ray.devices import Device
from chameleon_ray.environment import Moves
from chameleon_ray.exercises import Exercise, Visit, draw_exercise, visit
from chameleon_ray.explorers.ppo import (
    algorithm_of,
    minibatch_rows,
    one_torch_thread,
    training_batch,
)
from chameleon_ray.explorers.rollout import Share, draw_luck
from chameleon_ray.explorers.token_rollout import TokenRunner, gains, share_of, walk_scored
from chameleon_ray.settings import PpoSettings
from chameleon_ray.space import Vector
from chameleon_ray.token_agent import NumpyTokenAgent

Progressed = Callable[[int, float], None]
_FRESH = 0.1  # chance that a visit's exercise is drawn anew


@dataclass(frozen=True, slots=True, kw_only=True)
class PretrainSettings:
    """How much is walked, and how the agent learns from it.

    Attributes:
        iterations: Updates; each is of `visits` exercises.
        visits: Spaces walked for an update, each under another score.
        walkers: Walks of a visit.
        steps: Of a walk: one of these, drawn for each visit.
        exercises: Models of a space that are kept at a time.
        hidden: Width of the agent's layers.
        learning_rate: At the start; it falls linearly to a twentieth.
        discount: Of the reward of the next step.
        gae: Of the estimate at the next step.
        entropy_coefficient: What randomness is worth.
        seed: Of everything.
        workers: Rollout workers, a process each; 0 walks in this process.
    """

    iterations: int = 200
    visits: int = 8
    walkers: int = 24
    steps: tuple[int, ...] = (40, 64, 100)
    exercises: int = 6
    hidden: int = 32
    learning_rate: float = 2e-3
    discount: float = 0.9
    gae: float = 0.9
    entropy_coefficient: float = 1e-3
    seed: int = 0
    workers: int = 0

    def ppo(self) -> PpoSettings:
        """What RLlib is told."""
        return PpoSettings(
            agent="tokens",
            episodes=self.visits * self.walkers,
            steps=max(self.steps),
            waves=1,
            hidden=self.hidden,
            learning_rate=self.learning_rate,
            discount=self.discount,
            gae=self.gae,
            entropy_coefficient=self.entropy_coefficient,
            workers=self.workers,
        )

    def plain(self) -> dict[str, Any]:
        """For the card."""
        return asdict(self) | {"steps": list(self.steps)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """What came of it.

    Attributes:
        weights: Of a `TokenAgent`, by its names.
        steps: Environment steps walked.
        worth: Of each iteration that was made, by how much the best config that a walk met is truly
            better than where it began: the mean over the walks, as a share of the best measured.
    """

    weights: dict[str, Any]
    steps: int
    worth: tuple[float, ...]


def pretrain(
    devices: Sequence[Device],
    settings: PretrainSettings,
    progressed: Progressed = lambda _iteration, _worth: None,
) -> Trained:
    """Train an agent on the spaces of some devices.

    Ctrl-C ends it with what the agent has learned by then, if that is one iteration at least.

    Args:
        devices: Whose spaces are walked.
        settings: How.
        progressed: Told of each iteration: its number from 1, and its worth.

    Raises:
        SettingsError: Nothing of a space works.
        KeyboardInterrupt: Before the first iteration is made.
    """
    rng = np.random.default_rng(settings.seed)
    known = [
        [draw_exercise(devices, at, rng) for _ in range(settings.exercises)]
        for at in range(len(devices))
    ]
    moves = [Moves(device.space, early_stop=None) for device in devices]
    algorithm = algorithm_of(
        settings.ppo(),
        space=devices[0].space,
        seed=settings.seed,
        algorithm=PretrainingAlgorithm,
        env_runner=PretrainingRunner,
    )
    worth, steps = list[float](), 0
    try:
        algorithm.open(devices, settings)
        for iteration in range(settings.iterations):
            try:
                visits = _visits(devices, known, moves, settings, rng)
                with one_torch_thread():
                    algorithm.begin(visits, rng, 1 - 0.95 * iteration / settings.iterations)
                    algorithm.train()
                worth.append(algorithm.worth)
                steps = algorithm.steps
                progressed(iteration + 1, algorithm.worth)
            except KeyboardInterrupt:
                if not worth:
                    raise
                break
        return Trained(weights=algorithm.weights(), steps=steps, worth=tuple(worth))
    finally:
        algorithm.stop()


def _visits(
    devices: Sequence[Device],
    known: list[list[Exercise]],
    moves: Sequence[Moves],
    settings: PretrainSettings,
    rng: np.random.Generator,
) -> tuple[Visit, ...]:
    """Other spaces for each iteration; an exercise is drawn anew now and then."""
    chosen = []
    for at in rng.permutation(len(devices) * settings.visits)[: settings.visits] % len(devices):
        place = int(rng.integers(settings.exercises))
        if rng.random() < _FRESH:
            known[at][place] = draw_exercise(devices, int(at), rng)
        steps = int(rng.choice(settings.steps))
        exercise = known[at][place]
        chosen.append(visit(exercise, moves[at], rng, walkers=settings.walkers, steps=steps))
    return tuple(chosen)


class PretrainingRunner(TokenRunner):
    """Walks visits on any of the devices."""

    _devices: tuple[Device, ...] = ()

    def open(self, devices: tuple[Device, ...] | ray.ObjectRef) -> None:
        """Get to know the devices, once."""
        if not self._devices:
            found = devices if isinstance(devices, tuple) else ray.get(devices)
            self._moves = [Moves(device.space, early_stop=None) for device in found]
            self._devices = found

    def walk(self, visits: Sequence[Visit]) -> list[Share]:
        """Walk some visits; a step is paid what it found that is truly better than all before."""
        agent = NumpyTokenAgent.of(self.module.unwrapped())
        return [self._walk(agent, one) for one in visits]

    def _walk(self, agent: NumpyTokenAgent, one: Visit) -> Share:
        device, moves = self._devices[one.device], self._moves[one.device]
        luck = draw_luck(one.seeds, one.steps, moves)
        found = walk_scored(agent, moves, one.starts, luck, score=one.score, best=one.best)
        visited = found.walked.configs
        times = device.times(visited.reshape(-1, visited.shape[-1])).reshape(visited.shape[:2])
        share = share_of(
            found,
            gains((one.seconds / times).astype(np.float32)),
            moves=moves,
            worker=self.worker_index,
            discount=self.config.gamma,
            gae=self.config.lambda_,
        )
        return replace(share, advantages=_standardised(share.advantages, one.steps))


def _standardised(advantages: Vector, steps: int) -> Vector:
    """Each step's advantages against those of the other walks at the same step.

    The first steps of a walk gain most, whatever the agent does; so measured, the last ones teach
    as much, and so do spaces whose times differ little.
    """
    table = advantages.reshape(-1, steps)
    level = table.std(axis=0)
    scaled: Vector = (table - table.mean(axis=0)) / (level + 0.1 * level.mean() + 1e-6)
    return scaled.ravel()


class PretrainingAlgorithm(PPO):
    """RLlib's PPO whose training iteration is a set of visits and an update."""

    steps = 0

    def open(self, devices: Sequence[Device], settings: PretrainSettings) -> None:
        """State where is walked, and how."""
        self._settings = settings
        self._devices = ray.put(tuple(devices)) if settings.workers else tuple(devices)

    def begin(self, visits: tuple[Visit, ...], rng: np.random.Generator, rate: float) -> None:
        """State what the next `train()` walks, and what share of the learning rate is left."""
        self._visits = ray.put(visits) if self._settings.workers else visits
        self._rng, self._rate = rng, rate

    def training_step(self) -> None:
        """One iteration."""
        shares = self._walk()
        steps = sum(len(share.rewards) for share in shares)
        self.steps += steps
        self.worth = float(sum(s.rewards.sum() for s in shares)) / (
            self._settings.visits * self._settings.walkers
        )
        self.metrics.log_value((ENV_RUNNER_RESULTS, NUM_ENV_STEPS_SAMPLED), steps, reduce="sum")
        self.metrics.log_value(
            (ENV_RUNNER_RESULTS, NUM_ENV_STEPS_SAMPLED_LIFETIME), steps, reduce="lifetime_sum"
        )
        rows, size = minibatch_rows(self._settings.ppo(), steps, self._rng)
        rate = self._settings.learning_rate * self._rate
        self.learner_group.foreach_learner(lambda learner: _set_rate(learner, rate))
        results = self.learner_group.update(
            batch=training_batch(shares, rows), minibatch_size=size, num_epochs=1
        )
        self.metrics.aggregate(results, key=LEARNER_RESULTS)

    def _walk(self) -> list[Share]:
        """Walk on every env runner, and what a lost one leaves undone in this process."""
        group, workers = self.env_runner_group, max(1, self._settings.workers)
        state = self.learner_group.get_state(
            components=f"{COMPONENT_LEARNER}/{COMPONENT_RL_MODULE}", inference_only=True
        )[COMPONENT_LEARNER]
        order = _Order(devices=self._devices, visits=self._visits, state=state, shares=workers)
        found = dict(group.foreach_env_runner(order, local_env_runner=False))
        for undone in set(range(workers)) - set(found):
            found.update([order(group.local_env_runner, undone)])
        order_of = range(self._settings.visits)  # whoever walked, the learner sees one order
        return [found[at % workers][at // workers] for at in order_of]

    def weights(self) -> dict[str, Any]:
        """The agent's present weights, float32 arrays by name."""
        module = self.learner_group.foreach_learner(
            lambda learner: learner.module[DEFAULT_MODULE_ID].unwrapped().state_dict()
        )
        (state,) = [result.get() for result in module]
        return {name: tensor.numpy().copy() for name, tensor in state.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Order:
    """What an env runner is asked to do; it runs in that runner's process."""

    devices: tuple[Device, ...] | ray.ObjectRef
    visits: tuple[Visit, ...] | ray.ObjectRef
    state: dict[str, Any]
    shares: int

    def __call__(
        self, runner: PretrainingRunner, share: int | None = None
    ) -> tuple[int, list[Share]]:
        """Walk every so manieth visit, from that of this runner's index on."""
        index = runner.worker_index - 1 if share is None else share
        runner.open(self.devices)
        runner.set_state({key: self.state[key] for key in (COMPONENT_RL_MODULE, WEIGHTS_SEQ_NO)})
        visits = self.visits if isinstance(self.visits, tuple) else ray.get(self.visits)
        return index, runner.walk(visits[index :: self.shares])


def _set_rate(learner: Any, rate: float) -> None:
    for _, optimizer in learner.get_optimizers_for_module(DEFAULT_MODULE_ID):
        for group in optimizer.param_groups:
            group["lr"] = rate
