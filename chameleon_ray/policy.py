"""From settings to RLlib: the only module that speaks to `PPOConfig`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ray.rllib.algorithms.ppo import PPO, PPOConfig
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.env.single_agent_env_runner import SingleAgentEnvRunner

from chameleon_ray.agent import Agent, AgentLearner
from chameleon_ray.environment import ENV_ID, unscored
from chameleon_ray.settings import PpoSettings
from chameleon_ray.space import DesignSpace, Vector
from chameleon_ray.token_agent import TokenAgent


def ppo_config(
    settings: PpoSettings,
    *,
    space: DesignSpace,
    seed: int,
    algorithm: type[PPO],
    env_runner: type[SingleAgentEnvRunner],
    weights: Mapping[str, Vector] | None = None,
) -> PPOConfig:
    """PPO as Table 9 sets it, with our agent, loss, environment and env runner.

    RLlib's own `seed` stays unset, because it reseeds the global generators of torch, numpy and
    Python. Nothing here draws from them.

    Args:
        settings: What to set.
        space: What is walked.
        seed: Of the agent's first weights.
        algorithm: The subclass of PPO that the config builds.
        env_runner: The class that walks, here or in worker processes.
        weights: What an agent of tokens starts with; None: with first weights.
    """
    config = PPOConfig(algo_class=algorithm)
    config.api_stack(enable_rl_module_and_learner=True, enable_env_runner_and_connector_v2=True)
    config.framework("torch")
    config.environment(
        env=ENV_ID,
        env_config={
            "space": space,
            "score": unscored,
            "steps": settings.steps,
            "early_stop": settings.early_stop,
            "resample_unordered": settings.resample_unordered,
        },
    )
    config.env_runners(
        env_runner_cls=env_runner,
        num_env_runners=settings.workers,
        num_cpus_per_env_runner=1,
        create_env_on_local_worker=True,
        gym_env_vectorize_mode="vector_entry_point",
    )
    config.fault_tolerance(restart_failed_env_runners=True)
    config.learners(num_learners=0, learner_class=AgentLearner)
    config.rl_module(rl_module_spec=_module(settings, seed, weights))
    _set_training(config, settings)
    config.reporting(
        min_time_s_per_iteration=0,
        min_sample_timesteps_per_iteration=0,
        min_train_timesteps_per_iteration=0,
    )
    config.debugging(log_level="ERROR", seed=None)
    return config


def _module(settings: PpoSettings, seed: int, weights: Mapping[str, Vector] | None) -> RLModuleSpec:
    networks: dict[str, Any] = {"hidden": settings.hidden, "seed": seed}
    if settings.agent == "tokens":
        if weights is not None:
            networks["hidden"] = len(weights["token.bias"])  # it is as wide as it was trained
        return RLModuleSpec(module_class=TokenAgent, model_config=networks | {"weights": weights})
    networks |= {"temperature": settings.temperature}
    return RLModuleSpec(module_class=Agent, model_config=networks)


def _set_training(config: PPOConfig, settings: PpoSettings) -> None:
    """Table 9; RLlib's KL loss and value clip, both on by default, are off."""
    wave_steps = settings.episodes // settings.waves * settings.steps
    config.training(
        lr=settings.learning_rate,
        gamma=settings.discount,
        lambda_=settings.gae,
        clip_param=settings.clip,
        vf_loss_coeff=settings.value_coefficient,
        entropy_coeff=settings.entropy_coefficient,
        num_epochs=settings.epochs,
        minibatch_size=min(settings.minibatch, wave_steps),
        train_batch_size_per_learner=wave_steps,
        use_kl_loss=False,
        vf_clip_param=float("inf"),
        grad_clip=None,
    )
