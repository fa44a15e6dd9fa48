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

from chameleon_ray.searches import SEARCHES, Search, Searches


def main(
    folders: list[Path],
    out: Annotated[Path, typer.Option("--out", "-o")],
    trials: Annotated[int, typer.Option(help="Drawn up to here.")] = 64,
) -> None:
    """Draw the mean over the seeds, a panel for each space."""
    found: dict[str, dict[str, list[npt.NDArray[np.float64]]]] = {}
    for folder in folders:
        for search in sorted(Searches(folder / SEARCHES).all(), key=lambda one: one.key.space):
            panel = found.setdefault(search.key.space, defaultdict(list))
            panel[search.key.policy].append(_scores(search)[:trials])
    means = {
        f"{space} ({len(next(iter(panel.values())))} seeds)": {
            policy: np.mean(curves, axis=0) for policy, curves in sorted(panel.items())
        }
        for space, panel in found.items()
    }
    quality(means, out, first=1)


def _scores(search: Search) -> npt.NDArray[np.float64]:
    """The optimum over the best found, after each attempt; 0 before the first success."""
    best = np.array([one or np.inf for one in search.best_seconds])
    return (search.reference_seconds or np.nan) / best


if __name__ == "__main__":
    typer.run(main)
