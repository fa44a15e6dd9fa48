"""Seconds of one exploration round, against RLlib as it comes, with the same XGBoost scorer.

    python benchmarks/exploration.py [--json] [--rounds 3] [--workers 0 1 2 4]

A round is 128 episodes of 500 steps (Table 7) without early stop, so that all 64,000 steps are
walked, in 8 waves with 3 epochs of minibatches of 4096 after each. "Stock" is RLlib's PPO with its
own env runner, module and loss over the same environment, with the same scorer, minibatches and
epochs. It is set up the way that suits it best: vectorised by the vector entry point rather than
by Gymnasium's `sync`, and all 128 episodes in one iteration (8 iterations of 16 take twice as
long).
"""

from __future__ import annotations

import argparse
import json
import logging
import shutil
import statistics
import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import ray
import torch
import xgboost
from ray.rllib.algorithms.ppo import PPO, PPOConfig

from chameleon_ray.environment import ENV_ID
from chameleon_ray.explorers.ppo import PpoExplorer
from chameleon_ray.ray_access import start_ray
from chameleon_ray.settings import PpoSettings
from chameleon_ray.space import Configs, DesignSpace, Vector, options, split

SETTINGS = PpoSettings(early_stop=None, starts="random")
ENV_STEPS = SETTINGS.episodes * SETTINGS.steps


@dataclass(frozen=True, slots=True)
class BoosterScore:
    """Predicted fitness: space and booster, picklable."""

    space: DesignSpace
    booster: xgboost.Booster

    def __call__(self, configs: Configs) -> Vector:
        """Score configs `(n, knobs)`, float32 `(n,)`."""
        return np.asarray(self.booster.inplace_predict(self.space.features(configs)))


def resnet_11() -> DesignSpace:
    """The knobs of ResNet-18's 11th layer on a CPU."""
    return DesignSpace(
        "resnet-18 layer 11",
        [
            split("tile_f", 4, 3),
            split("tile_y", 56, 3),
            split("tile_x", 56, 3),
            split("tile_rc", 64, 2),
            split("tile_ry", 3, 2),
            split("tile_rx", 3, 2),
            options("auto_unroll", (0, 16, 64, 256, 1024)),
            options("unroll_explicit", (0, 1)),
        ],
    )


def booster_score(space: DesignSpace) -> BoosterScore:
    """A booster of 60 trees on 1,000 configs with a made-up fitness in [0, 1]."""
    rng = np.random.default_rng(0)
    features = space.features(space.random(1000, rng))
    peak, weight = rng.uniform(0, 4, features.shape[1]), rng.uniform(0, 1, features.shape[1])
    fitness = np.exp(-(weight * (features - peak) ** 2).sum(axis=1) / 16)
    parameters = {"max_depth": 3, "eta": 0.3, "nthread": 1}
    table = xgboost.DMatrix(features, fitness / fitness.max())
    booster = xgboost.train(parameters, table, num_boost_round=60)
    booster.set_param({"nthread": 1})
    return BoosterScore(space, booster)


def our_seconds(score: BoosterScore, rounds: int, workers: int) -> list[float]:
    """Seconds of each round after a warm-up round."""
    explorer = PpoExplorer(replace(SETTINGS, workers=workers), seed=0)
    rng = np.random.default_rng(0)
    starts = np.empty((0, len(score.space.knobs)), dtype=np.int32)
    seconds = []
    for _ in range(rounds + 1):
        begin = time.perf_counter()
        explorer.explore(score.space, score, starts, rng)
        seconds.append(time.perf_counter() - begin)
        if explorer.report is None or explorer.report.steps != ENV_STEPS:
            raise RuntimeError(f"{explorer.report} is not a whole round of {ENV_STEPS} steps.")
    explorer.close()
    return seconds[1:]


def stock_algorithm(score: BoosterScore) -> PPO:
    """RLlib's PPO as a user would set it up for this environment."""
    config = PPOConfig().environment(
        env=ENV_ID,
        env_config={"space": score.space, "score": score, "early_stop": None},
    )
    config.env_runners(
        num_env_runners=0,
        num_envs_per_env_runner=SETTINGS.episodes,
        rollout_fragment_length=SETTINGS.steps,
        gym_env_vectorize_mode="vector_entry_point",
    )
    config.training(
        lr=SETTINGS.learning_rate,
        gamma=SETTINGS.discount,
        lambda_=SETTINGS.gae,
        clip_param=SETTINGS.clip,
        vf_loss_coeff=SETTINGS.value_coefficient,
        entropy_coeff=SETTINGS.entropy_coefficient,
        num_epochs=SETTINGS.epochs,
        minibatch_size=SETTINGS.minibatch,
        train_batch_size_per_learner=ENV_STEPS,
        use_kl_loss=False,
    )
    config.debugging(log_level="ERROR", seed=0)
    return config.build_algo()


def stock_seconds(score: BoosterScore, rounds: int) -> list[float]:
    """Seconds of each round, a training iteration, after a warm-up."""
    algorithm = stock_algorithm(score)
    seconds = []
    for _ in range(rounds + 1):
        begin = time.perf_counter()
        algorithm.train()
        seconds.append(time.perf_counter() - begin)
    algorithm.stop()
    shutil.rmtree(algorithm.logdir)  # RLlib makes a folder in ~/ray_results
    return seconds[1:]


def measure(rounds: int, workers: list[int]) -> dict[str, Any]:
    """All numbers; ours and stock alternate, so that a busy machine hits both."""
    score = booster_score(resnet_11())
    ours: list[float] = []
    stock: list[float] = []
    for _ in range(rounds):
        ours += our_seconds(score, 2, 0)
        stock += stock_seconds(score, 1)
    rates = {
        str(count): round(ENV_STEPS / statistics.median(our_seconds(score, rounds, count)))
        for count in workers
    }
    return {
        "env_steps": ENV_STEPS,
        "round_seconds": round(statistics.median(ours), 3),
        "stock_round_seconds": round(statistics.median(stock), 3),
        "steps_per_second_by_workers": rates,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--json", action="store_true", help="one JSON object on one line")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, nargs="*", default=[0, 1, 2, 4])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    logging.getLogger("ray").setLevel(logging.ERROR)
    start_ray(cpus=1 + max([0, *arguments.workers]))
    found = measure(arguments.rounds, arguments.workers)
    ray.shutdown()
    if arguments.json:
        print(json.dumps(found))
        return
    ours, stock = found["round_seconds"], found["stock_round_seconds"]
    print(f"one round of {ENV_STEPS:,} steps   {ours:6.2f} s")
    print(f"the same with stock RLlib   {stock:6.2f} s   ({stock / ours:.1f} times as long)")
    for count, rate in found["steps_per_second_by_workers"].items():
        print(f"{count} workers   {rate:9,} steps a second")


if __name__ == "__main__":
    main()
