"""The layers of a graph: what can be tuned, each once, and what cannot, with the reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import tvm
from tvm import ir, relax

from chameleon_ray.errors import UnsupportedError
from chameleon_ray.networks import Untuned
from chameleon_ray.tasks import Conv2d, Layer

_CONV2D = "relax.nn.conv2d"
_HEAVY = ("conv1d", "conv3d", "conv2d_transpose", "conv1d_transpose", "matmul", "attention")


def layers_of(graph: tvm.IRModule) -> tuple[tuple[Layer, ...], tuple[Untuned, ...]]:
    """The convolutions of a graph in the order in which they come first, and the rest.

    Layers of equal shape are one, with as many uses.
    """
    uses: Counter[Conv2d] = Counter()
    others: Counter[tuple[str, str]] = Counter()
    for call in calls(graph):
        name = call.op.name.removeprefix("relax.").removeprefix("nn.")
        if call.op.name == _CONV2D:
            try:
                uses[task_of(call)] += 1
            except UnsupportedError as reason:
                others[_shown(name, call), str(reason)] += 1
        elif name in _HEAVY:
            others[_shown(name, call), "there is no template for it yet"] += 1
        else:
            others[name, ""] += 1
    layers = tuple(
        Layer(index=index, task=task, uses=count)
        for index, (task, count) in enumerate(uses.items(), start=1)
    )
    return layers, tuple(
        Untuned(what=what, reason=reason, uses=count)
        for (what, reason), count in sorted(others.items(), key=lambda item: not item[0][1])
    )


def calls(graph: tvm.IRModule) -> Iterator[Any]:
    """The operators of a graph, in order."""
    for block in graph["main"].body.blocks:
        for binding in block.bindings:
            value = binding.value
            if isinstance(value, relax.Call) and isinstance(value.op, ir.Op):
                yield value


def task_of(call: Any) -> Conv2d:
    """The task of a convolution.

    Raises:
        UnsupportedError: No task says what it computes; the message says why.
    """
    attributes = call.attrs
    batch, in_channels, height, width = map(int, call.args[0].ty.shape)
    out_channels, _, kernel_height, kernel_width = map(int, call.args[1].ty.shape)
    plain = (attributes.data_layout, attributes.kernel_layout) == ("NCHW", "OIHW")
    if not plain or str(call.args[0].ty.dtype) != "float32":
        raise UnsupportedError("its layout or type is not NCHW float32")
    if not isinstance(call.args[1], ir.GenericConst):
        raise UnsupportedError("its filters are not constant")
    strides, padding, dilation = (
        [*map(int, values)]
        for values in (attributes.strides, attributes.padding, attributes.dilation)
    )
    if max(dilation) > 1:
        raise UnsupportedError("it is dilated")
    if len({*strides}) > 1 or len({*padding}) > 1:
        raise UnsupportedError("its strides or its paddings differ from side to side")
    return Conv2d(
        batch=batch,
        in_channels=in_channels,
        out_channels=out_channels,
        height=height,
        width=width,
        kernel_height=kernel_height,
        kernel_width=kernel_width,
        stride=strides[0],
        padding=padding[0],
        groups=int(attributes.groups),
    )


def _shown(name: str, call: Any) -> str:
    shapes = ", ".join("x".join(map(str, argument.ty.shape)) for argument in call.args[:2])
    return f"{name} {shapes}"
