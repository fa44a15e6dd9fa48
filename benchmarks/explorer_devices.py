"""What stands for the hardware when explorers are compared: any function of configs."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from chameleon_ray.errors import SettingsError
from chameleon_ray.measure.recorded import RecordedSpace, load_recorded
from chameleon_ray.measure.simulated import Seconds, simulated_seconds_of
from chameleon_ray.measure.simulated_gpu import gpu_seconds, gpu_space
from chameleon_ray.networks import network
from chameleon_ray.plugins import load
from chameleon_ray.space import Configs, DesignSpace, Listing
from chameleon_ray.tasks import Target, Task
from chameleon_ray.templates import design_space

_WHOLE = 8_000_000  # a space of so many configs is timed whole to know its best
_CHUNK = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """What stands for the hardware.

    Attributes:
        name: As on the command line.
        label: What it is; every table says so.
        task: What is tuned.
        space: Its space.
        seconds: Configs `(n, knobs)` -> float64 `(n,)`, NaN for a failure.
    """

    name: str
    label: str
    task: Task
    space: DesignSpace
    seconds: Callable[[Configs], Seconds]


def open_device(name: str) -> Device:
    """The device that a name stands for."""
    kind, _, rest = name.partition(":")
    if kind in ("cpu", "cuda"):
        net, _, layer = rest.partition(":")
        task = network(net)[int(layer) - 1].task
        if kind == "cuda":
            gpu = gpu_space(task)
            return Device(
                name=name,
                label="simulated GPU",
                task=task,
                space=gpu,
                seconds=lambda configs: gpu_seconds(task, gpu, configs),
            )
        target = Target(lanes=16, cores=2)
        cpu = design_space(task, target)
        return Device(
            name=name,
            label="simulated CPU",
            task=task,
            space=cpu,
            seconds=lambda configs: simulated_seconds_of(task, target, cpu, configs),
        )
    if kind == "lookup":
        return lookup_device(load_recorded(rest))
    if rest:
        found: Device = load(name, what="device")()
        return found
    return recorded_device(load_recorded(name))


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


def best_known(device: Device) -> float:
    """The shortest time known: of the whole space up to 8 million configs, else by descent."""
    space = device.space
    if space.size <= _WHOLE:
        grids = (np.arange(at, min(at + _CHUNK, space.size)) for at in range(0, space.size, _CHUNK))
        shape = tuple(space.sizes)
        rows = (np.stack(np.unravel_index(g, shape), axis=1).astype(np.int32) for g in grids)
        return min(_shortest(device, batch) for batch in rows)
    rng = np.random.default_rng(0)
    pool = np.concatenate([space.random(_CHUNK, rng) for _ in range(10)])
    pool = pool[np.argsort(times(device, pool))[:32]]
    return min(times(device, descend(device, start)[None, :])[0] for start in pool)


def descend(device: Device, config: Configs) -> Configs:
    """Where no two knobs can be set to anything faster together, `(knobs,)`."""
    sizes, best = device.space.sizes, float(times(device, config[None, :])[0])
    better = True
    while better:
        better = False
        for one, other in itertools.combinations(range(len(sizes)), 2):
            grid = np.indices((sizes[one], sizes[other])).reshape(2, -1)
            around = np.repeat(config[None, :], grid.shape[1], axis=0)
            around[:, one], around[:, other] = grid
            seconds = times(device, around)
            if seconds.min() < best:
                better, best, config = True, float(seconds.min()), around[seconds.argmin()]
    return config


def times(device: Device, configs: Configs) -> Seconds:
    """Seconds, infinite where forbidden or failed."""
    seconds = np.full(len(configs), np.inf)
    valid = device.space.valid(configs)
    if valid.any():
        seconds[valid] = np.nan_to_num(device.seconds(configs[valid]), nan=np.inf)
    return seconds


def _shortest(device: Device, configs: Configs) -> float:
    return float(times(device, configs).min())
