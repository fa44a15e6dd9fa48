"""The simplest way to learn from other devices: measure what was best there, on the mean, in order.

    python benchmarks/ranking.py spaces/convolution_A100.json.gz spaces/convolution_A4000.json.gz

Each recorded space is searched so with the other spaces of its kernel: the mean, over these, of the
optimum over each configuration's time, 0 where it failed or is not there. No model, no chance.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import typer
from rich.console import Console
from rich.table import Table

from chameleon_ray.measure.recorded import RecordedSpace, kernel_of, load_recorded

_POINTS = (1, 4, 16, 32, 64)

Shares = Mapping[tuple[object, ...], float]  # config by value -> the optimum over its time


def main(spaces: list[Path]) -> None:
    """Print the score of each space after so many measurements."""
    opened = [load_recorded(space) for space in spaces]
    shares = {space.name: _shares(space) for space in opened}
    table, every = Table("space", "others", *map(str, _POINTS)), []
    for space in opened:
        alike = [o.name for o in opened if kernel_of(o) == kernel_of(space) and o is not space]
        if alike:
            found = _searched(shares[space.name], [shares[name] for name in alike])
            every.append(found)
            table.add_row(space.name, str(len(alike)), *(f"{score:.3f}" for score in found))
    table.add_row("mean", "", *(f"{score:.3f}" for score in np.mean(every, axis=0)))
    Console().print(table)


def _shares(space: RecordedSpace) -> Shares:
    shares = np.nan_to_num(np.nanmin(space.seconds) / space.seconds)
    configs = (tuple(space.tunables.plain(config).values()) for config in space.configs)
    return dict(zip(configs, shares.tolist(), strict=True))


def _searched(tested: Shares, others: list[Shares]) -> npt.NDArray[np.float64]:
    """The scores at the points."""
    order = sorted(tested, key=lambda config: -sum(other.get(config, 0.0) for other in others))
    best = np.maximum.accumulate([tested[config] for config in order[: max(_POINTS)]])
    found: npt.NDArray[np.float64] = best[np.array(_POINTS) - 1]
    return found


if __name__ == "__main__":
    typer.run(main)
