"""What a convolution is computed on while it is measured, and what has to come out: torch's."""

from __future__ import annotations

import math

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


def output_shape(task: Conv2d) -> tuple[int, int, int, int]:
    """`(N, F, OH, OW)`."""
    return task.batch, task.out_channels, task.out_height, task.out_width


def expected(task: Conv2d, seed: int) -> Array:
    """What torch computes of the inputs, on this CPU."""
    data, weight = inputs(task, seed)
    result: Array = torch.nn.functional.conv2d(
        torch.tensor(data),
        torch.tensor(weight),
        stride=task.stride,
        padding=task.padding,
        groups=task.groups,
    ).numpy()
    return result


def relative_error(found: Array, right: Array) -> float:
    """max|a-b| / max|b|; infinite where anything is not a number."""
    worst = float(np.abs(found - right).max() / np.abs(right).max())
    return worst if math.isfinite(worst) else math.inf
