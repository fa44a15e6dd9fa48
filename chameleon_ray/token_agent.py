"""One agent for any space: the same small network looks at every knob's token.

What it says of a knob depends on that knob's token and on the mean and the largest of what all
tokens come to (DeepSets: Zaheer et al., 2017), so the order of the knobs does not matter, and nor
does their number.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Box, MultiDiscrete
from ray.rllib.core.columns import Columns
from ray.rllib.core.rl_module.apis.value_function_api import ValueFunctionAPI
from ray.rllib.core.rl_module.torch import TorchRLModule
from torch import Tensor, nn

from chameleon_ray.agent import Directions, FloatArray, Weights
from chameleon_ray.environment import STAY
from chameleon_ray.tokens import FEATURES, Tokens

_FIRST_STAY = 1.5  # at first two knobs of three stay: a walk then changes little at a time


class TokenAgent(TorchRLModule, ValueFunctionAPI):
    """Actor and critic over tokens `(batch, knobs, features)`.

    `model_config` holds `hidden` (units of each layer), `seed` (of the first weights; torch's
    global generator is left alone) and `weights` (name -> array) to start with instead, or None.
    """

    def setup(self) -> None:
        """Build the layers; nothing depends on the spaces."""
        hidden = self.model_config["hidden"]
        with torch.random.fork_rng(devices=[]):
            self.token = nn.Linear(len(FEATURES), hidden)
            self.context = nn.Linear(2 * hidden, hidden)
            self.mixed = nn.Linear(hidden, hidden)
            self.mixing = nn.Linear(hidden, hidden, bias=False)
            self.heads = nn.Linear(hidden, 3)
            self.critic = nn.Linear(hidden, hidden)
            self.value = nn.Linear(hidden, 1)
        self._initialise(torch.Generator().manual_seed(self.model_config["seed"]))
        weights = self.model_config.get("weights")
        if weights is not None:
            self.load_state_dict({name: torch.tensor(w) for name, w in weights.items()})

    def _initialise(self, generator: torch.Generator) -> None:
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
                continue
            fan_out, fan_in = parameter.shape
            bound = (6 / (fan_in + fan_out)) ** 0.5 * (0.1 if name == "heads.weight" else 1)
            nn.init.uniform_(parameter, -bound, bound, generator=generator)
        with torch.no_grad():
            self.heads.bias[STAY] = _FIRST_STAY

    def get_exploration_action_dist_cls(self) -> type[Directions]:
        """What `_forward`'s logits describe."""
        return Directions

    get_inference_action_dist_cls = get_exploration_action_dist_cls
    get_train_action_dist_cls = get_exploration_action_dist_cls

    def _forward(self, batch: dict[str, Tensor], **_unused: Any) -> dict[str, Tensor]:
        tokens = batch[Columns.OBS]
        present = tokens[..., :1]
        each = torch.relu(self.token(tokens))
        context = self._context(each, present)
        mixed = torch.relu(self.mixed(each) + self.mixing(context).unsqueeze(1))
        logits = self.heads(mixed) * present  # of what is no knob, none is preferred
        return {
            Columns.ACTION_DIST_INPUTS: logits.transpose(1, 2).flatten(1),
            Columns.EMBEDDINGS: context,
        }

    def _context(self, each: Tensor, present: Tensor) -> Tensor:
        each = each * present  # zeros are never above what relu leaves
        mean = each.sum(1) / present.sum(1)
        return torch.relu(self.context(torch.cat([mean, each.amax(1)], dim=1)))

    def compute_values(self, batch: dict[str, Tensor], embeddings: Tensor | None = None) -> Tensor:
        """Expected discounted reward to come, `(batch,)`."""
        if embeddings is None:
            tokens = batch[Columns.OBS]
            embeddings = self._context(torch.relu(self.token(tokens)), tokens[..., :1])
        values: Tensor = self.value(torch.relu(self.critic(embeddings)))
        return values.squeeze(-1)


def first_weights(*, hidden: int, seed: int) -> Weights:
    """What an agent knows that has learned nothing, by name."""
    nothing = Box(0.0, 1.0, (1,), np.float32)
    agent = TokenAgent(
        observation_space=nothing,
        action_space=MultiDiscrete([3]),
        model_config={"hidden": hidden, "seed": seed, "weights": None},
    )
    return {name: tensor.detach().numpy().copy() for name, tensor in agent.named_parameters()}


@dataclass(frozen=True, slots=True)
class NumpyTokenAgent:
    """The agent's forward passes in numpy, for walks; knows no padding.

    Attributes:
        weights: Those of a `TokenAgent`, by its names.
    """

    weights: Weights

    @classmethod
    def of(cls, agent: TokenAgent) -> NumpyTokenAgent:
        """The present weights of an agent; later updates of the agent do not show."""
        return cls.from_state(
            {name: tensor.detach().numpy() for name, tensor in agent.named_parameters()}
        )

    @classmethod
    def from_state(cls, weights: Mapping[str, FloatArray]) -> NumpyTokenAgent:
        """An agent of these weights, by the names of `TokenAgent`."""
        return cls({name: np.array(w.T, order="C") for name, w in weights.items()})

    def logits_and_values(self, tokens: Tokens) -> tuple[FloatArray, FloatArray]:
        """`(n, knobs, features)` -> logits `(n, 3 * knobs)` and values `(n,)`, as `TokenAgent`."""
        w = self.weights
        n, knobs, features = tokens.shape
        each = _layer(tokens.reshape(-1, features), w["token.weight"], w["token.bias"])
        apart = each.reshape(n, knobs, -1)
        pooled = np.concatenate([apart.mean(1), apart.max(1)], axis=1)
        context = _layer(pooled, w["context.weight"], w["context.bias"])
        mixed = (each @ w["mixed.weight"]).reshape(n, knobs, -1)
        mixed += (context @ w["mixing.weight"] + w["mixed.bias"])[:, None]
        np.maximum(mixed, 0, out=mixed)
        logits = mixed.reshape(n * knobs, -1) @ w["heads.weight"] + w["heads.bias"]
        deep = _layer(context, w["critic.weight"], w["critic.bias"])
        values: FloatArray = (deep @ w["value.weight"])[:, 0] + w["value.bias"]
        by_knob = logits.astype(np.float32, copy=False).reshape(n, knobs, 3)
        by_direction: FloatArray = by_knob.swapaxes(1, 2).reshape(n, -1)
        return by_direction, values


def _layer(rows: FloatArray, weights: FloatArray, bias: FloatArray) -> FloatArray:
    out = rows @ weights
    out += bias
    np.maximum(out, 0, out=out)
    return out
