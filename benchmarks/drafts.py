"""How far arithmetic gets: the ranks of a template's draft and of what runs measured.

    python benchmarks/drafts.py runs/resnet18 runs/vgg16

What runs measured is what searches chose, the good part of a space, where ranking is hardest.
"""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import typer
from rich.console import Console
from rich.table import Table
from scipy.stats import spearmanr

from chameleon_ray.learning.past import draft_of
from chameleon_ray.learning.reading import learn_from

_LEAST = 32  # measurements of a layer that say something of ranks


def main(places: list[str]) -> None:
    """Print the rank correlations of each template's layers."""
    found: dict[str, list[tuple[float, int]]] = defaultdict(list)
    for source in learn_from(places).sources:
        good, draft = np.isfinite(source.seconds), draft_of(source.space)
        if draft is not None and good.sum() >= _LEAST:
            expected = draft.opinions(source.configs[good])[:, 0]
            rank = float(spearmanr(expected, -source.seconds[good]).statistic)
            found[source.space.name.partition(":")[0]].append((rank, int(good.sum())))
    table = Table("template", "layers", "measurements", "rank correlation", "least", "most")
    for template, layers in sorted(found.items()):
        ranks = [rank for rank, _ in layers]
        spread = (f"{x:.2f}" for x in (np.median(ranks), min(ranks), max(ranks)))
        table.add_row(template, str(len(layers)), f"{sum(n for _, n in layers):,}", *spread)
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
