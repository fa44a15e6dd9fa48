"""Seconds of the parts of a round beside exploration: fitting, scoring, clustering, recording."""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from chameleon_ray.cost_model.xgb import XgbCostModel
from chameleon_ray.explorers import Candidates
from chameleon_ray.measure import Measurement, Outcome, Purpose
from chameleon_ray.measure.recorded import RecordedMeasurer, load_recorded
from chameleon_ray.networks import network
from chameleon_ray.records import Journal, Provenance
from chameleon_ray.sampling.adaptive import AdaptiveSampler
from chameleon_ray.settings import AdaptiveSettings, CostModelSettings
from chameleon_ray.tasks import Target
from chameleon_ray.templates import design_space


def seconds(work: Callable[[], object], times: int = 5) -> float:
    """The median of several runs; the first, which imports, is left out."""
    work()
    taken = []
    for _ in range(times):
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
    return float(np.median(taken))


def figures() -> dict[str, float]:
    """One core's seconds, on ResNet-18's layer 11."""
    task = network("resnet18")[10].task
    space, rng = design_space(task, Target(cores=2)), np.random.default_rng(0)
    configs = space.random(65_536, rng)
    features = space.features(configs[:1000])
    fitness = (200 - 20 * np.abs(features[:, :3] - 2).sum(axis=1)).astype(np.float32)
    model = XgbCostModel(CostModelSettings(), seed=0)
    model.fit(space, configs[:1000], fitness)
    score = model.score()
    candidates = Candidates.ranked(space, configs, score(configs))
    none = (configs[:0], np.zeros(0, dtype=np.bool_))
    samplers = {
        variant: AdaptiveSampler(AdaptiveSettings(variant=variant), candidates=64)
        for variant in ("letter", "authors")
    }
    measurement = Measurement(
        task=task.key,
        config=space.describe(configs[0]),
        purpose=Purpose.SEARCH,
        outcome=Outcome.OK,
        repeat_seconds=(1e-3, 1.1e-3, 1e-3),
    )
    recorded = load_recorded("gemm_RTX_2080_Ti")
    measurer, chosen = RecordedMeasurer(recorded), recorded.space.random(4, rng)

    def look_up() -> None:
        list(measurer.submit(chosen, purpose=Purpose.SEARCH))

    with tempfile.TemporaryDirectory() as folder:
        journal = Journal(Path(folder), Provenance())
        append = seconds(lambda: journal.append([measurement]), 200)
    return {
        "fit_1000_points": seconds(lambda: model.fit(space, configs[:1000], fitness)),
        "score_65536_configs": seconds(lambda: score(configs)),
        "choose_letter": seconds(lambda: samplers["letter"].choose(space, candidates, *none, rng)),
        "choose_authors": seconds(
            lambda: samplers["authors"].choose(space, candidates, *none, rng)
        ),
        "append_one_record": append,
        "measure_4_recorded": seconds(look_up, 1000),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="one object on one line")
    options = parser.parse_args()
    found = figures()
    if options.json:
        print(json.dumps({f"{name}_seconds": value for name, value in found.items()}))
        return
    for name, value in found.items():
        print(f"{1000 * value:8.2f} ms  {name.replace('_', ' ')}")


if __name__ == "__main__":
    main()
