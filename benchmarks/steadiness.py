"""Whether a machine keeps its speed: kernels of several kinds, timed in turns for a while.

On a shared machine one kernel may take twice as long for a minute, and another as long as ever.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import typer
from in_process import opened

from chameleon_ray.machine import usable_cores
from chameleon_ray.measure import Kernel
from chameleon_ray.measure.pinning import main_thread_apart
from chameleon_ray.tasks import Conv2d
from chameleon_ray.templates import default_config, design_space

_TURN_SECONDS = 0.01
_SLOW = 1.3  # times as long as at best
_MARKS = 60  # of the line that shows when it was slow


def layers(lanes: int) -> Mapping[str, Conv2d]:
    """One of each kind."""
    square = Conv2d(
        in_channels=64, out_channels=64, height=56, width=56, kernel_height=3, kernel_width=3,
        padding=1, block=lanes, epilogue=("bias", "relu"),
    )  # fmt: skip
    point = replace(square, kernel_height=1, kernel_width=1, padding=0)
    return {
        "Winograd 64->64 @56": replace(square, form="winograd4"),
        "3x3 128->128 s2 @56": replace(square, in_channels=128, out_channels=128, stride=2),
        "1x1 256->256 @14": replace(point, in_channels=256, out_channels=256, height=14, width=14),
        "1x1 512->2048 @7": replace(point, in_channels=512, out_channels=2048, height=7, width=7),
        "depthwise 192 @28": replace(
            square, in_channels=192, out_channels=192, groups=192, height=28, width=28
        ),
    }


def in_turns(kernels: Mapping[str, Kernel], seconds: float) -> npt.NDArray[np.float64]:
    """Seconds of one execution of each kernel, turn by turn, `(turns, kernels)`."""
    calls = [max(1, math.ceil(_TURN_SECONDS / kernel.time(3))) for kernel in kernels.values()]
    turns, until = [], time.monotonic() + seconds
    with main_thread_apart():
        while time.monotonic() < until:
            turns.append([k.time(n) for k, n in zip(kernels.values(), calls, strict=True)])
    return np.array(turns)


def main(seconds: float = 120.0, cores: int = usable_cores()) -> None:
    """Print how often each kernel was slow, and when."""
    backend, target = opened(cores)
    kernels = {}
    for name, task in layers(target.lanes).items():
        default = design_space(task, target).describe(default_config(task, target))
        kernels[name] = backend.builder.build(task, default)
    times = in_turns(kernels, seconds)
    slowdown = times / np.quantile(times, 0.1, axis=0)
    print(f"{seconds:g} s; a mark for each {seconds / _MARKS:.3g} s, # where it was {_SLOW:g}x")
    for name, column in zip(kernels, slowdown.T, strict=True):
        marks = "".join(
            "#" if np.median(part) > _SLOW else "."
            for part in np.array_split(column, min(_MARKS, len(column)))
        )
        print(
            f"{name:20} slow {np.mean(column > _SLOW):4.0%} of the time; of 100 turns the 90th "
            f"takes {np.quantile(column, 0.9):.2f}x  {marks}"
        )


if __name__ == "__main__":
    typer.run(main)
