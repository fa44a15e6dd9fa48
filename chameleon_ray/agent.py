"""The PPO agent (section 3.2): its networks, its distribution over directions, its loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from ray.rllib.algorithms.ppo.torch.ppo_torch_learner import PPOTorchLearner
from ray.rllib.core.columns import Columns
from ray.rllib.core.distribution.distribution import Distribution
from ray.rllib.core.distribution.torch.torch_distribution import TorchDeterministic
from ray.rllib.core.learner.learner import ENTROPY_KEY, POLICY_LOSS_KEY, VF_LOSS_KEY
from ray.rllib.core.rl_module.apis.value_function_api import ValueFunctionAPI
from ray.rllib.core.rl_module.torch import TorchRLModule
from ray.rllib.evaluation.postprocessing import Postprocessing
from torch import Tensor, nn

from chameleon_ray.environment import DIRECTIONS

FloatArray = npt.NDArray[np.float32]
Weights = dict[str, FloatArray]
_ADAM_EPSILON = 1e-5  # as in the authors' code
_FIRST_WALKS = 0.1  # scales the actor's last layer at the start: how far from uniform it is


class Directions(Distribution):
    """One direction for each knob: `(batch, knobs)` independent choices among three.

    Logits stand direction by direction: first every knob's decrement, then every stay, then every
    increment. Kept as `(3, batch, knobs)`, their softmax is four times as fast as with the
    directions last.
    """

    def __init__(self, log_probabilities: Tensor) -> None:
        super().__init__()
        self.log_probabilities = log_probabilities

    @classmethod
    def from_logits(cls, logits: Tensor, **_unused: Any) -> Directions:
        """The distribution that logits `(batch, 3 * knobs)` describe."""
        apart = logits.reshape(len(logits), DIRECTIONS, -1).movedim(1, 0).contiguous()
        return cls(torch.log_softmax(apart, dim=0))

    def sample(self, **_unused: Any) -> Tensor:
        """Directions `(batch, knobs)`, by torch's global generator: for RLlib's own env runner."""
        race = torch.empty_like(self.log_probabilities).exponential_()
        return (self.log_probabilities - race.log()).argmax(0)

    def rsample(self, **_unused: Any) -> Tensor:
        """Not to be had: directions are discrete.

        Raises:
            NotImplementedError: Always.
        """
        raise NotImplementedError("Directions are discrete: there is no gradient through a draw.")

    def logp(self, value: Tensor, **_unused: Any) -> Tensor:
        """The log probability of whole actions `(batch, knobs)`, `(batch,)`."""
        return self.logp_per_knob(value).sum(-1)

    def logp_per_knob(self, value: Tensor) -> Tensor:
        """The log probability of each knob's direction, `(batch, knobs)`."""
        return self.log_probabilities.gather(0, value.long().unsqueeze(0)).squeeze(0)

    def entropy(self) -> Tensor:
        """The entropy summed over the knobs, `(batch,)`."""
        table = self.log_probabilities
        return -(table.exp() * table).sum(dim=(0, 2))

    def kl(self, other: Directions, **_unused: Any) -> Tensor:
        """The divergence from `other` summed over the knobs, `(batch,)`."""
        table = self.log_probabilities
        return (table.exp() * (table - other.log_probabilities)).sum(dim=(0, 2))

    @staticmethod
    def required_input_dim(space: Any, **_unused: Any) -> int:
        """Logits for an action space."""
        return len(space.nvec) * DIRECTIONS

    def to_deterministic(self) -> TorchDeterministic:
        """The most probable directions."""
        return TorchDeterministic(loc=self.log_probabilities.argmax(0))


class Agent(TorchRLModule, ValueFunctionAPI):
    """Actor and critic over a shared first layer (section 3.2; sizes as in the authors' code).

    The actor goes on with one layer and then has two small layers of its own for each knob; the
    critic goes on with two layers. All are tanh. `model_config` holds `hidden` (units),
    `temperature` (the actor's outputs are divided by it) and `seed` (of the first weights; the
    global generator of torch is left alone). The last layer of the actor starts so small that the
    first walks are nearly uniform.
    """

    def setup(self) -> None:
        """Build the layers from the spaces and the model config."""
        self.temperature = self.model_config["temperature"]
        with torch.random.fork_rng(devices=[]):  # the layers' own initialisation draws globally
            self._build(len(self.action_space.nvec), self.model_config["hidden"])
        self._initialise(torch.Generator().manual_seed(self.model_config["seed"]))

    def _build(self, knobs: int, hidden: int) -> None:
        self.shared = nn.Linear(knobs, hidden)
        self.actor = nn.Linear(hidden, hidden)
        self.heads = nn.Linear(hidden, knobs * DIRECTIONS)
        self.head_weights = nn.Parameter(torch.empty(DIRECTIONS, DIRECTIONS, knobs))
        self.head_bias = nn.Parameter(torch.empty(DIRECTIONS * knobs))
        self.critic_1 = nn.Linear(hidden, hidden)
        self.critic_2 = nn.Linear(hidden, hidden)
        self.value = nn.Linear(hidden, 1)

    def _initialise(self, generator: torch.Generator) -> None:
        """Glorot's uniform weights and no bias; each knob's head counts as a layer of its own."""
        for name, parameter in self.named_parameters():
            if "bias" in name:
                nn.init.zeros_(parameter)
                continue
            fan_out, fan_in = parameter.shape[:2]
            if name == "heads.weight":
                fan_out = DIRECTIONS
            bound = (6 / (fan_in + fan_out)) ** 0.5
            if name == "head_weights":
                bound *= _FIRST_WALKS * self.temperature
            nn.init.uniform_(parameter, -bound, bound, generator=generator)

    def head_matrix(self) -> Tensor:
        """Every knob's second layer as one matrix `(3 * knobs, 3 * knobs)`, mostly zeros."""
        blocks = torch.diag_embed(self.head_weights).transpose(1, 2)
        return blocks.reshape(self.heads.out_features, self.heads.out_features)

    def get_exploration_action_dist_cls(self) -> type[Directions]:
        """What `_forward`'s logits describe."""
        return Directions

    get_inference_action_dist_cls = get_exploration_action_dist_cls
    get_train_action_dist_cls = get_exploration_action_dist_cls

    def _forward(self, batch: dict[str, Tensor], **_unused: Any) -> dict[str, Tensor]:
        trunk = torch.tanh(self.shared(batch[Columns.OBS]))
        inner = torch.tanh(self.heads(torch.tanh(self.actor(trunk))))
        outer = torch.tanh(torch.addmm(self.head_bias, inner, self.head_matrix()))
        return {
            Columns.ACTION_DIST_INPUTS: outer / self.temperature,
            Columns.EMBEDDINGS: trunk,
        }

    def compute_values(self, batch: dict[str, Tensor], embeddings: Tensor | None = None) -> Tensor:
        """Expected discounted fitness to come, `(batch,)`."""
        trunk = torch.tanh(self.shared(batch[Columns.OBS])) if embeddings is None else embeddings
        deep = torch.tanh(self.critic_2(torch.tanh(self.critic_1(trunk))))
        values: Tensor = self.value(deep)
        return values.squeeze(-1)


@dataclass(frozen=True, slots=True)
class NumpyAgent:
    """The agent's forward passes in numpy: ten times less overhead on a handful of walkers.

    Attributes:
        weights: Those of an `Agent`, transposed for `rows @ weights`; the heads' second layers
            stand as one matrix.
        temperature: As in `Agent`.
    """

    weights: Weights
    temperature: float

    @classmethod
    def of(cls, agent: Agent) -> NumpyAgent:
        """The present weights of an agent; later updates of the agent do not show."""
        weights = {
            name: tensor.detach().numpy().T.copy() for name, tensor in agent.named_parameters()
        }
        weights["head_weights"] = agent.head_matrix().detach().numpy()
        return cls(weights, float(agent.temperature))

    def logits(self, observations: FloatArray, out: FloatArray | None = None) -> FloatArray:
        """`(n, knobs)` -> float32 `(n, 3 * knobs)`, as `Agent` computes them; written to `out`."""
        w = self.weights
        x = _dense(observations, w["shared.weight"], w["shared.bias"])
        x = _dense(x, w["actor.weight"], w["actor.bias"])
        x = _dense(x, w["heads.weight"], w["heads.bias"])
        x = _dense(x, w["head_weights"], w["head_bias"])
        scaled: FloatArray = np.divide(x, np.float32(self.temperature), out=out)
        return scaled

    def values(self, observations: FloatArray) -> FloatArray:
        """`(n, knobs)` -> float32 `(n,)`, as `Agent.compute_values`."""
        w = self.weights
        x = _dense(observations, w["shared.weight"], w["shared.bias"])
        x = _dense(x, w["critic_1.weight"], w["critic_1.bias"])
        x = _dense(x, w["critic_2.weight"], w["critic_2.bias"])
        values: FloatArray = (x @ w["value.weight"])[:, 0] + w["value.bias"]
        return values


def _dense(rows: FloatArray, weights: FloatArray, bias: FloatArray) -> FloatArray:
    out = rows @ weights
    out += bias
    np.tanh(out, out=out)
    return out


class AgentLearner(PPOTorchLearner):
    """PPO's loss knob by knob: ratio, clip and entropy per knob, summed over the knobs.

    A batch holds the log probability of each knob's direction, `(batch, knobs)`.
    """

    def configure_optimizers_for_module(self, module_id: str, config: Any = None) -> None:
        """Adam (Table 9) with the authors' epsilon."""
        parameters = self.get_parameters(self._module[module_id])
        self.register_optimizer(
            module_id=module_id,
            optimizer=torch.optim.Adam(parameters, eps=_ADAM_EPSILON, fused=True),
            params=parameters,
            lr_or_lr_schedule=config.lr,
        )

    def compute_loss_for_module(
        self,
        *,
        module_id: str,
        config: Any,
        batch: dict[str, Tensor],
        fwd_out: dict[str, Tensor],
    ) -> Tensor:
        """The loss of one minibatch, a scalar (section 3.2, Table 9)."""
        directions = Directions.from_logits(fwd_out[Columns.ACTION_DIST_INPUTS])
        logp = directions.logp_per_knob(batch[Columns.ACTIONS])
        ratio = torch.exp(logp - batch[Columns.ACTION_LOGP])
        clipped = ratio.clamp(1 - config.clip_param, 1 + config.clip_param)
        advantages = batch[Postprocessing.ADVANTAGES].unsqueeze(-1)
        gain = torch.min(advantages * ratio, advantages * clipped).sum(-1).mean()
        values = (
            self.module[module_id]
            .unwrapped()
            .compute_values(batch, embeddings=fwd_out[Columns.EMBEDDINGS])
        )
        value_loss = (values - batch[Postprocessing.VALUE_TARGETS]).square().mean()
        entropy = directions.entropy().mean()
        self.metrics.log_dict(
            {POLICY_LOSS_KEY: -gain, VF_LOSS_KEY: value_loss, ENTROPY_KEY: entropy},
            key=module_id,
            window=1,
        )
        loss: Tensor = config.vf_loss_coeff * value_loss - gain - config.entropy_coeff * entropy
        return loss
