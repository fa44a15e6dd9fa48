"""What runs on a GPU came to: default, best found, cuDNN, and the share of the card's peak.

    python benchmarks/gpu_table.py RUN... [--json]

RUN is a folder of `chameleon-ray tune --env cuda` (or `cuda_gemm`, `cuda_tensor`), or of `gpu.py
record`. The peak is that of float32 multiply-adds without tensor cores, at the clock that the
journal names. cuDNN's column is torch's kernel, in the memory format in which it is fastest; of
`cuda_tensor`, in tf32 or float16.
"""

from __future__ import annotations

import argparse
import json
import math
import re
from pathlib import Path
from typing import Any

from paper_text import markdown_table

from chameleon_ray.history import load
from chameleon_ray.results import LayerResult, NetworkResult
from chameleon_ray.templates.gpu import architecture

_MACHINE = re.compile(r"(sm_\d+), (\d+) SMs, (\d+) MHz")


def peak(device: str) -> float:
    """float32 operations a second of a device, in words; NaN if they do not tell."""
    found = _MACHINE.search(device)
    if not found:
        return math.nan
    return 2.0 * architecture(found[1]).sm_lanes * int(found[2]) * int(found[3]) * 1e6


def row(layer: LayerResult, operations_per_second: float) -> dict[str, Any]:
    """One layer, its times in seconds; NaN for what is not known."""
    default, best, torch = (
        math.nan if seconds is None else seconds
        for seconds in (layer.default_seconds, layer.best_seconds, layer.torch_seconds)
    )
    return {
        "layer": layer.layer.index,
        "name": layer.layer.name,
        "measurements": layer.measurements,
        "default_seconds": default,
        "best_seconds": best,
        "cudnn_seconds": torch,
        "times_cudnn": torch / best,
        "of_peak": layer.layer.task.flop / best / operations_per_second,
    }


def figures(result: NetworkResult) -> dict[str, Any]:
    """A run's rows, and the geometric mean against cuDNN over its layers."""
    rows = [row(layer, peak(result.device)) for layer in result.layers]
    ratios = [one["times_cudnn"] for one in rows if math.isfinite(one["times_cudnn"])]
    return {
        "network": result.network,
        "device": result.device,
        "layers": rows,
        "compared_layers": len(ratios),
        "times_cudnn": math.exp(sum(map(math.log, ratios)) / len(ratios)) if ratios else math.nan,
    }


def _finite(told: Any) -> Any:
    """The same, with None where there is no number: JSON has no NaN."""
    if isinstance(told, dict):
        return {name: _finite(value) for name, value in told.items()}
    if isinstance(told, list):
        return [_finite(value) for value in told]
    return None if isinstance(told, float) and not math.isfinite(told) else told


def main() -> None:
    """Print a table for each run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    parser.add_argument("--json", action="store_true", help="one object on one line for each run")
    options = parser.parse_args()
    head = ("layer", "measured", "default us", "best us", "cuDNN us", "cuDNN / best", "of peak")
    for run in options.runs:
        told = figures(load(run).result)
        if options.json:
            print(json.dumps(_finite(told)))
            continue
        rows = [
            (
                f"{x['layer']} {x['name']}",
                str(x["measurements"]),
                *(f"{1e6 * x[f'{of}_seconds']:.1f}" for of in ("default", "best", "cudnn")),
                f"{x['times_cudnn']:.2f}",
                f"{100 * x['of_peak']:.0f}%",
            )
            for x in told["layers"]
        ]
        print(f"\n{told['network']} on {told['device']}\n\n{markdown_table(head, rows)}")
        mean, layers = told["times_cudnn"], told["compared_layers"]
        print(f"\nGeometric mean of cuDNN / best over {layers} layers: {mean:.3f}")


if __name__ == "__main__":
    main()
