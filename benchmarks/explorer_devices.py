"""What is known of the devices on which explorers are compared."""

from __future__ import annotations

import itertools

import numpy as np

from chameleon_ray.devices import Device, lookup_device, open_device, recorded_device
from chameleon_ray.measure.simulated import Seconds
from chameleon_ray.space import Configs

__all__ = ["Device", "best_known", "lookup_device", "open_device", "recorded_device", "times"]

_WHOLE = 8_000_000  # a space of so many configs is timed whole to know its best
_CHUNK = 100_000


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
    return device.times(configs)


def _shortest(device: Device, configs: Configs) -> float:
    return float(times(device, configs).min())
