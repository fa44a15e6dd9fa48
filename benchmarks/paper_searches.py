"""Searches of recorded spaces, watched round by round: what `paper.py` draws its figures from."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from chameleon_ray.assembly import search
from chameleon_ray.compare import versions
from chameleon_ray.files import write_whole
from chameleon_ray.measure.recorded import RecordedMeasurer, RecordedSpace, find_recorded, kernel_of
from chameleon_ray.phases import Phases
from chameleon_ray.replay import best_so_far
from chameleon_ray.rounds import Round
from chameleon_ray.searches import Search, SearchKey, digest
from chameleon_ray.settings import Policy
from chameleon_ray.task_tuner import History

PHASES = ("explore", "sample", "fit")


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """How a search went, besides what `Search` tells.

    Attributes:
        rows: Of each attempt, its row in the recording.
        rounds: Of each round: `measured_before`, `chosen`, `evaluated`, the `steps` that walks
            of RL took, and the phases' seconds.
        clusters: Of one round in the middle: `points` (rows) and the `cluster` of each; empty if
            the sampler has none.
    """

    rows: list[int]
    rounds: list[dict[str, float]]
    clusters: dict[str, list[int]]


def watched_path(folder: Path, key: SearchKey) -> Path:
    """Where a search's `Watched` lies."""
    return folder / f"watched-{digest(asdict(key))}.json.gz"


def read_watched(folder: Path, key: SearchKey) -> Watched | None:
    """A search's `Watched`; None if it is not there, cut off, or of an older version."""
    try:
        found = Watched(**json.loads(gzip.decompress(watched_path(folder, key).read_bytes())))
    except (OSError, EOFError, ValueError, TypeError):
        return None
    return found if all("steps" in round_ for round_ in found.rounds) else None


def watched_search(recorded: RecordedSpace, key: SearchKey, how: tuple[Policy, str]) -> Search:
    """One search by a policy; what was seen of it goes into the folder."""
    policy, folder = how
    _warm_up()
    phases, rounds = Phases(), list[tuple[Round, dict[str, float]]]()
    trials = min(key.trials, len(recorded.configs))

    def observe(round_: Round) -> None:
        rounds.append((round_, phases.taken()))

    running = search(
        recorded.task,
        recorded.space,
        policy,
        measurer=RecordedMeasurer(recorded),
        budget=trials,
        seed=key.seed,
        rng=np.random.default_rng(key.seed),
        phases=phases,
        default=recorded.default,
        hopeless=None,
        observe=observe,
    )
    *_, history = running
    watched = _watched(recorded, history, rounds)
    path = watched_path(Path(folder), key)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, gzip.compress(json.dumps(asdict(watched)).encode()))
    return _search(recorded, key, history, watched)


def _warm_up() -> None:
    """Imports that would count as the first round's time."""
    import sklearn.cluster
    import xgboost

    from chameleon_ray.explorers import ppo

    del sklearn, xgboost, ppo


def _watched(
    recorded: RecordedSpace, history: History, rounds: Sequence[tuple[Round, dict[str, float]]]
) -> Watched:
    place = {config.tobytes(): row for row, config in enumerate(recorded.configs)}

    def row(config: Sequence[int]) -> int:
        return place[np.asarray(config, dtype=np.int32).tobytes()]

    clustered = [round_ for round_, _ in rounds if round_.clusters]
    clusters: dict[str, list[int]] = {}
    if clustered:
        middle = clustered[len(clustered) // 2]
        clusters = {
            "points": [row(point) for point in middle.points],
            "cluster": list(middle.clusters),
        }
    return Watched(
        rows=[row(config) for config in history.configs],
        rounds=[
            {
                "measured_before": r.measured_before,
                "chosen": len(r.chosen),
                "evaluated": r.evaluated,
                "steps": r.steps,
                **{phase: told.get(phase, 0.0) for phase in PHASES},
            }
            for r, told in rounds
        ],
        clusters=clusters,
    )


def _search(recorded: RecordedSpace, key: SearchKey, history: History, watched: Watched) -> Search:
    measured = history.measurements
    return Search(
        key=key,
        kernel=kernel_of(recorded),
        reference_seconds=recorded.optimum_seconds,
        best_seconds=tuple(best_so_far(measured)),
        outcomes=dict(Counter(m.message or str(m.outcome) for m in measured)),
        phase_seconds={phase: sum(r[phase] for r in watched.rounds) for phase in PHASES},
        device=recorded.device,
        versions=versions(),
    )


Values = npt.NDArray[np.float64]


def recorded_costs(path: Path | str, recorded: RecordedSpace) -> Mapping[str, Values] | None:
    """Seconds that whoever recorded the space spent on each row: `compile` and `run`, `(n,)` each.

    What a failure does not say counts as nothing. None if the file says it of no configuration:
    only Kernel Tuner's cache has it.
    """
    data = find_recorded(path).read_bytes()
    found = json.loads(gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data)
    entries: list[Any] = list((found.get("cache") or {}).values())
    if len(entries) != len(recorded.configs):
        return None
    compiling = np.array([_seconds(e, "compile_time") for e in entries])
    running = [_seconds(e, "benchmark_time") + _seconds(e, "verification_time") for e in entries]
    if not compiling.any() and not any(running):
        return None
    return {"compile": compiling, "run": np.array(running)}


def _seconds(entry: Mapping[str, Any], name: str) -> float:
    value = entry.get(name)
    return value / 1e3 if isinstance(value, int | float) and 0 <= value < 1e9 else 0.0
