"""Which layers of a run have nothing left to do."""

import numpy as np
import pytest

from chameleon_ray.history import finished
from chameleon_ray.measure import Measurement, Outcome, Purpose
from chameleon_ray.networks import network
from chameleon_ray.records import Journal, Provenance, read_records
from chameleon_ray.tasks import Target
from chameleon_ray.templates import design_space

TARGET = Target(lanes=16, cores=2)
LAYERS = network("resnet18")[3:5]
SPACE = design_space(LAYERS[0].task, TARGET)
TRIALS, FINALISTS = 6, 4
CONFIGS = SPACE.random(TRIALS, np.random.default_rng(0))


def measured(row, purpose, *, ok=True):
    """A measurement of the first layer."""
    return Measurement(
        task=LAYERS[0].task.key,
        config=SPACE.describe(CONFIGS[row]),
        purpose=purpose,
        outcome=Outcome.OK if ok else Outcome.RUN_ERROR,
        repeat_seconds=(1e-3 * (row + 1),) if ok else (),
    )


def search(*, failing=()):
    """All of a search, the default first; some rows of it fail."""
    purposes = [Purpose.DEFAULT] + [Purpose.SEARCH] * (TRIALS - 1)
    return [measured(row, p, ok=row not in failing) for row, p in enumerate(purposes)]


def finalists(n, *, ok=True):
    """The first n, timed in turns."""
    return [measured(row, Purpose.FINALIST, ok=ok) for row in range(n)]


TORCH = [measured(0, Purpose.TORCH)]


@pytest.mark.parametrize(
    ("measurements", "is_finished"),
    [
        (search() + finalists(4) + TORCH, True),
        (search(failing=[1, 2, 3, 4]) + finalists(2) + TORCH, True),  # no more work
        (search() + finalists(4), False),  # torch was not there
        (search() + finalists(3) + TORCH, False),  # time was short
        (search() + finalists(4, ok=False) + TORCH, False),
        (search()[:-1] + finalists(4) + TORCH, False),
        ([*search()[:-1], *finalists(4), *TORCH, search()[-1]], False),  # it went on since
        (search(), False),
        ([*search(failing=range(TRIALS)), measured(0, Purpose.BASELINE), *finalists(1)], False),
        ([], False),
    ],
)
def test_a_layer_with_nothing_left_to_do(tmp_path, measurements, is_finished):
    """All its measurements and the times of its finalists are there; the other layer has none."""
    if measurements:
        Journal(tmp_path, Provenance()).append(measurements)
    records, _ = read_records(tmp_path)
    found = finished(LAYERS, records, trials=TRIALS, finalists=FINALISTS, torch=True, target=TARGET)
    assert [result.layer for result in found] == ([LAYERS[0]] if is_finished else [])
    assert all(result.measurements == TRIALS for result in found)
