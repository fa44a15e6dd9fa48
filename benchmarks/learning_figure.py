"""The curves of docs/learning.md: scores against attempts, cold and warm, of kept searches.

chameleon-ray compare ... --learn-from spaces/ --out runs/loo
python benchmarks/learning_figure.py runs/loo -o docs/learning-gpus.svg
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import typer
from paper_figures import quality

from chameleon_ray.compare import curves
from chameleon_ray.scores import score_at
from chameleon_ray.searches import SEARCHES, Searches


def main(
    folders: list[Path],
    out: Annotated[Path, typer.Option("--out", "-o")],
    trials: Annotated[int, typer.Option(help="Drawn up to here.")] = 64,
) -> None:
    """Draw the mean over the seeds, a panel for each space."""
    found: dict[str, dict[str, list[npt.NDArray[np.float64]]]] = {}
    for folder in folders:
        for curve in sorted(curves(Searches(folder / SEARCHES).all()), key=lambda one: one.space):
            scores = score_at(curve, range(1, min(trials, len(curve.best_seconds)) + 1))
            found.setdefault(curve.space, defaultdict(list))[curve.policy].append(scores)
    means = {
        f"{space} ({len(next(iter(panel.values())))} seeds)": {
            policy: np.mean(values, axis=0) for policy, values in sorted(panel.items())
        }
        for space, panel in found.items()
    }
    quality(means, out, first=1)


if __name__ == "__main__":
    typer.run(main)
