"""What a library computes once, when it is loaded: its function `prepare`. Imports TVM.

Winograd's filters lie in it as they are in the model, and are transformed for a layer's template
at the start. `prepare` takes nothing and returns all of them, a tuple; `main` takes that after the
model's inputs. Where there are none, it is empty.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import tvm
from tvm import relax

from chameleon_ray.deploy.loading import PREPARE
from chameleon_ray.tasks import Conv2d
from chameleon_ray.templates.cpu_winograd_filters import stored, transformation, transformed_shape

_PREPARED = "prepared"  # the parameter


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """Of one layer.

    Attributes:
        weight: As they are stored.
        var: What stands for them in `main`, transformed.
    """

    task: Conv2d
    weight: npt.NDArray[np.float32]
    var: Any


def filters_to_prepare(weight: npt.NDArray[np.float32], task: Conv2d, number: int) -> Filters:
    """Filters `(F, C, 3, 3)` of a layer in one of Winograd's forms."""
    of_var = relax.TensorType(transformed_shape(task), "float32")
    var = relax.Var(f"{_PREPARED}{number}", of_var)
    return Filters(task=task, weight=stored(weight, task), var=var)


def with_parameter(graph: tvm.IRModule, filters: Sequence[Filters]) -> tvm.IRModule:
    """The graph with what `prepare` returns as the last parameter of `main`."""
    main = graph["main"]
    parameter = relax.Var(_PREPARED, relax.TupleType([one.var.ty for one in filters]))
    taken = [
        relax.VarBinding(one.var, relax.TupleGetItem(parameter, place))
        for place, one in enumerate(filters)
    ]
    body = relax.SeqExpr([relax.BindingBlock(taken), *main.body.blocks], main.body.body)
    parameters = [*main.params, parameter]
    changed = relax.Function(parameters, body, main.ret_ty, main.is_pure, main.attrs)
    graph.update_func(graph.get_global_var("main"), changed)
    return graph


def with_preparation(graph: tvm.IRModule, filters: Sequence[Filters]) -> tvm.IRModule:
    """A graph whose functions are scheduled, with `prepare`."""
    builder = relax.BlockBuilder(graph)
    with builder.function(PREPARE, []):
        transformed = [
            builder.emit(
                relax.call_tir(
                    builder.add_func(transformation(one.task), "transform_filters"),
                    [relax.const(one.weight)],
                    one.var.ty,
                )
            )
            for one in filters
        ]
        builder.emit_func_output(relax.Tuple(transformed))
    return builder.get()
