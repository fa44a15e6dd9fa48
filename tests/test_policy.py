"""Tests of chameleon_ray.policy and chameleon_ray.agent."""

import numpy as np
import pytest
import torch
from contracts_explorer import peak, space
from gymnasium.spaces import Box, MultiDiscrete
from ray.rllib.algorithms.ppo import PPO
from ray.rllib.core.columns import Columns
from ray.rllib.env.single_agent_env_runner import SingleAgentEnvRunner
from ray.rllib.evaluation.postprocessing import Postprocessing
from ray.rllib.policy.sample_batch import MultiAgentBatch, SampleBatch

from chameleon_ray.agent import Agent, AgentLearner, Directions, NumpyAgent
from chameleon_ray.environment import Moves
from chameleon_ray.explorers.ppo import minibatch_rows
from chameleon_ray.explorers.rollout import (
    Walked,
    draw_luck,
    estimate_advantages,
    log_probabilities,
    score_visited,
    walk,
)
from chameleon_ray.policy import ppo_config
from chameleon_ray.settings import PpoSettings

KNOBS = 5
PICKED = torch.tensor([[0, 1, 2, 2, 0], [1, 1, 0, 2, 1]])


def agent(*, seed=0, noisy=False):
    """An agent for five knobs; `noisy` makes its weights large, as training would."""
    made = Agent(
        observation_space=Box(0, 1, (KNOBS,), np.float32),
        action_space=MultiDiscrete([3] * KNOBS),
        model_config={"hidden": 20, "temperature": 0.1, "seed": seed},
    )
    if noisy:
        generator = torch.Generator().manual_seed(1)
        for parameter in made.parameters():
            torch.nn.init.normal_(parameter, std=0.5, generator=generator)
    return made


def config(settings, runner=SingleAgentEnvRunner):
    """A config for the contracts' space."""
    return ppo_config(settings, space=space(), seed=0, algorithm=PPO, env_runner=runner)


def test_rllib_gets_the_numbers_of_tables_7_and_9():
    """The defaults arrive where RLlib reads them, and what the paper has not is off."""
    made = config(PpoSettings())
    assert made.lr == 1e-3
    assert (made.gamma, made.lambda_) == (0.9, 0.99)
    assert (made.num_epochs, made.clip_param) == (3, 0.3)
    assert (made.vf_loss_coeff, made.entropy_coeff) == (1.0, 0.1)
    assert made.train_batch_size_per_learner == 16 * 500
    assert made.env_config["steps"] == 500
    assert not made.use_kl_loss
    assert made.vf_clip_param == float("inf")
    assert made.seed is None


@pytest.mark.parametrize(
    "settings",
    [
        PpoSettings(),
        PpoSettings(waves=128, batch="draw", minibatch=32),
        PpoSettings(episodes=2, waves=2, steps=3, workers=3),
    ],
)
def test_rllib_accepts_the_config(settings):
    """Its own validation has nothing to say, whatever the sizes."""
    config(settings).validate()


class TestAgent:
    """The networks."""

    def test_the_sizes_are_those_of_the_authors(self):
        """20-20 and two layers of 3 for each knob; a critic of 20-20-1 on the same first layer."""
        sizes = {name: tuple(p.shape) for name, p in agent().named_parameters()}
        assert sizes["shared.weight"] == (20, KNOBS)
        assert sizes["actor.weight"] == sizes["critic_1.weight"] == sizes["critic_2.weight"]
        assert sizes["heads.weight"] == (3 * KNOBS, 20)
        assert sizes["head_weights"] == (3, 3, KNOBS)
        assert sizes["value.weight"] == (1, 20)

    def test_actor_and_critic_share_the_first_layer_only(self):
        """Section 3.2: the first layer gets gradients from both, every other from one."""
        made, rows = agent(noisy=True), torch.rand(6, KNOBS)
        touched = []
        for out in (
            made._forward({Columns.OBS: rows})[Columns.ACTION_DIST_INPUTS],
            made.compute_values({Columns.OBS: rows}),
        ):
            made.zero_grad()
            out.square().sum().backward()
            touched.append({n for n, p in made.named_parameters() if p.grad is not None})
        assert touched[0] & touched[1] == {"shared.weight", "shared.bias"}
        assert touched[0] | touched[1] == {n for n, _ in made.named_parameters()}

    def test_a_knobs_last_layer_sees_that_knob_alone(self):
        """Changing one knob's last weights changes that knob's logits and no other."""
        made, rows = agent(noisy=True), torch.rand(6, KNOBS)
        before = made._forward({Columns.OBS: rows})[Columns.ACTION_DIST_INPUTS]
        with torch.no_grad():
            made.head_weights[:, :, 2] += 1
        after = made._forward({Columns.OBS: rows})[Columns.ACTION_DIST_INPUTS]
        changed = (after != before).reshape(6, 3, KNOBS).any(dim=0).any(dim=0)
        assert changed.tolist() == [False, False, True, False, False]

    def test_the_seed_decides_the_weights_and_leaves_torch_alone(self):
        """Same seed, same weights; the global generator neither matters nor moves."""
        torch.manual_seed(1)
        state = torch.get_rng_state()
        one = agent(seed=4).get_state()
        assert torch.equal(torch.get_rng_state(), state)
        torch.manual_seed(2)
        other, third = agent(seed=4).get_state(), agent(seed=5).get_state()
        assert all((one[name] == other[name]).all() for name in one)
        assert (one["shared.weight"] != third["shared.weight"]).any()

    def test_first_walks_are_nearly_uniform(self):
        """No direction has a chance below a quarter before anything is learned."""
        logits = agent()._forward({Columns.OBS: torch.rand(50, KNOBS)})[Columns.ACTION_DIST_INPUTS]
        assert Directions.from_logits(logits).log_probabilities.exp().min() > 0.25

    def test_the_numpy_twin_computes_the_same(self):
        """Logits and values agree with torch to float32 precision."""
        made, rows = agent(noisy=True), torch.rand(40, KNOBS)
        twin = NumpyAgent.of(made)
        with torch.no_grad():
            logits = made._forward({Columns.OBS: rows})[Columns.ACTION_DIST_INPUTS].numpy()
            values = made.compute_values({Columns.OBS: rows}).numpy()
        out = np.empty_like(logits)
        assert twin.logits(rows.numpy(), out=out) is out
        np.testing.assert_allclose(out, logits, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(twin.values(rows.numpy()), values, rtol=1e-4, atol=1e-5)

    def test_the_numpy_twin_keeps_its_weights(self):
        """Updating the agent later does not reach it."""
        made, rows = agent(noisy=True), np.ones((1, KNOBS), dtype=np.float32)
        twin = NumpyAgent.of(made)
        before = twin.logits(rows), twin.values(rows)
        with torch.no_grad():
            for parameter in made.parameters():
                parameter.add_(1)
        np.testing.assert_array_equal(twin.logits(rows), before[0])
        np.testing.assert_array_equal(twin.values(rows), before[1])


class TestDirections:
    """The distribution, against torch's own."""

    @pytest.fixture
    def pair(self):
        logits = 3 * torch.randn(2, 3 * KNOBS, generator=torch.Generator().manual_seed(0))
        table = logits.reshape(2, 3, KNOBS).transpose(1, 2)
        return Directions.from_logits(logits), torch.distributions.Categorical(logits=table)

    def test_probabilities_entropy_and_divergence(self, pair):
        """Each is the sum over the knobs of what torch says."""
        ours, theirs = pair
        per_knob = theirs.log_prob(PICKED)
        torch.testing.assert_close(ours.logp_per_knob(PICKED), per_knob)
        torch.testing.assert_close(ours.logp(PICKED), per_knob.sum(-1))
        torch.testing.assert_close(ours.entropy(), theirs.entropy().sum(-1))
        flat = Directions.from_logits(torch.zeros(2, 3 * KNOBS))
        uniform = torch.distributions.Categorical(logits=torch.zeros(2, KNOBS, 3))
        expected = torch.distributions.kl_divergence(theirs, uniform).sum(-1)
        torch.testing.assert_close(ours.kl(flat), expected)
        assert ours.to_deterministic().sample().tolist() == theirs.probs.argmax(-1).tolist()

    def test_numpy_says_the_same_probabilities(self, pair):
        """The rollout's log probabilities are those that the loss compares with."""
        ours, _ = pair
        logits = ours.log_probabilities.movedim(0, 1).reshape(2, -1).numpy()
        found = log_probabilities(logits + 2, PICKED.numpy().astype(np.int8))
        np.testing.assert_allclose(found, ours.logp_per_knob(PICKED).numpy(), rtol=1e-5)

    def test_draws_have_their_probabilities(self):
        """Both ways to draw: RLlib's runner by `sample`, ours by Gumbel noise in numpy."""
        logits = torch.tensor([0.0] * KNOBS + [1.0] * KNOBS + [-1.0] * KNOBS)
        expected = torch.softmax(torch.tensor([0.0, 1.0, -1.0]), 0).numpy()
        torch.manual_seed(0)
        drawn = Directions.from_logits(logits.expand(4000, -1)).sample().numpy()
        np.testing.assert_allclose(np.bincount(drawn.ravel()) / drawn.size, expected, atol=0.02)
        luck = draw_luck(np.arange(4), 1000, Moves(space()))
        noisy = luck.gumbel.reshape(4000, 3, 4) + np.array([0.0, 1.0, -1.0])[:, None]
        drawn = noisy.argmax(axis=1)
        np.testing.assert_allclose(np.bincount(drawn.ravel()) / drawn.size, expected, atol=0.02)


def loss_by_hand(made, batch, settings):
    """PPO knob by knob, in loops, as the authors' code has it."""
    with torch.no_grad():
        logits = made._forward(batch)[Columns.ACTION_DIST_INPUTS].reshape(-1, 3, KNOBS)
        values = made.compute_values(batch)
    total = 0.0
    for knob in range(KNOBS):
        chosen = torch.distributions.Categorical(logits=logits[:, :, knob])
        ratio = torch.exp(
            chosen.log_prob(batch[Columns.ACTIONS][:, knob]) - batch[Columns.ACTION_LOGP][:, knob]
        )
        gain = torch.minimum(
            ratio * batch[Postprocessing.ADVANTAGES],
            ratio.clamp(1 - settings.clip, 1 + settings.clip) * batch[Postprocessing.ADVANTAGES],
        )
        total -= gain.mean() + settings.entropy_coefficient * chosen.entropy().mean()
    error = (values - batch[Postprocessing.VALUE_TARGETS]) ** 2
    return total + settings.value_coefficient * error.mean()


class TestLearner:
    """RLlib's learner with our loss."""

    @pytest.fixture
    def learner(self):
        spaces = (Box(0, 1, (KNOBS,), np.float32), MultiDiscrete([3] * KNOBS))
        made = config(PpoSettings(steps=10)).environment(
            observation_space=spaces[0], action_space=spaces[1]
        )
        learner = AgentLearner(
            config=made,
            module_spec=made.get_multi_rl_module_spec(spaces={"default_policy": spaces}),
        )
        learner.build()
        return learner

    def batch(self, rows=60):
        generator = torch.Generator().manual_seed(3)
        return {
            Columns.OBS: torch.rand(rows, KNOBS, generator=generator),
            Columns.ACTIONS: torch.randint(0, 3, (rows, KNOBS), generator=generator),
            Columns.ACTION_LOGP: torch.log(torch.rand(rows, KNOBS, generator=generator)),
            Postprocessing.ADVANTAGES: torch.randn(rows, generator=generator),
            Postprocessing.VALUE_TARGETS: torch.rand(rows, generator=generator),
        }

    def test_the_loss_is_summed_knob_by_knob(self, learner):
        """It equals the loss that loops over knobs compute."""
        made, batch = learner.module["default_policy"].unwrapped(), self.batch()
        found = learner.compute_loss_for_module(
            module_id="default_policy",
            config=learner.config,
            batch=batch,
            fwd_out=made._forward(batch),
        )
        expected = loss_by_hand(made, batch, PpoSettings())
        torch.testing.assert_close(found.detach(), expected)

    def test_an_update_lowers_the_loss(self, learner):
        """RLlib's own update loop takes our batch and improves the agent on it."""
        made, batch = learner.module["default_policy"].unwrapped(), self.batch()
        before = loss_by_hand(made, batch, PpoSettings())
        columns = SampleBatch({name: column.numpy() for name, column in batch.items()})
        for _ in range(10):
            learner.update(
                batch=MultiAgentBatch({"default_policy": columns}, env_steps=60),
                minibatch_size=20,
                num_epochs=1,
            )
        assert loss_by_hand(made, batch, PpoSettings()) < before


class TestRollout:
    """A wave of walks, and what the learner gets of it."""

    def walked(self, *, early_stop=0.75):
        moves = Moves(space(), early_stop=early_stop)
        made = Agent(
            observation_space=Box(0, 1, (4,), np.float32),
            action_space=MultiDiscrete([3] * 4),
            model_config={"hidden": 20, "temperature": 0.1, "seed": 0},
        )
        starts = space().random(6, np.random.default_rng(0))
        luck = draw_luck(np.arange(6), 30, moves)
        return moves, luck, walk(NumpyAgent.of(made), moves, starts, luck)

    def test_each_step_follows_from_the_one_before(self):
        """Replaying the actions through `Moves` gives the same configs and the same ends."""
        moves, luck, walked = self.walked()
        going = np.ones(6, dtype=bool)
        for step, actions in enumerate(walked.actions):
            assert (walked.alive[step] == going).all()
            there, stopped = moves.step(walked.configs[step], actions, luck.jumps[:, step])
            assert (there == walked.configs[step + 1]).all()
            going &= ~stopped
        assert not walked.alive.all()

    def test_an_episode_walks_the_same_way_in_any_company(self):
        """What an episode draws comes from its own seed, not from its neighbours."""
        moves, luck, walked = self.walked(early_stop=None)
        seeds = np.arange(6)
        alone = draw_luck(seeds[3:4], 30, moves)
        np.testing.assert_array_equal(alone.gumbel[0], luck.gumbel[3])
        np.testing.assert_array_equal(alone.jumps[0], luck.jumps[3])
        assert walked.alive.all()

    def test_every_visited_config_is_scored_once(self):
        """The score sees no config twice, and each step is paid for the config it reached."""
        _, _, walked = self.walked()
        seen = []

        def score(configs):
            seen.append(configs)
            return peak(space())(configs)

        configs, scores, rewards = score_visited(space(), score, walked)
        assert len(seen) == 1
        assert len(space().distinct(seen[0])) == len(seen[0]) == len(configs) == len(scores)
        assert space().contains(configs, walked.configs[0]).all()
        for step, episode in zip(*np.nonzero(walked.alive), strict=True):
            reached = walked.configs[step + 1, episode][None, :]
            assert rewards[step, episode] == pytest.approx(peak(space())(reached)[0], rel=1e-6)
        assert not rewards[~walked.alive].any()

    def test_no_value_follows_the_last_step(self):
        """Advantages by hand: episodes of three steps and of one."""
        rewards = np.array([[1, 5], [2, 0], [3, 0]], dtype=np.float32)
        values = np.array([[0.5, 1], [0.25, 9], [0.125, 9]], dtype=np.float32)
        alive = np.array([[True, True], [True, False], [True, False]])
        found = estimate_advantages(rewards, values, alive, discount=0.9, gae=0.5)
        last = 3 - 0.125
        middle = 2 + 0.9 * 0.125 - 0.25 + 0.45 * last
        first = 1 + 0.9 * 0.25 - 0.5 + 0.45 * middle
        np.testing.assert_allclose(found, [[first, 4], [middle, 0], [last, 0]], rtol=1e-6)

    def test_certain_directions_are_always_taken(self):
        """Noise does not move what the agent is sure of."""
        moves = Moves(space(), early_stop=None)

        class Sure:
            def logits(self, observations, out):
                out[:] = np.repeat([-1e6, 0, 1e6], 4)

        starts = np.zeros((2, 4), dtype=np.int32)
        walked = walk(Sure(), moves, starts, draw_luck(np.arange(2), 5, moves))
        assert isinstance(walked, Walked)
        assert (walked.actions == 2).all()


class TestMinibatches:
    """Which rows the learner sees."""

    @pytest.mark.parametrize(
        ("steps", "size", "pieces"), [(8000, 4000, 2), (100, 100, 1), (4097, 2048, 2)]
    )
    def test_a_sweep_sees_every_row_once_an_epoch(self, steps, size, pieces):
        """In minibatches of equal size; at most as many rows are left out as there are pieces."""
        rows, found = minibatch_rows(PpoSettings(), steps, np.random.default_rng(0))
        assert found == size
        epochs = rows.reshape(3, pieces * size)
        assert all(len(set(epoch.tolist())) == pieces * size for epoch in epochs)
        assert epochs[0].tolist() != epochs[1].tolist()

    def test_the_paper_draws_with_replacement(self):
        """Three minibatches of 32 steps each, even from fewer steps."""
        settings = PpoSettings(batch="draw", minibatch=32)
        rows, size = minibatch_rows(settings, 10, np.random.default_rng(0))
        assert (len(rows), size) == (96, 32)
        assert set(rows.tolist()) <= set(range(10))
