"""What a layer is computed on while it is measured, and what has to come out: torch's."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from chameleon_ray.tasks import LayerTask, Matmul

Array = npt.NDArray[np.float32]


def inputs(task: LayerTask, seed: int) -> tuple[Array, Array]:
    """Input `(N,C,H,W)` and filters `(F,C/groups,KH,KW)`, normal numbers.

    Or `(batch,rows,inner)` and `(inner,columns)`, after a batch if that is not constant.
    """
    rng = np.random.default_rng(seed)
    data = rng.standard_normal(task.input_shape, dtype=np.float32)
    return data, rng.standard_normal(task.weight_shape, dtype=np.float32)


def epilogue_inputs(task: LayerTask, seed: int) -> tuple[Array, ...]:
    """What the steps of the epilogue take, in their order.

    `(1,F,1,1)` or `(columns,)` of a bias, the shape of the output of what is added.
    """
    rng = np.random.default_rng((seed, 1))
    of_bias = (task.columns,) if isinstance(task, Matmul) else (1, task.out_channels, 1, 1)
    shapes = {"bias": of_bias, "add": task.output_shape}
    takes = [shapes[step] for step in task.epilogue if step in shapes]
    return tuple(rng.standard_normal(shape, dtype=np.float32) for shape in takes)


def after_epilogue(
    output: torch.Tensor, task: LayerTask, arrays: Sequence[torch.Tensor]
) -> torch.Tensor:
    """The output of a layer after all steps of its epilogue."""
    left = iter(arrays)
    for step in task.epilogue:
        match step:
            case "bias" | "add":
                output = output + next(left)
            case "relu":
                output = torch.relu(output)
            case "clip6":
                output = torch.clamp(output, 0.0, 6.0)
            case "silu":
                output = torch.nn.functional.silu(output)
            case "gelu":
                output = torch.nn.functional.gelu(output)
    return output


def blocked(array: Array, block: int) -> Array:
    """`(N, C, H, W)` as `(N, C/block, H, W, block)`; the same for blocks of 1."""
    if block == 1:
        return array
    n, c, h, w = array.shape
    return np.ascontiguousarray(array.reshape(n, c // block, block, h, w).transpose(0, 1, 3, 4, 2))


def unblocked(array: Array) -> Array:
    """The other way round."""
    if array.ndim != 5:
        return array
    n, c, h, w, block = array.shape
    return array.transpose(0, 1, 4, 2, 3).reshape(n, c * block, h, w)


def by_torch(
    task: LayerTask, data: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None
) -> torch.Tensor:
    """A layer before its epilogue, but for a bias `(F,)` or `(columns,)` that is its first step."""
    if isinstance(task, Matmul):
        if task.constant:
            return torch.nn.functional.linear(data, weight.mT, bias)
        product = torch.matmul(data, weight)
        return product if bias is None else product + bias
    return torch.nn.functional.conv2d(
        data, weight, bias, stride=task.stride, padding=task.padding, groups=task.groups
    )


def expected(task: LayerTask, seed: int) -> Array:
    """What torch computes of the inputs, on this CPU."""
    computed = by_torch(task, *map(torch.tensor, inputs(task, seed)))
    others = [*map(torch.tensor, epilogue_inputs(task, seed))]
    result: Array = after_epilogue(computed, task, others).numpy()
    return result


def relative_error(found: Array, right: Array) -> float:
    """max|a-b| / max|b|; infinite where anything is not a number."""
    worst = float(np.abs(found - right).max() / np.abs(right).max())
    return worst if math.isfinite(worst) else math.inf
