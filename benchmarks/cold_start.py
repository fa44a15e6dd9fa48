"""How soon a deployed model answers in a new process, in Python and in C++, and how large it is.

    python benchmarks/cold_start.py FOLDER [--times 7] [--json]

FOLDER is what `chameleon-ray deploy` made. Medians over so many processes, which take turns; files
are in the system's cache after the first, which does not count. The C++ program is `run.cc`,
compiled by the commands in its head; without a g++ it is left out. `processor` is how long it kept
a processor busy, which other work on the machine disturbs less.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from chameleon_ray.deploy.folder import EXAMPLE, EXAMPLE_IN_CPP, LIBRARY, read
from chameleon_ray.networks.model import torch_module
from chameleon_ray.networks.source import source_of

_IMPORT, _PYTHON, _CPP = "import tvm", "python run.py", "run.cc"


def cold_start(folder: Path, times: int, scratch: Path) -> dict[str, list[tuple[float, float]]]:
    """Seconds of whole processes and of the processor, of each kind as many."""
    commands: dict[str, Sequence[str | Path]] = {
        _IMPORT: (sys.executable, "-c", "import tvm"),
        _PYTHON: (sys.executable, folder / EXAMPLE),
    }
    if shutil.which("g++"):
        commands[_CPP] = (_compiled(folder / EXAMPLE_IN_CPP, scratch), folder / LIBRARY)
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
    for turn in range(times + 1):
        for name, command in commands.items():
            seconds = _seconds(command)
            if turn:
                found[name].append(seconds)
    return found


def _seconds(command: Sequence[str | Path]) -> tuple[float, float]:
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd="/")
    _, status, used = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{command[0]} ended with code {process.returncode}.")
    return seconds, used.ru_utime + used.ru_stime


def _compiled(source: Path, scratch: Path) -> Path:
    """A program of which the last command in its head would run it."""
    lines = [line for line in source.read_text().splitlines() if line.startswith("//   ")]
    commands = "\n".join(line.removeprefix("//   ") for line in lines[:-1])
    shutil.copy(source, scratch)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    subprocess.run(
        ["/bin/bash", "-e", "-c", commands],
        check=True,
        cwd=scratch,
        env=os.environ | {"PATH": path},
    )
    return scratch / source.stem


def sizes(folder: Path) -> dict[str, int]:
    """Bytes of the library, and of what torch holds of the model: parameters and buffers."""
    deployed = read(folder)
    source = source_of(deployed.network, ",".join(deployed.inputs))
    if source is None or source.kind == "onnx":
        sys.exit(f"{folder}: {deployed.network} is no model of torch, whose weights are counted.")
    weights = sum(one.nbytes for one in torch_module(source).state_dict().values())
    return {"library": (folder / LIBRARY).stat().st_size, "weights": weights}


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--times", type=int, default=7)
    parser.add_argument("--json", action="store_true")
    o = parser.parse_args()
    large = sizes(o.folder)
    with tempfile.TemporaryDirectory() as scratch:
        found = cold_start(o.folder.resolve(), o.times, Path(scratch))
    if o.json:
        print(json.dumps({"seconds": found, "bytes": large}))
        return
    for line in _table(found, large):
        print(line)


def _table(found: dict[str, list[tuple[float, float]]], large: dict[str, int]) -> list[str]:
    lines = [f"{'':16} {'median s':>8} {'least':>6} {'most':>6} {'processor':>9}"]
    for name, pairs in found.items():
        times, processor = zip(*pairs, strict=True)
        numbers = (statistics.median(times), min(times), max(times), statistics.median(processor))
        lines.append(f"{name:16} " + "{:8.2f} {:6.2f} {:6.2f} {:9.2f}".format(*numbers))
    library, weights = (large[name] / 1e6 for name in ("library", "weights"))
    ratio, more = library / weights, library - weights
    lines.append(
        f"model.so {library:.2f} MB, weights {weights:.2f} MB: {ratio:.3f} times, {more:+.2f} MB"
    )
    return lines


if __name__ == "__main__":
    main()
