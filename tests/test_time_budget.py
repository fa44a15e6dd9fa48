"""How a time budget is divided."""

import pytest

from chameleon_ray.time_budget import TimeBudget


def left(**changes):
    """A hundred seconds for five layers, two at a time, a kernel in half a second."""
    given = {"ends_at": 1100.0, "layers": 5, "kernels": 60, "at_once": 2, "kernel_seconds": 0.5}
    return TimeBudget(**given | changes)


def test_the_search_ends_when_the_finalists_of_all_layers_just_fit():
    """Sixty kernels, two at a time, take 15 s; half a batch goes before them."""
    assert not left().over(1082.9, batch_seconds=4.0)
    assert left().over(1083.0, batch_seconds=4.0)
    assert not left(layers=1, kernels=12).over(1091.9, batch_seconds=4.0)
    assert left(layers=1, kernels=12).over(1092.0, batch_seconds=4.0)


def test_fewer_finalists_are_timed_where_not_all_fit():
    """What is left is divided by the layers; the best, the default and torch are timed anyhow."""
    assert left().finalists(1085.0, most=12) == 12
    assert left().finalists(1092.5, most=12) == 6
    assert left(layers=1).finalists(1097.0, most=12) == 6
    assert left().finalists(1200.0, most=12) == 3


@pytest.mark.parametrize(("layers", "at_once"), [(0, 2), (3, 0)])
def test_nothing_known_yet_is_no_reason_to_stop(layers, at_once):
    """No kernel has been timed, no host has started: the time itself decides."""
    unknown = left(layers=layers, at_once=at_once, kernel_seconds=0.0)
    assert not unknown.over(1099.0, batch_seconds=0.0)
    assert unknown.over(1100.0, batch_seconds=0.0)
    assert unknown.finalists(1099.0, most=12) == 12
