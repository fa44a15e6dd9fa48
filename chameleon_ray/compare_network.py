"""Policies compared on the layers of a network, live: run after run, then their bests in turns.

What a search held for its best after each measurement, and each run's winner, is built once more,
and all are timed in turns on this machine. Curves are made of these times, and the fastest is the
reference: nobody knows the shortest time of a real layer.
"""

from __future__ import annotations

import contextlib
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
from chameleon_ray.learning.reading import Experience
from chameleon_ray.machine import cpu_brand, usable_cores
from chameleon_ray.measure import Measurement, histogram
from chameleon_ray.plan import Plan, make_plan
from chameleon_ray.records import Record, read_records
from chameleon_ray.replay import best_so_far
from chameleon_ray.results import LayerResult, Progress
from chameleon_ray.retiming import Retimed, Retimer, Timed
from chameleon_ray.searches import SEARCHES, Search, Searches, SearchKey, digest, policy_digest
from chameleon_ray.tasks import Layer

_RETIMED = "retimed.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveComparison:
    """What came of it.

    Attributes:
        searches: One for each layer of each run, as timed in turns, with their references; none of
            a layer for which no run has found anything valid.
        retimed: The times of what they found, by space as in `Search.key`.
        folders: Run folder of each policy and seed; what `tune` reported lies beside it as `.json`.
        layers: The layers tuned, by space.
        remarks: What was not learned from, and why, a line each.
    """

    searches: list[Search]
    retimed: Mapping[str, Retimed]
    folders: Mapping[tuple[str, int], Path]
    layers: Mapping[str, Layer]
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    plan: Plan
    folder: Path
    keys: Mapping[int, SearchKey]  # by the number of the layer

    @property
    def label(self) -> str:
        """What the run's way of searching is called."""
        return _label(self.plan)


def _label(plan: Plan) -> str:
    return plan.policy_name if plan.experience is None else f"{plan.policy_name}, warm"


def compare_network(
    network: str,
    policies: Sequence[str],
    *,
    env: str,
    layers: Sequence[int],
    seeds: Sequence[int],
    trials: int,
    out: Path,
    experience: Experience | None = None,
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
        experience: What is known of others than these layers. If given, every policy tunes cold
            and, as `<policy>, warm`, with that, its layers learning from each other, too.
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
    )
    ways: list[partial[Plan]] = [partial(plan, cold=True)]
    if experience is not None:
        tested = ways[0](policy=policies[0], seed=seeds[0]).layers
        experience = experience.without_tasks([layer.task.key for layer in tested])
        ways.append(partial(plan, learn_from=experience, use_prior=False))
    wanted = itertools.product(seeds, ways, policies)
    runs = [_run(way(policy=policy, seed=seed), out) for seed, way, policy in wanted]
    order = list(dict.fromkeys(run.label for run in runs))
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
        found |= {search.key: search for search in _tuned(run, store, on_run)}
        tell(done)
    bests = {key: best for run in runs for key, best in _bests(run).items()}
    retimed = _retimed(runs, bests, out)
    return LiveComparison(
        searches=[
            _as_retimed(found[key], bests[key], retimed[key.space])
            for run in sorted(runs, key=lambda run: order.index(run.label))
            for key in run.keys.values()
            if key.space in retimed
        ],
        retimed=retimed,
        folders={(run.label, run.plan.seed): run.folder for run in runs},
        remarks=experience.remarks if experience is not None else (),
        layers={runs[0].keys[layer.index].space: layer for layer in runs[0].plan.layers},
    )


def _run(plan: Plan, out: Path) -> _Run:
    of_policy, of_env = policy_digest(plan.policy), digest([asdict(plan.env), _here()])
    if plan.experience is not None:
        of_policy = digest([of_policy, plan.learns_from])
    mark = digest([plan.policy_name, of_policy, of_env])[:8]
    name = f"{plan.network.file_name}-{Path(plan.policy_name).stem}-{mark}-seed{plan.seed}"
    keys = {
        layer.index: SearchKey(
            space=f"{plan.network.file_name}-{layer.index}",
            space_digest=digest([of_env, layer.task.key]),
            policy=_label(plan),
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


def run_once(plan: Plan, out: Path) -> list[Search]:
    """One run and no comparison: a search of each layer, with the times as the run itself has them.

    Args:
        plan: Of the run, with a policy and an env of a name or a path.
        out: Folder of the finished searches, where this one may be already, and of the run folder.

    Raises:
        ChameleonError: As `tune` raises them.
    """
    run, store = _run(plan, out), Searches(out / SEARCHES)
    known = [store.find(key) for key in run.keys.values()]
    found = [search for search in known if search is not None]
    return found if len(found) == len(known) else _tuned(run, store, None)


def _tuned(run: _Run, store: Searches, on_run: Callable[[Progress], None] | None) -> list[Search]:
    """Tune, keep the result beside the run folder, and the searches that the journal tells of."""
    plan, again = run.plan, run.folder.exists()
    result = network_tuner.tune(
        plan.network.name,
        inputs=plan.network.inputs,
        env=plan.env_name,
        policy=plan.policy_name,
        layers=[layer.index for layer in plan.layers],
        trials=plan.trials,
        run=run.folder,
        seed=plan.seed,
        learn_from=plan.experience or (),
        use_prior=False,
        cold=plan.experience is None,
        on_progress=on_run,
    )
    whole = report.to_json(result) | {"wall_is_whole": not again}
    write_whole(run.folder.parent / f"{run.folder.name}.json", json.dumps(whole).encode())
    records, _ = read_records(run.folder)
    searches = [_search(run, layer, records, result.device) for layer in plan.layers]
    for search in searches:
        store.write(search)
    return searches


def _search(run: _Run, layer: Layer, records: Sequence[Record], device: str) -> Search:
    """A layer's search as its journal tells it: measurements in the order in which they ended."""
    of_layer = [r for r in records if r.measurement.task == layer.task.key]
    counted = _counted(run, layer, records)
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


def _counted(run: _Run, layer: Layer, records: Sequence[Record]) -> list[Measurement]:
    """A layer's measurements that count, as many as the budget has."""
    measured = history.of_layer(layer, records)
    return [m for m in measured if m.purpose.counted][: run.plan.trials]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Bests:
    """What a search held for its best after each measurement, and what the run chose in the end."""

    held: Sequence[Timed | None]
    winner: Timed | None

    def all(self) -> list[Timed]:
        return [one for one in (*self.held, self.winner) if one is not None]


def _bests(run: _Run) -> dict[SearchKey, _Bests]:
    """Of each layer of a run."""
    records, _ = read_records(run.folder)
    found = {}
    for layer in run.plan.layers:
        counted = _counted(run, layer, records)
        timed = (Timed(config=m.config, seconds=m.seconds) if m.ok else None for m in counted)
        held = tuple(itertools.accumulate(timed, _faster))
        of_layer = history.of_layer(layer, records)
        result = history.layer_result(layer, of_layer, target=run.plan.target)
        winner = _winner(result, counted)
        found[run.keys[layer.index]] = _Bests(held=held, winner=winner)
    return found


def _winner(result: LayerResult, counted: Sequence[Measurement]) -> Timed | None:
    """What a run chose in the end, unless it has gone beyond these measurements since."""
    known = result.default_won or any(m.config == result.best_config for m in counted)
    if result.best_seconds is None or not known:
        return None
    return Timed(config=result.best_config, seconds=result.best_seconds)


def _faster(one: Timed | None, other: Timed | None) -> Timed | None:
    known = [timed for timed in (one, other) if timed is not None]
    return min(known, key=lambda timed: timed.seconds, default=None)


def _retimed(
    runs: Sequence[_Run], bests: Mapping[SearchKey, _Bests], out: Path
) -> dict[str, Retimed]:
    """The times of what was found, by space; a layer without a single success has none."""
    plan = runs[0].plan
    retimer, found = Retimer(out / _RETIMED, plan.env, plan.target), dict[str, Retimed]()
    with contextlib.closing(retimer):
        for layer in plan.layers:
            key = runs[0].keys[layer.index]
            told = [one for k, best in bests.items() if k.space == key.space for one in best.all()]
            if told:
                origin = key.space_digest
                found[key.space] = retimer.retime(key.space, layer.task, told, origin=origin)
    return found


def _as_retimed(search: Search, bests: _Bests, retimed: Retimed) -> Search:
    """The search with the times of what it held for its best at each moment."""
    times = tuple(retimed.of(held.config) if held else None for held in bests.held)
    return replace(search, best_seconds=times, reference_seconds=retimed.seconds)
