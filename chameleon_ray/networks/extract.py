"""The layers of a graph: what can be tuned, each once, and what cannot, with the reason."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import tvm
from tvm import ir, relax

from chameleon_ray.errors import UnsupportedError
from chameleon_ray.networks import Untuned, numbered
from chameleon_ray.networks.graph import are_static, sizes_of
from chameleon_ray.tasks import Conv2d, Layer, LayerTask, Matmul, Step
from chameleon_ray.templates import with_best_form

_CONV2D, _MATMUL = "conv2d", "matmul"
_BLOCKS = re.compile(r"NCHW(?:(\d+)c)?")
_MATRIX = 2  # axes
_SIX = 6.0
_NO_TEMPLATE = "there is no template for it yet"
_HEAVY = ("conv1d", "conv3d", "conv2d_transpose", "conv1d_transpose", "attention")


def layers_of(graph: tvm.IRModule) -> tuple[tuple[Layer, ...], tuple[Untuned, ...]]:
    """Convolutions and products of a graph in the order in which they come first, and the rest.

    Layers of equal shape and epilogue are one, with as many uses.
    """
    tasks = tasks_in(graph)
    others: Counter[tuple[str, str]] = Counter()
    within = {step for found in tasks.values() for step in found.steps}
    for binding in _bindings(graph):
        call, name = binding.value, _name(binding.value)
        if binding.var in tasks or binding.var in within:
            continue
        if name in (_CONV2D, _MATMUL):
            others[_shown(call), _reason(call)] += 1
        else:
            heavy = name in _HEAVY
            others[_shown(call) if heavy else name, _NO_TEMPLATE if heavy else ""] += 1
    layers = numbered(Counter(found.task for found in tasks.values()))
    return layers, tuple(
        Untuned(what=what, reason=reason, uses=count)
        for (what, reason), count in sorted(others.items(), key=lambda item: not item[0][1])
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A convolution or a product in a graph.

    Attributes:
        call: The operator.
        task: What it computes, its epilogue included.
        steps: The variables of that.
    """

    call: Any
    task: LayerTask
    steps: tuple[Any, ...]


def tasks_in(graph: tvm.IRModule) -> dict[Any, Found]:
    """What of a graph is a task, by the variables that it is bound to."""
    bindings, users = list(_bindings(graph)), _users(graph)
    found: dict[Any, Found] = {}
    taken: set[Any] = set()
    for binding in bindings:
        if _name(binding.value) not in (_CONV2D, _MATMUL):
            continue
        try:
            task = task_of(binding.value)
        except UnsupportedError:
            continue
        of_columns = isinstance(task, Matmul)
        steps, bound = _epilogue(binding.var, users, taken, of_columns=of_columns)
        taken |= set(bound)
        found[binding.var] = Found(
            call=binding.value, task=replace(task, epilogue=steps), steps=bound
        )
    return found


def _users(graph: tvm.IRModule) -> dict[Any, list[Any]]:
    """Where each variable is used: bindings, in order; none of those for what is put out."""
    main = graph["main"].body
    users: dict[Any, list[Any]] = {}

    def note(expression: Any, binding: Any) -> None:
        def visit(part: Any) -> None:
            if isinstance(part, relax.Var):
                users.setdefault(part, []).append(binding)

        relax.analysis.post_order_visit(expression, visit)

    for block in main.blocks:
        for binding in block.bindings:
            note(binding.value, binding)
    note(main.body, None)
    return users


def _epilogue(
    variable: Any, users: Mapping[Any, Sequence[Any]], taken: set[Any], *, of_columns: bool
) -> tuple[tuple[Step, ...], tuple[Any, ...]]:
    """What is done with an output alone, and the variables that this is bound to."""
    steps: list[Step] = []
    variables: list[Any] = []
    while (after := _after(variable, users, of_columns=of_columns)) and not taken & set(after[1]):
        step, bound = after
        steps.append(step)
        variables += bound
        variable = bound[-1]
    return tuple(steps), tuple(variables)


def _after(
    variable: Any, users: Mapping[Any, Sequence[Any]], *, of_columns: bool
) -> tuple[Step, tuple[Any, ...]] | None:
    """The step that alone uses a variable, and what it is bound to; the last is its result."""
    uses = users.get(variable, ())
    if not all(use is not None and _is_operator(use.value) for use in uses):
        return None
    if len(uses) == 1:
        later = users.get(uses[0].var, ())
        clips = len(later) == 1 and later[0] is not None and _is_least_of_six(later[0].value)
        if _name(uses[0].value) == "relu" and clips:
            return "clip6", (uses[0].var, later[0].var)
        step = _step(uses[0].value, variable, of_columns=of_columns)
        return (step, (uses[0].var,)) if step else None
    if [_name(use.value) for use in uses] == ["sigmoid", "multiply"]:
        sigmoid, product = (use.var for use in uses)
        if [use and use.var.same_as(product) for use in users.get(sigmoid, ())] == [True]:
            return "silu", (sigmoid, product)
    return None


def _is_least_of_six(call: Any) -> bool:
    """Whether it is what `layout` makes of the upper end of a clip."""
    return (
        _is_operator(call)
        and _name(call) == "minimum"
        and any(
            isinstance(x, ir.GenericConst) and np.all(x.value.numpy() == _SIX) for x in call.args
        )
    )


def _step(call: Any, variable: Any, *, of_columns: bool) -> Step | None:
    match _name(call):
        case "relu" | "gelu" as name:
            return name
        case "add":
            (other,) = [x for x in call.args if not x.same_as(variable)] or [variable]
            if not are_static(other):
                return None
            shape, theirs = map(sizes_of, (variable, other))
            if isinstance(other, ir.GenericConst):
                return "bias" if theirs in _biases(shape, of_columns=of_columns) else None
            return "add" if theirs == shape else None
    return None


def _biases(shape: Sequence[int], *, of_columns: bool) -> list[list[int]]:
    """Shapes of a number for each filter or column of an output."""
    if of_columns:
        return [[1] * before + [shape[-1]] for before in range(len(shape))]
    return [[1, shape[1], 1, 1, *shape[4:]]]


def _bindings(graph: tvm.IRModule) -> Iterator[Any]:
    """The operators of a graph and what they are bound to, in order."""
    for block in graph["main"].body.blocks:
        for binding in block.bindings:
            if _is_operator(binding.value):
                yield binding


def _is_operator(value: Any) -> bool:
    return isinstance(value, relax.Call) and isinstance(value.op, ir.Op)


def _name(call: Any) -> str:
    name: str = call.op.name
    return name.removeprefix("relax.").removeprefix("nn.")


def _reason(call: Any) -> str:
    try:
        task_of(call)
    except UnsupportedError as reason:
        return str(reason)
    return ""


def task_of(call: Any) -> LayerTask:
    """The task of a convolution or a product, without what is done with its output.

    Raises:
        UnsupportedError: No task says what it computes; the message says why.
    """
    if not are_static(call, *call.args):
        raise UnsupportedError("its sizes are not known before it runs")
    return _product(call) if _name(call) == _MATMUL else _convolution(call)


def _product(call: Any) -> Matmul:
    left, right = call.args
    if len(sizes_of(left)) < _MATRIX:
        raise UnsupportedError("its left side is a vector")
    *before, rows, inner = sizes_of(left)
    *theirs, columns = sizes_of(right)
    if str(left.ty.dtype) != "float32":
        raise UnsupportedError("its type is not float32")
    constant = isinstance(right, ir.GenericConst)
    if theirs != ([inner] if constant else [*before, inner]):
        raise UnsupportedError("its sides have other axes than rows, columns, and a batch of both")
    if left.same_as(right):
        raise UnsupportedError("both of its sides are the same")
    return Matmul(
        rows=rows, columns=columns, inner=inner, batch=math.prod(before), constant=constant
    )


def _convolution(call: Any) -> Conv2d:
    attributes = call.attrs
    batch, in_channels, height, width, *in_block = sizes_of(call.args[0])
    out_channels, _, kernel_height, kernel_width, *out_block = sizes_of(call.args[1])
    within, without = (block[0] if block else 1 for block in (in_block, out_block))
    if not _has_known_layout(attributes):
        raise UnsupportedError("its layout is not NCHW")
    if str(call.args[0].ty.dtype) != "float32":
        raise UnsupportedError("its type is not float32")
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
    task = Conv2d(
        batch=batch,
        in_channels=in_channels * within,
        out_channels=out_channels * without,
        height=height,
        width=width,
        kernel_height=kernel_height,
        kernel_width=kernel_width,
        stride=strides[0],
        padding=padding[0],
        groups=int(attributes.groups),
        block=max(within, without),
        nchw="" if within == without else "in" if within == 1 else "out",
    )
    return with_best_form(task)


def _has_known_layout(attributes: Any) -> bool:
    """Whether it is one that `layout.in_blocks` makes, or NCHW."""
    of_output = _BLOCKS.fullmatch(str(attributes.out_layout))
    if not of_output or not _BLOCKS.fullmatch(str(attributes.data_layout)):
        return False
    lanes = of_output[1]
    return str(attributes.kernel_layout) == (f"OIHW{lanes}o" if lanes else "OIHW")


def _shown(call: Any) -> str:
    known = [argument for argument in call.args[:2] if are_static(argument)]
    shapes = ["x".join(map(str, sizes_of(argument))) for argument in known]
    return f"{_name(call)} {', '.join(shapes)}"
