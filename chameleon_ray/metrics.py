"""What Ray exports of a run for Prometheus: docs/watching.md, and the dashboard in clusters/.

Ray puts `ray_` before each name, and `_total` after a counter's. Counters begin at 0 when a run
begins or goes on. Nothing is exported where Ray's agent does not work, which `ray[default]` brings.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ray.util import metrics

from chameleon_ray.measure import Measurement
from chameleon_ray.results import HostStatus, LayerProgress
from chameleon_ray.tasks import Layer

_JOB_SECONDS = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A moment of a run, for its gauges.

    Attributes:
        waiting: Jobs that no host has yet.
        hosts: What measures.
        layers: What is known of each layer.
    """

    waiting: int
    hosts: Sequence[HostStatus]
    layers: Sequence[LayerProgress]


class RunMetrics:
    """The metrics of one run. Each call costs microseconds; one is made for a batch, not for a job.

    Args:
        run: Folder of the run, the tag of all its metrics.
        layers: By whose tasks measurements are told apart.
        in_turns: Whether a host times one job at a time, however many places it has.
    """

    def __init__(self, run: str, layers: Iterable[Layer], *, in_turns: bool) -> None:
        self._run, self._in_turns = {"run": run}, in_turns
        self._names = {layer.task.key: name_of(layer) for layer in layers}
        self._hosts: set[str] = set()
        self._measurements = metrics.Counter(
            "chameleon_measurements",
            "Measurements that were written to the journal.",
            ("run", "layer", "purpose", "outcome"),
        )
        self._busy = metrics.Counter(
            "chameleon_busy_seconds",
            "Seconds that a host has spent with jobs, by what it did: build, or run.",
            ("run", "host", "doing"),
        )
        self._jobs = metrics.Histogram(
            "chameleon_job_seconds",
            "Seconds of building and running that one job took a host.",
            _JOB_SECONDS,
            ("run", "host"),
        )
        self._waiting = _gauge("chameleon_waiting", "Jobs that no host has yet.")
        self._places = _gauge("chameleon_places", "How many jobs a host does at a time.", "host")
        self._devices = _gauge("chameleon_devices", "How many jobs a host times at a time.", "host")
        self._in_hand = _gauge("chameleon_in_hand", "Jobs that a host was given.", "host")
        self._layer_measurements = _gauge(
            "chameleon_layer_measurements", "Of a layer's budget, the journal's included.", "layer"
        )
        self._layer_best = _gauge(
            "chameleon_layer_best_seconds", "The shortest time of a layer so far.", "layer"
        )

    def recorded(self, measurements: Sequence[Measurement]) -> None:
        """A batch is in the journal."""
        counts = Counter((m.task, m.purpose.value, m.outcome.value) for m in measurements)
        for (task, purpose, outcome), number in counts.items():
            layer = self._names.get(task, task)
            tags = {"layer": layer, "purpose": purpose, "outcome": outcome}
            self._measurements.inc(number, self._run | tags)

    def worked(self, host: str, measurements: Sequence[Measurement]) -> None:
        """A host has done a batch."""
        tags = self._run | {"host": host}
        seconds = {
            "build": sum(m.build_seconds for m in measurements),
            "run": sum(m.run_seconds for m in measurements),
        }
        for doing, value in seconds.items():
            if value > 0:
                self._busy.inc(value, tags | {"doing": doing})
        for m in measurements:
            self._jobs.observe(m.build_seconds + m.run_seconds, tags)

    def stands(self, standing: Standing) -> None:
        """How the run stands now; a host that is gone has no places."""
        self._waiting.set(standing.waiting, self._run)
        hosts = {host.name: (host.places, host.in_hand) for host in standing.hosts}
        self._hosts |= set(hosts)
        for name in self._hosts:
            tags, (places, in_hand) = self._run | {"host": name}, hosts.get(name, (0, 0))
            self._places.set(places, tags)
            self._devices.set(min(places, 1) if self._in_turns else places, tags)
            self._in_hand.set(in_hand, tags)
        for row in standing.layers:
            tags = self._run | {"layer": name_of(row.layer)}
            self._layer_measurements.set(row.measurements, tags)
            if row.best_seconds is not None:
                self._layer_best.set(row.best_seconds, tags)


def name_of(layer: Layer) -> str:
    """A layer as a tag: its number, then what it is."""
    return f"{layer.index:02} {layer.name}"


def _gauge(name: str, description: str, *tags: str) -> metrics.Gauge:
    return metrics.Gauge(name, description, ("run", *tags))
