"""Tests of chameleon_ray.environment."""

import subprocess
import sys
import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from chameleon_ray.environment import (
    ENV_ID,
    ConfigSpaceVectorEnv,
    Moves,
    random_starts,
    register,
    unscored,
)
from chameleon_ray.errors import SettingsError
from chameleon_ray.space import Constraint, DesignSpace, Knob, options

NUMBERS = tuple(range(10))


def line(*, knobs=4, ordered=True, constraints=()):
    """A space of knobs with ten choices each."""
    return DesignSpace(
        "line",
        [
            Knob(name=f"k{i}", choices=tuple((n,) for n in NUMBERS), ordered=ordered)
            for i in range(knobs)
        ],
        constraints=constraints,
    )


def first(configs):
    """Predicted fitness: the first index, as a share."""
    return (configs[:, 0] / 10).astype(np.float32)


def not_five(values):
    """Forbids the value 5 of the first knob."""
    return values["k0"][:, 0] != 5


def nothing(values):
    """Forbids everything."""
    return values["k0"][:, 0] < 0


@pytest.mark.parametrize("ordered", [True, False])
def test_gymnasium_finds_nothing_wrong(ordered):
    """Gymnasium's own checker accepts the registered environment."""
    env = gymnasium.make(
        f"chameleon_ray.environment:{ENV_ID}", space=line(ordered=ordered), score=first
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env.unwrapped, skip_render_check=True)


def test_registering_twice_is_harmless():
    """A second registration neither warns nor replaces."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        register()
    assert ENV_ID in gymnasium.registry


def test_gymnasium_makes_vectors_of_it():
    """`make_vec` takes our batched environment, or many single ones."""
    for mode in ("vector_entry_point", "sync"):
        env = gymnasium.make_vec(ENV_ID, 3, vectorization_mode=mode, space=line(), score=first)
        observations, _ = env.reset(seed=1)
        assert observations.shape == (3, 4)
        assert observations in env.observation_space
        observations, reward, *_ = env.step(np.full((3, 4), 2))
        np.testing.assert_allclose(reward, observations[:, 0], rtol=1e-6)


def test_importing_brings_neither_ray_nor_torch():
    """The module stands on Gymnasium and numpy alone."""
    code = (
        "import sys, chameleon_ray.environment;"
        "print(sorted({'ray', 'torch', 'xgboost', 'tvm'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_observations_are_index_over_size():
    """An observation lies in [0, 1), in float32."""
    seen = Moves(line()).observe(np.array([[0, 5, 9, 1]], dtype=np.int32))
    np.testing.assert_allclose(seen, [[0, 0.5, 0.9, 0.1]], rtol=1e-6)
    assert seen.dtype == np.float32


def test_actions_step_down_stay_and_up_and_stop_at_the_ends():
    """0, 1 and 2 mean -1, 0 and +1, clipped."""
    here = np.array([[0, 0, 9, 9], [4, 4, 4, 4]], dtype=np.int32)
    actions = np.array([[0, 2, 2, 0], [0, 1, 2, 1]])
    there, _ = Moves(line()).step(here, actions)
    assert there.tolist() == [[0, 1, 9, 8], [3, 4, 5, 4]]
    assert there.dtype == np.int32


def test_a_forbidden_config_is_never_entered():
    """A walker whose move is forbidden stays where it is; others move."""
    moves = Moves(line(constraints=[Constraint(name="not 5", holds=not_five)]))
    there, _ = moves.step(np.array([[4, 4, 4, 4], [3, 4, 4, 4]]), np.full((2, 4), 2))
    assert there.tolist() == [[4, 4, 4, 4], [4, 5, 5, 5]]


@pytest.mark.parametrize(
    ("actions", "stops"),
    [([1, 1, 1, 2], True), ([1, 1, 2, 2], False), ([0, 1, 1, 2], True), ([2, 1, 1, 2], False)],
)
def test_three_quarters_at_rest_end_an_episode(actions, stops):
    """Staying and pressing a bound both count (the first knob stands at its lower end)."""
    here = np.array([[0, 4, 4, 4]], dtype=np.int32)
    assert Moves(line()).step(here, np.array([actions]))[1].tolist() == [stops]


def test_early_stop_can_be_turned_off():
    """Without early stop, even a walker at rest goes on."""
    here = np.zeros((1, 4), dtype=np.int32)
    assert not Moves(line(), early_stop=None).step(here, np.ones((1, 4)))[1].any()


def test_knobs_without_order_jump_where_luck_says():
    """Both directions jump, staying stays, and only jumps count as movement."""
    moves = Moves(line(ordered=False))
    here = np.zeros((2, 4), dtype=np.int32)
    actions = np.array([[0, 1, 2, 2], [1, 1, 1, 0]])
    luck = np.full((2, 4), 0.75, dtype=np.float32)
    there, stopped = moves.step(here, actions, luck)
    assert there.tolist() == [[7, 0, 7, 7], [0, 0, 0, 7]]
    assert stopped.tolist() == [False, True]
    assert moves.needs_luck


def test_jumps_can_be_turned_off():
    """As in the authors' code, every knob then steps by one."""
    moves = Moves(line(ordered=False), resample_unordered=False)
    there, _ = moves.step(np.zeros((1, 4), dtype=np.int32), np.full((1, 4), 2))
    assert there.tolist() == [[1, 1, 1, 1]]
    assert not moves.needs_luck


def test_an_episode_ends_after_its_steps_and_starts_anew():
    """The last step is terminal, not truncated; the next one resets without reward."""
    env = ConfigSpaceVectorEnv(2, space=line(), score=first, steps=2, early_stop=None)
    env.reset(seed=0, options={"configs": np.array([[4, 4, 4, 4], [5, 5, 5, 5]])})
    up = np.full((2, 4), 2)
    _, rewards, over, truncated, _ = env.step(up)
    np.testing.assert_allclose(rewards, [0.5, 0.6])
    assert not over.any()
    _, rewards, over, truncated, _ = env.step(up)
    np.testing.assert_allclose(rewards, [0.6, 0.7])
    assert over.all()
    assert not truncated.any()
    _, rewards, over, _, _ = env.step(up)
    assert rewards.tolist() == [0, 0]
    assert not over.any()


def test_same_seed_same_walk():
    """Starts and jumps come from the seed of `reset` alone."""
    walks = []
    for _ in range(2):
        env = ConfigSpaceVectorEnv(3, space=line(ordered=False), score=first)
        env.reset(seed=5)
        walks.append([env.step(np.full((3, 4), 2))[0].tolist() for _ in range(20)])
    assert walks[0] == walks[1]


def test_starts_repeat_only_in_a_space_too_small():
    """Distinct as long as possible, then over again."""
    tiny = DesignSpace("tiny", [options("a", (1, 2, 3))])
    starts = random_starts(tiny, 7, np.random.default_rng(0))
    assert sorted(starts[:3, 0].tolist()) == [0, 1, 2]
    assert len(starts) == 7


def test_a_space_without_a_valid_config_is_an_error():
    """The message names the space."""
    hopeless = line(constraints=[Constraint(name="nothing", holds=nothing)])
    with pytest.raises(SettingsError, match="line: no config"):
        random_starts(hopeless, 1, np.random.default_rng(0))


def test_unscored_is_zero():
    """What the env runner's environment says, because it is scored later."""
    assert unscored(np.zeros((3, 4), dtype=np.int32)).tolist() == [0, 0, 0]
