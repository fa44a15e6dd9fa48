"""A graph with its layers packed for their template, and everything fused. Imports TVM."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import tvm
from tvm import ir, relax
from tvm.relax.expr_functor import PyExprMutator, mutator

from chameleon_ray.deploy.preparing import Filters, filters_to_prepare, with_parameter
from chameleon_ray.errors import UnsupportedError
from chameleon_ray.networks.extract import tasks_in
from chameleon_ray.networks.graph import rewritten
from chameleon_ray.tasks import Conv2d, LayerTask, Target
from chameleon_ray.templates import check_supported, filters_of
from chameleon_ray.templates.cpu_layers import output

_WRITES_ITS_OUTPUT = 4  # of TVM's OpPatternKind: what follows may be done before it is written


def packed_and_fused(graph: tvm.IRModule, target: Target) -> tuple[tvm.IRModule, list[Filters]]:
    """The graph as calls of TIR functions that are not scheduled yet.

    A layer that has a template is computed as that has it, and the operators after it that go
    through its output number by number are in its function: bias, activation, the addition of a
    residual. The block of it is annotated with its task. Its weights are packed; filters that have
    yet to be transformed come beside the graph, and `main` takes them (`preparing`).
    """
    pipeline = (
        relax.transform.CanonicalizeBindings(),
        relax.transform.FastMathTransform(),
        relax.transform.LegalizeOps(),
        relax.transform.AnnotateTIROpPattern(),
        relax.transform.FoldConstant(),
        relax.transform.FuseOps(),
        relax.transform.FuseTIR(),
        relax.transform.DeadCodeElimination(),
    )
    packing = _Packing(graph, target)
    packed = with_parameter(rewritten(graph, packing), packing.to_prepare)
    return tvm.transform.Sequential(pipeline)(packed), packing.to_prepare


@mutator
class _Packing(PyExprMutator):  # type: ignore[misc]
    """Puts a template's computation in the place of each layer that it takes.

    And `exp` and `erf` in the place of functions that are made of them, as there are forms of those
    for vectors.
    """

    def __init__(self, graph: tvm.IRModule, target: Target) -> None:
        super().__init__(graph)
        self.to_prepare: list[Filters] = []
        self._target = target
        self._tasks = {found.call: found.task for found in tasks_in(graph).values()}

    def visit_call_(self, call: Any) -> Any:
        """TVM calls this for each operator."""
        task = self._tasks.get(call)
        call = super().visit_call_(call)
        if isinstance(call.op, ir.Op) and call.op.name in _IN_STEPS:
            return _IN_STEPS[call.op.name](call.args[0], self.builder_.emit)
        if task is None or not _has_template(task, self._target):
            return call
        data, weight = call.args
        if isinstance(weight, ir.GenericConst):
            weight = self._filters(_plain(weight.value.numpy()), task)
        return self.builder_.call_te(
            lambda x, w: output(x, w, task, self._target),
            data,
            weight,
            primfunc_name_hint=task.key.partition("_")[0],
            primfunc_attrs={"op_pattern": _WRITES_ITS_OUTPUT},
        )

    def _filters(self, weight: npt.NDArray[np.float32], task: LayerTask) -> Any:
        if isinstance(task, Conv2d) and task.form != "direct":
            self.to_prepare.append(filters_to_prepare(weight, task, len(self.to_prepare)))
            return self.to_prepare[-1].var
        return relax.const(filters_of(weight, task, self._target))


def _logistic(x: Any, emit: Callable[[Any], Any]) -> Any:
    one = relax.const(1.0, x.ty.dtype)
    return relax.op.divide(
        one, emit(relax.op.add(one, emit(relax.op.exp(emit(relax.op.negative(x))))))
    )


def _gelu(x: Any, emit: Callable[[Any], Any]) -> Any:
    half, one, root = (relax.const(number, x.ty.dtype) for number in (0.5, 1.0, 0.5**0.5))
    share = emit(relax.op.add(one, emit(relax.op.erf(emit(relax.op.multiply(x, root))))))
    return relax.op.multiply(emit(relax.op.multiply(x, half)), share)


_IN_STEPS = {"relax.sigmoid": _logistic, "relax.nn.gelu": _gelu}


def _plain(weight: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Filters `(F, C, KH, KW)`, of such or of `(F/lanes, C, KH, KW, lanes)`; others as they are."""
    if weight.ndim != 5:
        return weight
    f, c, height, width, lanes = weight.shape
    return weight.transpose(0, 4, 1, 2, 3).reshape(f * lanes, c, height, width)


def _has_template(task: LayerTask, target: Target) -> bool:
    try:
        check_supported(task, target)
    except UnsupportedError:
        return False
    return True
