"""A design space as a Gymnasium environment: one walker, or a vector of walkers."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium.spaces import Box, MultiDiscrete
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from chameleon_ray.errors import SettingsError
from chameleon_ray.space import BoolArray, Configs, DesignSpace, Score, Vector

ENV_ID = "chameleon/ConfigSpace-v0"
DIRECTIONS = 3  # decrement, stay, increment: the actions 0, 1, 2 of each knob
STAY = 1

Actions = npt.NDArray[np.integer[Any]]
Observations = npt.NDArray[np.float32]
Luck = npt.NDArray[np.float32]
Info = dict[str, Any]


class Moves:
    """What an action does to a walker (section 3.2): shared by environments and rollouts.

    An ordered knob steps by -1, 0 or +1 and stops at its ends. A knob without order jumps to a
    random choice, whichever the direction, when `resample_unordered`. A move into a statically
    forbidden config leaves the walker where it is.

    Args:
        space: What is walked.
        early_stop: The share of knobs that must stay, or press a bound, to end an episode; None
            lets every episode run to its last step.
        resample_unordered: Whether knobs without order jump instead of stepping.
    """

    def __init__(
        self,
        space: DesignSpace,
        *,
        early_stop: float | None = 0.75,
        resample_unordered: bool = True,
    ) -> None:
        self.space = space
        self._last = space.sizes - 1
        self._scale = (1 / space.sizes).astype(np.float32)
        self.jumping = ~space.ordered if resample_unordered else np.zeros_like(space.ordered)
        self.needs_luck = bool(self.jumping.any())
        knobs = len(space.knobs)
        self._enough = knobs + 1 if early_stop is None else math.ceil(early_stop * knobs)

    def observe(self, configs: Configs) -> Observations:
        """Index over size of each knob, float32 `(n, knobs)` in [0, 1)."""
        return np.multiply(configs, self._scale, dtype=np.float32)

    def step(
        self, configs: Configs, actions: Actions, luck: Luck | None = None
    ) -> tuple[Configs, BoolArray]:
        """Move every walker once.

        Args:
            configs: Where the walkers stand, `(n, knobs)`.
            actions: 0, 1 or 2 for decrement, stay or increment, `(n, knobs)`.
            luck: Uniform numbers in [0, 1), `(n, knobs)`: where jumps land. May be missing if
                `needs_luck` is false.

        Returns:
            Where the walkers stand afterwards `(n, knobs)`, and which episodes end here `(n,)`.
        """
        target = np.minimum(np.maximum(configs + (actions - STAY), 0), self._last)
        held = target == configs
        if self.needs_luck and luck is not None:
            stays = actions == STAY
            landing = np.where(stays, configs, (luck * self.space.sizes).astype(np.int32))
            target = np.where(self.jumping, landing, target)
            held = np.where(self.jumping, stays, held)
        stopped = held.sum(axis=1) >= self._enough
        return self.space.move(configs, target - configs), stopped


def random_starts(space: DesignSpace, n: int, rng: np.random.Generator) -> Configs:
    """`n` valid configs `(n, knobs)`: distinct ones, as long as the space has so many.

    Raises:
        SettingsError: No valid config was found.
    """
    found = space.random(n, rng)
    if not len(found):
        raise SettingsError(f"{space.name}: no config was found that meets every constraint.")
    return found if len(found) == n else found[np.arange(n) % len(found)]


def unscored(configs: Configs) -> Vector:
    """The score of an environment that is walked now and scored later: zeros `(n,)`."""
    return np.zeros(len(configs), dtype=np.float32)


class ConfigSpaceVectorEnv(VectorEnv):
    """`num_envs` walkers on one space, stepped and scored together (section 3.2).

    An observation is the index of each knob over its size; an action is a direction for each
    knob; the reward is the predicted fitness of the config reached. An episode that is over is
    reset by the next step, as Gymnasium's `AutoresetMode.NEXT_STEP` says.

    Args:
        num_envs: Walkers.
        space: What is walked.
        score: Predicted fitness of a batch of configs.
        steps: Most steps of an episode (`step_rl` of Table 7).
        early_stop: As in `Moves`.
        resample_unordered: As in `Moves`.
    """

    metadata: ClassVar[Info] = {
        "render_modes": [],
        "autoreset_mode": AutoresetMode.NEXT_STEP,
    }

    def __init__(
        self,
        num_envs: int = 1,
        *,
        space: DesignSpace,
        score: Score,
        steps: int = 500,
        early_stop: float | None = 0.75,
        resample_unordered: bool = True,
    ) -> None:
        self.num_envs = num_envs
        self.moves = Moves(space, early_stop=early_stop, resample_unordered=resample_unordered)
        self.score = score
        self.steps = steps
        knobs = len(space.knobs)
        self.single_observation_space = Box(0.0, 1.0, (knobs,), np.float32)
        self.single_action_space = MultiDiscrete([DIRECTIONS] * knobs)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.configs: Configs = np.zeros((num_envs, knobs), dtype=np.int32)
        self._taken = np.zeros(num_envs, dtype=np.int64)
        self._over = np.ones(num_envs, dtype=np.bool_)

    def reset(
        self, *, seed: int | None = None, options: Info | None = None
    ) -> tuple[Observations, Info]:
        """Put every walker on a random valid config.

        Args:
            seed: Seeds starts and jumps; None goes on with the present generator.
            options: `{"configs": (num_envs, knobs)}` states where to start.

        Raises:
            SettingsError: No valid config was found.
        """
        super().reset(seed=seed)
        space, given = self.moves.space, (options or {}).get("configs")
        starts = random_starts(space, self.num_envs, self.np_random) if given is None else given
        self.configs = np.array(starts, dtype=np.int32).reshape(self.configs.shape)
        self._taken[:] = 0
        self._over[:] = False
        return self.moves.observe(self.configs), {}

    def step(self, actions: Actions) -> tuple[Observations, Vector, BoolArray, BoolArray, Info]:
        """Move every walker once; walkers whose episode was over start anew instead.

        Returns:
            Observations `(num_envs, knobs)`, predicted fitness `(num_envs,)`, whether the episode
            is over, the same for truncation (never: no value follows the last step), and no info.
        """
        fresh = self._over
        luck = self.np_random.random(self.configs.shape, dtype=np.float32)
        configs, stopped = self.moves.step(self.configs, np.asarray(actions), luck)
        if fresh.any():
            configs[fresh] = random_starts(self.moves.space, int(fresh.sum()), self.np_random)
        self._taken = np.where(fresh, 0, self._taken + 1)
        self._over = ~fresh & (stopped | (self._taken >= self.steps))
        self.configs = configs
        rewards = np.where(fresh, np.float32(0), self.score(configs))
        never = np.zeros(self.num_envs, dtype=np.bool_)
        return self.moves.observe(configs), rewards, self._over.copy(), never, {}


class ConfigSpaceEnv(gymnasium.Env):  # type: ignore[type-arg, unused-ignore]
    """One walker on one space; the arguments are those of `ConfigSpaceVectorEnv`."""

    metadata: ClassVar[Info] = {"render_modes": []}

    def __init__(
        self,
        *,
        space: DesignSpace,
        score: Score,
        steps: int = 500,
        early_stop: float | None = 0.75,
        resample_unordered: bool = True,
    ) -> None:
        self._walkers = ConfigSpaceVectorEnv(
            space=space,
            score=score,
            steps=steps,
            early_stop=early_stop,
            resample_unordered=resample_unordered,
        )
        self.observation_space = self._walkers.single_observation_space
        self.action_space = self._walkers.single_action_space

    def reset(
        self, *, seed: int | None = None, options: Info | None = None
    ) -> tuple[Observations, Info]:
        """Put the walker on a random valid config, or on `options["configs"]`.

        Raises:
            SettingsError: No valid config was found.
        """
        super().reset(seed=seed)
        observations, info = self._walkers.reset(seed=seed, options=options)
        return observations[0], info

    def step(self, action: Actions) -> tuple[Observations, float, bool, bool, Info]:
        """Move once: observation `(knobs,)`, predicted fitness, over, never truncated, no info."""
        observations, rewards, over, _, info = self._walkers.step(np.asarray(action)[None, :])
        return observations[0], float(rewards[0]), bool(over[0]), False, info


def register() -> None:
    """Make both environments known to Gymnasium as `chameleon/ConfigSpace-v0`; once is enough.

    Importing this module does it, so that Gymnasium's `module:name` form finds them:
    `gymnasium.make("chameleon_ray.environment:chameleon/ConfigSpace-v0", space=..., score=...)`.
    """
    if ENV_ID not in gymnasium.registry:
        gymnasium.register(
            id=ENV_ID,
            entry_point="chameleon_ray.environment:ConfigSpaceEnv",
            vector_entry_point="chameleon_ray.environment:ConfigSpaceVectorEnv",
        )


register()
