"""What a call of `tune` asks for, checked as a whole before anything is started."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from chameleon_ray.env_settings import Env
from chameleon_ray.errors import SettingsError
from chameleon_ray.learning.reading import Experience, given_to, prior
from chameleon_ray.learning.sources import has_knobs_of
from chameleon_ray.machine import free_memory
from chameleon_ray.measure.backend import target_here
from chameleon_ray.networks import Network, choose_layers
from chameleon_ray.networks.lookup import look_up
from chameleon_ray.presets import load_env, load_policy
from chameleon_ray.run_folder import NOTHING
from chameleon_ray.settings import Policy, PpoSettings
from chameleon_ray.storage import Place
from chameleon_ray.tasks import Layer, Target
from chameleon_ray.templates import design_space

_OWN_ENV = "(own)"  # what an env is called that is no preset
_MOST_AT_ONCE = 16
_SOME_GPU = "sm_90"
_LAYER_BYTES = 600 * 2**20  # of a layer's process
_MOST_SHARES = 4  # a layer that promises most gets so many times its share of the measurements


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What was asked for, checked: nothing has been started yet.

    Attributes:
        network: Whole; `layers` are those of it that are tuned.
        target: On this machine; the nodes of a cluster have theirs.
        experience: What the layers learn from besides each other; None if they begin cold.
        taught_by: Digests of the sources that were given.
        learns_from: What all of that is, in words: the same words of the same measurements.
        device: Words that the machine's name has which the run measures on.
    """

    network: Network
    env_name: str
    env: Env
    policy_name: str
    policy: Policy
    layers: tuple[Layer, ...]
    target: Target
    trials: int
    time_budget_seconds: float | None
    seed: int
    address: str | None
    device: str
    experience: Experience | None
    learns_from: str
    taught_by: tuple[str, ...]
    started: float = field(default_factory=time.time)

    @property
    def most_trials(self) -> int:
        """Cap of measurements of one layer."""
        return self.trials * (_MOST_SHARES if self.policy.schedule == "gain" else 1)

    @property
    def rollout_workers(self) -> int:
        """Processes that each layer's explorer has besides its own."""
        explorer = self.policy.explorer
        return explorer.workers if isinstance(explorer, PpoSettings) else 0

    @property
    def cpus(self) -> int:
        """CPUs that the layers at once ask Ray for."""
        return self.at_once * (1 + self.rollout_workers)

    @property
    def at_once(self) -> int:
        """Layers under way at the same time: while one explores, another is measured.

        On a CPU few, since they compute on cores that kernels are timed on, and few where the
        others wait for their turn by gain; else as many as there is memory for.
        """
        chosen = self.env.layers_at_once or max(2, self.target.cores // 4)
        free = not self.env.on_cores and self.policy.schedule != "gain"
        if free and not self.env.layers_at_once:
            chosen = max(2, min(_MOST_AT_ONCE, free_memory() // (2 * _LAYER_BYTES)))
        return min(chosen, len(self.layers))


def make_plan(
    network: str | Network,
    *,
    inputs: str = "",
    trust: bool = False,
    env: str | Env,
    policy: str,
    layers: Sequence[int],
    trials: int | None,
    seed: int,
    time_budget_seconds: float | None = None,
    address: str | None = None,
    device: str = "",
    learn_from: Sequence[str] | Experience = (),
    use_prior: bool = True,
    cold: bool = False,
    run: Place | None = None,
) -> Plan:
    """Check everything that can be checked before anything is started; arguments as of `tune`.

    Raises:
        UnknownNameError: Network, preset or layer.
        SettingsError: A preset or a value.
        MachineError: More cores than there are.
        UnsupportedError: A layer has no template.
    """
    env_name, env_settings = load_env(env) if isinstance(env, str) else (_OWN_ENV, env)
    policy_name, policy_settings = load_policy(policy)
    _check_whole("--trials", 1 if trials is None else trials, least=1, most=10**6)
    _check_whole("--seed", seed, least=0, most=2**32 - 1)
    if time_budget_seconds is not None and not time_budget_seconds > 0:
        raise SettingsError(f"--time-budget: {time_budget_seconds:g} s is not a positive time.")
    if env_settings.measurer == "recorded":
        raise SettingsError(
            f"env {env_name!r}: recorded devices have spaces and no networks; search one with "
            "`chameleon-ray replay SPACE`. Here env is cpu, simulated, or one of your own."
        )
    if cold and learn_from:
        raise SettingsError("--cold and --learn-from: a cold run learns from nothing; give one.")
    target = target_here(env_settings)
    blocks = _in_blocks_for(env_settings, target)
    whole = look_up(network, blocks, inputs, trust=trust) if isinstance(network, str) else network
    chosen = choose_layers(whole.layers, layers)
    experience, learns_from, given = None, NOTHING, Experience()
    if not cold:
        by_us = env_settings.on_cores and env_settings.measurer == "tvm"  # as what ships was timed
        given = given_to(run, learn_from)
        if given.sources and not given.agent:
            _check_of_use(given, chosen, blocks)
        experience, learns_from = _with_prior(given, use_prior=use_prior and by_us)
        experience.check_all([(policy_name, policy_settings)])
    return Plan(
        network=whole,
        env_name=env_name,
        env=env_settings,
        policy_name=policy_name,
        policy=policy_settings,
        layers=chosen,
        target=target,
        trials=trials or policy_settings.measurements,
        time_budget_seconds=time_budget_seconds,
        seed=seed,
        address=address,
        device=device,
        experience=experience,
        learns_from=learns_from,
        taught_by=given.digests,
    )


def _with_prior(given: Experience, *, use_prior: bool) -> tuple[Experience, str]:
    """The same with what ships, and what both are, in words."""
    ours = prior() if use_prior else Experience()
    words = [
        "each other",
        f"what ships: {ours.words}" if ours.words else "",
        f"--learn-from: {given.words}" if given.words else "",
    ]
    return given.and_(ours), "; ".join(filter(None, words))


def _check_of_use(experience: Experience, layers: Sequence[Layer], target: Target) -> None:
    """Whether anything that was measured says something of a layer.

    Raises:
        SettingsError: Nothing does.
    """
    if target.kind == "cuda":  # which one is known where it is; knobs have the same names on all
        target = replace(target, model=_SOME_GPU)
    spaces = [design_space(layer.task, target) for layer in layers]
    if not any(has_knobs_of(source, space) for source in experience.sources for space in spaces):
        first = experience.sources[0]
        raise SettingsError(
            f"--learn-from: nothing of it has the knobs of a layer: {first.name} has "
            f"{', '.join(knob.name for knob in first.space.knobs)}. Leave it out."
        )


def _in_blocks_for(env: Env, target: Target) -> Target:
    """The target with the lanes of the model that the env names: channels are in blocks of them."""
    if env.model == "native" or env.on_gpus or env.measurer != "tvm":
        return target
    from chameleon_ray.measure.tvm import resolve_target

    return replace(target, lanes=resolve_target(target).lanes)


def _check_whole(option: str, value: object, *, least: int, most: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise SettingsError(f"{option}: {value!r} is not a whole number from {least} to {most}.")
