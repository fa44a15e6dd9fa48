"""From names of spaces to an agent's file: opened, trained on, scored, and told of in its card."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from chameleon_ray.devices import Device, open_device
from chameleon_ray.environment import Moves
from chameleon_ray.errors import SettingsError
from chameleon_ray.exercises import MEASURED, Visit, draw_exercise, visit
from chameleon_ray.explorers.rollout import draw_luck
from chameleon_ray.explorers.token_rollout import walk_scored
from chameleon_ray.learning.agent_file import AgentFile, save_agent
from chameleon_ray.machine import check_cores
from chameleon_ray.measure.recorded import find_recorded
from chameleon_ray.pretraining import PretrainSettings, Progressed, pretrain
from chameleon_ray.space import Vector
from chameleon_ray.token_agent import NumpyTokenAgent, first_weights
from chameleon_ray.versions import installed

_PACKAGES = ("chameleon-ray", "ray", "torch", "numpy", "scikit-learn", "safetensors")
_WALKERS, _STEPS, _PER_NUMBER = 32, 40, 4


def train_agent(
    spaces: Sequence[str],
    held_out: Sequence[str],
    settings: PretrainSettings,
    out: Path,
    *,
    command: str,
    progressed: Progressed = lambda _iteration, _worth: None,
) -> AgentFile:
    """Train an agent, write it, and score it; Ctrl-C leaves one that knows less, or has no scores.

    Args:
        spaces: Names of devices (`devices.open_device`) to train on.
        held_out: Of others, on which it is scored.
        settings: How it is trained.
        out: The file.
        command: What was typed, for the card.
        progressed: Told of each iteration.

    Raises:
        SettingsError: A space cannot be used, or is one to train on and held out as well; or there
            are more workers than cores.
        OSError: The file cannot be written.
        KeyboardInterrupt: Before the agent has learned anything, or while it is scored: it is
            written by then.
    """
    check_cores("--workers", settings.workers, "rollout workers")
    devices = [open_device(name) for name in spaces]
    others = [open_device(name) for name in held_out]
    data = [_told(name, device) for name, device in zip(spaces, devices, strict=True)]
    known = {_file_of(told) for told in data}
    for name, device in zip(held_out, others, strict=True):
        if _file_of(_told(name, device)) in known:
            raise SettingsError(f"--held-out {name}: it is walked in training too; leave it out.")
    began = time.time()
    trained = pretrain(devices, settings, progressed)
    tenth = max(1, len(trained.worth) // 10)
    card = {
        "what": "PPO's agent of tokens, to begin a search with on any space",
        "data": data,
        "settings": settings.plain(),
        "seed": settings.seed,
        "iterations": len(trained.worth),
        "steps": trained.steps,
        "worth": {
            "first tenth": float(np.mean(trained.worth[:tenth])),
            "last tenth": float(np.mean(trained.worth[-tenth:])),
        },
        "scores": {},
        "command": command,
        "seconds": round(time.time() - began),
        "versions": installed(_PACKAGES),
    }
    agent = AgentFile(weights=trained.weights, card=card)
    save_agent(out, agent)  # before it is scored, which takes a while
    if others and len(trained.worth) == settings.iterations:
        agent = replace(agent, card=card | {"scores": _scores(trained.weights, others, settings)})
        save_agent(out, agent)
    return agent


def _scores(
    weights: Mapping[str, Vector], devices: Sequence[Device], settings: PretrainSettings
) -> dict[str, dict[str, float]]:
    """What an agent is worth on some devices, and what it was before it was trained."""
    first = first_weights(hidden=settings.hidden, seed=settings.seed)
    return {
        device.name: {
            "untrained": worth(first, device, seed=settings.seed),
            "trained": worth(weights, device, seed=settings.seed),
        }
        for device in devices
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Worth:
    """What some walks came to, as shares of the best measured config; means over the walks.

    Attributes:
        promised: The best score that a walk saw.
        ends: What the config with that score is truly worth.
        best: The truly best config that a walk met.
    """

    promised: float
    ends: float
    best: float


def worth_of(weights: Mapping[str, Vector], device: Device, one: Visit) -> Worth:
    """What the walks of an agent come to.

    Args:
        weights: Of a `TokenAgent`.
        device: Where it walks.
        one: Under which score, from where, with what luck.
    """
    moves = Moves(device.space, early_stop=None)
    agent, luck = NumpyTokenAgent.from_state(weights), draw_luck(one.seeds, one.steps, moves)
    walk = walk_scored(agent, moves, one.starts, luck, score=one.score, best=one.best)
    configs = walk.walked.configs
    times = device.times(configs.reshape(-1, configs.shape[-1])).reshape(configs.shape[:2])
    true = one.seconds / times
    ends = true[walk.scores.argmax(axis=0), np.arange(len(one.starts))]
    return Worth(
        promised=float(walk.scores.max(axis=0).mean()),
        ends=float(ends.mean()),
        best=float(true.max(axis=0).mean()),
    )


def worth(weights: Mapping[str, Vector], device: Device, *, seed: int) -> float:
    """The best config that a walk of 40 steps meets: the mean over walks under two dozen models.

    Args:
        weights: Of a `TokenAgent`.
        device: Where it walks.
        seed: Of models and walks: equal ones are equal for all agents.
    """
    rng = np.random.default_rng([seed, 1])
    moves = Moves(device.space, early_stop=None)
    found = []
    for measured in np.repeat(MEASURED, _PER_NUMBER):
        exercise = draw_exercise([device], 0, rng, measured=int(measured))
        one = visit(exercise, moves, rng, walkers=_WALKERS, steps=_STEPS)
        found.append(worth_of(weights, device, one).best)
    return float(np.mean(found))


def _file_of(told: Mapping[str, Any]) -> str:
    """What tells one space from another: the digest of its file, or its name."""
    return str(told.get("sha256", told["space"]))


def _told(name: str, device: Device) -> dict[str, Any]:
    """A space for the card: its name, what it is, and the digest of its file."""
    told: dict[str, Any] = {"space": device.name, "what": device.label}
    kind, _, rest = name.partition(":")
    file = rest if kind == "lookup" else "" if rest else name
    if file:
        path = find_recorded(file)
        told |= {"file": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    return told
