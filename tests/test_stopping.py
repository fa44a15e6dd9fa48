"""benchmarks/stopping.py: what a rule that ends searches would lose."""

import importlib
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture
def stopping(monkeypatch):
    """The benchmark as a module."""
    monkeypatch.syspath_prepend(Path(__file__).parent.parent / "benchmarks")
    return importlib.import_module("stopping")


PROMISED = [(8, 0.3), (12, 0.005), (16, 0.02), (20, 0.004), (24, -0.01), (28, 0.5)]


@pytest.mark.parametrize(
    ("gain", "rounds", "end"), [(0.01, 1, 12), (0.01, 2, 24), (0.0, 1, 24), (0.01, 3, 32)]
)
def test_a_rule_ends_a_search_after_rounds_in_a_row(stopping, gain, rounds, end):
    """A round that promises enough begins the count anew; a rule that never holds ends nothing."""
    assert stopping.stops_at(PROMISED, gain, rounds, 32) == end


def test_a_rule_stands_beside_a_fixed_number_of_attempts(stopping):
    """By hand: one search ends after 2 of 4 attempts, the other never; 3 on the mean."""
    scores = np.array([0.25, 0.5, 0.75, 1.0])
    found = [(scores, [(1, -1.0), (2, -1.0)]), (scores, [(1, 1.0), (2, 1.0)])]
    rule = next(r for r in stopping.judged(found) if (r.gain, r.rounds) == (0.0, 2))
    assert (rule.attempts, rule.loss, rule.fixed_loss) == (3.0, 0.25, 0.25)
