"""Tests of chameleon_ray.tokens, chameleon_ray.token_agent and their walks."""

import hashlib

import numpy as np
import pytest
import torch
from contracts_explorer import peak, space
from gymnasium.spaces import Box, MultiDiscrete
from ray.rllib.core.columns import Columns

from chameleon_ray.environment import Moves
from chameleon_ray.explorers.ppo import padded, training_batch
from chameleon_ray.explorers.rollout import draw_luck
from chameleon_ray.explorers.token_rollout import gains, share_of, walk_scored
from chameleon_ray.learning.agent_file import VERSION
from chameleon_ray.space import DesignSpace, options
from chameleon_ray.token_agent import NumpyTokenAgent, TokenAgent, first_weights
from chameleon_ray.tokens import FEATURES, Walkers

KNOBS = 5


def agent(*, seed=0, weights=None):
    """An agent with large weights, as training would make them."""
    made = TokenAgent(
        observation_space=Box(0, 1, (1,), np.float32),
        action_space=MultiDiscrete([3]),
        model_config={"hidden": 8, "seed": seed, "weights": weights},
    )
    generator = torch.Generator().manual_seed(seed + 1)
    if weights is None:
        for parameter in made.parameters():
            torch.nn.init.normal_(parameter, std=0.5, generator=generator)
    return made


def tokens(n=6, knobs=KNOBS, seed=0):
    """Tokens of real knobs."""
    rows = torch.rand(n, knobs, len(FEATURES), generator=torch.Generator().manual_seed(seed))
    rows[..., 0] = 1
    return rows


def answers(made, rows):
    """Logits `(n, 3, knobs)` and values `(n,)`."""
    with torch.no_grad():
        out = made._forward({Columns.OBS: rows})
        values = made.compute_values({Columns.OBS: rows}, out[Columns.EMBEDDINGS])
    return out[Columns.ACTION_DIST_INPUTS].reshape(len(rows), 3, -1), values


def seen(walkers, name):
    """What the agent sees of a feature, `(n, knobs)`."""
    return walkers.tokens[:, :, FEATURES.index(name)]


def test_a_change_of_features_is_another_version():
    """Weights stand for features by their place: whoever changes these, changes `VERSION`."""
    digest = hashlib.sha256("|".join(FEATURES).encode()).hexdigest()[:12]
    assert (VERSION, digest) == (1, "b3f541e2d947")


class TestAgent:
    """The networks."""

    def test_the_order_of_the_knobs_does_not_matter(self):
        """Logits are permuted as the tokens are; the value stays."""
        made, rows, order = agent(), tokens(), torch.tensor([3, 0, 4, 1, 2])
        logits, values = answers(made, rows)
        permuted, same = answers(made, rows[:, order])
        torch.testing.assert_close(permuted, logits[..., order])
        torch.testing.assert_close(same, values)
        assert logits.std(dim=2).min() > 1e-3  # and knobs differ at all

    def test_padding_changes_nothing(self):
        """With tokens of no knobs beside them, knobs get the same logits; those get zeros."""
        made, rows = agent(), tokens()
        wide = torch.cat([rows, torch.zeros(len(rows), 3, len(FEATURES))], dim=1)
        logits, values = answers(made, rows)
        more, same = answers(made, wide)
        torch.testing.assert_close(more[..., :KNOBS], logits)
        assert (more[..., KNOBS:] == 0).all()
        torch.testing.assert_close(same, values)

    def test_a_knob_sees_the_others(self):
        """What is said of one knob depends on the tokens of all."""
        made, rows = agent(), tokens()
        other = rows.clone()
        other[:, 4, 5:] += 1
        assert not torch.allclose(answers(made, rows)[0][..., 0], answers(made, other)[0][..., 0])

    @pytest.mark.parametrize("knobs", [1, 2, 17])
    def test_the_numpy_twin_computes_the_same(self, knobs):
        """Logits and values agree with torch, for any number of knobs."""
        made, rows = agent(), tokens(knobs=knobs)
        logits, values = answers(made, rows)
        twin = NumpyTokenAgent.of(made)
        found, said = twin.logits_and_values(rows.numpy())
        np.testing.assert_allclose(found, logits.flatten(1), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(said, values, rtol=1e-4, atol=1e-5)

    def test_the_seed_decides_the_weights_and_leaves_torch_alone(self):
        """Same seed, same weights; the global generator neither matters nor moves."""
        torch.manual_seed(1)
        state = torch.get_rng_state()
        one = first_weights(hidden=8, seed=4)
        assert torch.equal(torch.get_rng_state(), state)
        torch.manual_seed(2)
        other, third = first_weights(hidden=8, seed=4), first_weights(hidden=8, seed=5)
        assert all((one[name] == other[name]).all() for name in one)
        assert (one["token.weight"] != third["token.weight"]).any()

    def test_it_begins_with_the_weights_it_is_given(self):
        """What is carried over is what walks."""
        given = {n: p.detach().numpy() for n, p in agent(seed=3).named_parameters()}
        made = agent(weights=given)
        torch.testing.assert_close(answers(made, tokens())[0], answers(agent(seed=3), tokens())[0])


class TestWalkers:
    """What an agent sees."""

    def walkers(self, configs=((1, 2), (0, 0)), scores=(0.5, 0.2), best=((2, 2), (3, 0), (1, 2))):
        walked = DesignSpace("two", [options("a", (1, 2, 4, 8)), options("b", (0, 5, 7))])
        given = np.array(configs, dtype=np.int32), np.array(scores, dtype=np.float32)
        best = np.array(best, dtype=np.int32).reshape(-1, 2)
        return Walkers(Moves(walked), *given, steps=4, best=best)

    def test_where_a_walk_stands(self):
        """Position, ends, and where the best measured configs are."""
        walkers = self.walkers()
        np.testing.assert_allclose(seen(walkers, "position"), [[-1 / 3, 1], [-1, -1]], rtol=1e-6)
        assert seen(walkers, "first").tolist() == [[0, 0], [1, 1]]
        assert seen(walkers, "last").tolist() == [[0, 1], [0, 0]]
        thirds = 3 * sum(seen(walkers, f"best {where}") for where in ("below", "here", "above"))
        np.testing.assert_allclose(thirds, 3, rtol=1e-6)
        np.testing.assert_allclose(3 * seen(walkers, "best above"), [[2, 0], [3, 2]], atol=1e-6)

    def test_nothing_is_known_of_the_best_before_anything_was_measured(self):
        """Zeros, no error."""
        walkers = self.walkers(best=())
        assert not any(seen(walkers, f"best {w}").any() for w in ("below", "here", "above"))

    def test_a_walk_goes_only_where_it_is_not_worse(self):
        """The first proposal is worse and is left; the second is as good and is taken."""
        walkers = self.walkers()
        proposed = np.array([[2, 2], [1, 0]], dtype=np.int32)
        walkers.advance(np.array([[2, 1], [2, 1]]), proposed, np.array([0.4, 0.2], np.float32))
        assert walkers.configs.tolist() == [[1, 2], [1, 0]]
        np.testing.assert_allclose(walkers.scores, [0.5, 0.2])

    def test_what_the_score_did_is_put_to_the_knob_that_moved(self):
        """A knob that went up while the score fell has a negative credit, the other none."""
        walkers = self.walkers()
        proposed = np.array([[2, 2], [1, 0]], dtype=np.int32)
        walkers.advance(np.array([[2, 1], [2, 0]]), proposed, np.array([0.1, 0.9], np.float32))
        assert seen(walkers, "credit")[0, 0] < -0.5
        assert seen(walkers, "credit")[1, 0] > 0.5
        assert not seen(walkers, "credit")[:, 1].any()
        assert seen(walkers, "refused").tolist() == [[0, 0], [0, -1]]
        assert seen(walkers, "up")[0, 0] < 0 == seen(walkers, "down")[0, 0]


class TestWalks:
    """Walks that are scored as they go."""

    @pytest.fixture
    def walked(self):
        walked = space()
        starts = walked.random(7, np.random.default_rng(0))
        moves = Moves(walked, early_stop=None)
        luck = draw_luck(np.arange(7), 30, moves)
        made = NumpyTokenAgent.of(agent())
        return moves, walk_scored(made, moves, starts, luck, score=peak(walked), best=starts[:2])

    def test_scores_are_those_of_the_configs(self, walked):
        """Each proposal is valid and has its score."""
        moves, found = walked
        visited = found.walked.configs.reshape(-1, 4)
        assert moves.space.valid(visited).all()
        np.testing.assert_allclose(found.scores.ravel(), peak(moves.space)(visited), rtol=1e-6)

    def test_proposals_are_made_from_the_best_so_far(self, walked):
        """Every ordered knob of a proposal lies within a step of where the walk stood."""
        _, found = walked
        configs, scores = found.walked.configs, found.scores
        stands, best = configs[0].copy(), scores[0].copy()
        for step in range(30):
            assert (np.abs(configs[step + 1] - stands)[:, :3] <= 1).all()
            better = scores[step + 1] >= best
            stands = np.where(better[:, None], configs[step + 1], stands)
            best = np.maximum(best, scores[step + 1])

    def test_rewards_add_up(self, walked):
        """To the best of a walk, less where it began."""
        _, found = walked
        total = gains(found.scores).sum(axis=0)
        np.testing.assert_allclose(total, found.scores.max(0) - found.scores[0], rtol=1e-5)

    def test_spaces_of_other_widths_learn_together(self, walked):
        """A batch is as wide as its widest space; what is no knob has the chance of a third."""
        moves, found = walked
        narrow = DesignSpace("one", [options("a", (1, 2, 3))])
        other = Moves(narrow, early_stop=None)
        luck = draw_luck(np.arange(3), 10, other)
        starts = narrow.random(3, np.random.default_rng(0))
        made = NumpyTokenAgent.of(agent())
        short = walk_scored(made, other, starts, luck, score=peak(narrow), best=starts[:0])
        shares = [
            share_of(one, gains(one.scores), moves=of, worker=0, discount=0.9, gae=0.9)
            for one, of in ((found, moves), (short, other))
        ]
        batch = training_batch(shares, np.arange(240))["default_policy"]
        assert batch[Columns.OBS].shape == (240, 4, len(FEATURES))
        present = batch[Columns.OBS][:, :, 0]
        assert present[:210].all()
        assert present[210:].sum(axis=1).tolist() == [1] * 30
        np.testing.assert_allclose(batch[Columns.ACTION_LOGP][210:, 1:], np.log(1 / 3), rtol=1e-6)
        assert padded([np.ones((2, 1)), np.ones((1, 3))]).sum() == 5
