"""What every implementation of a protocol must do; to test another one, add it to its list."""

import pickle

import numpy as np
import pytest

from chameleon_ray.cost_model import make_cost_model
from chameleon_ray.explorers import Candidates
from chameleon_ray.sampling import make_sampler
from chameleon_ray.settings import (
    AdaptiveSettings,
    CostModelSettings,
    ForestSettings,
    GaussianSettings,
    GreedySettings,
    ImprovementSettings,
    Policy,
    StagedSettings,
    ThompsonSettings,
)
from chameleon_ray.space import Constraint, DesignSpace, options, split


def thompson(batch):
    """A policy with a Thompson sampler, and a cost model that has members."""
    return Policy(sampler=ThompsonSettings(batch=batch), cost_model=ForestSettings())


SAMPLERS = {
    "letter": Policy(sampler=AdaptiveSettings(variant="letter")),
    "authors": Policy(sampler=AdaptiveSettings(variant="authors")),
    "exploiting": Policy(sampler=AdaptiveSettings(variant="letter", exploit=6)),
    "greedy": Policy(sampler=GreedySettings()),
    "greedy for diversity": Policy(sampler=GreedySettings(diversity=2)),
    "thompson": thompson(8),
    "thompson, members asked twice": thompson(12),
    "improvement": Policy(sampler=ImprovementSettings(batch=8), cost_model=ForestSettings()),
}
COST_MODELS = {
    "xgb": CostModelSettings(),
    "forest": ForestSettings(),
    "gaussian": GaussianSettings(),
    "staged": StagedSettings(until=40),
}


def few_threads(values):
    """A constraint that about a third of the configs breaks."""
    return values["tile_f"][:, 2] * values["tile_x"][:, 1] <= 32


def a_space():
    """A space of 21,600 configs, some of them forbidden."""
    return DesignSpace(
        "contract",
        [
            split("tile_f", 64, 4),
            split("tile_x", 56, 2),
            split("tile_rc", 16, 2),
            options("unroll", (0, 512, 1500)),
            options("explicit", (0, 1), ordered=False),
        ],
        constraints=[Constraint(name="at most 32 threads", holds=few_threads)],
    )


def a_small_space():
    """A space of 12 configs, so that there is soon nothing new."""
    return DesignSpace("small", [options("a", range(4)), options("b", range(3))])


def some_candidates(space, n, seed=0):
    """Distinct valid configs, ranked by what the ten members of an ensemble hold of them."""
    rng = np.random.default_rng(seed)
    configs = space.random(n, rng)
    members = rng.random((10, len(configs)), dtype=np.float32)
    order = np.argsort(-members.mean(axis=0))
    members = members[:, order]
    return Candidates(configs=configs[order], scores=members.mean(axis=0), members=members)


def visits(space, n, seed=1):
    """Measured configs, a third of which failed."""
    configs = space.random(n, np.random.default_rng(seed))
    return configs, np.arange(len(configs)) % 3 == 0


@pytest.mark.parametrize("policy", SAMPLERS.values(), ids=SAMPLERS)
class TestSampler:
    """The `Sampler` protocol."""

    @pytest.mark.parametrize(
        ("space", "candidates", "visited"),
        [
            (a_space(), 200, 100),
            (a_space(), 64, 0),
            (a_space(), 5, 300),
            (a_space(), 1, 10),
            (a_space(), 0, 10),
            (a_small_space(), 12, 0),
            (a_small_space(), 12, 9),
            (a_small_space(), 6, 12),
        ],
        ids=["many", "nothing visited", "five", "one", "none", "all", "few left", "nothing left"],
    )
    def test_chooses_new_distinct_valid_configs(self, policy, space, candidates, visited):
        """Rows lie in the space, none is forbidden, repeated or measured already."""
        known, failed = visits(space, visited)
        chosen = make_sampler(policy).choose(
            space, some_candidates(space, candidates), known, failed, np.random.default_rng(2)
        )
        assert chosen.dtype == np.int32
        assert chosen.shape[1:] == (len(space.knobs),)
        assert ((chosen >= 0) & (chosen < space.sizes)).all()
        assert space.valid(chosen).all()
        assert len(space.distinct(chosen)) == len(chosen)
        assert not space.contains(known, chosen).any()
        assert len(chosen) > 0 or len(known) == space.size

    def test_all_candidates_measured_already(self, policy):
        """An exploration that found nothing new still leads to something new."""
        space = a_space()
        candidates = some_candidates(space, 64)
        known = candidates.configs
        failed = np.zeros(len(known), dtype=bool)
        chosen = make_sampler(policy).choose(
            space, candidates, known, failed, np.random.default_rng(0)
        )
        assert len(chosen) >= 8
        assert not space.contains(known, chosen).any()

    def test_same_seed_same_choice(self, policy):
        """The rng is the only source of randomness; another one leads elsewhere, if it is asked."""
        space = a_space()
        known, failed = visits(space, 50)
        case = (space, some_candidates(space, 200), known, failed)
        chosen = [
            make_sampler(policy).choose(*case, np.random.default_rng(seed)).tolist()
            for seed in (3, 3, 4)
        ]
        assert chosen[0] == chosen[1]
        drawn = not isinstance(policy.sampler, ImprovementSettings)
        assert (chosen[0] != chosen[2]) == drawn

    def test_leaves_its_arguments_alone(self, policy):
        """What was visited and what was found stay as they were."""
        space = a_space()
        known, failed = visits(space, 50)
        candidates = some_candidates(space, 200)
        before = pickle.dumps((known, failed, candidates))
        make_sampler(policy).choose(space, candidates, known, failed, np.random.default_rng(0))
        assert pickle.dumps((known, failed, candidates)) == before

    def test_survives_pickling(self, policy):
        """A sampler travels to another process and chooses the same there."""
        space = a_space()
        known, failed = visits(space, 50)
        case = (space, some_candidates(space, 100), known, failed)
        sampler = make_sampler(policy)
        copy = pickle.loads(pickle.dumps(sampler))
        left = sampler.choose(*case, np.random.default_rng(0))
        right = copy.choose(*case, np.random.default_rng(0))
        assert left.tolist() == right.tolist()


@pytest.mark.parametrize("settings", COST_MODELS.values(), ids=COST_MODELS)
class TestCostModel:
    """The `CostModel` protocol."""

    def points(self, n=200):
        """A space, configs and fitnesses that depend on two knobs; a tenth failed."""
        space = a_space()
        configs = space.random(n, np.random.default_rng(0))
        values = space.values(configs)
        gflops = 50 / (1 + abs(np.log2(values["tile_x"][:, 1]) - 3)) + values["tile_f"][:, 2]
        return space, configs, np.where(np.arange(n) % 10, gflops, 0).astype(np.float32)

    def test_is_unfitted_at_first(self, settings):
        """Scoring before the first fit is an error that says so."""
        model = make_cost_model(settings, seed=0)
        assert not model.fitted
        with pytest.raises(RuntimeError, match="not been fitted"):
            model.score()

    def test_ranks_what_it_has_learned(self, settings):
        """Predictions are shares of the best fitness, and rank configs it has not seen."""
        space, configs, fitness = self.points(400)
        model = make_cost_model(settings, seed=0)
        model.fit(space, configs[:300], fitness[:300])
        assert model.fitted
        scores = model.score()(configs[300:])
        assert scores.dtype == np.float32
        assert scores.shape == (100,)
        worked = fitness[300:] > 0
        assert np.corrcoef(scores[worked], fitness[300:][worked])[0, 1] > 0.7
        assert -0.5 < scores.min() < scores.max() < 1.5

    @pytest.mark.parametrize("scale", [1e-9, 1, 1e9])
    def test_the_unit_of_fitness_does_not_matter(self, settings, scale):
        """Labels a billion times larger or smaller lead to the same predictions."""
        space, configs, fitness = self.points()
        plain, scaled = (make_cost_model(settings, seed=0) for _ in range(2))
        plain.fit(space, configs, fitness)
        scaled.fit(space, configs, fitness * np.float32(scale))
        assert scaled.score()(configs) == pytest.approx(plain.score()(configs), abs=0.02)

    @pytest.mark.parametrize("n", [1, 2, 9, 10, 11, 64])
    def test_fits_few_points(self, settings, n):
        """One point is enough, and predictions are finite."""
        space, configs, fitness = self.points()
        model = make_cost_model(settings, seed=0)
        model.fit(space, configs[:n], fitness[:n])
        assert np.isfinite(model.score()(configs)).all()

    def test_all_failed_predicts_nothing_good(self, settings):
        """If every point failed, every prediction is about zero."""
        space, configs, _ = self.points()
        model = make_cost_model(settings, seed=0)
        model.fit(space, configs, np.zeros(len(configs), dtype=np.float32))
        assert abs(model.score()(configs)).max() < 1e-3

    @pytest.mark.parametrize("n", [0, 5])
    def test_refuses_points_that_cannot_be_meant(self, settings, n):
        """No points, or not one fitness for each, is an error."""
        space, configs, fitness = self.points()
        with pytest.raises(ValueError, match="cannot fit"):
            make_cost_model(settings, seed=0).fit(space, configs[:n], fitness[: n - n // 5])

    def test_same_points_same_predictions(self, settings):
        """The same points and seed lead to the same predictions, bit by bit."""
        space, configs, fitness = self.points()
        scores = []
        for _ in range(2):
            model = make_cost_model(settings, seed=5)
            model.fit(space, configs, fitness)
            scores.append(model.score()(configs).tobytes())
        assert scores[0] == scores[1]

    def test_a_score_outlives_later_fits(self, settings):
        """A score that was handed out stays what it was."""
        space, configs, fitness = self.points()
        model = make_cost_model(settings, seed=0)
        model.fit(space, configs, fitness)
        score = model.score()
        before = score(configs).tolist()
        model.fit(space, configs, fitness[::-1].copy())
        assert score(configs).tolist() == before
        assert model.score()(configs).tolist() != before

    def test_a_score_survives_pickling_before_and_after_use(self, settings):
        """A score travels to another process, whether or not it was called here."""
        space, configs, fitness = self.points()
        model = make_cost_model(settings, seed=0)
        model.fit(space, configs, fitness)
        score = model.score()
        unused = pickle.dumps(score)
        expected = score(configs).tolist()
        used = pickle.dumps(score)
        assert len(used) == len(unused)
        assert pickle.loads(unused)(configs).tolist() == expected
        assert pickle.loads(used)(configs).tolist() == expected

    def test_scores_an_empty_batch(self, settings):
        """No configs, no scores."""
        space, configs, fitness = self.points()
        model = make_cost_model(settings, seed=0)
        model.fit(space, configs, fitness)
        assert model.score()(configs[:0]).shape == (0,)
