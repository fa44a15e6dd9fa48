"""What a run is doing, and what came of it: values for the live table, the report and --json."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """A moment of a run. `seconds_left` is an estimate, absent until there is one."""

    layers: tuple[LayerProgress, ...]
    elapsed_seconds: float
    seconds_left: float | None = None
    device: str = ""


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
        damaged: Names of damaged journal files that were set aside; what they held was measured
            again.
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
    versions: Mapping[str, str] = field(default_factory=dict)
    damaged: tuple[str, ...] = ()

    @property
    def measurements(self) -> int:
        """Over all layers."""
        return sum(layer.measurements for layer in self.layers)
