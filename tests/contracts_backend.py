"""What every backend must do; to test another one, add it to the list."""

import math
import pickle

import numpy as np
import pytest

from chameleon_ray.env_settings import Env
from chameleon_ray.measure.backend import Device, open_backend
from chameleon_ray.tasks import Conv2d, Target
from chameleon_ray.templates import default_config, design_space

BACKENDS = ("tvm", "simulated")

TASK = Conv2d(
    in_channels=4, out_channels=8, height=10, width=10, kernel_height=3, kernel_width=3, padding=1
)
TARGET = Target(lanes=4, cores=1)


class BackendContract:
    """A builder and a runner, as the measuring child uses them."""

    @pytest.fixture(params=BACKENDS)
    def backend(self, request):
        """Each backend, opened for a small target."""
        return open_backend(Env(measurer=request.param), TARGET, 0)

    @pytest.fixture
    def configs(self):
        """The default and two random ones, by knob value."""
        space = design_space(TASK, TARGET)
        rows = [default_config(TASK, TARGET), *space.random(2, np.random.default_rng(0))]
        return [space.describe(row) for row in rows]

    def test_a_kernel_is_right_and_has_a_time(self, backend, configs):
        """Every config of the space can be built, computes the task and takes some time."""
        for config in configs:
            kernel = backend.builder.build(TASK, config)
            assert 0 <= kernel.error() < 1e-5
            assert 0 < kernel.time(2) < 1

    def test_a_run_is_an_error_and_some_repeats(self, backend, configs):
        """All finite and positive."""
        error, repeats = backend.runner.run(backend.builder.build(TASK, configs[0]), None)
        assert math.isfinite(error)
        assert repeats
        assert all(0 < seconds < 1 for seconds in repeats)

    def test_kernels_built_one_after_another_are_all_there(self, backend, configs):
        """A later one takes nothing from an earlier one."""
        kernels = [backend.builder.build(TASK, config) for config in configs]
        for kernel in kernels:
            error, repeats = backend.runner.run(kernel, None)
            assert error < 1e-5
            assert repeats

    def test_kernels_are_compared_in_their_order(self, backend, configs):
        """As many repeats for each."""
        kernels = [backend.builder.build(TASK, config) for config in configs]
        compared = backend.runner.compare(kernels)
        assert len(compared) == len(kernels)
        assert len({len(repeats) for repeats in compared}) == 1
        assert all(seconds > 0 for repeats in compared for seconds in repeats)

    def test_torch_is_a_kernel_where_it_is_promised(self, backend):
        """An empty config asks for it; a backend without it says so by raising."""
        if backend.has_torch:
            assert backend.builder.build(TASK, {}).time(1) > 0
        else:
            with pytest.raises(Exception, match="tile_f"):
                backend.builder.build(TASK, {})

    def test_a_config_of_another_space_is_refused(self, backend):
        """It raises, and the child makes an outcome of it."""
        with pytest.raises(Exception, match="tile_f"):
            backend.builder.build(TASK, {"block_size": (32,)})

    def test_what_travels_is_plain(self, backend):
        """The device goes from the child to the driver."""
        device = Device(target=backend.target, compiler=backend.compiler, has_torch=False)
        assert pickle.loads(pickle.dumps(device)) == device
        assert backend.target.lanes == TARGET.lanes
        assert backend.target.model != "native"
