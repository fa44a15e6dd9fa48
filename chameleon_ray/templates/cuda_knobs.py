"""The paper's CUDA design spaces (Table 1): knobs and sizes only, to compare spaces with it."""

from __future__ import annotations

from chameleon_ray.errors import UnsupportedError
from chameleon_ray.space import DesignSpace, options, split
from chameleon_ray.tasks import Conv2d

_WINOGRAD_FEWEST_CHANNELS = 64
_WINOGRAD_SMALLEST_FILTER = 3


def direct_space(task: Conv2d) -> DesignSpace:
    """AutoTVM's space of direct convolution on a GPU: the knobs of Table 1.

    Spatial axes split into block, virtual thread, thread and inner part; reductions in two.
    """
    return DesignSpace(
        f"{task.key}@cuda-direct",
        [
            split("tile_f", task.out_channels, 4),
            split("tile_y", task.out_height, 4),
            split("tile_x", task.out_width, 4),
            split("tile_rc", task.in_channels // task.groups, 2),
            split("tile_ry", task.kernel_height, 2),
            split("tile_rx", task.kernel_width, 2),
            options("auto_unroll_max_step", (0, 512, 1500)),
            options("unroll_explicit", (0, 1), ordered=False),
        ],
    )


def winograd_space(task: Conv2d) -> DesignSpace:
    """AutoTVM's space of Winograd convolution on a GPU, which the paper's networks were tuned in.

    Its GEMM runs over output channels, output tiles of `m x m`, and input channels; `tile_b`
    splits the transformed filter's points in the only allowed way.

    Raises:
        UnsupportedError: Winograd does not apply: it takes stride 1, square filters of at least
            3x3, one group and at least 64 input channels.
    """
    eligible = (
        task.stride == 1
        and task.kernel_height == task.kernel_width >= _WINOGRAD_SMALLEST_FILTER
        and task.groups == 1
        and task.in_channels >= _WINOGRAD_FEWEST_CHANNELS
    )
    if not eligible:
        raise UnsupportedError(
            f"{task.key}: no Winograd space; it takes stride 1, a square filter of at least 3x3, "
            "one group and at least 64 input channels. Use the direct space."
        )
    m = 4 if task.height % 8 == 0 else 2
    tiles = task.batch * -(-task.out_height // m) * -(-task.out_width // m)
    points = (m + task.kernel_height - 1) ** 2
    return DesignSpace(
        f"{task.key}@cuda-winograd",
        [
            options("tile_b", (points,)),
            split("tile_y", task.out_channels, 4),
            split("tile_x", tiles, 4),
            split("tile_rc", task.in_channels, 2),
            options("auto_unroll_max_step", (0, 128, 1500)),
            options("unroll_explicit", (0, 1), ordered=False),
        ],
    )
