"""Activations in the layout that serves a whole chain of layers. Imports TVM."""

from __future__ import annotations

import math
from typing import Any

import tvm
from tvm import ir, relax
from tvm.relax.expr_functor import PyExprMutator, mutator

from chameleon_ray.networks.graph import rewritten
from chameleon_ray.templates.cpu_conv2d import groups_computed

_CONV2D = "relax.nn.conv2d"
_PLAIN = ("NCHW", "OIHW", "NCHW")
_OF_TWO = 2  # operands


def in_blocks(graph: tvm.IRModule, lanes: int) -> tvm.IRModule:
    """The graph with channels in blocks, NCHWc, from one convolution to the next.

    A vector then holds the same place of so many channels, on both sides of a layer and of what
    stands between layers. A convolution of which only one side has such a number of channels, as
    the first of a network, has NCHW on the other, and converts on its way. What cannot have blocks
    at all (groups of several, what ends a chain) is NCHW as before, and activations are converted
    where the two meet. All of a graph stays NCHW if it has operators over which TVM's conversion
    fails, as a transformer has.

    Args:
        graph: As `model.load_graph` makes it.
        lanes: Of a vector of float32.
    """

    def wanted(call: Any) -> dict[str, list[str]]:
        if not isinstance(call.op, ir.Op) or call.op.name != _CONV2D:
            return {}
        return {_CONV2D: _layouts(call, lanes)}

    plain = rewritten(graph, _Clips(graph))
    try:
        converted = relax.transform.ConvertLayout({_CONV2D: [*_PLAIN]}, wanted)(plain)
    except Exception:  # noqa: BLE001 - TVM's own, over what some operators do to a layout
        converted = plain
    passes = (
        relax.transform.FoldConstant(),
        relax.transform.EliminateCommonSubexpr(),
        relax.transform.DeadCodeElimination(),
    )
    folded: tvm.IRModule = tvm.transform.Sequential(passes)(converted)
    return folded


def _layouts(call: Any, lanes: int) -> list[str]:
    """Of input, filters and output; plain, unless it is a task (`extract.task_of`).

    TVM itself computes none of those in blocks.
    """
    channels = [int(call.args[i].ty.shape[axis]) for i, axis in ((0, 1), (1, 0))]
    groups = int(call.attrs.groups)
    attributes = call.attrs
    plain = attributes.data_layout == "NCHW" and isinstance(call.args[1], ir.GenericConst)
    alike = [attributes.strides, attributes.padding, [*attributes.dilation, 1]]
    even = all(len({*map(int, numbers)}) == 1 for numbers in alike)
    within, without = (number % lanes == 0 for number in channels)
    of_vectors = {groups} == {*channels} or groups_computed(groups, channels[1], lanes)
    alone = groups == 1 or (within and without and of_vectors)
    if not (plain and even and alone and str(call.args[0].ty.dtype) == "float32"):
        return [*_PLAIN]
    blocks = f"NCHW{lanes}c", f"OIHW{lanes}o", f"NCHW{lanes}c"
    return [
        block if fits else layout
        for block, layout, fits in zip(blocks, _PLAIN, (within, without, without), strict=True)
    ]


@mutator
class _Clips(PyExprMutator):  # type: ignore[misc]
    """Puts minimum and maximum in the place of `clip`, whose layout TVM does not infer.

    And in the place of the functions that it makes of ONNX's.
    """

    def visit_call_(self, call: Any) -> Any:
        """TVM calls this for each operator."""
        call = super().visit_call_(call)
        if not isinstance(call.op, ir.Op):
            return call
        if call.op.name == "relax.clip":
            return self._clipped(call.args[0], *(float(end.value) for end in call.args[1:]))
        if call.op.name == "relax.call_tir" and len(call.args[1].fields) == _OF_TWO:
            x, end = call.args[1].fields
            name = call.args[0].name_hint.rstrip("0123456789")
            if name in ("minimum", "maximum") and isinstance(end, ir.GenericConst):
                number = end.value.numpy()
                if number.ndim == 0:
                    ends = (number, math.inf) if name == "maximum" else (-math.inf, number)
                    return self._clipped(x, *map(float, ends))
        return call

    def _clipped(self, x: Any, low: float, high: float) -> Any:
        dtype, found = str(x.ty.dtype), x
        if low == 0 and dtype == "float32":
            found = relax.op.nn.relu(x)
        elif math.isfinite(low):
            found = relax.op.maximum(x, relax.const(low, dtype))
        if not math.isfinite(high):
            return found
        bounded = found if found is x else self.builder_.emit(found)
        return relax.op.minimum(bounded, relax.const(high, dtype))
