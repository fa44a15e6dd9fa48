"""How soon what dies is back: a child with real kernels, a host and a node with SIMULATED devices.

    python benchmarks/respawn.py [child|host|node|join ...] [--times 5] [--json]

`child`: the process that builds and runs candidates is killed; seconds until the next one has
answered, less what that answer takes anyway. `host`: the actor of a machine; `node`: all processes
of a second node of a Ray cluster; seconds until what they had in hand is measured, and the longest
that the others had nothing to show meanwhile, while four devices are kept busy at 0.05 s each.
`join`: seconds until a node that joins has measured.
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
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import psutil
import ray
from ray.cluster_utils import Cluster

from chameleon_ray.coordinator import start_coordinator
from chameleon_ray.env_settings import Env
from chameleon_ray.measure import Job, Purpose
from chameleon_ray.measure.backend import target_here
from chameleon_ray.measure.bench import Bench
from chameleon_ray.measure.pool import HostsWanted
from chameleon_ray.networks import network
from chameleon_ray.pool_measurer import PoolMeasurer
from chameleon_ray.ray_access import guard_ray, join_ray
from chameleon_ray.records import Provenance
from chameleon_ray.tasks import Target
from chameleon_ray.templates import default_config, design_space

_TASK = network("resnet18")[0].task
_SIMULATED = Env(measurer="simulated", devices=4, measurement_seconds=0.05)


def child(times: int) -> list[float]:
    """Seconds until a killed child has measured again, beyond those of a measurement."""
    env = Env()
    target = target_here(env)
    bench = Bench(env, target, 0)
    resolved = bench.start().target
    space = design_space(_TASK, resolved)
    job = Job(task=_TASK, config=space.describe(default_config(_TASK, resolved)))
    taken = []
    for _ in range(times):
        usual = min(_seconds(lambda: bench.measure(job)) for _ in range(3))
        for process in _grandchildren():
            process.kill()
        taken.append(_seconds(lambda: bench.measure(job)) - usual)
    bench.close()
    return taken


def _grandchildren() -> list[psutil.Process]:
    """What multiprocessing's forkserver has forked."""
    return [fork for server in psutil.Process().children() for fork in server.children()]


def _seconds(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


@dataclass(slots=True)
class Feed:
    """Threads that each have one config measured after another.

    Attributes:
        answers: When an answer came, and how long it was waited for.
    """

    handle: Any
    answers: list[tuple[float, float]] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def going(self, threads: int) -> Iterator[None]:
        """Measure while the body runs."""
        feeding = [threading.Thread(target=self._run, args=(i,)) for i in range(threads)]
        for thread in feeding:
            thread.start()
        try:
            yield
        finally:
            self.ended.set()
            for thread in feeding:
                thread.join()

    def _run(self, index: int) -> None:
        task = network("resnet18")[index].task
        space = design_space(task, Target(model="simulated", lanes=16, cores=2))
        measurer = PoolMeasurer(self.handle, task, space)
        rng = np.random.default_rng(index)
        while not self.ended.is_set():
            start = time.time()
            list(measurer.submit(space.random(1, rng), purpose=Purpose.SEARCH))
            self.answers.append((time.time(), time.time() - start))

    def around(self, killed_at: float) -> tuple[float, float]:
        """Seconds until what was in hand at that time is answered; the longest gap after it."""
        caught = [at - killed_at for at, waited in self.answers if at - waited < killed_at < at]
        times = sorted(at for at, _ in self.answers if at > killed_at - 0.2)
        return max(caught), float(np.diff(times).max())


@contextmanager
def _cluster(nodes: int) -> Iterator[tuple[Cluster, Any]]:
    guard_ray()
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "num_gpus": 0})
    extra = [cluster.add_node(num_cpus=1, num_gpus=0) for _ in range(nodes - 1)]
    with tempfile.TemporaryDirectory() as folder:
        try:
            join_ray(cluster.address)
            handle = start_coordinator(HostsWanted(env=_SIMULATED, seed=0))
            ray.get(handle.start.remote())
            ray.get(handle.open.remote(folder, Provenance(machine="simulated"), 0))
            cluster.extra = extra
            yield cluster, handle
        finally:
            ray.shutdown()
            cluster.shutdown()


@contextmanager
def _busy_cluster(nodes: int) -> Iterator[tuple[Cluster, Any, Feed]]:
    """A cluster, its coordinator, and what feeds it."""
    with _cluster(nodes) as (cluster, handle):
        feed = Feed(handle)
        with feed.going(8):
            yield cluster, handle, feed


def host(times: int) -> list[tuple[float, ...]]:
    """Of a killed host actor, with another node's host beside it; and until it measures again."""
    found = []
    with _busy_cluster(2) as (_, handle, feed):
        for _ in range(times):
            time.sleep(4.0)
            before = _done(handle)
            victim = next(p for p in psutil.Process().children(recursive=True) if _is_host(p))
            killed_at = time.time()
            victim.kill()
            while not (len(now := _done(handle)) == 2 and 0 < min(now) < min(before)):
                time.sleep(0.05)
            back = time.time() - killed_at
            time.sleep(5.0)
            found.append((*feed.around(killed_at), back))
    return found


def _done(handle: Any) -> list[int]:
    """How much each host has done since it was started."""
    return [host.done for host in ray.get(handle.status.remote()).hosts]


def _is_host(process: psutil.Process) -> bool:
    return "ray::HostActor" in " ".join(process.cmdline())


def node(times: int) -> list[tuple[float, ...]]:
    """Of a node whose processes are all killed at once."""
    found = []
    for _ in range(times):
        with _busy_cluster(2) as (cluster, _, feed):
            time.sleep(4.0)
            killed_at = time.time()
            cluster.remove_node(cluster.extra[0], allow_graceful=False)
            time.sleep(12.0)
            found.append(feed.around(killed_at))
    return found


def join(times: int) -> list[float]:
    """Seconds from the moment a node is there until its host has measured."""
    found = []
    for _ in range(times):
        with _busy_cluster(1) as (cluster, handle, _):
            time.sleep(2.0)
            cluster.add_node(num_cpus=1, num_gpus=0)
            start = time.time()
            while sum(done > 0 for done in _done(handle)) < 2:
                time.sleep(0.05)
            found.append(time.time() - start)
    return found


def figures(names: list[str], times: int) -> dict[str, float]:
    """Medians, by name."""
    told: dict[str, float] = {}
    if "child" in names:
        told["child"] = statistics.median(child(times))
    if "join" in names:
        told["join"] = statistics.median(join(times))
    for name, measure in (("host", host), ("node", node)):
        if name in names:
            answered, gaps, *back = zip(*measure(times), strict=True)
            told[name] = statistics.median(answered)
            told[f"{name}_others_wait"] = statistics.median(gaps)
            if back:
                told[f"{name}_measures_again"] = statistics.median(back[0])
    return told


def main() -> None:
    """Kill, and print how soon."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", default=["child", "host", "node", "join"])
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="one object on one line")
    options = parser.parse_args()
    found = figures(options.names, options.times)
    if options.json:
        print(json.dumps({"respawn_seconds": found}))
        return
    for name, seconds in found.items():
        print(f"{name:20} {seconds:.2f} s")


if __name__ == "__main__":
    main()
