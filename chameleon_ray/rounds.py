"""What happened in each round of the search, and the journal that keeps it beside the records."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from chameleon_ray.explorers import Candidates, Explorer, WalkReport, report_of
from chameleon_ray.measure import Measurement
from chameleon_ray.parts import Kind, PartStore, read_parts
from chameleon_ray.sampling import Clustering, Sampler
from chameleon_ray.space import Configs
from chameleon_ray.storage import Place

SCHEMA_VERSION = 2  # 2 tells the steps of walks

_SHOWN = 512  # so many of a round's candidates are kept

Indices = tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One iteration of Figure 3: explored, sampled, measured.

    Configs are choice indices, a row each.

    Attributes:
        task: Key of the task.
        number: Counts up within a task, from 1; the first batch is no round.
        measured_before: How many configs of the task were measured before it.
        evaluated: How many configs the exploration scored.
        candidates: How many distinct ones it handed to the sampler.
        best_score: The highest predicted fitness among them.
        points: The candidates that were clustered, the best-scored first; without clusters, the
            best candidates. At most 512.
        clusters: The cluster of each point; none if the sampler has no clusters.
        chosen: What was measured, in that order.
        seconds: Its times; None for a failure.
        steps: Steps that PPO's walks took; 0 in a round without.
        wave_scores: The mean predicted fitness of the steps of each of PPO's waves. None of this
            and the three below in a round without PPO.
        entropy: After each wave, see `explorers.WalkReport`.
        value_loss: Likewise.
        policy_loss: Likewise.
        phase_seconds: What the layer computed since the round before, by phase.
        ended_at: UTC.
    """

    task: str
    number: int
    measured_before: int
    evaluated: int
    candidates: int
    best_score: float
    points: Indices
    clusters: tuple[int, ...]
    chosen: Indices = ()
    seconds: tuple[float | None, ...] = ()
    steps: int = 0
    wave_scores: tuple[float, ...] = ()
    entropy: tuple[float, ...] = ()
    value_loss: tuple[float, ...] = ()
    policy_loss: tuple[float, ...] = ()
    phase_seconds: Mapping[str, float] = field(default_factory=dict)
    ended_at: datetime = field(default_factory=lambda: datetime.now(UTC))

    def ended(self, chosen: Configs, measurements: Sequence[Measurement]) -> Round:
        """The round when its batch `(n, knobs)` is measured."""
        return replace(
            self,
            chosen=_indices(chosen),
            seconds=tuple(m.seconds if m.ok else None for m in measurements),
            ended_at=datetime.now(UTC),
        )


def round_of(
    *,
    task: str,
    number: int,
    measured_before: int,
    candidates: Candidates,
    explorer: Explorer,
    sampler: Sampler,
) -> Round:
    """What there is to say of a round when its batch is chosen."""
    clustering = _clusters_of(sampler)
    points = clustering.points if clustering else candidates.configs
    walk = report_of(explorer) or WalkReport(steps=0, wave_scores=(), steps_by_worker={})
    return Round(
        task=task,
        number=number,
        measured_before=measured_before,
        evaluated=candidates.evaluated,
        candidates=len(candidates.configs),
        best_score=float(candidates.scores[0]) if len(candidates.scores) else math.nan,
        points=_indices(points[:_SHOWN]),
        clusters=tuple(clustering.labels[:_SHOWN].tolist()) if clustering else (),
        steps=walk.steps,
        wave_scores=walk.wave_scores,
        entropy=walk.entropy,
        value_loss=walk.value_loss,
        policy_loss=walk.policy_loss,
    )


class RoundJournal:
    """The rounds of one run, with one writer at a time.

    Going on with a run plays it again from the start, with the records answering: a round that is
    there already is not written again, unless it got further this time.

    Args:
        place: Where the parts lie, beside those of the records; made by the first append.
    """

    def __init__(self, place: Place) -> None:
        self._store = PartStore(place, _KIND)
        self._known: dict[tuple[str, int], int] | None = None

    def read(self) -> list[str]:
        """Learn which rounds are there; the names of damaged parts, which are set aside.

        Raises:
            RunFolderError: A newer version wrote what is there, or it cannot be read.
        """
        self._known = {_key(r): len(r.chosen) for _, r in self._store.items()}
        return self._store.damaged

    def append(self, round_: Round) -> None:
        """Write a round, if it is new; when this returns, it is kept.

        Raises:
            RunFolderError: It could not be written, or a newer version wrote what is there.
        """
        if self._known is None:
            self.read()
        assert self._known is not None  # noqa: S101 - `read` has just set it
        if len(round_.chosen) <= self._known.get(_key(round_), -1):
            return
        self._store.append(lambda first: [(first, round_)])
        self._known[_key(round_)] = len(round_.chosen)


def read_rounds(place: Place) -> tuple[list[Round], list[str]]:
    """The rounds of a run, each once, by task and number, and the names of damaged parts.

    Changes nothing, and may be called while a run is going on.

    Raises:
        RunFolderError: A newer version wrote the rounds, or they cannot be read.
    """
    found, damaged = read_parts(place, _KIND)
    rounds: dict[tuple[str, int], Round] = {}
    for _, round_ in found:
        known = rounds.get(_key(round_))
        if known is None or len(round_.chosen) > len(known.chosen):
            rounds[_key(round_)] = round_
    return [rounds[key] for key in sorted(rounds)], damaged


def _clusters_of(sampler: Sampler) -> Clustering | None:
    """What a sampler clustered in its last call: its `clusters`; None if it has none."""
    clusters = getattr(sampler, "clusters", None)
    return clusters if isinstance(clusters, Clustering) else None


def _key(round_: Round) -> tuple[str, int]:
    return round_.task, round_.number


def _indices(configs: Configs) -> Indices:
    return tuple(tuple(row) for row in configs.tolist())


def _columns() -> dict[str, Any]:
    import pyarrow as pa

    seconds = pa.float64()
    whole, numbers, indices = pa.int64(), pa.list_(seconds), pa.list_(pa.list_(pa.int32()))
    return {
        "entry": whole,
        "task": pa.string(),
        "number": whole,
        "measured_before": whole,
        "evaluated": whole,
        "candidates": whole,
        "best_score": pa.float64(),
        "points": indices,
        "clusters": pa.list_(pa.int32()),
        "chosen": indices,
        "seconds": numbers,
        "steps": whole,
        "wave_scores": numbers,
        "entropy": numbers,
        "value_loss": numbers,
        "policy_loss": numbers,
        "phase_seconds": pa.map_(pa.string(), seconds),
        "ended_at": pa.timestamp("us", tz="UTC"),
    }


def _row(entry: tuple[int, Round]) -> dict[str, object]:
    number, round_ = entry
    row = {name: getattr(round_, name) for name in _columns() if name != "entry"}
    return row | {"entry": number, "phase_seconds": list(round_.phase_seconds.items())}


def _round(row: dict[str, Any]) -> tuple[int, Round]:
    entry = row.pop("entry")
    values: dict[str, Any] = {
        name: tuple(v) if isinstance(v, list) else v for name, v in row.items()
    }
    values |= {name: tuple(tuple(c) for c in row[name]) for name in ("points", "chosen")}
    values |= {
        "phase_seconds": dict(row["phase_seconds"]),
        "ended_at": row["ended_at"].astimezone(UTC),
    }
    return entry, Round(**values)


_KIND: Kind[tuple[int, Round]] = Kind(
    name="rounds",
    version=SCHEMA_VERSION,
    columns=_columns,
    key="entry",
    number=lambda entry: entry[0],
    row=_row,
    item=_round,
)
