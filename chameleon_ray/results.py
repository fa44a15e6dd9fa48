"""What a run is doing, and what came of it: values for the live table, the report and --json."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from chameleon_ray.networks import Untuned
from chameleon_ray.space import Choice
from chameleon_ray.tasks import Layer

PHASES = ("explore", "sample", "fit", "build", "run", "other")


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerProgress:
    """One row of the live table.

    Attributes:
        measurements: Of purpose default and search, failed ones included.
        trials: Their cap.
        doing: One word or two: `waiting`, `exploring`, `measuring`, `finalists`, `done`, ...
    """

    layer: Layer
    trials: int
    measurements: int = 0
    default_seconds: float | None = None
    best_seconds: float | None = None
    doing: str = "waiting"

    @classmethod
    def of(cls, result: LayerResult, *, trials: int) -> LayerProgress:
        """The row of a layer that has its result."""
        return cls(
            layer=result.layer,
            trials=trials,
            measurements=result.measurements,
            default_seconds=result.default_seconds,
            best_seconds=result.best_seconds,
            doing="done",
        )

    @property
    def ended(self) -> bool:
        """Whether the layer has its result."""
        return self.doing in ("done", "stopped")


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """A moment of a run. `seconds_left` is an estimate, absent until there is one."""

    layers: tuple[LayerProgress, ...]
    elapsed_seconds: float
    seconds_left: float | None = None
    device: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostStatus:
    """What one host is doing.

    Attributes:
        name: What it measures on.
        places: How many it builds or measures at a time.
        in_hand: What it has been given and has not done.
        done: What it has done since it was started, failures included.
        failed: Failures among that.
        resting: Why it is given nothing; empty if it is.
    """

    name: str
    places: int
    in_hand: int
    done: int
    failed: int
    resting: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStatus:
    """A moment of a run, as whoever asks from outside sees it.

    Attributes:
        run: Its folder.
        device: The kind of its devices.
        hosts: What measures.
        left_out: What of the cluster does not measure, and why.
        waiting: Jobs that no host has yet.
        measured: Since the run was started, or gone on with; failures included.
        failed: Failures among these.
        per_second: Measurements in the last minute, by its seconds.
        layers: How each stands.
    """

    run: str
    device: str
    hosts: tuple[HostStatus, ...]
    left_out: tuple[str, ...]
    waiting: int
    measured: int
    failed: int
    per_second: float
    layers: tuple[LayerProgress, ...]

    @property
    def seconds_left(self) -> float | None:
        """At the rate of late; None while nothing is measured."""
        left = sum(row.trials - row.measurements for row in self.layers if not row.ended)
        return max(0, left) / self.per_second if self.per_second else None


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerResult:
    """What came of one layer.

    Attributes:
        space_size: Configs of its design space, valid or not.
        measurements: Of purpose default and search, failed ones included.
        outcomes: Outcome -> how many of those.
        default_seconds: Of the default config, timed in turns with the finalists.
        best_seconds: Of the winner, likewise.
        torch_seconds: Of torch's own kernel on as many threads, likewise; None where the device
            is simulated.
        default_won: Whether the default config is the winner.
        best_config: The winner's knob values.
        message: Why the layer was stopped, if it was.
    """

    layer: Layer
    space_size: int
    measurements: int
    outcomes: Mapping[str, int]
    default_seconds: float | None
    best_seconds: float | None
    torch_seconds: float | None
    default_won: bool
    best_config: Mapping[str, Choice]
    message: str = ""

    @property
    def gflops(self) -> float | None:
        """Speed of the winner."""
        return self.layer.task.flop / self.best_seconds / 1e9 if self.best_seconds else None


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkResult:
    """What came of a run.

    Attributes:
        device: What the times were taken on; says so if it is simulated.
        wall_seconds: From the call to the result.
        startup_seconds: From the call to the first measurement sent out.
        phase_seconds: For each of `PHASES`, the share of the machine's time that it computed, in
            wall seconds of all cores: a second on one of two cores is half of one. They add up to
            the wall time; `other` is the rest, idling included.
        finished: False if a time budget or a signal ended the run first.
        run: The run folder.
        learned_from: What the layers learned from, in words; empty if nobody knows.
        untuned: What of a model was not tuned.
        damaged: Names of damaged journal files that were set aside; what they held was measured
            again.
        drifts: Which devices became faster or slower, or were shared with other programs, and what
            is doubtful for that, a line each.
    """

    network: str
    env: str
    policy: str
    seed: int
    device: str
    wall_seconds: float
    startup_seconds: float
    phase_seconds: Mapping[str, float]
    layers: tuple[LayerResult, ...]
    finished: bool = True
    run: str = ""
    learned_from: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    untuned: tuple[Untuned, ...] = ()
    damaged: tuple[str, ...] = ()
    drifts: tuple[str, ...] = ()

    @property
    def measurements(self) -> int:
        """Over all layers."""
        return sum(layer.measurements for layer in self.layers)


def shares_of_wall(
    busy_seconds: dict[str, float], wall_seconds: float, *, cores: int, devices: int = 1
) -> dict[str, float]:
    """Busy seconds of each phase as wall seconds of the whole machine; they add up to the wall.

    A kernel that runs has a device to itself; every other phase computes on one core.
    """
    shares = {
        phase: busy_seconds.get(phase, 0.0) / (devices if phase == "run" else cores)
        for phase in PHASES
        if phase != "other"
    }
    return {**shares, "other": max(0.0, wall_seconds - sum(shares.values()))}
