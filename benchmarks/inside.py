"""Where the time of a deployed network goes: each function inside it, beside what was measured.

    python benchmarks/inside.py FOLDER [--calls 50] [--least 0.02]

FOLDER is what `chameleon-ray deploy` made. TVM's virtual machine says when each of its functions
begins and ends; medians over so many calls, in the order of the first. `alone` is what the layer
took where it was tuned.
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


def inside(folder: Path, calls: int) -> tuple[float, dict[tuple[int, str], float]]:
    """Milliseconds of the whole, and of each function by its place and name."""
    deployed = read(folder)
    os.environ["TVM_NUM_THREADS"] = str(deployed.target.cores)
    import tvm

    library = tvm.runtime.load_module(str(folder / LIBRARY))
    machine = tvm.relax.VirtualMachine(library, tvm.cpu())
    arrays = map(some_input, parse_inputs(",".join(deployed.inputs)))
    tensors = [tvm.runtime.tensor(array) for array in arrays]
    prepared = machine["prepare"]()
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
    for layer in read(o.folder).layers:
        alone = f"{layer.seconds * 1e3:8.3f} ms" if layer.seconds else "not measured"
        print(f"alone {alone}  {layer.uses} x {layer.name}")


if __name__ == "__main__":
    main()
