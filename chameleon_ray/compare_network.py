"""Policies compared on the layers of a network, live: run after run, then the best timed in turns.

Nobody knows the shortest time of a real layer, so the reference is the fastest of all runs: each
run's winner is built once more, and they are timed in turns on this machine.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

from chameleon_ray import history, network_tuner, report
from chameleon_ray.compare import Standing
from chameleon_ray.errors import SettingsError
from chameleon_ray.files import write_whole
from chameleon_ray.machine import cpu_brand, usable_cores
from chameleon_ray.measure import Job, Purpose
from chameleon_ray.measure.bench import Bench
from chameleon_ray.measure.broker import histogram
from chameleon_ray.plan import Plan, make_plan
from chameleon_ray.records import Record, read_records
from chameleon_ray.replay import best_so_far
from chameleon_ray.results import Progress
from chameleon_ray.searches import SEARCHES, Search, Searches, SearchKey, digest, policy_digest
from chameleon_ray.space import KnobValues
from chameleon_ray.tasks import Layer

_REFERENCES = "references.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """The shortest time known of a layer.

    Attributes:
        seconds: Of one execution.
        in_turns: Whether the runs' winners were timed in turns; if not, each run's own time of its
            winner counts.
    """

    seconds: float
    in_turns: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveComparison:
    """What came of it.

    Attributes:
        searches: One for each layer of each run, with their references.
        references: By space, as in `Search.key`.
        folders: Run folder of each policy and seed; what `tune` reported lies beside it as `.json`.
        layers: The layers tuned, by space.
    """

    searches: list[Search]
    references: Mapping[str, Reference]
    folders: Mapping[tuple[str, int], Path]
    layers: Mapping[str, Layer]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    plan: Plan
    folder: Path
    keys: Mapping[int, SearchKey]  # by the number of the layer


def compare_network(
    network: str,
    policies: Sequence[str],
    *,
    env: str,
    layers: Sequence[int],
    seeds: Sequence[int],
    trials: int,
    out: Path,
    on_progress: Callable[[Standing], None] | None = None,
    on_run: Callable[[Progress], None] | None = None,
) -> LiveComparison:
    """Tune a network with every policy and seed, one after another, each in its own run folder.

    Args:
        network: As `tune` takes it.
        policies: Names or paths.
        env: Name or path.
        layers: Numbers; all if empty.
        seeds: The runs of one seed follow each other, so that all policies meet the same machine.
        trials: Measurements of each layer in each run.
        out: Folder of the finished searches, and of the run folders.
        on_progress: Called at the beginning and after each run.
        on_run: Called while a run is going on.

    Raises:
        ChameleonError: As `tune` raises them, all that can be checked before anything is started.
        KeyboardInterrupt: On SIGINT and SIGTERM; the same call goes on.
    """
    if len(set(policies)) < len(policies):
        raise SettingsError("--policy: a policy stands twice; name each once.")
    plan = partial(
        make_plan,
        network,
        env=env,
        layers=layers,
        trials=trials,
        time_budget_seconds=None,
        address=None,
    )
    wanted = itertools.product(seeds, policies)
    runs = [_run(plan(policy=policy, seed=seed), out) for seed, policy in wanted]
    store, found = Searches(out / SEARCHES), dict[SearchKey, Search]()
    for run in runs:
        found |= {key: s for key in run.keys.values() if (s := store.find(key)) is not None}
    missing = [run for run in runs if not all(key in found for key in run.keys.values())]
    started, kept = _now(), len(runs) - len(missing)

    def tell(done: int) -> None:
        if on_progress is not None:
            seconds = _now() - started
            on_progress(Standing(done=done, kept=kept, total=len(runs), seconds=seconds))

    tell(kept)
    for done, run in enumerate(missing, start=kept + 1):
        for search in _tuned(run, on_run):
            store.write(search)
            found[search.key] = search
        tell(done)
    references = _references(runs, out)
    searches = [
        replace(found[key], reference_seconds=references[key.space].seconds)
        for run in sorted(runs, key=lambda run: policies.index(run.plan.policy_name))
        for key in run.keys.values()
        if key.space in references
    ]
    return LiveComparison(
        searches=searches,
        references=references,
        folders={(run.plan.policy_name, run.plan.seed): run.folder for run in runs},
        layers={runs[0].keys[layer.index].space: layer for layer in runs[0].plan.layers},
    )


def _run(plan: Plan, out: Path) -> _Run:
    of_policy, of_env = policy_digest(plan.policy), digest([asdict(plan.env), _here()])
    mark = digest([plan.policy_name, of_policy, of_env])[:8]
    name = f"{plan.network}-{Path(plan.policy_name).stem}-{mark}-seed{plan.seed}"
    keys = {
        layer.index: SearchKey(
            space=f"{plan.network}-{layer.index}",
            space_digest=digest([of_env, layer.task.key]),
            policy=plan.policy_name,
            policy_digest=of_policy,
            seed=plan.seed,
            trials=plan.trials,
        )
        for layer in plan.layers
    }
    return _Run(plan=plan, folder=out / name, keys=keys)


def _here() -> list[object]:
    return [cpu_brand(), usable_cores()]


def _now() -> float:
    return time.monotonic()


def _tuned(run: _Run, on_run: Callable[[Progress], None] | None) -> list[Search]:
    """Tune, keep the result beside the run folder, and read the journal."""
    plan, again = run.plan, run.folder.exists()
    result = network_tuner.tune(
        plan.network,
        env=plan.env_name,
        policy=plan.policy_name,
        layers=[layer.index for layer in plan.layers],
        trials=plan.trials,
        run=run.folder,
        seed=plan.seed,
        on_progress=on_run,
    )
    whole = report.to_json(result) | {"wall_is_whole": not again}
    write_whole(run.folder.parent / f"{run.folder.name}.json", json.dumps(whole).encode())
    records, _ = read_records(run.folder)
    return [_search(run, layer, records, result.device) for layer in plan.layers]


def _search(run: _Run, layer: Layer, records: Sequence[Record], device: str) -> Search:
    """A layer's search as its journal tells it: measurements in the order in which they ended."""
    of_layer = [r for r in records if r.measurement.task == layer.task.key]
    counted = [r.measurement for r in of_layer if r.measurement.purpose.counted]
    counted = counted[: run.plan.trials]
    return Search(
        key=run.keys[layer.index],
        kernel=run.keys[layer.index].space,
        reference_seconds=None,
        best_seconds=tuple(best_so_far(counted)),
        outcomes=histogram(counted),
        phase_seconds={
            "build": sum(m.build_seconds for m in counted),
            "run": sum(m.run_seconds for m in counted),
        },
        device=device,
        versions=of_layer[-1].provenance.versions if of_layer else {},
    )


def _references(runs: Sequence[_Run], out: Path) -> dict[str, Reference]:
    """The shortest time known of each layer; timed anew only when the winners have changed.

    A layer without a single success has none.
    """
    kept = out / _REFERENCES
    known = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else {}
    found: dict[str, Reference] = {}
    bench: Bench | None = None
    try:
        for layer in runs[0].plan.layers:
            space = runs[0].keys[layer.index].space
            winners = _winners(runs, layer)
            if not winners:
                continue
            configs = sorted(json.dumps(w.config, sort_keys=True) for w in winners)
            mark = digest([runs[0].keys[layer.index].space_digest, configs])
            if known.get(space, {}).get("of") != mark:
                bench = bench or _bench(runs[0].plan)
                reference = _timed_in_turns(bench, layer, winners)
                known[space] = asdict(reference) | {"of": mark}
                write_whole(kept, json.dumps(known).encode())
            entry = known[space]
            found[space] = Reference(seconds=entry["seconds"], in_turns=entry["in_turns"])
    finally:
        if bench is not None:
            bench.close()
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class _Winner:
    run: str
    config: KnobValues
    seconds: float


def _winners(runs: Sequence[_Run], layer: Layer) -> list[_Winner]:
    """The fastest config of each run that has one, with the time that the run gives it."""
    found = []
    for run in runs:
        results = history.load(run.folder).result.layers
        of_layer = next(result for result in results if result.layer.index == layer.index)
        if of_layer.best_seconds is not None:
            found.append(
                _Winner(
                    run=run.folder.name,
                    config=of_layer.best_config,
                    seconds=of_layer.best_seconds,
                )
            )
    return found


def _bench(plan: Plan) -> Bench:
    bench = Bench(plan.env, plan.target, seed=0)
    bench.start()
    return bench


def _timed_in_turns(bench: Bench, layer: Layer, winners: Sequence[_Winner]) -> Reference:
    """The fastest winner of one interleaved timing; the fastest as told, if none can be timed."""
    distinct = {json.dumps(sorted(w.config.items())): w.config for w in winners}
    jobs = [
        Job(task=layer.task, config=config, purpose=Purpose.FINALIST)
        for config in distinct.values()
    ]
    times = [m.seconds for m in bench.compare(jobs) if m.ok]
    if times:
        return Reference(seconds=min(times), in_turns=True)
    return Reference(seconds=min(w.seconds for w in winners), in_turns=False)
