"""From a config of `cuda_gemm` to CUDA C++: the shape and the knobs, then `gemm_kernel/`.

It takes neither TVM nor a header, so that NVRTC alone compiles it.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

from chameleon_ray.measure.cuda_kernel import CudaSource
from chameleon_ray.templates.cuda_gemm import ASYNCHRONOUS, shared_bytes

if TYPE_CHECKING:
    from chameleon_ray.space import KnobValues
    from chameleon_ray.tasks import Conv2d, Target


def generate(task: Conv2d, _target: Target, config: KnobValues) -> CudaSource:
    """The code of a config, the same for every architecture.

    Args:
        task: What is computed.
        config: Knob values; they must be of the task's space.
    """
    t, knobs = task, {name: value for name, (value,) in config.items()}
    shape = {
        "BATCH": t.batch,
        "CHANNELS": t.in_channels,
        "HEIGHT": t.height,
        "WIDTH": t.width,
        "FILTERS": t.out_channels,
        "FILTER_HEIGHT": t.kernel_height,
        "FILTER_WIDTH": t.kernel_width,
        "STRIDE": t.stride,
        "PADDING": t.padding,
        "OUT_HEIGHT": t.out_height,
        "OUT_WIDTH": t.out_width,
    }
    shared = shared_bytes(knobs)
    defined = shape | {name.upper(): value for name, value in knobs.items()}
    defined["SHARED_BYTES"] = shared
    head = "".join(f"#define {name} {value}\n" for name, value in defined.items())
    winograd = knobs["winograd"]
    height, width = ((n + winograd) // (1 + winograd) for n in (t.out_height, t.out_width))
    rows = -(-t.out_channels // (knobs["threads_m"] * knobs["rows"]))
    columns = -(-t.batch * height * width // (knobs["threads_n"] * knobs["columns"]))
    return CudaSource(
        text=head
        + _kernel(
            "tensor" if knobs["math"] else "lanes",
            "winograd" if winograd else "product",
            "async" if knobs["buffers"] >= ASYNCHRONOUS else "registers",
        ),
        grid=(rows * columns, knobs["split"], 1),
        block=(knobs["threads_m"] * knobs["threads_n"], 1, 1),
        arguments=("data", "weight", "conv"),
        shared_bytes=shared,
    )


@cache
def _kernel(math: str, form: str, copies: str) -> str:
    parts = files("chameleon_ray.templates") / "gemm_kernel"
    names = ("shape", math, form, copies, "kernel")
    return "\n".join((parts / f"{name}.cu").read_text(encoding="utf-8") for name in names)
