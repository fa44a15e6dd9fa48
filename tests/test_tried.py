"""benchmarks/tried.py and ablations.py: every variant that is compared can search."""

import importlib
from pathlib import Path

import pytest

from chameleon_ray.measure.recorded import load_recorded
from chameleon_ray.replay import replay


@pytest.fixture
def ablations(monkeypatch):
    """The benchmark as a module; its plugins are found as when it is a script."""
    monkeypatch.syspath_prepend(Path(__file__).parent.parent / "benchmarks")
    return importlib.import_module("ablations")


def test_every_variant_searches(ablations):
    """Forty measurements each, the first model's change to the second among them."""
    recorded = load_recorded("convolution_A4000")
    for settings in ablations.switches().values():
        for name, policy in settings.items():
            found = replay(recorded, policy, name=name, trials=40, seed=0)
            assert len(found.best_seconds) == 40
            assert 0 < found.final <= 1
