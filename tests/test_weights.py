"""Filters that come from memory."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from chameleon_ray.measure.tvm import TorchKernel, TvmBuilder, resolve_target
from chameleon_ray.measure.weights import cold
from chameleon_ray.tasks import Conv2d, Matmul, Target
from chameleon_ray.templates import default_config, design_space

TASK = Conv2d(
    in_channels=64, out_channels=64, height=8, width=8, kernel_height=3, kernel_width=3, padding=1
)


@pytest.mark.parametrize(
    ("shape", "most"), [((2, 3, 3, 3, 16), 64), ((512, 512, 9), 7), ((1 << 24,), 2), ((3, 5), 64)]
)
def test_copies_share_no_memory_and_begin_at_a_cache_line(shape: tuple[int, ...], most: int):
    found = cold(shape)
    assert len(found) == most
    assert all(array.shape == shape and array.ctypes.data % 64 == 0 for array in found)
    ends = [(a.ctypes.data, a.ctypes.data + a.nbytes) for a in found]
    assert all(end <= begin for (_, end), (begin, _) in itertools.pairwise(ends))
    assert all(np.isfinite(array).all() and array.std() > 0.1 for array in found)


def test_more_than_the_pool_is_one():
    assert [array.shape for array in cold((1 << 24, 2))] == [(1 << 24, 2)]


@pytest.mark.parametrize("cold_weights", [True, False])
def test_a_kernel_is_timed_on_one_after_the_other_and_checked_on_its_own(cold_weights):
    target = resolve_target(Target())
    builder = TvmBuilder(target, seed=0, cold=cold_weights)
    space = design_space(TASK, target)
    kernel = builder.build(TASK, space.describe(default_config(TASK, target)))
    seen = []
    function = kernel._function
    kernel._function = lambda *arrays: (seen.append(arrays[1].data_ptr()), function(*arrays))
    assert kernel.time(3) > 0
    assert kernel.error() < 1e-5
    assert kernel.time(2) > 0
    timed, own = [*seen[:3], *seen[4:]], seen[3]
    assert len({*timed}) == (5 if cold_weights else 1)
    assert (own in timed) != cold_weights


def test_what_another_operator_wrote_is_not_cold():
    """Both sides of a product of attention."""
    target = resolve_target(Target())
    task = Matmul(rows=4, inner=8, columns=16, constant=False)
    space = design_space(task, target)
    builder = TvmBuilder(target, seed=0)
    kernel = builder.build(task, space.describe(default_config(task, target)))
    assert len({next(kernel._filters).data_ptr() for _ in range(5)}) == 1


def test_torch_has_them_from_memory_too():
    kernel = TorchKernel(TASK, 0, cold=True)
    assert len({next(kernel._filters).data_ptr() for _ in range(5)}) == 5
