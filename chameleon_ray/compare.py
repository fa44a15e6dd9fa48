"""Policies compared on recorded spaces: searches as Ray tasks, each kept once it is finished."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from chameleon_ray.errors import SettingsError
from chameleon_ray.learning.agent_file import AgentFile
from chameleon_ray.learning.past import Past
from chameleon_ray.machine import usable_cores
from chameleon_ray.measure.recorded import RecordedSpace, kernel_of
from chameleon_ray.replay import replay
from chameleon_ray.scores import Curve
from chameleon_ray.searches import (
    SEARCHES,
    Search,
    Searches,
    SearchKey,
    digest,
    policy_digest,
    space_digest,
)
from chameleon_ray.session import answer, ray_session, terminating_as_interrupt
from chameleon_ray.settings import Policy, PpoSettings
from chameleon_ray.versions import installed

_PACKAGES = ("chameleon-ray", "ray", "numpy", "scikit-learn", "xgboost-cpu", "xgboost", "torch")

_KEPT = "Is there enough memory? Every finished search is kept; the same command goes on."

NamedPolicy = tuple[str, Policy]


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How far a comparison is.

    Attributes:
        done: Searches finished, now or before.
        kept: Those of them that were there already.
        total: Searches asked for.
        seconds: Since the call.
    """

    done: int
    kept: int
    total: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A search that is asked for.

    Attributes:
        key: Which one.
        recorded: What is searched.
        how: What the function that searches is told besides: for our own, the policy.
    """

    key: SearchKey
    recorded: RecordedSpace
    how: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Warm:
    """How a search with a past is made.

    Attributes:
        policy: How to search.
        past: What is known of others than the space searched; None: nothing.
        agent: That its walks begin with; None: one of their own.
    """

    policy: Policy
    past: Past | None
    agent: AgentFile | None = None


SearchFunction = Callable[[RecordedSpace, SearchKey, Any], Search]


def compare(
    spaces: Sequence[RecordedSpace],
    policies: Sequence[NamedPolicy],
    *,
    seeds: Sequence[int],
    trials: int,
    out: Path,
    pasts: Mapping[str, Past | None] | None = None,
    agent: AgentFile | None = None,
    on_progress: Callable[[Standing], None] | None = None,
) -> list[Search]:
    """Search every space with every policy and seed, each as often.

    What `out` holds already is not searched again. The rest runs in as many processes as there are
    cores, one thread each.

    Args:
        spaces: With distinct names.
        policies: What they are called, distinct, and their settings.
        seeds: Distinct.
        trials: Attempts of each search; fewer on a space that has fewer configs.
        out: Folder of the finished searches.
        pasts: What is known of others than each space, by its name. If given, every policy
            searches cold and, as `<policy>, warm`, with that.
        agent: Trained elsewhere, for the warm searches.
        on_progress: Called at the beginning and after each search.

    Returns:
        The searches: the first policy's first on every space.

    Raises:
        SettingsError: A name stands twice, or there is nothing to compare.
        RunFolderError: A search cannot be kept in `out`.
        MachineError: Ray does not start, or a process died over and over.
        KeyboardInterrupt: On SIGINT and SIGTERM; every finished search is in `out`.
    """
    _check_names(spaces, policies, seeds)
    digests = {space.name: space_digest(space) for space in spaces}
    ways = [way for recorded in spaces for way in _ways(recorded, policies, pasts, agent)]
    wanted = [
        Wanted(
            key=SearchKey(
                space=way.recorded.name,
                space_digest=digests[way.recorded.name],
                policy=way.name,
                policy_digest=way.digest,
                seed=seed,
                trials=trials,
            ),
            recorded=way.recorded,
            how=way.how,
        )
        for seed, way in itertools.product(seeds, ways)
    ]
    found = complete(wanted, search_by_policy, out=out, on_progress=on_progress)
    rank = {name: place for place, name in enumerate(dict.fromkeys(way.name for way in ways))}
    return sorted(found, key=lambda search: rank[search.key.policy])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Way:
    """A way to search a space: a policy, cold or warm."""

    recorded: RecordedSpace
    name: str
    digest: str
    how: Policy | Warm


def _ways(
    recorded: RecordedSpace,
    policies: Sequence[NamedPolicy],
    pasts: Mapping[str, Past | None] | None,
    agent: AgentFile | None,
) -> Iterator[_Way]:
    """All policies cold, then all with a past, if there is one."""
    for name, policy in policies:
        yield _Way(recorded=recorded, name=name, digest=policy_digest(policy), how=policy)
    if pasts is None:
        return
    past = pasts[recorded.name]
    for name, policy in policies:
        known = [part.digest for part in (past, agent) if part is not None]
        both = digest([policy_digest(policy), *known])
        warm = Warm(policy=policy, past=past, agent=agent)
        yield _Way(recorded=recorded, name=f"{name}, warm", digest=both, how=warm)


def complete(
    wanted: Sequence[Wanted],
    search: SearchFunction,
    *,
    out: Path,
    on_progress: Callable[[Standing], None] | None = None,
) -> list[Search]:
    """All searches wanted, in that order: those in `out` as they are, the others made now.

    Args:
        wanted: With distinct keys.
        search: Makes one of them, in a process of Ray's.
        out: Folder of the finished searches.
        on_progress: Called at the beginning and after each search.

    Raises:
        ChameleonError: As of `compare`.
    """
    start, store = time.monotonic(), Searches(out / SEARCHES)
    found = {w.key: known for w in wanted if (known := store.find(w.key)) is not None}
    missing = [w for w in wanted if w.key not in found]
    kept = len(found)

    def tell() -> None:
        if on_progress is not None:
            seconds = time.monotonic() - start
            on_progress(Standing(done=len(found), kept=kept, total=len(wanted), seconds=seconds))

    tell()
    for made in _searched(missing, search):
        store.write(made)
        found[made.key] = made
        tell()
    return [found[w.key] for w in wanted]


def curves(searches: Sequence[Search]) -> list[Curve]:
    """What the scores of searches are made from; those without a reference are left out."""
    return [
        Curve(
            space=s.key.space,
            kernel=s.kernel,
            policy=s.key.policy,
            seed=s.key.seed,
            reference_seconds=s.reference_seconds,
            best_seconds=s.best_seconds,
        )
        for s in searches
        if s.reference_seconds is not None
    ]


def search_by_policy(recorded: RecordedSpace, key: SearchKey, how: Policy | Warm) -> Search:
    """One search of a recorded space, on one core."""
    warm = how if isinstance(how, Warm) else Warm(policy=how, past=None)
    policy = warm.policy
    if isinstance(policy.explorer, PpoSettings) and policy.explorer.workers:
        policy = replace(policy, explorer=replace(policy.explorer, workers=0))  # one core each
    found = replay(
        recorded,
        policy,
        name=key.policy,
        trials=key.trials,
        seed=key.seed,
        past=warm.past,
        weights=warm.agent.weights if warm.agent else None,
    )
    return Search(
        key=key,
        kernel=kernel_of(recorded),
        reference_seconds=found.optimum_seconds,
        best_seconds=found.best_seconds,
        outcomes=found.outcomes,
        phase_seconds=found.phase_seconds,
        device=recorded.device,
        versions=versions(),
    )


def versions() -> dict[str, str]:
    """What is installed of the packages that a search depends on."""
    return installed(_PACKAGES)


def _check_names(
    spaces: Sequence[RecordedSpace], policies: Sequence[NamedPolicy], seeds: Sequence[int]
) -> None:
    lists: list[tuple[str, list[object]]] = [
        ("--space", [space.name for space in spaces]),
        ("--policy", [name for name, _ in policies]),
        ("--seeds", list(seeds)),
    ]
    for option, names in lists:
        if not names:
            raise SettingsError(f"{option}: nothing given, so there is nothing to compare.")
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise SettingsError(
                f"{option}: {twice} stands twice. Results are told apart by name; rename a file, "
                "or leave one out."
            )


def _searched(missing: Sequence[Wanted], search: SearchFunction) -> Iterator[Search]:
    """The missing searches as they finish; nothing is started if none is missing."""
    if not missing:
        return
    cores = usable_cores()
    with ray_session(address=None, cpus=cores), terminating_as_interrupt():
        yield from _in_tasks(missing, search, at_once=2 * cores)


def _in_tasks(
    missing: Sequence[Wanted], search: SearchFunction, *, at_once: int
) -> Iterator[Search]:
    import ray

    task = ray.remote(search).options(num_cpus=1)
    spaces = {w.recorded.name: w.recorded for w in missing}
    stored = {name: ray.put(recorded) for name, recorded in spaces.items()}
    ways = {id(w.how): ray.put(w.how) for w in {id(w.how): w for w in missing}.values()}
    queue, running = iter(missing), list[Any]()
    while True:
        for w in itertools.islice(queue, at_once - len(running)):
            running.append(task.remote(stored[w.recorded.name], w.key, ways[id(w.how)]))
        if not running:
            return
        (finished, *_), running = ray.wait(running, num_returns=1)
        yield answer(finished, then=_KEPT)
