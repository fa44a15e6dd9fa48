"""What a call of `tune_function` asks for, checked as a whole before anything is measured."""

from __future__ import annotations

import hashlib
import numbers
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from chameleon_ray.derived import products_of
from chameleon_ray.errors import SettingsError, UnknownNameError
from chameleon_ray.learning.past import Past, past_of
from chameleon_ray.learning.reading import Experience, given_to
from chameleon_ray.machine import cpu_brand
from chameleon_ray.presets import load_policy
from chameleon_ray.restrictions import Restriction, Restrictions
from chameleon_ray.run_folder import NOTHING
from chameleon_ray.settings import Policy
from chameleon_ray.space import Configs, DesignSpace
from chameleon_ray.storage import Place
from chameleon_ray.tunables import Plain, Tunables

_LISTED = 1_000_000  # a space of so many configs, allowed or not, is gone through once
_PROBE = 256  # configs on which restrictions are tried, and by which those of a large space differ
_SAMPLE = 100_000  # configs on which the restrictions of a large space are counted

Measure = Callable[[dict[str, Any]], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionPlan:
    """What was asked for, checked: nothing has been measured yet.

    Attributes:
        name: Of the function.
        tunables: The knobs and their values.
        space: The same, with what is allowed.
        restrictions: Text, or names of functions.
        allowed: How many configs they allow; None where the space is too large to go through it.
        digest: Stands for which configs those are.
        default: `(knobs,)`, if there is one.
        policy_name: What the policy is called.
        policy: What it says.
        trials: Most measurements.
        seed: Of every random choice.
        past: What was measured of others, or before.
        experience: All of that, with an agent, if there is one.
    """

    name: str
    tunables: Tunables
    space: DesignSpace
    restrictions: tuple[str, ...]
    allowed: int | None
    digest: str
    default: Configs | None
    policy_name: str
    policy: Policy
    trials: int
    seed: int
    past: Past | None
    experience: Experience

    @property
    def learns_from(self) -> str:
        """What was measured of others, or before, in words."""
        return self.experience.words or NOTHING

    def to_json(self) -> dict[str, Any]:
        """The run's manifest. How far a run goes (trials) is no part of it."""
        return {
            "kind": "function",
            "measure": self.name,
            "names": list(self.tunables.values),
            "knobs": {name: list(values) for name, values in self.tunables.values.items()},
            "restrictions": list(self.restrictions),
            "allowed": f"{_count(self.allowed)} of {self.space.size:,} configs ({self.digest})",
            "default": None if self.default is None else self.tunables.plain(self.default),
            "policy": self.policy_name,
            "policy_settings": asdict(self.policy),
            "seed": self.seed,
            "machine": cpu_brand(),
            "learns_from": self.learns_from,
            "taught_by": self.experience.digests,
        }


def make_function_plan(
    measure: Measure,
    knobs: Mapping[str, Sequence[Plain]],
    *,
    restrictions: Restriction | Sequence[Restriction],
    policy: str,
    trials: int | None,
    seed: int,
    default: Mapping[str, Plain] | None,
    learn_from: Place | Sequence[Place] = (),
    run: Place | None = None,
    on_measurement: object = None,
) -> FunctionPlan:
    """Check everything that can be checked before measuring; arguments as of `tune_function`.

    Raises:
        UnknownNameError: Of the policy, of a knob in a restriction or in the default.
        SettingsError: An argument cannot be used, or the restrictions allow nothing.
    """
    if on_measurement is not None and not callable(on_measurement):
        raise SettingsError(f"on_measurement: {on_measurement!r} cannot be called.")
    if not callable(measure):
        raise SettingsError(
            f"measure: {measure!r} cannot be called; give a function of a configuration that "
            "returns seconds."
        )
    trials = None if trials is None else _whole("trials", trials, least=1, most=10**6)
    seed = _whole("seed", seed, least=0, most=2**32 - 1)
    policy_name, settings = load_policy(str(policy))
    tunables = _tunables(knobs)
    name = str(getattr(measure, "__qualname__", type(measure).__qualname__))
    free = DesignSpace(name, tunables.knobs())
    rng = np.random.default_rng(seed)
    probe = free.distinct(rng.integers(0, free.sizes, (_PROBE, len(free.knobs)), dtype=np.int32))
    asked = Restrictions(_several(restrictions), tunables, probe)
    start = None if default is None else _default(default, tunables, asked)
    space, allowed = _restricted(free, asked, seed=seed)
    known = probe[asked.allowed(probe)] if allowed is None else space.all_valid()
    most = settings.measurements if trials is None else trials
    experience = given_to(run, learn_from)
    experience.check_all([(policy_name, settings)])
    return FunctionPlan(
        name=name,
        tunables=tunables,
        space=space,
        restrictions=asked.names,
        allowed=allowed,
        digest=hashlib.sha256(known.tobytes()).hexdigest()[:12],
        default=start,
        policy_name=policy_name,
        policy=settings,
        trials=most if allowed is None else min(most, allowed),
        seed=seed,
        past=_past(experience, space, tunables),
        experience=experience,
    )


def _past(experience: Experience, space: DesignSpace, tunables: Tunables) -> Past | None:
    """What it says of the function."""
    past = past_of(space, {}, experience.sources)
    if experience.sources and past is None:
        raise SettingsError(
            "learn_from: nothing of it has the knobs of this function (of texts and fractions, "
            f"the same list of them): {', '.join(tunables.values)}."
        )
    return past


def _whole(argument: str, value: object, *, least: int, most: int) -> int:
    whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not whole or not least <= value <= most:  # type: ignore[operator]
        raise SettingsError(f"{argument}: {value!r} is not a whole number from {least} to {most}.")
    return int(value)  # type: ignore[call-overload, no-any-return]


def _tunables(knobs: Mapping[str, Sequence[Plain]]) -> Tunables:
    if isinstance(knobs, Mapping):
        for name in knobs:
            if not isinstance(name, str) or not name:
                raise SettingsError(f"knobs: the name {name!r} is not text.")
    return Tunables.of(knobs, where="knobs")


def _several(restrictions: Restriction | Sequence[Restriction]) -> list[Restriction]:
    """A single one will do, too."""
    if isinstance(restrictions, str) or callable(restrictions):
        return [restrictions]
    if not isinstance(restrictions, Sequence):
        raise SettingsError(
            f"restrictions: {restrictions!r} is not a list of functions and text such as "
            "'block_x * block_y <= 1024'."
        )
    return list(restrictions)


def _default(default: Mapping[str, Plain], tunables: Tunables, asked: Restrictions) -> Configs:
    if not isinstance(default, Mapping):
        raise SettingsError(
            f"default: {default!r} is not a configuration; give a value for each of "
            f"{list(tunables.values)}."
        )
    for name in default:
        if name not in tunables.values:
            raise UnknownNameError("knob", name, tunables.values, where="default")
    missing = [name for name in tunables.values if name not in default]
    if missing:
        raise SettingsError(f"default: no value for {', '.join(missing)}.")
    config: Configs = tunables.indices([default], where="default")[0]
    broken = asked.broken(config)
    if broken is not None:
        raise SettingsError(
            f"default: {tunables.plain(config)} is not allowed: it breaks the restriction {broken}."
        )
    return config


def _restricted(
    free: DesignSpace, asked: Restrictions, *, seed: int
) -> tuple[DesignSpace, int | None]:
    """The space with what is allowed, listed if it is small, and how many configs those are."""
    small = free.size <= _LISTED
    if small:
        looked_at = _everything(free)
        listed = looked_at[asked.allowed(looked_at)]
        found = len(listed)
    else:
        looked_at = free.random(_SAMPLE, np.random.default_rng(seed))
        found = int(asked.allowed(looked_at).sum())
    if not found:
        raise SettingsError(_nothing_left(free, asked, looked_at))
    derive = products_of(free.knobs)
    if small:
        return DesignSpace(free.name, free.knobs, derive=derive, listed=listed), found
    constraints = asked.constraints()
    return DesignSpace(free.name, free.knobs, derive=derive, constraints=constraints), None


def _everything(space: DesignSpace) -> Configs:
    """Every config, int32 `(n, knobs)`; the last knob changes first."""
    left, columns = np.arange(space.size), []
    for size in space.sizes[::-1]:
        columns.append((left % size).astype(np.int32))
        left //= size
    return np.stack(columns[::-1], axis=1)


def _nothing_left(free: DesignSpace, asked: Restrictions, looked_at: Configs) -> str:
    """Which restriction leaves nothing."""
    every = f"{free.size:,} configurations"
    if len(looked_at) < free.size:
        every = f"{len(looked_at):,} random ones of {every}"
    steps = []
    for name, left in asked.left(looked_at):
        steps.append(f"{name} leaves {left:,}")
        if not left:
            break
    return (
        f"restrictions: none of {every} is allowed: {', then '.join(steps)}. Loosen that one, or "
        "give the knobs values that it allows."
    )


def _count(allowed: int | None) -> str:
    return "uncounted" if allowed is None else f"{allowed:,}"
