"""What tuning a network on this CPU comes to: speed beside torch, time per measurement, memory.

Runs `chameleon-ray tune` as a user would, in a process of its own, and watches its memory. Leave
the machine alone meanwhile: everything else that computes is measured along.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

import psutil

from chameleon_ray.machine import usable_cores

_WATCH_SECONDS = 2.0


def pss_bytes(process: psutil.Process) -> int:
    """Proportional set size of a process and all its descendants, shared pages counted once."""
    total = 0
    for member in [process, *process.children(recursive=True)]:
        try:
            total += member.memory_full_info().pss
        except psutil.Error:  # it has just ended
            continue
    return total


def peak_pss(process: psutil.Process, ended: threading.Event) -> int:
    """The largest summed PSS seen until `ended`."""
    peak = 0
    while not ended.wait(_WATCH_SECONDS):
        try:
            peak = max(peak, pss_bytes(process))
        except psutil.NoSuchProcess:
            break
    return peak


def tune(arguments: list[str]) -> tuple[dict[str, Any], int]:
    """The object that `tune --json` prints, and the peak of its memory in bytes."""
    command = [sys.executable, "-m", "chameleon_ray", "tune", *arguments, "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        ended, peaks = threading.Event(), []
        tree = psutil.Process(process.pid)
        watcher = threading.Thread(target=lambda: peaks.append(peak_pss(tree, ended)))
        watcher.start()
        out, _ = process.communicate()
        ended.set()
        watcher.join()
    if process.returncode:
        raise SystemExit(process.returncode)
    return json.loads(out), peaks[0]


def figures(result: dict[str, Any], peak_pss_bytes: int) -> dict[str, Any]:
    """`result` with what follows from it.

    `search_share` is the busy time of exploring, sampling and fitting, as if one after another
    with nothing beside it, in the wall time after start-up. Phases come as shares of all cores.
    """
    cores = usable_cores()
    wall = result["wall_seconds"] - result["startup_seconds"]
    measurements = sum(layer["measurements"] for layer in result["layers"])
    search = sum(result["phase_seconds"][phase] for phase in ("explore", "sample", "fit")) * cores
    timed = [x for x in result["layers"] if x["best_seconds"] and x["torch_seconds"]]
    ratios = [x["torch_seconds"] / x["best_seconds"] for x in timed]
    return result | {
        "measurement_seconds": wall / measurements,
        "search_share": search / wall,
        "peak_pss_bytes": peak_pss_bytes,
        "torch_ratio_geomean": math.exp(sum(map(math.log, ratios)) / len(ratios))
        if ratios
        else None,
        "torch_ratio_least": min(ratios, default=None),
        "default_wins": sum(layer["default_won"] for layer in result["layers"]),
    }


def main() -> None:
    """Tune, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("network", nargs="?", default="resnet18")
    parser.add_argument("--env", default="cpu")
    parser.add_argument("--policy", default="chameleon")
    parser.add_argument("--layers", default="", help="such as 1,4,11")
    parser.add_argument("--trials", default="64")
    parser.add_argument("--seed", default="0")
    parser.add_argument("--json", action="store_true", help="one object on one line")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        arguments = [options.network, "--env", options.env, "--policy", options.policy]
        arguments += [
            "--layers",
            options.layers,
            "--trials",
            options.trials,
            "--seed",
            options.seed,
            "--run",
            str(run),
            "--cold",
        ]
        result = figures(*tune(arguments))
        result["run_folder_bytes"] = sum(f.stat().st_size for f in run.rglob("*"))
    if options.json:
        print(json.dumps(result))
        return
    for name, value in result.items():
        if isinstance(value, float | int | str):
            print(f"{name:22} {value:.4g}" if isinstance(value, float) else f"{name:22} {value}")


if __name__ == "__main__":
    main()
