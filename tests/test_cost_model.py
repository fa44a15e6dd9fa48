"""What is particular to the XGBoost cost model; `contracts.py` has what every cost model does."""

import pickle
import subprocess
import sys

import numpy as np
import pytest
from contracts import TestCostModel  # noqa: F401 - collected here

from chameleon_ray.cost_model import fitness
from chameleon_ray.cost_model.xgb import XgbCostModel, XgbScore, average_recall
from chameleon_ray.measure import Measurement, Outcome, Purpose
from chameleon_ray.networks import network
from chameleon_ray.settings import CostModelSettings
from chameleon_ray.templates.cuda_knobs import direct_space


def measurement(outcome=Outcome.OK, repeat_seconds=()):
    """A measurement of no particular config."""
    return Measurement(
        task="t",
        config={},
        purpose=Purpose.SEARCH,
        outcome=outcome,
        repeat_seconds=repeat_seconds,
    )


def a_problem(n, seed=0):
    """A space of the paper, its features of n configs, and a fitness with cliffs and failures."""
    space = direct_space(network("vgg16")[3].task)
    configs = space.random(n, np.random.default_rng(seed))
    values = space.values(configs)
    threads = values["tile_f"][:, 2] * values["tile_y"][:, 2] * values["tile_x"][:, 2]
    gflops = 5000 / (1 + abs(np.log2(threads) - 8)) + 100 * values["tile_rc"][:, 1] ** 0.5
    gflops[threads > 1024] = 0
    return space, configs, gflops.astype(np.float32)


def test_fitness_is_gflops_of_the_median_repeat():
    """Two GFLOP in half a second are 4 GFLOP/s, whatever the outliers."""
    measured = measurement(repeat_seconds=(0.5, 0.4, 9.0))
    assert fitness(2 * 10**9, [measured]).tolist() == [4.0]


def test_every_failure_is_zero_and_none_is_left_out():
    """Each outcome but `ok` has fitness 0, in the order of the measurements."""
    measured = [measurement(outcome) for outcome in Outcome if outcome is not Outcome.OK]
    measured.insert(3, measurement(repeat_seconds=(1.0,)))
    found = fitness(10**9, measured)
    assert found.dtype == np.float32
    assert found.tolist() == [1.0 if i == 3 else 0.0 for i in range(len(measured))]
    assert fitness(10**9, []).shape == (0,)


def test_average_recall_by_hand():
    """Of the best 1, 2, 3, the prediction has 0, 1 and 2 among its own best."""
    predicted = np.array([3.0, 1.0, 2.0, 0.0], dtype=np.float32)
    measured = np.array([2.0, 3.0, 0.5, 1.0], dtype=np.float32)
    assert average_recall(predicted, measured, 3) == pytest.approx((0 + 1 / 2 + 2 / 3) / 3)
    assert average_recall(measured, measured, 64) == 1.0


def test_stops_once_the_best_are_ranked_no_better():
    """Three points are soon in order: boosting ends `patience` rounds later, not at the cap."""
    model = XgbCostModel(CostModelSettings(rounds=500, patience=20), seed=0)
    space, configs, _ = a_problem(3)
    model.fit(space, configs, np.array([1.0, 2.0, 3.0], dtype=np.float32))
    assert 20 <= model.score()._loaded.num_boosted_rounds() <= 60


@pytest.mark.parametrize("rounds", [1, 7])
def test_never_exceeds_the_rounds_that_are_set(rounds):
    """`rounds` is a cap."""
    space, configs, gflops = a_problem(200)
    for n in (5, 200):
        model = XgbCostModel(CostModelSettings(rounds=rounds), seed=0)
        model.fit(space, configs[:n], gflops[:n])
        assert 1 <= model.score()._loaded.num_boosted_rounds() <= rounds


def test_finds_good_configs_among_many():
    """Of 4,000 unseen configs, the 64 best-scored are half as good again as the average."""
    space, configs, gflops = a_problem(4500)
    model = XgbCostModel(CostModelSettings(), seed=0)
    model.fit(space, configs[:500], gflops[:500])
    top = np.argsort(-model.score()(configs[500:]))[:64]
    assert gflops[500:][top].mean() > 0.6 * np.sort(gflops[500:])[-64:].mean()
    assert gflops[500:][top].mean() > 1.5 * gflops[500:].mean()


def test_a_pickled_score_is_small():
    """What travels to the rollout workers each round is trees and knobs: well below a megabyte."""
    space, configs, gflops = a_problem(1000)
    model = XgbCostModel(CostModelSettings(), seed=0)
    model.fit(space, configs, gflops)
    score = model.score()
    assert isinstance(score, XgbScore)
    assert len(pickle.dumps(score)) < 2**20


def test_importing_the_module_is_cheap():
    """XGBoost is imported by the first fit, not by the module."""
    code = "import sys, chameleon_ray.cost_model; sys.exit('xgboost' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
