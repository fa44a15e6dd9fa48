"""How many devices two cores keep busy. The devices are SIMULATED: a formula, and a sleep.

    python benchmarks/scale.py broker [--devices 8] [--seconds 0.2] [--for 20]
    python benchmarks/scale.py overhead
    python benchmarks/scale.py network [--devices 16] [--seconds 0.5] [--trials 64] [--policy P]
    python benchmarks/scale.py faster [--devices 8] [--seconds 0.5] [--trials 32] [--policy P]
    python benchmarks/scale.py gpus [--devices 8] [--seconds 0.5] [--trials 32] [--policy P]
    python benchmarks/scale.py depth [--devices 8] [--seconds 0.2] [--trials 64] [--seeds 10]
    python benchmarks/scale.py budget [--devices 8] [--seconds 0.2] [--policy P]
    python benchmarks/scale.py growth [--measurements 10000] [--policy P]
    python benchmarks/scale.py gain [--trials 64] [--seeds 10] [--policy P]
    python benchmarks/scale.py scheduler [--trials 64] [--seeds 10] [--policy P]
    python benchmarks/scale.py all --json

`broker` feeds devices with random candidates, which cost nothing to find: what the broker and the
hosts can do. `overhead` is what they add to a measurement. The others tune the twelve layers of
ResNet-18: `network` tells how busy the searches keep devices, `faster` how much sooner several have
done what one does, `gpus` the same of GPUs as Ray counts them (`num_gpus=8`), `depth` what a second
and a third batch under way are worth (0 devices: real kernels on the CPU, not simulated), `budget`
how far a time budget is kept, `growth` what a long run takes at its end, `gain` how many of round
robin's measurements the layer scheduler needs to be where that is after so many a layer: its rule,
on the curves of finished searches; `scheduler` the same of whole runs. `all` does them as README's
table has them, and `respawn.py` too.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from scale_runs import between, busy, busy_seconds, deeper, faster, gained, growth, kept, scheduled

from chameleon_ray.coordinator import start_coordinator
from chameleon_ray.env_settings import Env
from chameleon_ray.measure import Purpose
from chameleon_ray.measure.pool import HostsWanted
from chameleon_ray.networks import network
from chameleon_ray.pool_measurer import PoolMeasurer
from chameleon_ray.records import Provenance, read_records
from chameleon_ray.session import ray_session
from chameleon_ray.space import Configs
from chameleon_ray.tasks import Target
from chameleon_ray.templates import design_space

_BUDGETS = (60.0, 120.0)  # seconds
_SOURCES = 12
_TARGET = Target(model="simulated", lanes=16, cores=2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A coordinator at work.

    Attributes:
        handle: Of the actor.
        process: Its process.
        folder: Of its journal.
    """

    handle: Any
    process: psutil.Process
    folder: Path


@contextmanager
def coordinator(devices: int, seconds: float) -> Iterator[Running]:
    """A Ray, a coordinator and its simulated devices, while the body runs."""
    import ray

    env = Env(measurer="simulated", devices=devices, measurement_seconds=seconds)
    with ray_session(address=None, cpus=2), tempfile.TemporaryDirectory() as folder:
        handle = start_coordinator(HostsWanted(env=env, seed=0))
        ray.get(handle.start.remote())
        ray.get(handle.open.remote(folder, Provenance(machine="simulated"), 0))
        pid = ray.get(handle.__ray_call__.remote(_pid))
        yield Running(handle=handle, process=psutil.Process(pid), folder=Path(folder))


def _pid(_actor: Any) -> int:
    return psutil.Process().pid


def broker(devices: int, seconds: float, lasting: float) -> dict[str, float]:
    """What sources that cost nothing keep busy, in a window after the first few seconds."""
    with coordinator(devices, seconds) as running:
        ended = threading.Event()
        batch = max(8, 8 * devices // _SOURCES)
        sources = [
            threading.Thread(target=_feed, args=(running.handle, index, batch, ended))
            for index in range(_SOURCES)
        ]
        for source in sources:
            source.start()
        time.sleep(max(2.0, 4 * seconds))
        begin, used = time.time(), _cpu_seconds(running.process)
        time.sleep(lasting)
        end, used = time.time(), _cpu_seconds(running.process) - used
        memory = running.process.memory_info().rss
        ended.set()
        for source in sources:
            source.join()
        records, _ = read_records(running.folder)
    window = between(records, begin, end)
    return {
        "devices": devices,
        "measurement_seconds": seconds,
        "utilisation": busy_seconds(window) / (devices * (end - begin)),
        "measurements_per_second": len(window) / (end - begin),
        "broker_core_share": used / (end - begin),
        "broker_memory_bytes": memory,
    }


def _feed(handle: Any, index: int, batch: int, ended: threading.Event) -> None:
    """Measure random configs of a layer, batch after batch."""
    task = [*network("resnet18"), *network("vgg16")][index].task
    space, rng = design_space(task, _TARGET), np.random.default_rng(index)
    measurer = PoolMeasurer(handle, task, space)
    while not ended.is_set():
        list(measurer.submit(space.random(batch, rng), purpose=Purpose.SEARCH))


def overhead(times: int = 300, batch: int = 64) -> dict[str, float]:
    """What the broker adds to a measurement: a device that takes no time, one place.

    Returns:
        Wall seconds of a measurement in batches, less those that the device itself took; and the
        seconds until one that is asked for alone is answered.
    """
    with coordinator(1, 0.0) as running:
        task = network("resnet18")[0].task
        space = design_space(task, _TARGET)
        measurer = PoolMeasurer(running.handle, task, space)
        configs = space.random(times + 16 * batch, np.random.default_rng(0))
        alone = [_asked(measurer, config[None, :])[0] for config in configs[:times]]
        together, itself = [], []
        for rows in np.split(configs[times:], 16):
            taken, device = _asked(measurer, rows)
            together.append(taken / batch)
            itself.append(device / batch)
    return {
        "overhead_seconds": statistics.median(together) - statistics.median(itself),
        "alone_seconds": statistics.median(alone),
    }


def _asked(measurer: PoolMeasurer, configs: Configs) -> tuple[float, float]:
    """Seconds until configs are measured, and how many of these the device took."""
    start = time.perf_counter()
    measured = [m for _, m in measurer.submit(configs, purpose=Purpose.SEARCH)]
    return time.perf_counter() - start, sum(m.build_seconds + m.run_seconds for m in measured)


def _cpu_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def everything() -> dict[str, Any]:
    """The figures of README, by the names of `--json`."""
    from respawn import figures as respawned

    added = overhead()
    light = broker(64, 0.05, 20.0)
    wide = broker(1024, 1.0, 20.0)
    loads = ((1, 0.2, 48), (4, 0.2, 64), (16, 0.5, 64), (64, 1.0, 256))
    return {
        "utilisation": {
            n: busy(n, s, trials, "chameleon")["utilisation"] for n, s, trials in loads
        },
        "utilisation_without_search": light["utilisation"],
        "overhead_seconds": added["alone_seconds"],
        "overhead_in_batches_seconds": added["overhead_seconds"],
        "devices_held": wide["devices"],
        "devices_held_utilisation": wide["utilisation"],
        "broker_core_share": wide["broker_core_share"],
        "broker_memory_bytes": wide["broker_memory_bytes"],
        "times_as_fast": faster(8, 0.5, 64, "chameleon")["times_as_fast"],
        "time_budget_shares": kept(8, 0.2, "chameleon", _BUDGETS),
        "gain_scheduler_share": gained(64, "chameleon", range(10))["gain_scheduler_share"],
        "respawn_seconds": respawned(["child", "host", "node", "join"], 5),
        **growth(10_000, "random"),
    }


def main() -> None:
    """Measure, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = (
        "broker",
        "overhead",
        "network",
        "faster",
        "gpus",
        "depth",
        "budget",
        "growth",
        "gain",
        "scheduler",
        "all",
    )
    parser.add_argument("what", choices=names)
    parser.add_argument("--devices", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=0.2)
    parser.add_argument("--for", dest="lasting", type=float, default=20.0, help="seconds")
    parser.add_argument("--trials", type=int, default=64)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--measurements", type=int, default=10_000)
    parser.add_argument("--policy", default="chameleon")
    parser.add_argument("--json", action="store_true", help="one object on one line")
    o = parser.parse_args()
    searching = o.devices, o.seconds, o.trials, o.policy
    measure: dict[str, Callable[[], dict[str, Any]]] = {
        "broker": lambda: broker(o.devices, o.seconds, o.lasting),
        "overhead": overhead,
        "network": lambda: busy(*searching),
        "faster": lambda: faster(*searching),
        "gpus": lambda: faster(*searching, logical_gpus=True),
        "depth": lambda: deeper(*searching, range(o.seeds)),
        "budget": lambda: kept(o.devices, o.seconds, o.policy, _BUDGETS),
        "growth": lambda: growth(o.measurements, o.policy),
        "gain": lambda: gained(o.trials, o.policy, range(o.seeds)),
        "scheduler": lambda: scheduled(o.trials, o.policy, range(o.seeds)),
        "all": everything,
    }
    figures, simulated = measure[o.what](), bool(o.devices)
    if o.json:
        print(json.dumps(figures | {"simulated": simulated}))
        return
    print("SIMULATED devices:" if simulated else "this CPU:")
    for name, value in figures.items():
        print(f"{name:26} {value:.4g}" if isinstance(value, float | int) else f"{name:26} {value}")


if __name__ == "__main__":
    main()
