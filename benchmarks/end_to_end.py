"""Whole networks on this CPU: tuned and deployed, beside torch, torch.compile and onnxruntime.

    python benchmarks/end_to_end.py [--models resnet18 vgg16 alexnet] [--threads 1 2] [--trials 64]
                                    [--turns 20] [--out runs/end_to_end] [--json]

Each model of torchvision's (random weights, batch 1, 224 x 224) is tuned for so many threads,
deployed, and timed in turns with the others, each in a process of its own. What was tuned is in
run folders under --out, and gone on with; 0 trials deploy by rule alone. `parts` is the sum of the
layers' times as they were tuned, each alone.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

from chameleon_ray import tune
from chameleon_ray.deploy.bench import Comparison, bench
from chameleon_ray.deploy.build import deploy


def measured(model: str, threads: int, *, trials: int, turns: int, out: Path) -> dict[str, Any]:
    """One model on so many threads."""
    name, folder = f"torchvision:{model}", out / f"{model}-{threads}"
    folder.mkdir(parents=True, exist_ok=True)
    what = name
    if trials:
        env = folder / "env.yaml"
        env.write_text(f"cores: {threads}\n")
        tune(name, env=str(env), trials=trials, run=folder / "run", cold=True)
        what = str(folder / "run")
    shutil.rmtree(folder / "deployed", ignore_errors=True)
    deploy(what, folder / "deployed", threads=threads)
    return _row(bench(folder / "deployed", turns=turns))


def _row(found: Comparison) -> dict[str, Any]:
    layers = found.deployed.layers
    known = [layer.seconds * layer.uses for layer in layers if layer.seconds is not None]
    row: dict[str, Any] = {one.name: one.seconds for one in found.timed}
    row |= {f"{one.name}_interval": [one.low, one.high] for one in found.timed}
    errors = {one.name: one.error for one in found.timed}
    row["largest_relative_error"] = None if found.blind else errors["chameleon"]
    row["parts"] = sum(known) if len(known) == len(layers) else None
    return row


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=["resnet18", "vgg16", "alexnet"])
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--trials", type=int, default=64)
    parser.add_argument("--turns", type=int, default=20)
    parser.add_argument("--out", type=Path, default=Path("runs/end_to_end"))
    parser.add_argument("--json", action="store_true")
    o = parser.parse_args()
    found: dict[str, dict[int, Any]] = {}
    for model in o.models:
        for threads in o.threads:
            row = measured(model, threads, trials=o.trials, turns=o.turns, out=o.out)
            found.setdefault(model, {})[threads] = row
            if not o.json:
                times = {k: v for k, v in row.items() if isinstance(v, float)}
                shown = ", ".join(f"{name} {value * 1e3:.2f}" for name, value in times.items()
                                  if name != "largest_relative_error")  # fmt: skip
                error = row["largest_relative_error"]
                told = "tells nothing" if error is None else f"{error:.1g}"
                print(f"{model}, {threads} threads, ms: {shown}; error {told}", flush=True)
    if o.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
