"""Whole runs on SIMULATED devices, for `scale.py`: how busy, how fast, how large they get."""

from __future__ import annotations

import os
import statistics
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import scale_gpus
from scheduling import shares

from chameleon_ray import tune
from chameleon_ray.compare_network import compare_network
from chameleon_ray.presets import load_policy
from chameleon_ray.records import Record, read_records
from chameleon_ray.results import NetworkResult
from chameleon_ray.rounds import read_rounds

_LAYERS = 12  # of ResNet-18: all at once, each in a process of its own


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """A run that is over.

    Attributes:
        result: What `tune` returned.
        records: Of the budget's measurements, by job.
        round_seconds: What the layers computed in each round, in their order.
    """

    result: NetworkResult
    records: list[Record]
    round_seconds: list[float]

    @property
    def seconds(self) -> float:
        """From the first measurement to the last."""
        return _at(self.records[-1]) - _at(self.records[0])

    def network_seconds(self, measurements: int) -> float:
        """The network's time by the best of each layer after so many measurements each."""
        uses = {layer.layer.task.key: layer.layer.uses for layer in self.result.layers}
        total = 0.0
        for task, weight in uses.items():
            mine = [r.measurement for r in self.records if r.measurement.task == task]
            total += weight * min(m.seconds for m in mine[:measurements] if m.ok)
        return total

    def seconds_until(self, network_seconds: float) -> float:
        """From the first measurement until the network is as fast; infinite if it never is."""
        count = self.measurements_until(network_seconds)
        if count > len(self.records):
            return float("inf")
        return _at(self.records[count - 1]) - _at(self.records[0])

    def measurements_until(self, network_seconds: float) -> int:
        """How many, of all layers, until the network is as fast; more than all if it never is."""
        uses = {layer.layer.task.key: layer.layer.uses for layer in self.result.layers}
        best = dict.fromkeys(uses, np.inf)
        for count, record in enumerate(self.records, start=1):
            m = record.measurement
            if m.ok:
                best[m.task] = min(best[m.task], m.seconds)
            if sum(uses[task] * seconds for task, seconds in best.items()) <= network_seconds:
                return count
        return len(self.records) + 1


def run(
    *,
    devices: int,
    seconds: float,
    trials: int,
    policy: str,
    layers: Sequence[int] = (),
    seed: int = 0,
    time_budget_seconds: float | None = None,
    logical_gpus: bool = False,
) -> Ran:
    """Tune ResNet-18's layers on so many devices that take so long; 0 devices: on the CPU.

    With `logical_gpus` the devices are GPUs as far as Ray knows, each with processes of its own.
    """
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        env, address = Path(folder) / "scaled.yaml", None
        settings = (
            f"measurer: simulated\ndevices: {devices}\nmeasurement_seconds: {seconds}\n"
            f"layers_at_once: {_LAYERS}\n"
        )
        if logical_gpus:
            address, settings = (
                stack.enter_context(scale_gpus.gpus(devices, seconds)),
                scale_gpus.ENV,
            )
        env.write_text(settings)
        result = tune(
            "resnet18",
            env=str(env) if devices else "cpu",
            policy=policy,
            layers=layers,
            trials=trials,
            time_budget_seconds=time_budget_seconds,
            seed=seed,
            run=Path(folder) / "run",
            address=address,
            cold=True,
        )
        records = [
            r for r in read_records(Path(folder) / "run")[0] if r.measurement.purpose.counted
        ]
        rounds = read_rounds(Path(folder) / "run")[0]
    order = sorted(rounds, key=lambda round_: round_.ended_at)
    return Ran(
        result=result,
        records=records,
        round_seconds=[sum(round_.phase_seconds.values()) for round_ in order],
    )


def busy(devices: int, seconds: float, trials: int, policy: str) -> dict[str, float]:
    """How busy twelve searches keep devices, while all twelve have begun and none has ended."""
    ran = run(devices=devices, seconds=seconds, trials=trials, policy=policy)
    first = {r.measurement.task: _at(r) for r in reversed(ran.records)}
    last = {r.measurement.task: _at(r) for r in ran.records}
    begin, end = max(first.values()), min(last.values())
    if end <= begin:
        raise SystemExit("a layer had all its measurements before another had begun: more --trials")
    window = between(ran.records, begin, end)
    return {
        "layers": len(last),
        "devices": devices,
        "measurement_seconds": seconds,
        "utilisation": busy_seconds(window) / (devices * (end - begin)),
        "measurements_per_second": len(window) / (end - begin),
        "wall_seconds": ran.result.wall_seconds,
        **{f"{phase}_seconds": s for phase, s in ran.result.phase_seconds.items()},
    }


def faster(
    devices: int, seconds: float, trials: int, policy: str, *, logical_gpus: bool = False
) -> dict[str, float]:
    """How much sooner so many devices have measured what one has, and how good that is."""
    given = {"seconds": seconds, "trials": trials, "policy": policy, "logical_gpus": logical_gpus}
    one, many = (run(devices=n, **given) for n in (1, devices))
    return {
        "devices": devices,
        "measurement_seconds": seconds,
        "one_seconds": one.seconds,
        "many_seconds": many.seconds,
        "times_as_fast": one.seconds / many.seconds,
        "network_seconds_ratio": many.network_seconds(trials) / one.network_seconds(trials),
    }


def kept(devices: int, seconds: float, policy: str, budgets: Sequence[float]) -> dict[str, float]:
    """How long runs took, as a share of the time that they were given."""
    given = {"devices": devices, "seconds": seconds, "policy": policy, "trials": 100_000}
    shares = {
        budget: run(**given, time_budget_seconds=budget).result.wall_seconds / budget
        for budget in budgets
    }
    return {f"of_{budget:g}_seconds": share for budget, share in shares.items()}


def deeper(
    devices: int, seconds: float, trials: int, policy: str, seeds: Sequence[int]
) -> dict[str, float]:
    """Seconds until four layers are as good as at depth 1 after three quarters of its trials.

    On a CPU only two batches under way are tried: it has no other device for a third.
    """
    layers = (1, 4, 7, 11)
    told: dict[str, float] = {"devices": devices, "measurement_seconds": seconds}
    ratios: dict[int, list[float]] = {depth: [] for depth in ((2, 3) if devices else (2,))}
    with tempfile.TemporaryDirectory() as folder:
        for seed in seeds:
            common = {"devices": devices, "seconds": seconds, "layers": layers, "seed": seed}
            shallow = run(policy=policy, trials=trials, **common)
            goal = shallow.network_seconds(trials * 3 // 4)
            for depth, found in ratios.items():
                deep = _changed(policy, Path(folder), {"pipeline_depth": depth})
                ran = run(policy=deep, trials=2 * trials, **common)
                found.append(ran.seconds_until(goal) / shallow.seconds_until(goal))
    for depth, found in ratios.items():
        told[f"depth_{depth}_time_ratio"] = statistics.median(found)
        told[f"depth_{depth}_won"] = sum(ratio < 1 for ratio in found) / len(found)
    return told


def gained(trials: int, policy: str, seeds: Sequence[int]) -> dict[str, float]:
    """Measurements that the layer scheduler needs for what round robin has, as a share of its."""
    with tempfile.TemporaryDirectory() as folder:
        compare_network(
            "resnet18",
            [policy],
            env="simulated",
            layers=(),
            seeds=seeds,
            trials=2 * trials,
            out=Path(folder),
        )
        found = shares(
            [Path(folder) / "searches"],
            of_network="resnet18",
            policy=policy,
            batch=4,
            budget=trials,
        )
    low, high = np.percentile(found["promise"], [10, 90])
    return {
        "measurements_per_layer": trials,
        "gain_scheduler_share": float(np.mean(found["promise"])),
        "low": float(low),
        "high": float(high),
    }


def scheduled(trials: int, policy: str, seeds: Sequence[int]) -> dict[str, float]:
    """As `gained`, of whole runs with either scheduler; 1 is counted where it is never reached."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        in_turns, by_gain = (
            _changed(policy, Path(folder), {"schedule": s}) for s in ("round_robin", "gain")
        )
        for seed in seeds:
            common = {"devices": 8, "seconds": 0.0, "trials": trials, "seed": seed}
            turns = run(policy=in_turns, **common)
            gain = run(policy=by_gain, **common)
            needed = gain.measurements_until(turns.network_seconds(trials))
            found.append(min(1.0, needed / len(turns.records)))
    return {
        "measurements_per_layer": trials,
        "gain_scheduler_share": statistics.fmean(found),
        "low": min(found),
        "high": max(found),
    }


def _changed(policy: str, folder: Path, changes: Mapping[str, object]) -> str:
    """A copy of a policy with other settings, as a file."""
    import yaml

    name, _ = load_policy(policy)
    source = Path(__file__).parent.parent / "policies" / f"{name}.yaml"
    settings = yaml.safe_load(source.read_text()) | changes
    path = folder / f"{'_'.join(map(str, changes.values()))}.yaml"
    path.write_text(yaml.safe_dump(settings))
    return str(path)


def growth(measurements: int, policy: str) -> dict[str, float]:
    """What a long run takes more at its end than at its beginning: memory, and time of a round.

    The devices take no time, so that a round is what the broker, the journal and the search take.
    """
    with _watching_memory() as seen:
        ran = run(devices=16, seconds=0.0, trials=-(-measurements // 12), policy=policy)
    tenth = max(1, len(ran.records) // 10)
    times = [_at(r) for r in ran.records]
    early, late = times[2 * tenth] - times[tenth], times[-tenth] - times[-2 * tenth]
    settled = seen[len(seen) // 10]
    return {
        "measurements": len(ran.records),
        "memory_growth_bytes": max(seen) - settled,
        "batch_time_growth": late / early - 1,
        "search_time_growth": _growth(ran.round_seconds),
    }


def _growth(values: Sequence[float]) -> float:
    if len(values) < 20:
        return float("nan")
    tenth = len(values) // 10
    return float(np.mean(values[-tenth:]) / np.mean(values[tenth : 2 * tenth]) - 1)


@contextmanager
def _watching_memory() -> Iterator[list[int]]:
    """The driver's resident bytes, ten times a second."""
    seen, ended, driver = list[int](), threading.Event(), psutil.Process(os.getpid())

    def watch() -> None:
        while not ended.wait(0.1):
            seen.append(driver.memory_info().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield seen
    finally:
        ended.set()
        watcher.join()


def between(records: Sequence[Record], begin: float, end: float) -> list[Record]:
    """Those that were measured in a time."""
    return [r for r in records if begin < _at(r) <= end]


def busy_seconds(records: Sequence[Record]) -> float:
    """How long they kept devices busy."""
    return sum(r.measurement.run_seconds for r in records)


def _at(record: Record) -> float:
    return record.measured_at.timestamp()
