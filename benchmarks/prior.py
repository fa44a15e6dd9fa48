"""Writes the prior that ships: what runs of ours measured, one Parquet file.

    python benchmarks/prior.py runs/resnet18 runs/vgg16 -o chameleon_ray/learning/prior.parquet
    python benchmarks/prior.py chameleon_ray/learning/prior.parquet runs/another    (adds to it)

Of each layer on each kind of machine it keeps the best half and a share of the others, and of each
measurement what `--learn-from` reads: no names of machines but their kind.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from chameleon_ray.files import write_whole
from chameleon_ray.learning.journal import COLUMNS, sources_of_table
from chameleon_ray.learning.reading import PRIOR
from chameleon_ray.learning.sources import kept_rows
from chameleon_ray.measure import Outcome, Purpose
from chameleon_ray.records import read_record_tables

_MOST = 200  # measurements of a layer


def main(
    runs: list[str],
    out: Annotated[Path, typer.Option("--out", "-o")] = PRIOR,
    most: int = _MOST,
) -> None:
    """Write what runs measured, and files that this wrote before, as one file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    tables = [table.select(COLUMNS) for run in runs for table in _tables(run)]
    kept = _kept(pa.concat_tables(tables), most)
    buffer = io.BytesIO()
    pq.write_table(kept, buffer, compression="zstd", compression_level=19)
    write_whole(out, buffer.getvalue())
    layers = len(list(sources_of_table(kept, name=out.name)))
    print(f"{out}: {len(kept):,} measurements of {layers} layers, {out.stat().st_size:,} bytes")


def _tables(run: str) -> list[Any]:
    """The records of a run, or of a file of them."""
    import pyarrow.parquet as pq

    if run.endswith(".parquet"):
        return [pq.read_table(run)]
    return read_record_tables(run, COLUMNS)[0]


def _kept(table: Any, most: int) -> Any:
    """Of each task on each machine so many rows, with the median of the repeats alone."""
    import pyarrow as pa

    counted = {purpose.value for purpose in Purpose if purpose.counted}
    lost = {Outcome.DEVICE_LOST.value, Outcome.DRIFTED.value}
    rows = [
        row | {"repeat_seconds": _median(row)}
        for row in table.to_pylist()
        if row["purpose"] in counted and row["outcome"] not in lost
    ]
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["task"], row["machine"], row["template"]), []).append(row)
    chosen = []
    for group in groups.values():
        seconds = np.array([(row["repeat_seconds"] or [np.nan])[0] for row in group])
        chosen += [group[at] for at in kept_rows(seconds, most)]
    numbered = [row | {"job": job} for job, row in enumerate(chosen, start=1)]
    return pa.Table.from_pylist(numbered, table.schema)


def _median(row: dict[str, Any]) -> list[float]:
    """The row's time, if it has one."""
    return [float(np.median(row["repeat_seconds"]))] if row["outcome"] == Outcome.OK else []


if __name__ == "__main__":
    typer.run(main)
