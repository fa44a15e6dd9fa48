"""From a config to CUDA C++. Imports TVM.

The source needs no header, so that NVRTC alone compiles it.
"""

from __future__ import annotations

import re
from functools import cache

import tvm

from chameleon_ray.measure.cuda_kernel import KERNEL, CudaSource
from chameleon_ray.space import KnobValues
from chameleon_ray.tasks import Conv2d, Target
from chameleon_ray.templates import schedule

_SIGNATURE = re.compile(rf'extern "C" __global__[^;{{]*\b{KERNEL}\(([^)]*)\)')
_NAME = re.compile(r"(\w+?)(?:_ptr)?\s*(?:,|$)")


def generate(task: Conv2d, target: Target, config: KnobValues) -> CudaSource:
    """The code of a config of `cuda_conv2d`.

    Args:
        task: What is computed.
        target: Of kind `cuda`.
        config: Knob values; they must be of the task's space.
    """
    compiled = tvm.compile(schedule(task, target, config), target=_target(target.model))
    source: str = compiled.mod.imports[0].inspect_source()
    signature = _SIGNATURE.search(source)
    assert signature is not None, source[-400:]  # noqa: S101 - TVM calls kernels so
    f, y, x = (config[name] for name in ("tile_f", "tile_y", "tile_x"))
    return CudaSource(
        text=source[signature.start() :],
        grid=(x[0], y[0], task.batch * f[0]),
        block=(x[2], y[2], f[2]),
        arguments=tuple(_NAME.findall(signature[1])),
    )


@cache
def _target(model: str) -> tvm.target.Target:
    return tvm.target.Target({"kind": "cuda", "arch": model}, host="llvm")
