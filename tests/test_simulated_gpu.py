"""The simulated GPU: what fails, what is rugged, and that it is the same every time."""

from dataclasses import replace

import numpy as np
import pytest

from chameleon_ray.measure.simulated_gpu import gpu_seconds, gpu_space
from chameleon_ray.networks import network
from chameleon_ray.templates.cuda_knobs import direct_space

TASK = network("resnet18")[10].task  # 64 -> 64, 3x3, 56 x 56
SPACE = gpu_space(TASK)
GOOD = {
    "tile_f": (4, 2, 8, 1),
    "tile_y": (14, 1, 1, 4),
    "tile_x": (2, 1, 28, 1),
    "tile_rc": (8, 8),
    "tile_ry": (1, 3),
    "tile_rx": (1, 3),
    "auto_unroll_max_step": (1500,),
    "unroll_explicit": (1,),
}


def time_of(**changes):
    """Seconds of a good config with some knobs changed; NaN for a failure."""
    row = SPACE.config(GOOD | changes)[None, :]
    return float(gpu_seconds(TASK, SPACE, row)[0])


def test_its_space_is_the_papers_with_restrictions():
    """The knobs are those of the CUDA space; threads and shared memory are limited statically."""
    assert SPACE.knobs == direct_space(TASK).knobs
    many = SPACE.config(GOOD | {"tile_f": (1, 1, 64, 1)})
    assert SPACE.broken(many) == ["at most 1024 threads"]
    large = SPACE.config(GOOD | {"tile_rc": (1, 64), "tile_y": (1, 1, 1, 56)})
    assert SPACE.broken(large) == ["at most 48 KiB of shared memory"]


def test_whatever_breaks_a_restriction_has_no_time():
    """Also in the space without restrictions, as the paper has it."""
    plain = direct_space(TASK)
    rows = np.random.default_rng(0).integers(0, plain.sizes, size=(2000, 8)).astype(np.int32)
    times = gpu_seconds(TASK, plain, rows)
    assert np.isnan(times[~SPACE.valid(rows)]).all()
    assert (times[~np.isnan(times)] > 3e-6).all()


def test_too_many_registers_fail_at_launch():
    """No static constraint tells of them: a failure that a search has to find out."""
    greedy = GOOD | {"tile_f": (1, 4, 16, 1), "tile_y": (1, 1, 1, 56), "tile_rc": (64, 1)}
    row = SPACE.config(greedy | {"tile_ry": (3, 1), "tile_rx": (3, 1)})
    assert SPACE.broken(row) == []
    assert np.isnan(gpu_seconds(TASK, SPACE, row[None, :])).all()


def test_the_same_config_takes_the_same_time():
    """Noise belongs to the config, not to the call or to the batch it stands in."""
    rows = SPACE.random(500, np.random.default_rng(1))
    times = gpu_seconds(TASK, SPACE, rows)
    np.testing.assert_array_equal(times[::-1], gpu_seconds(TASK, SPACE, rows[::-1]))


@pytest.mark.parametrize("layer", [0, 3, 10, 11])
def test_there_is_something_to_find(layer):
    """Good configs are rare and far better than most, and none beats the lanes."""
    task = network("resnet18")[layer].task
    space = gpu_space(task)
    times = gpu_seconds(task, space, space.random(20_000, np.random.default_rng(2)))
    times = np.sort(times[~np.isnan(times)])
    assert len(times) > 15_000
    assert times[0] < 0.2 * np.median(times)
    assert times[0] < 0.75 * times[len(times) // 100]
    assert times[0] > 0.7 * task.flop / (2 * 30 * 128 * 1.5e9)


def test_bank_conflicts_cost_and_virtual_threads_avoid_them():
    """Neighbours in a warp that read 4 words apart take turns; as virtual threads they do not."""
    inner = time_of(tile_x=(2, 1, 7, 4), tile_y=(14, 1, 4, 1), tile_f=(8, 1, 8, 1))
    virtual = time_of(tile_x=(2, 4, 7, 1), tile_y=(14, 1, 4, 1), tile_f=(8, 1, 8, 1))
    assert virtual < 0.9 * inner


def test_a_block_of_a_few_threads_wastes_its_warp():
    """One thread of 32 working is far slower than all."""
    assert time_of(tile_x=(56, 1, 1, 1), tile_f=(64, 1, 1, 1)) > 5 * time_of()


def test_strides_and_batches_are_computed_too():
    """Tasks with a stride and with several images have times, more images longer ones."""
    strided = network("resnet18")[11].task
    times = []
    for task in (strided, replace(strided, batch=4)):
        space = gpu_space(task)
        rows = space.random(200, np.random.default_rng(3))
        times.append(gpu_seconds(task, space, rows))
    assert np.nanmedian(times[1]) > 2 * np.nanmedian(times[0])
