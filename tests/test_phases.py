"""Phases: time is booked where it was spent, waiting for the cores is not."""

import pickle
import threading
import time

import numpy as np

from chameleon_ray.measure.lease import CoreLease
from chameleon_ray.phases import Phases


def double(configs):
    """A score."""
    return configs[:, 0] * 2.0


def test_phases_add_up_and_are_taken_once():
    """Two visits of a phase are one account."""
    phases = Phases()
    for _ in range(2):
        with phases.phase("fit"):
            time.sleep(0.01)
    assert phases.seconds["fit"] >= 0.02
    assert set(phases.taken()) == {"fit"}
    assert phases.taken() == {}


def test_exploration_gives_way_to_a_kernel_that_waits_to_be_timed(tmp_path):
    """Between two scores the cores are free, and the wait is not booked as exploring."""
    lease, phases = CoreLease(tmp_path), Phases(CoreLease(tmp_path))
    timed = []

    def time_a_kernel():
        with lease.exclusive():
            timed.append("kernel")
            time.sleep(0.3)

    waiting = threading.Thread(target=time_a_kernel)
    start = time.perf_counter()
    with phases.phase("explore"):
        score = phases.giving_way(double)
        waiting.start()
        time.sleep(0.2)
        assert not timed
        assert score(np.ones((3, 2))).tolist() == [2.0, 2.0, 2.0]
        assert timed == ["kernel"]
    waiting.join()
    assert 0.2 <= phases.seconds["explore"] <= time.perf_counter() - start - 0.25


def test_a_score_that_gives_way_travels_as_the_plain_score(tmp_path):
    """Rollout workers elsewhere hold no lease."""
    score = Phases(CoreLease(tmp_path)).giving_way(double)
    assert pickle.loads(pickle.dumps(score)) is double
