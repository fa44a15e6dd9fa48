"""A graph without the reshaping between an operator and what is done with its output. Imports TVM.

Transformers come with many: dense layers are applied to `(..., inner)`, whose axes but the last are
rows, and exporters put reshapes, expansions and permutations around each.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import tvm
from tvm import ir, relax
from tvm.relax.expr_functor import PyExprMutator, mutator

from chameleon_ray.networks.graph import are_static, rewritten, sizes_of

_OF_EACH = ("relax.nn.relu", "relax.nn.gelu", "relax.nn.silu", "relax.sigmoid", "relax.tanh")
_VIEWS = ("relax.reshape", "relax.expand_dims", "relax.squeeze", "relax.flatten")
_REWRITTEN = (
    *_OF_EACH, *_VIEWS, "relax.broadcast_to", "relax.permute_dims", "relax.matmul", "relax.add",
)  # fmt: skip
_MATRIX = 2  # axes


def with_plain_norms(graph: tvm.IRModule) -> tvm.IRModule:
    """The graph with norms right behind their convolution: a bias between is in their mean."""
    folded = relax.transform.FoldConstant()(graph)
    return rewritten(folded, _Norms(folded))


def simplified(graph: tvm.IRModule) -> tvm.IRModule:
    """The same function of its inputs, number by number."""
    passes = (
        relax.transform.CanonicalizeBindings(),
        relax.transform.FoldConstant(),
        relax.transform.EliminateCommonSubexpr(),
        relax.transform.DeadCodeElimination(),
    )
    found: tvm.IRModule = tvm.transform.Sequential(passes)(rewritten(graph, _Simpler(graph)))
    return found


@mutator
class _Simpler(PyExprMutator):  # type: ignore[misc]
    """Puts views in the place of what moves nothing, and moves them behind what follows.

    Products with constant weights become products of two matrices, of all rows at once.
    """

    def visit_call_(self, call: Any) -> Any:
        """TVM calls this for each operator."""
        call = super().visit_call_(call)
        if (
            not isinstance(call.op, ir.Op)
            or call.op.name not in _REWRITTEN
            or not are_static(call, *call.args)
        ):
            return call
        name = str(call.op.name)
        same = name == "relax.broadcast_to" and sizes_of(call) == sizes_of(call.args[0])
        if same or name in _VIEWS:
            return self._view(call.args[0], sizes_of(call))
        match name:
            case _ if name in _OF_EACH:
                call = self._of_each(call)
            case "relax.permute_dims":
                call = self._permuted(call)
            case "relax.matmul":
                call = self._product(call)
            case "relax.add":
                call = self._sum(call)
        return call

    def _of_each(self, call: Any) -> Any:
        rows = self._rows(call.args[0])
        return call if rows is None else self._view(self._emit(call.op, rows), sizes_of(call))

    def _emit(self, operator: Any, *arguments: Any) -> Any:
        return self.builder_.emit(relax.Call(operator, [*arguments]))

    def _view(self, x: Any, sizes: Sequence[int]) -> Any:
        """`x` with other axes; itself, or what it is a view of, where that has these."""
        if isinstance(x, relax.Var):
            origin = self.lookup_binding(x)
            if isinstance(origin, relax.Call) and _is(origin, "relax.reshape"):
                return self._view(origin.args[0], sizes)
        return x if sizes_of(x) == [*sizes] else relax.op.reshape(x, [*sizes])

    def _permuted(self, call: Any) -> Any:
        """One permutation for two in a row; a view, if only axes of size 1 are moved."""
        x, axes = call.args[0], _axes(call)
        origin = self.lookup_binding(x) if isinstance(x, relax.Var) else None
        if isinstance(origin, relax.Call) and _is(origin, "relax.permute_dims"):
            before = _axes(origin)
            x, axes = origin.args[0], [before[axis] for axis in axes]
        moved = [axis for axis in axes if sizes_of(x)[axis] > 1]
        if moved == sorted(moved):
            return self._view(x, sizes_of(call))
        return relax.op.permute_dims(x, axes)

    def _product(self, call: Any) -> Any:
        left, right = call.args
        weights = _weights(right)
        if weights is None or len(sizes_of(left)) == _MATRIX == len(sizes_of(right)):
            return call
        *before, inner = sizes_of(left)
        as_many = math.prod(before) * sizes_of(weights)[1] == math.prod(sizes_of(call))
        if not as_many or call.ty.dtype != left.ty.dtype:
            return call
        rows = self._visible(self._view(left, [math.prod(before), inner]))
        product = self.builder_.emit(relax.op.matmul(rows, weights))
        return self._view(product, sizes_of(call))

    def _visible(self, x: Any) -> Any:
        """As an argument takes it."""
        return self.builder_.emit(x) if isinstance(x, relax.Call) else x

    def _rows(self, x: Any) -> Any:
        """The matrix of as many columns that something is a view of, or None."""
        origin = self.lookup_binding(x) if isinstance(x, relax.Var) else None
        if not isinstance(origin, relax.Call) or not _is(origin, "relax.reshape"):
            return None
        rows = origin.args[0]
        sizes = sizes_of(rows)
        return rows if len(sizes) == _MATRIX and sizes[-1:] == sizes_of(x)[-1:] else None

    def _sum(self, call: Any) -> Any:
        """With a bias, or with as many numbers: of rows, if one of both is a view of such."""
        for x, other in (call.args, [*call.args][::-1]):
            rows = self._rows(x)
            if rows is None or sizes_of(x) != sizes_of(call):
                continue
            if _is_bias(other, sizes_of(x)):
                same = relax.const(other.value.numpy().reshape(-1))
            elif sizes_of(other) == sizes_of(x):
                same = self._visible(self._view(other, sizes_of(rows)))
            else:
                continue
            return self._view(self._emit(call.op, rows, same), sizes_of(call))
        return call


@mutator
class _Norms(PyExprMutator):  # type: ignore[misc]
    """Takes a bias before a norm of batches, which takes its mean away, out of that mean."""

    def visit_call_(self, call: Any) -> Any:
        """TVM calls this for each operator."""
        call = super().visit_call_(call)
        if not _is(call, "relax.nn.batch_norm") or not isinstance(call.args[0], relax.Var):
            return call
        x, scale, shift, mean, variance = call.args
        origin = self.lookup_binding(x)
        if not isinstance(origin, relax.Call) or not _is(origin, "relax.add"):
            return call
        convolved, bias = origin.args
        known = isinstance(bias, ir.GenericConst) and isinstance(mean, ir.GenericConst)
        if not known or not _is_of_axis(bias, convolved, int(call.attrs.axis)):
            return call
        less = relax.const(mean.value.numpy() - bias.value.numpy().reshape(-1))
        return relax.Call(call.op, [convolved, scale, shift, less, variance], call.attrs)


def _weights(right: Any) -> Any:
    """A constant right side as one matrix, if all of a batch have the same; else None."""
    if not isinstance(right, ir.GenericConst):
        return None
    found = right.value.numpy()
    if found.ndim == _MATRIX:
        return right
    if found.ndim < _MATRIX:
        return None
    each = found.reshape(-1, *found.shape[-2:])
    return relax.const(np.ascontiguousarray(each[0])) if (each == each[:1]).all() else None


def _is_of_axis(bias: Any, x: Any, axis: int) -> bool:
    """Whether a constant has a number for each place of `x` along an axis."""
    if not are_static(bias, x):
        return False
    sizes = sizes_of(x)
    there = [1] * (len(sizes) - len(sizes_of(bias))) + sizes_of(bias)
    return there == [size if at == axis else 1 for at, size in enumerate(sizes)]


def _is_bias(x: Any, sizes: Sequence[int]) -> bool:
    """Whether it is a constant with a number for each place along the last axis."""
    last = sizes[-1]
    return isinstance(x, ir.GenericConst) and sizes_of(x)[-1:] == [last] == [math.prod(sizes_of(x))]


def _is(call: Any, name: str) -> bool:
    return isinstance(call.op, ir.Op) and str(call.op.name) == name


def _axes(call: Any) -> list[int]:
    axes = range(len(sizes_of(call)))
    return [axes[int(axis)] for axis in call.attrs.axes or reversed(axes)]
