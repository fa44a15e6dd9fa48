"""An agent's weights in a file, with a card that tells where they come from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from chameleon_ray.errors import SettingsError
from chameleon_ray.files import write_whole

VERSION = 1  # of what the agent sees and of its layers: `tokens.FEATURES`, `token_agent.TokenAgent`
_FORMAT = "chameleon-ray agent"
_TRAIN = "`chameleon-ray pretrain` makes one"

Weights = Mapping[str, npt.NDArray[np.float32]]


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentFile:
    """What a file holds.

    Attributes:
        weights: Of a `token_agent.TokenAgent`, by its names, float32.
        card: What it was trained on, with which settings and seed, by which command and versions,
            and how it scored, as plain values.
        version: Of the agent; `VERSION`, for others are refused.
    """

    weights: Weights
    card: Mapping[str, Any]
    version: int = VERSION

    @property
    def digest(self) -> str:
        """Of the weights."""
        hashed = hashlib.sha256()
        for name in sorted(self.weights):
            hashed.update(name.encode())
            hashed.update(np.ascontiguousarray(self.weights[name]).tobytes())
        return hashed.hexdigest()[:16]

    @property
    def trained_on(self) -> frozenset[str]:
        """Names of the spaces; of recorded ones, as they are called there."""
        spaces = (told["space"].removeprefix("lookup:") for told in self.card.get("data", []))
        return frozenset(spaces)

    @property
    def hidden(self) -> int:
        """The width of the agent's layers."""
        return len(self.weights["token.bias"])


def save_agent(path: Path, agent: AgentFile) -> None:
    """Write an agent; the file is whole or not there.

    Raises:
        OSError: The file cannot be written.
    """
    from safetensors.numpy import save

    told = {"format": _FORMAT, "version": str(agent.version), "card": json.dumps(agent.card)}
    tensors = {name: np.ascontiguousarray(w) for name, w in agent.weights.items()}
    write_whole(path, save(tensors, metadata=told))


def load_agent(path: str | Path) -> AgentFile:
    """Read an agent.

    Raises:
        SettingsError: There is no such file, it is damaged or holds no agent of ours, or one of
            another version.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if not path.is_file():
        raise SettingsError(f"{path}: there is no such agent file; {_TRAIN}.")
    try:
        with safe_open(path, framework="numpy") as file:
            told = file.metadata() or {}
            _check(path, told)
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        card = json.loads(told["card"])
    except (SafetensorError, ValueError, KeyError) as error:
        raise SettingsError(f"{path}: not a readable agent file ({error}); {_TRAIN}.") from error
    if wrong := _wrong(weights, card):
        raise SettingsError(f"{path}: it is damaged: {wrong}; {_TRAIN}.")
    return AgentFile(weights=weights, card=card)


def _wrong(weights: Weights, card: object) -> str:
    """What is wrong with a file's content; empty if nothing is."""
    from chameleon_ray.token_agent import first_weights

    hidden = weights.get("token.bias", np.empty(0)).size
    wanted = {name: w.shape for name, w in first_weights(hidden=hidden or 1, seed=0).items()}
    if {name: w.shape for name, w in weights.items()} != wanted:
        return "these are not the agent's layers"
    if not all(np.isfinite(w).all() for w in weights.values()):
        return "some weights are no numbers"
    if not isinstance(card, dict) or not all("space" in told for told in card.get("data", [])):
        return "its card does not tell what it was trained on"
    return ""


def _check(path: Path, told: Mapping[str, str]) -> None:
    if told.get("format") != _FORMAT:
        raise SettingsError(f"{path}: these tensors are no agent of chameleon-ray; {_TRAIN}.")
    if told.get("version") != str(VERSION):
        raise SettingsError(
            f"{path}: an agent of version {told.get('version')}; this is for version {VERSION}, "
            f"whose agents see other features. Train it anew: {_TRAIN}."
        )
