"""What stands for the hardware where a search is trained or studied: any function of configs.

A name is `cpu:NETWORK:LAYER` (the CPU template on the simulated device), `cuda:NETWORK:LAYER` (the
paper's CUDA space on the simulated GPU), a recorded space (a file, or a shipped one's name),
`lookup:FILE` (a forest fitted to a recording of one of our layers, asked about its whole space), or
`package.module:function`, which returns a `Device`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from chameleon_ray.errors import SettingsError
from chameleon_ray.measure.recorded import RecordedSpace, load_recorded
from chameleon_ray.measure.simulated import Seconds, simulated_seconds_of
from chameleon_ray.measure.simulated_gpu import gpu_seconds, gpu_space
from chameleon_ray.networks import network
from chameleon_ray.plugins import load
from chameleon_ray.space import Configs, DesignSpace, Listing
from chameleon_ray.tasks import Conv2d, Target, Task
from chameleon_ray.templates import design_space


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """What stands for the hardware.

    Attributes:
        name: As on the command line.
        label: What it is; every table says so.
        task: What is tuned.
        space: Its space.
        seconds: Configs `(n, knobs)` -> float64 `(n,)`, NaN for a failure. Picklable.
    """

    name: str
    label: str
    task: Task
    space: DesignSpace
    seconds: Callable[[Configs], Seconds]

    def times(self, configs: Configs) -> Seconds:
        """Seconds of configs `(n, knobs)`, infinite where forbidden or failed."""
        seconds = np.full(len(configs), np.inf)
        valid = self.space.valid(configs)
        if valid.any():
            seconds[valid] = np.nan_to_num(self.seconds(configs[valid]), nan=np.inf)
        return seconds


def open_device(name: str) -> Device:
    """The device that a name stands for.

    Raises:
        UnknownNameError: There is no such network or shipped space.
        SettingsError: The network has no such layer, or the file cannot be used.
    """
    kind, _, rest = name.partition(":")
    if kind in ("cpu", "cuda"):
        return _simulated(name, kind, rest)
    if kind == "lookup":
        return lookup_device(load_recorded(rest))
    if rest:
        found: Device = load(name, what="device")()
        return found
    return recorded_device(load_recorded(name))


def _simulated(name: str, kind: str, rest: str) -> Device:
    net, _, layer = rest.partition(":")
    layers = network(net)
    if not layer.isdecimal() or not 1 <= int(layer) <= len(layers):
        raise SettingsError(f"{name}: name a layer by its number, {kind}:{net}:1 to {len(layers)}.")
    task = layers[int(layer) - 1].task
    if kind == "cuda":
        if not isinstance(task, Conv2d):
            raise SettingsError(f"{name}: the simulated GPU knows convolutions alone.")
        gpu = gpu_space(task)
        return Device(
            name=name,
            label="simulated GPU",
            task=task,
            space=gpu,
            seconds=partial(gpu_seconds, task, gpu),
        )
    target = Target(lanes=16, cores=2)
    cpu = design_space(task, target)
    return Device(
        name=name,
        label="simulated CPU",
        task=task,
        space=cpu,
        seconds=partial(simulated_seconds_of, task, target, cpu),
    )


def recorded_device(recorded: RecordedSpace) -> Device:
    """A recorded space as a function."""
    space = recorded.space
    listing = Listing(space, recorded.configs)

    def seconds(configs: Configs) -> Seconds:
        places = listing.find(configs)
        return np.where(places >= 0, recorded.seconds[places], np.nan)

    return Device(
        name=recorded.name, label="recorded", task=recorded.task, space=space, seconds=seconds
    )


def lookup_device(recorded: RecordedSpace) -> Device:
    """A forest fitted to live measurements, asked about the whole space that they are drawn from.

    It knows no failures. Its label says how well one that was fitted to four fifths of the
    measurements told the others: the share of the variance of the logarithm of the time.

    Raises:
        SettingsError: It is no recording of a layer, so that its whole space is not known.
    """
    from sklearn.ensemble import ExtraTreesRegressor

    if recorded.live is None:
        raise SettingsError(f"lookup:{recorded.name}: not a recording of one of our layers.")
    space, ok = recorded.live.space, np.isfinite(recorded.seconds)
    features, labels = space.features(recorded.configs[ok]), np.log(recorded.seconds[ok])
    kept = np.random.default_rng(0).permutation(len(labels)) % 5 > 0
    forest = ExtraTreesRegressor(32, random_state=0, n_jobs=1).fit(features[kept], labels[kept])
    told = forest.score(features[~kept], labels[~kept])
    forest.fit(features, labels)

    def seconds(configs: Configs) -> Seconds:
        found: Seconds = np.exp(forest.predict(space.features(configs)))
        return found

    return Device(
        name=f"lookup:{recorded.name}",
        label=f"forest fitted to {len(labels):,} measurements, R2 {told:.3f}",
        task=recorded.live.task,
        space=space,
        seconds=seconds,
    )
