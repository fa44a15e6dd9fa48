"""What arithmetic says of each template's space before anything is measured."""

import numpy as np
import pytest

from chameleon_ray.learning.past import draft_of
from chameleon_ray.learning.sources import FLOOR
from chameleon_ray.tasks import Conv2d, Matmul, Target
from chameleon_ray.templates import default_config, design_space

CPU = Target(lanes=16, cores=2)
BLOCKS = {"block": 16, "out_channels": 64, "height": 56, "width": 56}
WINDOW = {"kernel_height": 3, "kernel_width": 3, "padding": 1}
SPACES = {
    "conv2d": (Conv2d(in_channels=64, **BLOCKS, **WINDOW), CPU),
    "winograd": (Conv2d(in_channels=64, **BLOCKS, **WINDOW, form="winograd4"), CPU),
    "depthwise": (Conv2d(in_channels=64, groups=64, **BLOCKS, **WINDOW), CPU),
    "matmul": (Matmul(rows=196, inner=384, columns=1536), CPU),
    "cuda direct": (
        Conv2d(in_channels=64, **{**BLOCKS, "block": 1}, **WINDOW),
        Target(kind="cuda", model="sm_90", cores=132),
    ),
    "cuda gemm": (
        Conv2d(in_channels=64, **{**BLOCKS, "block": 1}, **WINDOW),
        Target(kind="cuda", model="sm_90", cores=132, template="gemm"),
    ),
}


@pytest.mark.parametrize("name", SPACES)
def test_it_ranks_the_default_above_most_configs(name):
    """And says nothing beyond the scale of opinions: 0 is the best that it knows."""
    task, target = SPACES[name]
    space = design_space(task, target)
    past = draft_of(space)
    told = past.opinions(space.random(512, np.random.default_rng(1)))[:, 0]
    assert told.max() <= 0
    assert told.min() >= FLOOR
    assert len(np.unique(told)) > 16
    default = past.opinions(default_config(task, target)[None, :])[0, 0]
    assert (told < default).mean() > 0.7
