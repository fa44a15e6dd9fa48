"""What several runs of a layer found, timed once more, in turns: only such times are comparable."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from chameleon_ray.env_settings import Env
from chameleon_ray.files import write_whole
from chameleon_ray.measure import Job, Purpose
from chameleon_ray.measure.bench import Bench
from chameleon_ray.searches import digest
from chameleon_ray.space import KnobValues
from chameleon_ray.tasks import LayerTask, Target

_TURNS, _QUANTILE = 30, 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Timed:
    """A config and the seconds that a run told of it."""

    config: KnobValues
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Retimed:
    """The times of a layer's configs, comparable with each other.

    Attributes:
        in_turns: Seconds of one execution of each config that could be timed; keys as `config_key`
            makes them.
        told: The shortest seconds that a run told, of those that could not.
    """

    in_turns: Mapping[str, float]
    told: Mapping[str, float]

    @property
    def seconds(self) -> float:
        """The reference of the layer: the shortest time in turns, or told if there is none."""
        return min((self.in_turns or self.told).values())

    def of(self, config: KnobValues) -> float:
        """Seconds of one of the configs."""
        key = config_key(config)
        return self.in_turns[key] if key in self.in_turns else self.told[key]


def config_key(config: KnobValues) -> str:
    """A config as text, the same for equal configs."""
    return json.dumps(config, sort_keys=True)


class Retimer:
    """Times configs in turns, in one process of its own, and keeps the times in a file.

    A layer is timed anew when its configs have changed. A config's time is the lower quartile of
    30 turns: what disturbs a machine makes kernels slower and never faster, often for longer than
    a turn, and half of the turns may be hit.

    Args:
        path: The file.
        env: How long each is timed.
        target: What they are built for.
    """

    def __init__(self, path: Path, env: Env, target: Target) -> None:
        self._path, self._env, self._target = path, env, target
        self._known = _read(path)
        self._bench: Bench | None = None

    def retime(self, name: str, task: LayerTask, told: Sequence[Timed], *, origin: str) -> Retimed:
        """The times of all configs that runs told of, each once.

        Args:
            name: Of the layer, in the file.
            task: What they compute.
            told: One at least.
            origin: What else must be the same for times to be kept: env, machine.
        """
        shortest: dict[str, Timed] = {}
        for one in sorted(told, key=lambda t: t.seconds):
            shortest.setdefault(config_key(one.config), one)
        mark = digest([origin, _TURNS, _QUANTILE, sorted(shortest)])
        entry = self._known.get(name)
        if entry is None or entry["of"] != mark:
            entry = {"of": mark, "seconds": self._in_turns(task, shortest)}
            if entry["seconds"]:  # else the next call tries again
                self._known[name] = entry
                write_whole(self._path, json.dumps(self._known, indent=1).encode())
        timed: dict[str, float] = entry["seconds"]
        untimed = {key: one.seconds for key, one in shortest.items() if key not in timed}
        return Retimed(in_turns=timed, told=untimed)

    def _in_turns(self, task: LayerTask, configs: Mapping[str, Timed]) -> dict[str, float]:
        """Seconds of each that can be timed; none if one of them ends the process."""
        if self._bench is None:
            self._bench = Bench(replace(self._env, final_repeats=_TURNS), self._target, seed=0)
            self._bench.start()
        jobs = [
            Job(task=task, config=one.config, purpose=Purpose.FINALIST) for one in configs.values()
        ]
        measured = self._bench.compare(jobs)
        return {
            key: float(np.quantile(m.repeat_seconds, _QUANTILE))
            for key, m in zip(configs, measured, strict=True)
            if m.ok
        }

    def close(self) -> None:
        """End its process."""
        if self._bench is not None:
            self._bench.close()


def _read(path: Path) -> dict[str, Any]:
    """The times of a file; none if it is not there, or damaged: they are taken again."""
    try:
        known = json.loads(path.read_text("utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}
