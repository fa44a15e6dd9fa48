"""Whether the form of a convolution that arithmetic chooses is the fastest that can be measured.

    python benchmarks/forms.py [--models resnet18 vgg16 googlenet] [--trials 24] [--threads 1]

For each convolution of 3x3 and stride 1, as the model has it: the default and random configs of
each form that it can have, filters from memory; then the form that `cpu_winograd.cost` chooses, and
how much slower its best is than the best of all. Run it on an idle machine.
"""

from __future__ import annotations

import argparse
import math
import os
from dataclasses import replace

import numpy as np


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=["resnet18", "vgg16", "googlenet"])
    parser.add_argument("--trials", type=int, default=24)
    parser.add_argument("--threads", type=int, default=1)
    o = parser.parse_args()
    os.environ["TVM_NUM_THREADS"] = str(o.threads)
    from chameleon_ray.measure.tvm import TvmBuilder, resolve_target
    from chameleon_ray.networks.lookup import look_up
    from chameleon_ray.tasks import Conv2d, Target
    from chameleon_ray.templates import default_config, design_space, with_best_form
    from chameleon_ray.templates.cpu_winograd import SIDES, fits

    target = resolve_target(Target(cores=o.threads))
    builder = TvmBuilder(target, seed=0)

    def best(task: Conv2d) -> float:
        space = design_space(task, target)
        rows = space.random(o.trials, np.random.default_rng(0))
        found = math.inf
        for config in np.concatenate([default_config(task, target)[None], rows]):
            kernel = builder.build(task, space.describe(config))
            once = kernel.time(1)
            if once < 2 * found:
                calls = max(1, int(0.003 / once))
                found = min(found, float(np.median([kernel.time(calls) for _ in range(5)])))
        return found

    seen, losses = set(), []
    for model in o.models:
        for layer in look_up(f"torchvision:{model}", target, "1x3x224x224").layers:
            if not isinstance(layer.task, Conv2d):
                continue
            task = replace(layer.task, form="direct", epilogue=())
            forms = [task, *(f for f in (replace(task, form=x) for x in SIDES) if fits(f))]
            if len(forms) == 1 or task in seen:
                continue
            seen.add(task)
            times = {form.form: best(form) for form in forms}
            chosen = with_best_form(task).form
            losses.append(times[chosen] / min(times.values()))
            shown = ", ".join(f"{name} {1e3 * t:.3f}" for name, t in times.items())
            print(f"{task.name}: {shown} ms; chosen {chosen}, {losses[-1]:.2f}x", flush=True)
    mean = float(np.exp(np.mean(np.log(losses))))
    print(
        f"{len(losses)} layers: the chosen takes {mean:.3f}x the best, {max(losses):.2f}x at most"
    )


if __name__ == "__main__":
    main()
