"""The CPU template: its space, its default, and that its code computes a convolution."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from chameleon_ray.env_settings import Env
from chameleon_ray.errors import UnsupportedError
from chameleon_ray.networks import NETWORKS, network
from chameleon_ray.tasks import Conv2d, Target
from chameleon_ray.templates import default_config, design_space, template_version
from chameleon_ray.templates.cpu_tiling import in_chunks

TARGETS = [Target(lanes=lanes, cores=cores) for lanes, cores in ((16, 2), (8, 16), (4, 1))]
TASKS = [layer.task for name in NETWORKS for layer in network(name)]


@pytest.mark.parametrize("target", TARGETS, ids=str)
@pytest.mark.parametrize("task", TASKS, ids=lambda t: t.key)
def test_every_task_of_the_paper_has_a_space_and_a_valid_default(task, target):
    """Eight knobs named as in Table 1, and a default that the constraints allow."""
    space = design_space(task, target)
    assert [k.name for k in space.knobs] == [
        "tile_f",
        "tile_y",
        "tile_x",
        "tile_rc",
        "tile_ry",
        "tile_rx",
        "auto_unroll_max_step",
        "unroll_explicit",
    ]
    default = default_config(task, target)
    assert space.valid(default[None, :]).all()
    features = space.features(space.random(256, np.random.default_rng(0)))
    assert features.shape[1] == len(space.feature_names)
    assert np.isfinite(features).all()


def test_the_default_uses_every_core_and_fits_the_register_file():
    """Chunks for each core, and accumulators that do not spill."""
    for target in TARGETS:
        for task in TASKS:
            values = design_space(task, target).describe(default_config(task, target))
            chunks = values["tile_f"][0] * values["tile_y"][0] * values["tile_x"][0]
            tile = values["tile_f"][2] * values["tile_y"][2] * values["tile_x"][2]
            assert chunks >= min(target.cores, task.out_height)
            assert tile <= 14
            assert tile + values["tile_f"][2] + 1 < (16 if target.lanes == 8 else 32)


@pytest.mark.parametrize(
    ("lanes", "changes", "knobs"),
    [
        (8, {"height": 13}, {"tile_f": (1, 4, 1), "tile_y": (13, 1, 1), "tile_x": (1, 1, 13)}),
        (8, {"height": 24}, {"tile_f": (1, 2, 2), "tile_y": (8, 3, 1), "tile_x": (1, 4, 6)}),
        (16, {"height": 14, "out_channels": 448}, {"tile_y": (14, 1, 1)}),
        (16, {"height": 14, "in_channels": 256, "out_channels": 512}, {"tile_f": (8, 2, 2)}),
        (16, {"height": 56, "form": "winograd4"}, {"tile_f": (1, 2, 1), "tile_t": (28, 1, 7)}),
        (16, {"height": 50, "form": "winograd4"}, {"tile_t": (13, 1, 13)}),
        (16, {"height": 28, "groups": 32}, {"tile_y": (1, 28, 1), "tile_x": (4, 7)}),
        (16, {"height": 13, "groups": 32}, {"tile_y": (1, 13, 1), "tile_x": (1, 13)}),
        (16, {"height": 9, "groups": 32}, {"tile_y": (1, 9, 1), "tile_x": (1, 9)}),
        (16, {"height": 4, "groups": 32}, {"tile_y": (1, 4, 1), "tile_x": (1, 4)}),
    ],
)
def test_a_default_is_as_its_rule_says(lanes, changes, knobs):
    """Sizes that register tiles divide badly among them, and more filters than a cache holds."""
    size = {"height": changes["height"], "width": changes["height"], "padding": 1}
    plain = {"in_channels": 32, "out_channels": 32, "kernel_height": 3, "kernel_width": 3}
    task = Conv2d(**{**plain, **size, **changes, "block": lanes})
    target = Target(lanes=lanes, cores=2)
    values = design_space(task, target).describe(default_config(task, target))
    assert {name: values[name] for name in knobs} == knobs


@pytest.mark.parametrize(
    ("extents", "wanted", "chunks"),
    [((12, 7), 8, (12, 1)), ((6, 7), 8, (6, 7)), ((6, 4), 8, (6, 2)), ((5, 3), 0.3, (1, 1))],
)
def test_the_second_extent_is_cut_only_where_the_first_is_not_enough(extents, wanted, chunks):
    """And no further than is wanted, if it can be."""
    assert in_chunks(*extents, wanted) == chunks


def test_groups_are_refused():
    """The message names the task and the way out."""
    task = Conv2d(
        in_channels=8, out_channels=8, height=4, width=4, kernel_height=1, kernel_width=1, groups=8
    )
    with pytest.raises(UnsupportedError, match=r"g8.*no template"):
        design_space(task, TARGETS[0])


def test_the_version_names_the_template():
    """A journal of other code is never taken for this one's."""
    assert template_version(TARGETS[0]).startswith("cpu_conv2d/")


convolutions = st.builds(
    Conv2d,
    batch=st.integers(1, 2),
    in_channels=st.integers(1, 9),
    out_channels=st.integers(1, 40),
    height=st.integers(11, 14),
    width=st.integers(11, 16),
    kernel_height=st.sampled_from([1, 2, 3, 5, 11]),
    kernel_width=st.sampled_from([1, 3, 7, 11]),
    stride=st.integers(1, 4),
    padding=st.integers(0, 3),
)


@settings(max_examples=15, deadline=None)
@given(task=convolutions, lanes=st.sampled_from([4, 8, 16]), seed=st.integers(0, 99))
def test_any_config_computes_the_convolution(task, lanes, seed):
    """Random shapes, lanes and configs agree with torch: tails, strides, padding, batches."""
    from chameleon_ray.measure.tvm import backend

    target = Target(lanes=lanes, cores=1)
    space = design_space(task, target)
    opened = backend(Env(), target, seed)
    for config in [default_config(task, target), *space.random(1, np.random.default_rng(seed))]:
        kernel = opened.builder.build(task, space.describe(config))
        assert kernel.error() < 1e-5
