"""Convolution as a product of matrices on a GPU: its space, its limits, and that it computes one.

Kernels are interpreted on this CPU (`launch.py`), tensor cores included, and compiled by NVRTC; no
GPU is used.
"""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from cuda.bindings import nvrtc
from launch import Launched

from chameleon_ray.env_settings import Env
from chameleon_ray.errors import UnsupportedError
from chameleon_ray.measure.cubin import resources
from chameleon_ray.measure.cuda_gemm_source import generate
from chameleon_ray.measure.cuda_kernel import KERNEL
from chameleon_ray.measure.nvrtc import compile_cubin, supported
from chameleon_ray.measure.reference import expected, relative_error
from chameleon_ray.networks import NETWORKS, network
from chameleon_ray.tasks import Conv2d, Target
from chameleon_ray.templates import (
    default_config,
    design_space,
    gpu_template,
    schedule,
    template_version,
)
from chameleon_ray.templates.cuda_gemm import MATHS
from chameleon_ray.templates.gpu import ARCHITECTURES, TENSOR_SPEEDUP

TARGET = Target(kind="cuda", model="sm_90", lanes=32, cores=132, template="gemm_float16")
TASKS = [layer.task for name in NETWORKS for layer in network(name)]
ALLOWED = (1e-5, 1e-3, 1e-3)  # of the three maths
POINTS = Conv2d(
    in_channels=48, out_channels=40, height=12, width=10, kernel_height=1, kernel_width=1, batch=2
)
THREE = Conv2d(
    in_channels=10,
    out_channels=20,
    height=9,
    width=12,
    kernel_height=3,
    kernel_width=3,
    padding=1,
    batch=2,
)
BATCH = Conv2d(
    in_channels=6,
    out_channels=20,
    height=9,
    width=11,
    kernel_height=3,
    kernel_width=2,
    padding=1,
    stride=2,
    batch=3,
)
SMALL = {
    "threads_m": 8,
    "threads_n": 4,
    "rows": 2,
    "columns": 4,
    "vector": 1,
    "stage": 16,
    "buffers": 1,
    "split": 1,
    "load_m": 1,
    "load_n": 1,
    "unroll": 4,
    "raster": 0,
    "math": 0,
    "winograd": 0,
}


WINOGRAD = {"winograd": 1, "rows": 2, "columns": 2, "stage": 4}


class Run:
    """A kernel and its arrays; the output is NaN where nothing is written.

    Args:
        task: What it computes.
        values: Of its knobs.
    """

    def __init__(self, task, values):
        self.source = generate(task, TARGET, values)
        self._launched = Launched(self.source, task)

    def of(self, tiles, order=0):
        """The output after some tiles, the parts of each in an order of that seed."""
        blocks = [(tile, part, 0) for tile in tiles for part in range(self.source.grid[1])]
        order_of = np.random.default_rng(order)
        return self._launched.output(order_of.permutation(np.array(blocks)), seed=order)

    def whole(self, order=0):
        """The output of a launch."""
        return self.of(range(self.source.grid[0]), order)


FORMS = {
    "float32": {"math": 0, "winograd": 0},
    "tf32": {"math": 1},
    "float16": {"math": 2},
    "winograd": {"winograd": 1},
    "three buffers": {"math": 0, "buffers": 3},
    "four buffers, tf32": {"math": 1, "buffers": 4},
}


def one_of(space, form, rng):
    """A random config `(1, knobs)` of a form; none if the layer has no such."""
    among = space.random(4096, rng)
    values = space.values(among)
    fits = [values[name][:, 0] == number for name, number in FORMS[form].items()]
    return among[np.logical_and.reduce(fits)][:1]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("task", TASKS, ids=lambda t: t.key)
def test_a_random_config_of_every_task_computes_the_convolution(task, form):
    """Two tiles of it, against torch; what they do not compute stays untouched."""
    rng = np.random.default_rng(TASKS.index(task))
    space = design_space(task, TARGET)
    rows = one_of(space, form, rng)
    if not len(rows):
        odd = task.in_channels * task.kernel_height * task.kernel_width % 2
        other = task.kernel_height != 3 or task.stride != 1
        assert {"float16": odd, "winograd": other}[form]
        pytest.skip(f"{form} is not for this layer")
    run = Run(task, space.describe(rows[0]))
    found = run.of(rng.permutation(run.source.grid[0])[:2])
    written = ~np.isnan(found)
    values = {name: number for name, (number,) in space.describe(rows[0]).items()}
    tile = values["threads_m"] * values["rows"] * values["threads_n"] * values["columns"]
    assert 0 < written.sum() <= 2 * tile * (4 if values["winograd"] else 1)
    assert relative_error(found[written], expected(task, 0)[written]) < ALLOWED[values["math"]]


@pytest.mark.parametrize(
    ("task", "choices"),
    [
        (POINTS, {"load_n": 4}),
        (POINTS, {"vector": 2, "buffers": 2, "load_n": 2}),
        (POINTS, {"rows": 4, "vector": 4, "load_m": 4, "unroll": 16, "raster": 1}),
        (POINTS, {"split": 2, "load_m": 2, "load_n": 4}),
        (POINTS, {"split": 2, "stage": 8, "buffers": 2, "load_n": 2, "math": 1}),
        (POINTS, {"threads_m": 16, "columns": 8, "load_m": 2, "load_n": 2, "math": 2}),
        (POINTS, {"threads_m": 4, "threads_n": 16, "rows": 8, "columns": 1, "load_m": 4}),
        (POINTS, {"buffers": 3, "load_n": 4, "stage": 8}),
        (POINTS, {"buffers": 4, "load_m": 4, "load_n": 2, "math": 1, "stage": 8}),
        (POINTS, {"buffers": 3, "load_m": 2, "math": 1, "stage": 32, "split": 2}),
        (BATCH, {"buffers": 4, "stage": 4, "threads_m": 16, "split": 2, "columns": 8}),
        (BATCH, {"buffers": 3, "load_m": 2, "math": 1, "stage": 8, "columns": 8}),
        (BATCH, {}),
        (BATCH, {"rows": 4, "vector": 4, "buffers": 2, "load_m": 4, "unroll": 1}),
        (BATCH, {"split": 2, "load_m": 2, "raster": 1}),
        (BATCH, {"split": 2, "stage": 8, "buffers": 2, "math": 1}),
        (BATCH, {"threads_n": 8, "columns": 8, "load_m": 2, "split": 2, "math": 2}),
        (BATCH, {"threads_m": 4, "threads_n": 32, "rows": 4, "columns": 2, "vector": 2}),
        (THREE, {"winograd": 1, "rows": 1, "columns": 2, "stage": 8}),
        (THREE, WINOGRAD | {"vector": 2, "buffers": 2, "raster": 1}),
        (THREE, WINOGRAD | {"threads_n": 8, "stage": 8, "split": 2}),
        (replace(THREE, padding=0), WINOGRAD | {"threads_m": 4, "threads_n": 8}),
    ],
    ids=str,
)
def test_each_form_computes_a_whole_convolution(task, choices):
    """Several images, tiles that stick out, stages that do; each knob at another value."""
    values = {name: (number,) for name, number in (SMALL | choices).items()}
    space = design_space(task, TARGET)
    assert space.broken(space.config(values)) == []
    found = Run(task, values).whole()
    assert relative_error(found, expected(task, 0)) < ALLOWED[choices.get("math", 0)]


def test_a_split_sum_is_the_same_whoever_comes_last():
    """To the bit, and launch after launch: the last of a tile leaves it as it was."""
    values = {name: (number,) for name, number in (SMALL | {"split": 4, "stage": 8}).items()}
    task = replace(POINTS, in_channels=64)
    space = design_space(task, TARGET)
    assert space.broken(space.config(values)) == []
    run = Run(task, values)
    first = run.whole(order=1)
    assert relative_error(first, expected(task, 0)) < ALLOWED[0]
    for order in (2, 3):
        assert np.array_equal(first, run.whole(order))


@pytest.mark.parametrize("template", MATHS)
@pytest.mark.parametrize("task", TASKS[::5], ids=lambda t: t.key)
def test_every_template_has_a_space_and_a_valid_default(task, template):
    """Features that are numbers, and a default that fills the GPU."""
    target = replace(TARGET, template=template)
    space = design_space(task, target)
    drawn = space.random(256, np.random.default_rng(0))
    assert len(drawn) == 256
    features = space.features(drawn)
    assert features.shape[1] == len(space.feature_names)
    assert np.isfinite(features).all()
    assert set(space.values(drawn)["math"][:, 0]) == set(range(MATHS[template] + 1)) - (
        {2} if space.values(drawn)["load_m"].max() < 2 else set()
    )
    default = default_config(task, target)
    assert space.valid(default[None, :]).all()
    source = generate(task, target, space.describe(default))
    assert np.prod(source.grid) >= TARGET.cores // 2


@pytest.mark.parametrize(
    ("choices", "broken"),
    [
        ({}, None),
        ({"threads_m": 4}, "one warp to 1024 threads"),
        ({"threads_m": 32, "rows": 16}, "tiles no larger than what they cover"),
        ({"stage": 4, "rows": 1, "threads_n": 32}, "a part of each stage for every thread"),
        ({"vector": 4}, "vectors that divide rows and columns"),
        ({"math": 1, "rows": 1}, "tiles of whole tensor core products"),
        ({"winograd": 1, "math": 1}, "Winograd in float32, without wide loads"),
        ({"buffers": 3, "load_m": 2}, "three buffers and more of unchanged words"),
        ({"buffers": 3, "math": 2, "load_m": 2}, "three buffers and more of unchanged words"),
        ({"split": 32}, "a part of the reduction for every block"),
        ({"rows": 16, "columns": 16}, "accumulators that fit the registers"),
    ],
    ids=str,
)
def test_what_cannot_be_is_refused_by_its_name(choices, broken):
    """Each limit."""
    space = design_space(TASKS[1], TARGET)
    values = {name: (number,) for name, number in (SMALL | choices).items()}
    found = space.broken(space.config(values))
    assert found == [] if broken is None else broken in found


@pytest.mark.slow
@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_cubins_hold_what_the_constraints_say(arch):
    """Registers that fit and do not spill, and shared memory that a block can have."""
    if arch not in supported():
        pytest.skip(f"this NVRTC does not know {arch}")
    template = "gemm_float16" if arch in TENSOR_SPEEDUP else "gemm"
    target = Target(kind="cuda", model=arch, cores=16, template=template)
    space, rng = design_space(TASKS[1], target), np.random.default_rng(0)
    for form in FORMS if arch in TENSOR_SPEEDUP else ("float32", "winograd"):
        row = one_of(space, form, rng)
        source = generate(TASKS[1], target, space.describe(row[0]))
        found = resources(compile_cubin(source.text, arch), KERNEL)
        assert 0 < found.registers * np.prod(source.block) <= 65_536
        assert (found.stack_bytes, found.shared_bytes) == (0, 0)  # it asserts its size itself
        assert 0 < source.shared_bytes <= ARCHITECTURES[arch].block_shared_bytes


def ptx_of(source):
    """What NVRTC makes of a source for a virtual architecture."""
    _, program = nvrtc.nvrtcCreateProgram(source.text.encode(), b"kernel.cu", 0, [], [])
    options = [b"--gpu-architecture=compute_90", b"--std=c++17"]
    (status,) = nvrtc.nvrtcCompileProgram(program, len(options), options)
    assert int(status) == 0
    text = bytes(nvrtc.nvrtcGetPTXSize(program)[1])
    nvrtc.nvrtcGetPTX(program, text)
    return text.decode()


def test_wide_loads_are_wide():
    """Four numbers in one instruction, where the knobs say so, and nowhere else."""
    wide = {"rows": 4, "vector": 4, "load_m": 4, "load_n": 4}
    texts = [
        ptx_of(generate(POINTS, TARGET, {name: (n,) for name, n in (SMALL | choices).items()}))
        for choices in (wide, {})
    ]
    for instruction in ("ld.shared.v4", "ld.global.nc.v4"):
        assert [instruction in text for text in texts] == [True, False]


def test_more_buffers_are_filled_past_the_registers():
    """Four numbers at a time, two stages ahead of the one that is used."""
    values = SMALL | {"buffers": 4, "load_n": 4, "stage": 8}
    text = ptx_of(generate(POINTS, TARGET, {name: (n,) for name, n in values.items()}))
    assert "cp.async.cg.shared.global" in text
    assert "cp.async.wait_group 2" in text
    assert "st.shared" not in text


def test_tensor_cores_that_are_not_there_are_refused():
    """The message says what to set."""
    with pytest.raises(
        UnsupportedError, match=r"sm_75 has no tensor cores for tf32.*template: gemm"
    ):
        design_space(TASKS[0], replace(TARGET, model="sm_75", template="gemm_tf32"))
    assert design_space(TASKS[0], replace(TARGET, model="sm_75", template="gemm")).size > 10**5


def test_filters_that_are_too_large_are_refused():
    """The message says which template takes them."""
    large = replace(THREE, kernel_height=16, height=32)
    with pytest.raises(UnsupportedError, match=r"more than 15 rows.*template: direct"):
        design_space(large, TARGET)


def test_a_version_names_its_template():
    """A journal tells which it was; the direct one's is as before."""
    for template in MATHS:
        assert gpu_template(template_version(replace(TARGET, template=template))) == template
    assert gpu_template(template_version(replace(TARGET, template="direct"))) == "direct"
    assert gpu_template("cpu_conv2d/1") == "direct"


def test_an_env_says_what_may_be_rounded():
    """A template that rounds takes a tolerance that allows it, and a GPU."""
    assert Env(target="cuda", template="gemm").tolerance == 1e-4
    with pytest.raises(ValueError, match=r"tolerance of 0\.001 or more, not 0\.0001"):
        Env(target="cuda", template="gemm_tf32")
    with pytest.raises(ValueError, match="takes target cuda"):
        Env(template="gemm")


def test_it_needs_no_tvm():
    """Neither to know the space nor to make the code; and it has no TIR."""
    with pytest.raises(UnsupportedError, match="no TIR"):
        schedule(TASKS[0], TARGET, {})
    code = (
        "from chameleon_ray.measure import cuda; from chameleon_ray.env_settings import Env;"
        "from chameleon_ray.tasks import Target; import sys;"
        "target = Target(kind='cuda', model='sm_90', template='gemm');"
        "cuda.backend(Env(), target, 0, 'build'); print('tvm' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
