"""benchmarks/explorer_devices.py and remeasure.py: what stands for the hardware in studies."""

import importlib
import re
from pathlib import Path

import numpy as np
import pytest

from chameleon_ray.errors import SettingsError
from chameleon_ray.measure import Measurement, Outcome, Purpose
from chameleon_ray.measure.recorded import LiveTask, RecordedSpace
from chameleon_ray.networks import network
from chameleon_ray.tasks import Target
from chameleon_ray.templates import default_config, design_space
from chameleon_ray.tunables import Tunables

TASK = network("resnet18")[1].task
TARGET = Target(lanes=512, cores=2)  # wide registers make a small space
SPACE = design_space(TASK, TARGET)
LIVE = LiveTask(task=TASK, space=SPACE, default=default_config(TASK, TARGET))


@pytest.fixture
def benchmark(monkeypatch):
    """Import a module of benchmarks/ by name."""
    monkeypatch.syspath_prepend(Path(__file__).parent.parent / "benchmarks")
    return importlib.import_module


def seconds_of(configs):
    """A time that each knob has its share of."""
    return 1e-3 * (1 + configs @ np.arange(1.0, 1 + configs.shape[1]))


def recording(live, configs, seconds):
    """A recorded space of these configs."""
    return RecordedSpace(
        name="toy",
        kernel="",
        device="",
        tunables=Tunables(values={knob.name: (1, 2) for knob in SPACE.knobs}),
        configs=configs,
        seconds=seconds,
        failures=tuple("" if ok else "compile" for ok in np.isfinite(seconds)),
        live=live,
    )


def test_a_recording_as_a_function(benchmark):
    """Times come back whatever the order; a failure, and what was not recorded, has none."""
    configs = SPACE.random(20, np.random.default_rng(0))
    seconds = np.where(np.arange(20) == 3, np.nan, seconds_of(configs))
    device = benchmark("explorer_devices").recorded_device(recording(LIVE, configs, seconds))
    assert np.array_equal(device.seconds(configs[::-1]), seconds[::-1], equal_nan=True)
    others = SPACE.random(5, np.random.default_rng(1), avoid=configs)
    assert np.isnan(device.seconds(others)).all()


class TestLookUp:
    """A forest fitted to a part of a space."""

    def test_it_knows_the_whole_space(self, benchmark):
        """What was measured has its own time; the rest lies between the fastest and slowest."""
        configs = SPACE.random(60, np.random.default_rng(0))
        seconds = np.where(np.arange(60) == 3, np.nan, seconds_of(configs))
        device = benchmark("explorer_devices").lookup_device(recording(LIVE, configs, seconds))
        assert device.space == SPACE
        told = re.fullmatch(r"forest fitted to 59 measurements, R2 (-?\d\.\d{3})", device.label)
        assert float(told[1]) < 1
        ok = np.isfinite(seconds)
        assert device.seconds(configs[ok]) == pytest.approx(seconds[ok])
        predicted = device.seconds(SPACE.random(60, np.random.default_rng(1), avoid=configs))
        assert predicted.min() >= np.nanmin(seconds) * 0.999
        assert predicted.max() <= np.nanmax(seconds) * 1.001

    def test_a_kernel_of_others_has_no_whole_space(self, benchmark):
        """Its configurations are all that is known of it."""
        configs = SPACE.random(5, np.random.default_rng(0))
        with pytest.raises(SettingsError, match="lookup:toy: not a recording of one of our layers"):
            benchmark("explorer_devices").lookup_device(
                recording(None, configs, seconds_of(configs))
            )


def test_what_looks_slower_than_it_should_is_measured_again(benchmark):
    """Of good configs, those that a disturbance made slow; not the slow ones, nor the others."""
    rng = np.random.default_rng(0)
    configs = SPACE.random(300, rng)
    widest = int(SPACE.sizes.argmax())
    fast = configs[:, widest] < SPACE.sizes[widest] // 2
    seconds = np.where(fast, 1e-3, 5e-3) * rng.uniform(0.99, 1.01, size=300)
    good, slow = np.flatnonzero(fast)[::8], np.flatnonzero(~fast)[::8]
    seconds[good] *= 3
    seconds[slow] *= 3
    measured = [
        Measurement(
            task=TASK.key,
            config=SPACE.describe(config),
            purpose=Purpose.SEARCH,
            outcome=Outcome.OK,
            repeat_seconds=(float(time),),
        )
        for config, time in zip(configs, seconds, strict=True)
    ]
    chosen = benchmark("remeasure").doubtful(SPACE, measured, good=2.0, above=1.3)
    assert set(chosen) <= set(good)
    assert len(chosen) > 0.7 * len(good)
