"""What a convolution is computed on while it is measured, and what has to come out: torch's."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from chameleon_ray.tasks import Conv2d

Array = npt.NDArray[np.float32]


def inputs(task: Conv2d, seed: int) -> tuple[Array, Array]:
    """Input `(N,C,H,W)` and filters `(F,C/groups,KH,KW)`, normal numbers."""
    t, rng = task, np.random.default_rng(seed)
    data = rng.standard_normal((t.batch, t.in_channels, t.height, t.width), dtype=np.float32)
    filters = (t.out_channels, t.in_channels // t.groups, t.kernel_height, t.kernel_width)
    return data, rng.standard_normal(filters, dtype=np.float32)


def epilogue_inputs(task: Conv2d, seed: int) -> tuple[Array, ...]:
    """What the steps of the epilogue take, in their order: `(1,F,1,1)` of a bias, `(N,F,OH,OW)`."""
    rng = np.random.default_rng((seed, 1))
    shapes = {"bias": (1, task.out_channels, 1, 1), "add": output_shape(task)}
    takes = [shapes[step] for step in task.epilogue if step in shapes]
    return tuple(rng.standard_normal(shape, dtype=np.float32) for shape in takes)


def after_epilogue(
    output: torch.Tensor, task: Conv2d, arrays: Sequence[torch.Tensor]
) -> torch.Tensor:
    """The output of a convolution after all steps of its epilogue."""
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
    return output


def blocked(array: Array, block: int) -> Array:
    """`(N, C, H, W)` as `(N, C/block, H, W, block)`; the same for blocks of 1."""
    if block == 1:
        return array
    n, c, h, w = array.shape
    return np.ascontiguousarray(array.reshape(n, c // block, block, h, w).transpose(0, 1, 3, 4, 2))


def unblocked(array: Array) -> Array:
    """The other way round."""
    if array.ndim == 4:
        return array
    n, c, h, w, block = array.shape
    return array.transpose(0, 1, 4, 2, 3).reshape(n, c * block, h, w)


def output_shape(task: Conv2d) -> tuple[int, int, int, int]:
    """`(N, F, OH, OW)`."""
    return task.batch, task.out_channels, task.out_height, task.out_width


def expected(task: Conv2d, seed: int) -> Array:
    """What torch computes of the inputs, on this CPU."""
    data, weight = inputs(task, seed)
    convolved = torch.nn.functional.conv2d(
        torch.tensor(data),
        torch.tensor(weight),
        stride=task.stride,
        padding=task.padding,
        groups=task.groups,
    )
    result: Array = after_epilogue(
        convolved, task, [*map(torch.tensor, epilogue_inputs(task, seed))]
    ).numpy()
    return result


def relative_error(found: Array, right: Array) -> float:
    """max|a-b| / max|b|; infinite where anything is not a number."""
    worst = float(np.abs(found - right).max() / np.abs(right).max())
    return worst if math.isfinite(worst) else math.inf
