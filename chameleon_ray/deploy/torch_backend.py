"""`torch.compile(model, backend="chameleon")`: torch's graphs, run by the best known code.

    torch.compile(model, backend="chameleon", options={"from": ["runs/mine"], "threads": 2})

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
from chameleon_ray.deploy.loading import loaded
from chameleon_ray.errors import ChameleonError, SettingsError, UnknownNameError
from chameleon_ray.networks.source import Input, Source

_OPTIONS = ("from", "threads")

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
        options: `from`: run folders and databases; `threads`: cores.

    Raises:
        UnknownNameError: An option that is not known.
        ChameleonError: A run or a database cannot be used.
    """
    given = dict(options or {})
    for name in given:
        if name not in _OPTIONS:
            raise UnknownNameError("option", name, _OPTIONS, where="torch.compile")
    records = given.get("from", ())
    if isinstance(records, str):
        raise SettingsError(f"torch.compile: from is a list of run folders, not {records!r}.")
    target = target_of_threads(int(given.get("threads", torch.get_num_threads())))
    best = best_configs(records, target)
    try:
        return _run_of(module, inputs, best, target)
    except Exception as error:  # noqa: BLE001 - whatever torch's or TVM's exporters may raise
        reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
        warnings.warn(f"chameleon: this graph runs in torch: {reason}", stacklevel=2)
        return module.forward


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


def _run_of(
    module: torch.fx.GraphModule, inputs: Sequence[Any], best: Mapping[str, Any], target: Any
) -> Run:
    os.environ.setdefault("TVM_NUM_THREADS", str(target.cores))  # TVM reads it once
    import tvm

    from chameleon_ray.networks.lookup import network_of
    from chameleon_ray.networks.model import graph_of

    bound = _Bound(module, inputs)
    examples = tuple(inputs[i] for i in bound.free)
    unusual = [x for x in examples if not isinstance(x, torch.Tensor) or x.device.type != "cpu"]
    if unusual:
        raise ChameleonError(f"it takes {type(unusual[0]).__name__}, or is not on the CPU")
    if torch.is_grad_enabled() and any(
        isinstance(x, torch.Tensor) and x.requires_grad for x in inputs
    ):
        raise ChameleonError("it asks for gradients; call it under torch.inference_mode()")
    if _writes_to(module, inputs):
        raise ChameleonError("it changes its own buffers or inputs")
    with torch.inference_mode():
        program = torch.export.export(bound.eval(), examples)
    taken = tuple(Input(shape=tuple(x.shape), dtype=str(x.dtype)[6:]) for x in examples)
    source = Source(kind="function", name="torch.compile", inputs=taken)
    graph = graph_of(program, source, target, one_output=False)
    executable = compiled(
        graph, layers_for(network_of(source, graph, target), best, target), target
    )
    main = loaded(executable)

    weights = [(i, inputs[i], _version(inputs[i])) for i in bound.weights]

    def run(*arguments: Any) -> Any:
        for index, weight, version in weights:  # torch takes one module's code for another's
            if arguments[index] is not weight or _version(arguments[index]) != version:
                return module(*arguments)
        free = (arguments[i].detach().contiguous() for i in bound.free)
        outputs = main(*(tvm.runtime.from_dlpack(tensor) for tensor in free))
        return tuple(torch.utils.dlpack.from_dlpack(output) for output in outputs)

    return run
