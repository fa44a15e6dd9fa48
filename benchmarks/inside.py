"""Where the time of a deployed network goes: each function inside it, beside what was measured.

    python benchmarks/inside.py FOLDER [--calls 50] [--least 0.02]

FOLDER is what `chameleon-ray deploy` made. TVM's virtual machine says when each of its functions
begins and ends; medians over so many calls, in the order of the first. Then each layer alone: what
it took where it was tuned, and what its configuration takes here with filters from memory (cold)
and with filters that are in a cache already (warm). Run it on an idle machine.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from chameleon_ray.deploy.bench import some_input
from chameleon_ray.deploy.folder import LIBRARY, read
from chameleon_ray.networks.source import parse_inputs
from chameleon_ray.tasks import task_from_key

_TURNS = 8  # cold and warm


def inside(folder: Path, calls: int) -> tuple[float, dict[tuple[int, str], float]]:
    """Milliseconds of the whole, and of each function by its place and name."""
    deployed = read(folder)
    os.environ["TVM_NUM_THREADS"] = str(deployed.target.cores)
    import tvm

    library = tvm.runtime.load_module(str(folder / LIBRARY))
    machine = tvm.relax.VirtualMachine(library, tvm.cpu())
    arrays = map(some_input, parse_inputs(",".join(deployed.inputs)))
    tensors = [tvm.runtime.tensor(array) for array in arrays]
    start = time.perf_counter()
    prepared = machine["prepare"]()
    print(f"prepare {(time.perf_counter() - start) * 1e3:.1f} ms, once")
    whole = []
    for _ in range(calls):
        start = time.perf_counter()
        machine["main"](*tensors, prepared)
        whole.append(time.perf_counter() - start)
    times: dict[tuple[int, str], list[float]] = defaultdict(list)
    state = {"place": 0, "start": 0.0}

    def seen(_function: Any, name: str, before: int, *_rest: Any) -> None:
        if before:
            state["start"] = time.perf_counter()
            return
        seconds = time.perf_counter() - state["start"]
        times[int(state["place"]), name].append(seconds)
        state["place"] += 1

    machine.set_instrument(seen)
    for _ in range(calls):
        state["place"] = 0
        machine["main"](*tensors, prepared)
    return statistics.median(whole), {at: statistics.median(t) for at, t in times.items()}


def alone(folder: Path, calls: int) -> dict[str, tuple[float, float]]:
    """Seconds of each layer's configuration, cold and warm, by the task's key."""
    from chameleon_ray.measure.tvm import TvmBuilder

    deployed = read(folder)
    found = {}
    for layer in deployed.layers:
        task = task_from_key(layer.task)
        cold, warm = (
            TvmBuilder(deployed.target, seed=0, cold=cold).build(task, layer.config)
            for cold in (True, False)
        )
        turns = [(cold.time(calls), warm.time(calls)) for _ in range(_TURNS)]
        found[layer.task] = tuple(statistics.median(times) for times in zip(*turns, strict=True))
    return found


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--calls", type=int, default=50)
    parser.add_argument("--least", type=float, default=0.02, help="milliseconds of what is shown")
    o = parser.parse_args()
    whole, parts = inside(o.folder, o.calls)
    for (place, name), seconds in parts.items():
        if seconds * 1e3 >= o.least:
            print(f"{place:4} {seconds * 1e3:8.3f} ms  {name}")
    print(f"whole {whole * 1e3:.2f} ms, parts seen {sum(parts.values()) * 1e3:.2f} ms")
    layers, here = read(o.folder).layers, alone(o.folder, o.calls)
    for layer in layers:
        tuned = f"{layer.seconds * 1e3:.3f}" if layer.seconds else "not measured"
        cold, warm = (f"{seconds * 1e3:.3f}" for seconds in here[layer.task])
        print(f"alone, ms: tuned {tuned}, cold {cold}, warm {warm}: {layer.uses} x {layer.name}")
    cold, warm = (sum(here[one.task][i] * one.uses for one in layers) * 1e3 for i in (0, 1))
    print(f"all layers, by uses: cold {cold:.2f} ms, warm {warm:.2f} ms")


if __name__ == "__main__":
    main()
