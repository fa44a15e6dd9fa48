"""The simulated CPU for whole batches, and the measurer that asks a function."""

import numpy as np
import pytest

from chameleon_ray.measure import Outcome, Purpose
from chameleon_ray.measure.simulated import (
    SimulatedMeasurer,
    simulated_seconds,
    simulated_seconds_of,
)
from chameleon_ray.networks import network
from chameleon_ray.space import DesignSpace, options
from chameleon_ray.tasks import Target, task_from_key
from chameleon_ray.templates import design_space

SPACE = DesignSpace("toy", [options("a", (1, 2, 3)), options("b", (1, 2))])


def seconds(configs):
    """Configs with the last choice of `a` fail."""
    return np.where(configs[:, 0] == 2, np.nan, 1.0 + configs[:, 1])


@pytest.mark.parametrize("cores", [1, 3])
def test_a_batch_is_timed_as_its_configs_are(cores):
    """The vectorised model and the model of one config agree, whatever else is in the batch."""
    target = Target(lanes=16, cores=cores)
    for layer in network("resnet18")[::3]:
        space = design_space(layer.task, target)
        rows = space.random(30, np.random.default_rng(0))
        times = simulated_seconds_of(layer.task, target, space, rows)
        alone = [simulated_seconds(layer.task, target, space.describe(row)) for row in rows]
        assert times.dtype == np.float64
        assert times == pytest.approx(alone)
        assert simulated_seconds_of(layer.task, target, space, rows[::-1]) == pytest.approx(
            times[::-1]
        )


@pytest.mark.parametrize(
    "key",
    [
        "conv2d_n1_c64x28x28_k64x3x3_s1_p1_g64_float32_nchw16c_bias",
        "conv2d_n1_c64x28x28_k64x3x3_s1_p1_g1_float32_nchw16c_winograd4_bias",
        "matmul_b1_m197_k768_n3072_float32_bias_gelu",
    ],
)
def test_it_knows_every_template(key):
    """Positive times, which differ."""
    task, target = task_from_key(key), Target(lanes=16, cores=2)
    space = design_space(task, target)
    rows = space.random(50, np.random.default_rng(0))
    times = simulated_seconds_of(task, target, space, rows)
    assert (times > task.flop / 200e9).all()
    assert len({*times.round(12)}) > 5


def test_a_tile_of_whole_registers_follows_the_formula():
    """A config worked by hand: 16 accumulators with 1.6 FMAs a load, 28 chunks, all within L2."""
    task = network("resnet18")[9].task  # 64 -> 64, 1x1, 56 x 56
    target = Target(lanes=16, cores=2)
    space = design_space(task, target)
    config = {
        "tile_f": (1, 2, 2),
        "tile_y": (28, 1, 2),
        "tile_x": (1, 14, 4),
        "tile_rc": (16, 4),
        "tile_ry": (1, 1),
        "tile_rx": (1, 1),
        "auto_unroll_max_step": (64,),
        "unroll_explicit": (0,),
    }
    # pressure 16 / (2 + 8) / 2; a body of 64 FMAs is not more than 64, so `explicit` is right
    compute = task.flop / (2 * 100e9 * 0.8)
    chunk_bytes = 4 * 64 * 2 * 56 + 4 * 64 * 64
    expected = compute + chunk_bytes * 28 / 2 / 20e9
    found = simulated_seconds_of(task, target, space, space.config(config)[None, :])
    assert found == pytest.approx([expected], rel=1e-4)


def test_every_submitted_config_is_answered_once_and_in_order():
    """Two batches at once, each with its own rows."""
    measurer = SimulatedMeasurer("toy", SPACE, seconds)
    everything = SPACE.all_valid()
    first = measurer.submit(everything[:2], purpose=Purpose.DEFAULT)
    found = [*measurer.submit(everything[2:], purpose=Purpose.SEARCH), *first]
    assert [row for row, _ in found] == [0, 1, 2, 3, 0, 1]
    expected = [SPACE.describe(config) for config in (*everything[2:], *everything[:2])]
    assert [m.config for _, m in found] == expected
    assert [m.purpose for _, m in found] == [Purpose.SEARCH] * 4 + [Purpose.DEFAULT] * 2


def test_nan_is_a_failure_and_never_a_time():
    """A kernel that fails has an outcome and a message, and no seconds."""
    measurer = SimulatedMeasurer("toy", SPACE, seconds)
    good, bad = measurer.compare(np.array([[0, 1], [2, 1]], dtype=np.int32), torch=True)
    assert (good.seconds, good.purpose) == (2.0, Purpose.FINALIST)
    assert (bad.outcome, bad.repeat_seconds) == (Outcome.RUN_ERROR, ())
    assert "simulated" in bad.message


def test_an_empty_batch_is_no_call():
    """A function is not asked for nothing."""
    measurer = SimulatedMeasurer("toy", SPACE, lambda _configs: pytest.fail("asked for nothing"))
    assert list(measurer.submit(SPACE.all_valid()[:0], purpose=Purpose.SEARCH)) == []
