"""`torch.compile(model, backend="chameleon")`: torch's graphs, run by the best code.

    torch.compile(model, backend="chameleon", options={"from": ["runs/mine"], "threads": 2})
    torch.compile(model, backend="chameleon", options={"trials": 32, "run": "runs/mine"})

With the first, by what runs and databases know; with the second, layers that none of them knows
are tuned at the first call, and the run is there for the next process.

For inference on a CPU, of one shape: weights are taken as they are at the first call, and a call
with others runs in torch. So does what cannot be taken (gradients, what changes its own buffers,
sizes that vary), and a warning says why.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from chameleon_ray.deploy.best import best_configs
from chameleon_ray.deploy.build import compiled, layers_for, target_of_threads
from chameleon_ray.deploy.database import Entry
from chameleon_ray.deploy.loading import loaded
from chameleon_ray.deploy.torch_tuning import asked_for, tuned
from chameleon_ray.errors import ChameleonError
from chameleon_ray.networks.source import Input, Source
from chameleon_ray.tasks import Target

Run = Callable[..., Any]


def chameleon(
    module: torch.fx.GraphModule,
    inputs: Sequence[Any],
    *,
    options: Mapping[str, Any] | None = None,
) -> Run:
    """What runs a graph, as torch.compile asks its backends.

    Args:
        module: The graph.
        inputs: Examples of what it takes, parameters among them.
        options: `from`: run folders and databases; `threads`: cores. `trials` or
            `time_budget_seconds`: what none of them knows is tuned, as by `tune`; `policy`: how;
            `run`: where that is kept.

    Raises:
        UnknownNameError: An option, or a policy, that is not known.
        SettingsError: A value that cannot be used.
        ChameleonError: A run or a database cannot be used, or nothing can be measured.
    """
    asked = asked_for(options or {})
    target = target_of_threads(asked.threads)
    best: Mapping[str, Entry] = best_configs(asked.records, target)
    try:
        taken = _Taken(module, inputs, target)
    except Exception as error:  # noqa: BLE001 - whatever torch's or TVM's exporters may raise
        return _in_torch(module, error)
    if asked.tunes:
        best = tuned(taken.program, taken.network, best, target, asked)
    try:
        return taken.compiled(best)
    except Exception as error:  # noqa: BLE001 - and TVM's compiler
        return _in_torch(module, error)


def _in_torch(module: torch.fx.GraphModule, error: Exception) -> Run:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
    warnings.warn(f"chameleon: this graph runs in torch: {reason}", stacklevel=3)
    return module.forward


class _Taken:
    """A graph that can be compiled for a target.

    Args:
        module: The graph.
        inputs: Examples of what it takes, parameters among them.
        target: This machine's CPU, of which so many cores are used.

    Attributes:
        program: As torch exports it, with its weights.
        network: Its layers.

    Raises:
        ChameleonError: It cannot be taken; other errors are of torch's and TVM's exporters.
    """

    def __init__(self, module: torch.fx.GraphModule, inputs: Sequence[Any], target: Target) -> None:
        os.environ.setdefault("TVM_NUM_THREADS", str(target.cores))  # TVM reads it once
        from chameleon_ray.networks.lookup import network_of
        from chameleon_ray.networks.model import graph_of

        self._module, self._inputs, self._target = module, inputs, target
        self._bound = _Bound(module, inputs)
        examples = tuple(inputs[i] for i in self._bound.free)
        _check(module, inputs, examples)
        with torch.inference_mode():
            self.program = torch.export.export(self._bound.eval(), examples)
        taken = tuple(Input(shape=tuple(x.shape), dtype=str(x.dtype)[6:]) for x in examples)
        source = Source(kind="function", name="torch.compile", inputs=taken)
        self._graph = graph_of(self.program, source, target, one_output=False)
        self.network = network_of(source, self._graph, target)

    def compiled(self, best: Mapping[str, Entry]) -> Run:
        """What runs it, with these configs where they are of its layers.

        Raises:
            UnsupportedError: TVM cannot compile something in it.
        """
        import tvm

        layers = layers_for(self.network, best, self._target)
        executable = compiled(self._graph, layers, self._target)
        main = loaded(executable)
        module, bound = self._module, self._bound
        weights = [(i, self._inputs[i], _version(self._inputs[i])) for i in bound.weights]

        def run(*arguments: Any) -> Any:
            for index, weight, version in weights:  # torch takes one module's code for another's
                if arguments[index] is not weight or _version(arguments[index]) != version:
                    return module(*arguments)
            free = (arguments[i].detach().contiguous() for i in bound.free)
            outputs = main(*(tvm.runtime.from_dlpack(tensor) for tensor in free))
            return tuple(torch.utils.dlpack.from_dlpack(output) for output in outputs)

        return run


def _check(module: torch.fx.GraphModule, inputs: Sequence[Any], examples: Sequence[Any]) -> None:
    """Whether nothing is asked for but outputs of tensors on the CPU.

    Raises:
        ChameleonError: There is more.
    """
    unusual = [x for x in examples if not isinstance(x, torch.Tensor) or x.device.type != "cpu"]
    if unusual:
        raise ChameleonError(f"it takes {type(unusual[0]).__name__}, or is not on the CPU")
    if torch.is_grad_enabled() and any(
        isinstance(x, torch.Tensor) and x.requires_grad for x in inputs
    ):
        raise ChameleonError("it asks for gradients; call it under torch.inference_mode()")
    if _writes_to(module, inputs):
        raise ChameleonError("it changes its own buffers or inputs")


class _Bound(torch.nn.Module):
    """A graph with its parameters inside, so that it takes only what changes from call to call."""

    def __init__(self, module: torch.fx.GraphModule, inputs: Sequence[Any]) -> None:
        super().__init__()
        self._graph, self._given = module, list(inputs)
        self.free = [i for i, value in enumerate(inputs) if not _is_weight(value)]
        self.weights = [i for i, value in enumerate(inputs) if _is_weight(value)]
        for index, value in enumerate(inputs):
            if _is_weight(value):
                self.register_buffer(f"weight{index}", value.detach(), persistent=False)

    def forward(self, *free: torch.Tensor) -> Any:
        """The graph's outputs, a tuple."""
        values = [getattr(self, f"weight{index}", None) for index in range(len(self._given))]
        for index, value in zip(self.free, free, strict=True):
            values[index] = value
        return self._graph(*values)


def _is_weight(value: Any) -> bool:
    is_static: bool = isinstance(value, torch.nn.Parameter) or (
        isinstance(value, torch.Tensor) and getattr(value, "_dynamo_static_input_type", "") != ""
    )
    return is_static


def _writes_to(module: torch.fx.GraphModule, inputs: Sequence[Any]) -> bool:
    """Whether a call writes to what it is given."""
    with torch.inference_mode(mode=False), torch.no_grad():  # where writing is counted
        copies = [x.detach().clone() if isinstance(x, torch.Tensor) else x for x in inputs]
        tensors = [x for x in copies if isinstance(x, torch.Tensor)]
        before = [_version(x) for x in tensors]
        module(*copies)
        return before != [_version(x) for x in tensors]


def _version(weight: torch.Tensor) -> int:
    """Changes when it is written to; of what was made in inference mode, nobody counts."""
    return -1 if weight.is_inference() else weight._version  # noqa: SLF001
