"""The CUDA template: its space, its limits, and that its code computes a convolution.

Kernels are interpreted on this CPU (`launch.py`), and compiled by NVRTC; no GPU is used.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from launch import Launched

from chameleon_ray.errors import UnsupportedError
from chameleon_ray.measure.cubin import resources
from chameleon_ray.measure.cuda_kernel import KERNEL
from chameleon_ray.measure.cuda_source import generate
from chameleon_ray.measure.nvrtc import compile_cubin, supported
from chameleon_ray.measure.reference import expected, relative_error
from chameleon_ray.networks import NETWORKS, network
from chameleon_ray.tasks import Conv2d, Target
from chameleon_ray.templates import default_config, design_space, template_version
from chameleon_ray.templates.cuda_knobs import direct_space
from chameleon_ray.templates.cuda_tiling import shared_bytes
from chameleon_ray.templates.gpu import ARCHITECTURES

TARGET = Target(kind="cuda", model="sm_90", lanes=32, cores=132)
TASKS = [layer.task for name in NETWORKS for layer in network(name)]


@pytest.mark.parametrize("task", TASKS, ids=lambda t: t.key)
def test_a_random_config_of_every_task_computes_the_convolution(task):
    """A few blocks of it, against torch; what they do not compute stays untouched."""
    rng = np.random.default_rng(TASKS.index(task))
    space = design_space(task, TARGET)
    source = generate(task, TARGET, space.describe(space.random(1, rng)[0]))
    blocks = rng.permutation(np.prod(source.grid))[:3]
    where = np.stack(np.unravel_index(blocks, source.grid), axis=1)
    found = Launched(source, task).output(where)
    written = ~np.isnan(found)
    assert written.sum() * np.prod(source.grid) == found.size * len(blocks)
    assert relative_error(found[written], expected(task, 0)[written]) < 1e-5


@pytest.mark.parametrize("target", [TARGET, Target(kind="cuda", model="sm_75", cores=14)], ids=str)
@pytest.mark.parametrize("task", TASKS, ids=lambda t: t.key)
def test_every_task_has_table_1_s_space_and_a_valid_default(task, target):
    """The knobs as the paper has them; the default fits."""
    space = design_space(task, target)
    assert space.knobs == direct_space(task).knobs
    assert space.size == direct_space(task).size
    default = default_config(task, target)
    assert space.valid(default[None, :]).all()
    features = space.features(space.random(256, np.random.default_rng(0)))
    assert features.shape[1] == len(space.feature_names)
    assert np.isfinite(features).all()


@pytest.mark.parametrize("task", TASKS[::9], ids=lambda t: t.key)
def test_defaults_keep_a_gpu_busy(task):
    """Blocks for most of its multiprocessors, whole warps, accumulators that do not spill."""
    values = design_space(task, TARGET).describe(default_config(task, TARGET))
    f, y, x = (values[name] for name in ("tile_f", "tile_y", "tile_x"))
    assert f[0] * y[0] * x[0] >= TARGET.cores // 2
    assert f[2] * y[2] * x[2] >= 24
    assert 2 <= f[1] * f[3] * y[1] * y[3] * x[1] * x[3] <= 128


def config(task, **choices):
    """A config with everything in the blocks, but for what is said."""
    alone = {
        "tile_f": (task.out_channels, 1, 1, 1),
        "tile_y": (task.out_height, 1, 1, 1),
        "tile_x": (task.out_width, 1, 1, 1),
        "tile_rc": (task.in_channels, 1),
        "tile_ry": (task.kernel_height, 1),
        "tile_rx": (task.kernel_width, 1),
        "auto_unroll_max_step": (0,),
        "unroll_explicit": (0,),
    }
    space = design_space(task, TARGET)
    return space, space.config(alone | choices)[None, :]


DEEP = Conv2d(
    in_channels=512, out_channels=128, height=32, width=64, kernel_height=3, kernel_width=3,
    padding=1,
)  # fmt: skip


@pytest.mark.parametrize(
    ("choices", "broken"),
    [
        ({}, []),
        ({"tile_y": (1, 1, 32, 1), "tile_x": (2, 1, 32, 1)}, []),
        ({"tile_y": (1, 1, 32, 1), "tile_x": (1, 1, 64, 1)}, ["at most 1024 threads"]),
        ({"tile_f": (2, 1, 64, 1)}, []),
        ({"tile_f": (1, 1, 128, 1)}, ["at most 64 threads along z"]),
        ({"tile_rc": (16, 32), "tile_y": (1, 1, 8, 4)}, []),
        ({"tile_rc": (1, 512), "tile_y": (1, 1, 32, 1)}, ["at most 48 KiB of shared memory"]),
        ({"tile_f": (1, 2, 1, 64), "tile_x": (32, 1, 1, 2)}, []),
        ({"tile_f": (1, 2, 1, 64), "tile_x": (16, 1, 1, 4)}, ["accumulators that fit"]),
        ({"tile_f": (2, 1, 32, 2), "tile_y": (1, 1, 32, 1), "tile_x": (1, 1, 1, 64)}, None),
    ],
    ids=str,
)
def test_what_no_gpu_takes_is_refused_before_it_is_built(choices, broken):
    """The limit of threads, of their depth, of shared memory and of registers, each by its name."""
    space, configs = config(DEEP, **choices)
    broke = [c.name for c in space.constraints if not c.holds(space.values(configs))[0]]
    if broken is None:
        assert "accumulators that fit the registers" in broke
    else:
        assert [name.startswith(said) for name, said in zip(broke, broken, strict=True)] == [
            True
        ] * len(broken)


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_cubins_hold_what_the_constraints_say(arch):
    """Threads that fit in registers, and shared memory to the byte, whatever the architecture."""
    if arch not in supported():
        pytest.skip(f"this NVRTC does not know {arch}")
    target = Target(kind="cuda", model=arch, cores=16)
    rng = np.random.default_rng(0)
    for task in (TASKS[1], TASKS[11]):
        space = design_space(task, target)
        (row,) = space.random(1, rng)
        source = generate(task, target, space.describe(row))
        found = resources(compile_cubin(source.text, arch), KERNEL)
        threads = int(np.prod(source.block))
        assert 0 < found.registers * threads <= 65_536
        assert 0 < found.shared_bytes <= 48 * 1024
        assert found.shared_bytes == shared_bytes(task, space.values(row[None, :]))[0]


def test_an_architecture_that_is_not_known_is_refused():
    """The message says which are, and where to add one."""
    with pytest.raises(UnsupportedError, match=r"'sm_99'.*sm_90.*templates/gpu.py"):
        design_space(TASKS[0], Target(kind="cuda", model="sm_99"))


def test_the_version_names_the_template():
    """A journal of other code is never taken for this one's."""
    assert template_version(TARGET).startswith("cuda_conv2d/")


@pytest.mark.slow
def test_a_cubin_is_what_the_constraints_say(monkeypatch):
    """24 random configs of the 26 tasks, valid or not; `benchmarks/gpu_static.py` takes 200."""
    monkeypatch.syspath_prepend(Path(__file__).parent.parent / "benchmarks")
    from gpu_static import drawn

    judged = list(drawn(24, TARGET, seed=0))
    assert 8 <= sum(one.allowed for one in judged) < 24
    assert all(one.compiled for one in judged if one.allowed)
    assert [one.allowed for one in judged] == [one.taken for one in judged]


def test_tvm_s_own_verdict_is_that_of_the_constraints(monkeypatch):
    """Of 200 random configs, valid or not; `benchmarks/gpu_static.py` takes 2,000."""
    monkeypatch.syspath_prepend(Path(__file__).parent.parent / "benchmarks")
    from gpu_static import verified

    assert verified(200, TARGET, seed=1) >= 0.98


@pytest.mark.slow
def test_valid_products_of_matrices_compile_and_fit(monkeypatch):
    """24 random valid configs of the other template."""
    monkeypatch.syspath_prepend(Path(__file__).parent.parent / "benchmarks")
    from gpu_static import drawn

    judged = list(drawn(24, replace(TARGET, template="gemm_float16"), seed=0))
    assert all(one.allowed and one.compiled and one.taken for one in judged)
    assert sum(one.found for one in judged) >= 22
