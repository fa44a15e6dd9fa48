"""Convolutions, their keys and their layers."""

import pickle
from dataclasses import replace

import pytest
from hypothesis import assume, given, settings, strategies as st

from chameleon_ray.errors import UnsupportedError
from chameleon_ray.tasks import Conv2d, Layer, task_from_key


@st.composite
def convolutions(draw):
    """Any convolution that can be meant."""
    groups = draw(st.integers(1, 4))
    task = {
        "in_channels": groups * draw(st.integers(1, 64)),
        "out_channels": groups * draw(st.integers(1, 64)),
        "height": draw(st.integers(1, 300)),
        "width": draw(st.integers(1, 300)),
        "kernel_height": draw(st.integers(1, 11)),
        "kernel_width": draw(st.integers(1, 11)),
        "stride": draw(st.integers(1, 4)),
        "padding": draw(st.integers(0, 5)),
        "batch": draw(st.integers(1, 8)),
        "groups": groups,
    }
    assume(task["height"] + 2 * task["padding"] >= task["kernel_height"])
    assume(task["width"] + 2 * task["padding"] >= task["kernel_width"])
    return Conv2d(**task)


def conv(**changes):
    """A plain 3x3 convolution."""
    fields = {"in_channels": 8, "out_channels": 4, "height": 14, "width": 10}
    return Conv2d(**fields | {"kernel_height": 3, "kernel_width": 3} | changes)


@given(convolutions())
@settings(deadline=None)
def test_a_key_names_one_task(task):
    """The key leads back to the task, and is one word that a file name can hold."""
    assert Conv2d.from_key(task.key) == task
    assert task.key.isidentifier()


@given(convolutions())
@settings(deadline=None)
def test_output_size_is_where_the_filter_fits(task):
    """Rows and columns of the output: the places at which the filter fits, counted one by one."""
    padded = task.height + 2 * task.padding, task.width + 2 * task.padding
    fits = range(0, padded[0] - task.kernel_height + 1, task.stride)
    assert task.out_height == len(fits)
    assert task.out_width == len(range(0, padded[1] - task.kernel_width + 1, task.stride))


def test_flop_counts_a_multiply_add_as_two():
    """1 x 4 x 12 x 8 outputs, each of 8 x 3 x 3 multiply-adds; with two groups, half of that."""
    assert conv().flop == 4 * 12 * 8 * 2 * 8 * 9
    assert conv(groups=2).flop == conv().flop // 2
    assert conv(batch=3).flop == 3 * conv().flop


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"height": 0}, "height is 0"),
        ({"stride": 0}, "stride is 0"),
        ({"padding": -1}, "padding is -1"),
        ({"kernel_height": 15}, "filter is larger than the padded input"),
        ({"kernel_width": 11}, "filter is larger than the padded input"),
        ({"groups": 3}, "do not divide into the groups"),
    ],
)
def test_what_is_no_convolution_is_refused(changes, message):
    """A shape that cannot be meant is an error that says why."""
    with pytest.raises(UnsupportedError, match=message):
        conv(**changes)


@pytest.mark.parametrize("key", ["", "conv2d", "dense_n1", "conv2d_n1_c8x14x10_k4x3x3", " "])
def test_other_keys_are_refused(key):
    """What no task wrote is not read as one."""
    with pytest.raises(UnsupportedError, match="not the key of a conv2d task"):
        Conv2d.from_key(key)


def test_equal_shapes_are_one_task():
    """Tasks can be compared, counted in sets and sent to other processes."""
    assert len({conv(), conv(), conv(stride=2)}) == 2
    assert pickle.loads(pickle.dumps(conv())) == conv()


@pytest.mark.parametrize(
    ("changes", "name"), [({}, "8->4 3x3 @14"), ({"stride": 2}, "8->4 3x3 s2 @14")]
)
def test_layers_have_short_names(changes, name):
    """A table's row: channels, filter, stride unless it is one, input height."""
    assert Layer(index=1, task=conv(**changes), uses=1).name == name


def test_a_convolution_without_blocks_has_no_side_that_is_nchw_all_the_same():
    """The same computation has one key."""
    task = Conv2d(
        in_channels=3, out_channels=16, height=8, width=8, kernel_height=3, kernel_width=3
    )
    assert task_from_key(replace(task, block=16, nchw="in").key).nchw == "in"
    with pytest.raises(UnsupportedError, match="no blocks"):
        replace(task, nchw="in")
