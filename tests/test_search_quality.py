"""benchmarks/search_quality.py: Kernel Tuner's strategies on our recorded spaces."""

import importlib.util
import json
from pathlib import Path

import pytest

from chameleon_ray.measure.recorded import load_recorded
from chameleon_ray.searches import SearchKey

pytest.importorskip("kernel_tuner", reason="an optional dependency: pip install '.[peers]'")

PATH = Path(__file__).parent.parent / "benchmarks" / "search_quality.py"


@pytest.fixture(scope="module")
def search_quality():
    """The benchmark as a module."""
    spec = importlib.util.spec_from_file_location("search_quality", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("strategy", ["genetic_algorithm", "hybrid_vndx"])
def test_a_strategy_uses_its_budget_on_what_is_recorded(search_quality, strategy, tmp_path):
    """As many distinct attempts as allowed, failing ones among them, and nothing else."""
    cache = {}
    for a in range(30):
        for b in range(20):
            time_ms = "CompilationFailedConfig" if a % 7 == 0 else 1.0 + abs(a - 20) + abs(b - 9)
            cache[f"{a},{b}"] = {"a": a, "b": b, "time": time_ms}
    path = tmp_path / "line_cpu.json"
    values = {"a": list(range(30)), "b": list(range(20))}
    path.write_text(json.dumps({"tune_params": values, "cache": cache}))
    recorded = load_recorded(path)
    key = SearchKey(
        space="line_cpu", space_digest="", policy="p", policy_digest="", seed=1, trials=40
    )
    how = (strategy, search_quality.strategy_options(strategy, 40, len(recorded.configs)))
    found = search_quality.search_by_strategy(recorded, key, how)
    assert len(found.best_seconds) == 40
    assert sum(found.outcomes.values()) == 40
    assert found.outcomes["CompilationFailedConfig"] > 0
    assert found.best_seconds[-1] < 10e-3
    again = search_quality.search_by_strategy(recorded, key, how)
    assert again.best_seconds == found.best_seconds
