"""Made-up devices that are alike, for tests of learning from each other."""

import numpy as np

from chameleon_ray.learning.sources import Source
from chameleon_ray.measure import Measurement, Outcome, Purpose
from chameleon_ray.space import DesignSpace, options
from chameleon_ray.tasks import NamedTask


def a_kernel(name="kernel"):
    """A space of 1,024 configs that count something."""
    sizes = [1, 2, 4, 8]
    knobs = [options(knob, sizes) for knob in ("block", "tile", "unroll", "depth")]
    return DesignSpace(
        name, [*knobs, options("staged", [0, 1], ordered=False), options("two", [1, 2])]
    )


def seconds_of(space, configs, *, likes=2, staged=0.0):
    """A device that likes tiles of one size; what staging costs is its own."""
    values = space.values(configs)
    logs = {name: np.log2(np.maximum(value[:, 0], 1)) for name, value in values.items()}
    away = abs(logs["block"] + logs["tile"] - likes) + 0.5 * abs(logs["unroll"] - 1)
    return 1e-3 * np.exp(0.4 * away + 0.1 * logs["depth"] + staged * values["staged"][:, 0])


def a_source(name="other", *, space=None, rows=None, **device):
    """Measured whole, or so many configs of it."""
    space = space or a_kernel()
    configs = space.all_valid()
    if rows is not None:
        configs = configs[np.random.default_rng(0).permutation(len(configs))[:rows]]
    return Source(
        name=name,
        task="kernel",
        device=name,
        space=space,
        configs=configs,
        seconds=seconds_of(space, configs, **device),
    )


TASK = NamedTask(key="kernel", flop=10**9)


class Device:
    """A measurer of `seconds_of`; configs with `depth` 8 fail where it is asked to let them."""

    def __init__(self, space, *, failing=False, **device):
        self.space, self.failing, self.device = space, failing, device
        self.asked = []

    def times(self, configs):
        """Of each config."""
        return seconds_of(self.space, configs, **self.device)

    def submit(self, configs, *, purpose=Purpose.SEARCH):
        """As `Measurer.submit`."""
        self.asked.append(len(configs))
        times = self.times(configs)
        for row, (config, seconds) in enumerate(zip(configs, times, strict=True)):
            failed = self.failing and config[3] == 3
            yield (
                row,
                Measurement(
                    task="kernel",
                    config=self.space.describe(config),
                    purpose=purpose,
                    outcome=Outcome.RUN_ERROR if failed else Outcome.OK,
                    repeat_seconds=() if failed else (float(seconds),),
                ),
            )
