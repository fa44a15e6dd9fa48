"""Measures again, alone on the machine, what a sweep of a layer may have measured wrongly.

    python benchmarks/remeasure.py runs/record-alexnet5
    chameleon-ray record --run runs/record-alexnet5 -o spaces/

A sweep stops timing what is clearly slow after one repeat, and that one may have been disturbed.
Where it matters is known afterwards: a forest predicts each configuration from the others. Those
that it takes for good, and that were measured as clearly worse, are built and timed again, with
all repeats. The run's journal gets the new times; of two, the later one counts.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.progress import track

from chameleon_ray import history
from chameleon_ray.machine import cpu, usable_cores
from chameleon_ray.measure import Job, Measurement
from chameleon_ray.measure.bench import Bench
from chameleon_ray.networks import choose_layers, network
from chameleon_ray.presets import load_env
from chameleon_ray.record import latest_of
from chameleon_ray.records import Journal, read_records
from chameleon_ray.space import DesignSpace
from chameleon_ray.tasks import Target
from chameleon_ray.templates import design_space

_TOGETHER = 16  # jobs between two writes to the journal


def doubtful(
    space: DesignSpace, measured: Sequence[Measurement], *, good: float, above: float
) -> npt.NDArray[np.intp]:
    """Which measurements to repeat: places in `measured`.

    Args:
        space: The layer's space.
        measured: One success of each config.
        good: Predicted to take at most so many times as long as the best.
        above: Measured at more than so many times what is predicted.
    """
    from sklearn.ensemble import ExtraTreesRegressor
    from sklearn.model_selection import KFold, cross_val_predict

    configs = np.array([space.config(m.config) for m in measured])
    logs = np.log([m.seconds for m in measured])
    forest = ExtraTreesRegressor(100, min_samples_leaf=2, random_state=0, n_jobs=-1)
    folds = KFold(5, shuffle=True, random_state=0)
    predicted = cross_val_predict(forest, space.features(configs), logs, cv=folds)
    promising = predicted < logs.min() + np.log(good)
    chosen: npt.NDArray[np.intp] = np.flatnonzero(promising & (logs > predicted + np.log(above)))
    return chosen


def main() -> None:
    """Choose, measure, append."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", type=Path, help="run folder of `chameleon-ray record NETWORK ...`")
    parser.add_argument("--good", type=float, default=1.5, help="predicted / best, at most")
    parser.add_argument("--above", type=float, default=1.1, help="measured / predicted, more than")
    options = parser.parse_args()
    manifest = history.read_manifest(options.run)
    (layer,) = choose_layers(network(manifest["network"]), manifest["layers"])
    records, _ = read_records(options.run)
    latest = (record.measurement for record in latest_of(layer.task, records))
    measured = [m for m in latest if m.ok]
    target = Target(lanes=cpu().lanes, cores=usable_cores())
    space = design_space(layer.task, target)
    chosen = doubtful(space, measured, good=options.good, above=options.above)
    print(f"{len(chosen)} of {len(measured)} are measured again")
    _, env = load_env(manifest["env"])
    bench, journal = Bench(env, target, seed=0), Journal(options.run, records[-1].provenance)
    changes = []
    for at in track(range(0, len(chosen), _TOGETHER)):
        before = [measured[i] for i in chosen[at : at + _TOGETHER]]
        jobs = [Job(task=layer.task, config=m.config, purpose=m.purpose) for m in before]
        again = bench.measure_all(jobs)
        journal.append(again)
        changes += [m.seconds / b.seconds for m, b in zip(again, before, strict=True) if m.ok]
    bench.close()
    print(
        "again / before, quantiles 5, 25, 50, 75, 95%:", np.quantile(changes, _QUANTILES).round(3)
    )


_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


if __name__ == "__main__":
    main()
