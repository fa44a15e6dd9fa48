"""What one layer may have of the measurements and the time that all share."""

import time

import pytest

from chameleon_ray.measure import Measurement, Outcome, Purpose
from chameleon_ray.sharing import Others, Share

ONE = Measurement(
    task="t",
    config={},
    purpose=Purpose.SEARCH,
    outcome=Outcome.OK,
    build_seconds=0.5,
    run_seconds=0.5,
)


def share(**changes):
    """Of layer 1 among three, 24 measurements each."""
    given = {
        "layer": 1,
        "layers": [1, 2, 3],
        "schedule": "gain",
        "trials": 24,
        "most": 96,
        "kernels": 12,
        "at_once": 2,
        "ends_at": None,
    }
    return Share(**given | changes)


def others(**changes):
    """Two that have measured 10 each, and nothing under way."""
    given = {
        "measured": {2: 10, 3: 10},
        "under_way": 0,
        "exhausted": frozenset(),
        "ended": frozenset(),
        "places": 2,
    }
    return Others(**given | changes)


@pytest.mark.parametrize(
    ("mine", "how", "allowed"),
    [
        (12, {}, 72 - 12 - 12),  # half of its share is kept for each of the others
        (12, {"under_way": 8}, 40),
        (12, {"measured": {2: 40, 3: 10}}, 20),
        (12, {"measured": {2: 40, 3: 30}}, 12),  # and for this one
        (12, {"exhausted": frozenset({1})}, 0),
        (0, {}, 24),  # others choose their first batches at the same time
        (11, {"measured": {}}, 24),
        (0, {"measured": {2: 48, 3: 10}}, 12),  # there is no more
    ],
)
def test_layers_share_measurements(mine, how, allowed):
    """By gain, all that the others have not and may not need."""
    assert share().measurements(others(**how), [ONE] * mine, batch_seconds=1.0) == allowed


def test_first_batches_are_together_no_more_than_all_may_have():
    """Whoever asks while nobody has measured anything."""
    firsts = [
        share(layer=n).measurements(others(measured={}), [], batch_seconds=1.0) for n in (1, 2, 3)
    ]
    assert sum(firsts) == 72


@pytest.mark.parametrize("schedule", ["fifo", "round_robin"])
def test_otherwise_a_layer_has_what_the_policy_says(schedule):
    """Whatever the others do."""
    one = share(schedule=schedule, most=24)
    assert one.measurements(others(measured={2: 90}), [ONE], batch_seconds=1.0) == 24
    assert not one.bounded


def test_when_the_time_is_over_there_are_none_more():
    """Finalists are timed as they fit, the best, the default and torch anyhow."""
    over = share(ends_at=time.time() + 1)
    assert over.bounded
    assert over.measurements(others(), [ONE], batch_seconds=1.0) == 0
    assert over.finalists(others(), [ONE]) == 3
    early = share(ends_at=time.time() + 1000)
    assert early.measurements(others(), [ONE] * 12, batch_seconds=1.0) == 48
    assert early.finalists(others(), [ONE]) == 12
