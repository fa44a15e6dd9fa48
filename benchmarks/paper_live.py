"""What the run folders of `paper_cpu.py` tell: rounds, and when a run was how good."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from paper_numbers import Clustered, Panels, Seen
from paper_text import COLUMNS

from chameleon_ray.compare_network import LiveComparison
from chameleon_ray.plan import Plan
from chameleon_ray.records import Record, read_records
from chameleon_ray.rounds import Round, read_rounds
from chameleon_ray.scores import SHARE
from chameleon_ray.searches import Search
from chameleon_ray.space import DesignSpace
from chameleon_ray.tasks import Layer
from chameleon_ray.templates import design_space


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveRun:
    """A finished run.

    Attributes:
        plan: What it was asked for.
        folder: Where its journal lies.
        result: What `tune` reported, and whether its times are those of the whole run.
        records: Its measurements, by job.
        rounds: Of all its layers.
    """

    plan: Plan
    folder: Path
    result: Mapping[str, Any]
    records: Sequence[Record]
    rounds: Sequence[Round]

    @property
    def whole(self) -> bool:
        """Whether it was never stopped."""
        return bool(self.result["wall_is_whole"])

    @property
    def phases(self) -> dict[str, float]:
        """Seconds of its wall time, by what they were spent on."""
        return {name: seconds or 0.0 for name, seconds in self.result["phase_seconds"].items()}


@dataclass(frozen=True, kw_only=True)
class Network:
    """The runs of one network by all columns and seeds.

    Attributes:
        live: The comparison.
        runs: Policy and seed -> run.
    """

    live: LiveComparison
    runs: Mapping[tuple[str, int], LiveRun]

    @classmethod
    def of(cls, live: LiveComparison, plan: Callable[[str, int], Plan]) -> Network:
        """Read the run folders of a comparison; `plan` is what a policy and seed was asked for."""
        runs = {key: _read(folder, plan(*key)) for key, folder in live.folders.items()}
        return cls(live=live, runs=runs)

    @cached_property
    def layers(self) -> dict[str, Layer]:
        """Those of which something valid was found, by space."""
        return {s: layer for s, layer in self.live.layers.items() if s in self.live.retimed}

    @cached_property
    def spaces(self) -> dict[str, DesignSpace]:
        """Their spaces."""
        target = next(iter(self.runs.values())).plan.target
        return {s: design_space(layer.task, target) for s, layer in self.layers.items()}

    @cached_property
    def panels(self) -> Panels:
        """Layer -> column -> what the rounds of each seed tell."""
        return {
            space: {
                label: [_seen(run, layer, measured) for run in self.of_policy(policy).values()]
                for label, policy in COLUMNS.items()
            }
            for space, layer in self.layers.items()
            for measured in [self._measured(space, layer)]
        }

    @cached_property
    def reference_seconds(self) -> float:
        """The layers at their fastest known, each as often as the network has it."""
        return math.fsum(
            layer.uses * self.live.retimed[space].seconds for space, layer in self.layers.items()
        )

    def of_policy(self, policy: str) -> dict[int, LiveRun]:
        """Seed -> run."""
        return {seed: run for (name, seed), run in self.runs.items() if name == policy}

    def final_seconds(self, policy: str) -> list[float]:
        """Of each seed: the layers as its search left them; NaN where one has found nothing."""
        return [
            math.fsum(
                layer.uses * (self._searches[policy, seed, space].best_seconds[-1] or math.nan)
                for space, layer in self.layers.items()
            )
            for seed in self.of_policy(policy)
        ]

    def seconds_to(self, policy: str, share: float = SHARE) -> list[float]:
        """Of each run that was not stopped: seconds until the network is at `share` of the best.

        Counted from the command; a run that never gets there counts as its wall time.
        """
        runs = {seed: run for seed, run in self.of_policy(policy).items() if run.whole}
        return [self._seconds_to(run, policy, seed, share) for seed, run in runs.items()]

    def _seconds_to(self, run: LiveRun, policy: str, seed: int, share: float) -> float:
        events = []
        for space, layer in self.layers.items():
            times = self._searches[policy, seed, space].best_seconds
            counted = [r for r in run.records if _counts(r, layer)][: len(times)]
            events += [
                (record.measured_at, record.job, space, best)
                for record, best in zip(counted, times, strict=True)
            ]
        held: dict[str, float] = {}
        began = min(record.measured_at for record in run.records)
        for at, _, space, best in sorted(events, key=lambda event: event[:2]):
            if best is not None:
                held[space] = best
            if len(held) == len(self.layers):
                total = math.fsum(self.layers[s].uses * seconds for s, seconds in held.items())
                if self.reference_seconds >= share * total:
                    return float(run.result["startup_seconds"] + (at - began).total_seconds())
        return float(run.result["wall_seconds"])

    @cached_property
    def _searches(self) -> dict[tuple[str, int, str], Search]:
        return {(s.key.policy, s.key.seed, s.key.space): s for s in self.live.searches}

    def _measured(self, space: str, layer: Layer) -> _Measured:
        """What any round of any run measured of a layer."""
        found: dict[tuple[int, ...], list[float]] = {}
        for run in self.runs.values():
            for r in run.rounds:
                for config, seconds in zip(r.chosen, r.seconds, strict=True):
                    if seconds is not None and r.task == layer.task.key:
                        found.setdefault(config, []).append(seconds)
        knobs = np.argsort(-self.spaces[space].sizes, kind="stable")[:2]
        return _Measured(
            knobs=(int(knobs[0]), int(knobs[1])),
            seconds={config: float(np.median(times)) for config, times in found.items()},
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Measured:
    """What is known of a layer's times.

    Attributes:
        knobs: The two with the most choices, by which `chameleon_paper` clusters.
        seconds: Config -> the median of what was measured.
    """

    knobs: tuple[int, int]
    seconds: Mapping[tuple[int, ...], float]

    def clustered(self, round_: Round) -> Clustered:
        """A round's clusters, and the times of all that its two knobs put into one of them."""

        def place(config: Sequence[int]) -> tuple[int, int]:
            return config[self.knobs[0]], config[self.knobs[1]]

        cells = {place(p): c for p, c in zip(round_.points, round_.clusters, strict=True)}
        inside = [(s, cells[place(c)]) for c, s in self.seconds.items() if place(c) in cells]
        return Clustered(
            points=np.array(round_.points, dtype=np.int32),
            labels=np.array(round_.clusters, dtype=np.int64),
            seconds=np.array([seconds for seconds, _ in inside], dtype=np.float64),
            members=np.array([cluster for _, cluster in inside], dtype=np.int64),
        )


def _read(folder: Path, plan: Plan) -> LiveRun:
    path = folder.parent / f"{folder.name}.json"
    return LiveRun(
        plan=plan,
        folder=folder,
        result=json.loads(path.read_text(encoding="utf-8")),
        records=read_records(folder)[0],
        rounds=read_rounds(folder)[0],
    )


def _counts(record: Record, layer: Layer) -> bool:
    return record.measurement.task == layer.task.key and record.measurement.purpose.counted


def _seen(run: LiveRun, layer: Layer, measured: _Measured) -> Seen:
    rounds = [r for r in run.rounds if r.task == layer.task.key]
    return Seen(
        evaluated=[r.evaluated for r in rounds],
        chosen=[len(r.chosen) for r in rounds],
        steps=[r.steps for r in rounds],
        clustered=[measured.clustered(r) for r in rounds if r.clusters],
    )
