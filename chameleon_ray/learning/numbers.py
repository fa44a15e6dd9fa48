"""Layers and devices as numbers: what a model needs to tell which of them are alike."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict

from chameleon_ray.measure.backend import target_of
from chameleon_ray.tasks import Conv2d, LayerTask, Matmul

Numbers = Mapping[str, float]

# Processors, their lanes, GFLOP/s of float32, GB/s of memory, KiB of fast memory that the blocks of
# a processor share, and MiB of the last cache: makers' data sheets, without boost of any kind.
_GPUS: dict[str, tuple[float, ...]] = {
    r"V100": (80, 32, 14_000, 900, 96, 6),
    r"A100": (108, 32, 19_500, 1_555, 164, 40),
    r"H100": (132, 32, 66_900, 3_350, 228, 50),
    r"H200": (132, 32, 66_900, 4_800, 228, 50),
    r"A4000": (48, 32, 19_170, 448, 100, 4),
    r"A6000": (84, 32, 38_700, 768, 100, 6),
    r"TITAN RTX|RTX Titan": (72, 32, 16_310, 672, 64, 6),
    r"TITAN Xp": (30, 32, 12_150, 548, 96, 3),
    r"GTX 1080 Ti": (28, 32, 11_340, 484, 96, 2.75),
    r"RTX 2080 Ti": (68, 32, 13_450, 616, 64, 5.5),
    r"RTX 3060 Laptop": (30, 32, 10_900, 336, 100, 3),
    r"RTX 3060": (28, 32, 12_740, 360, 100, 3),
    r"RTX 3090": (82, 32, 35_580, 936, 100, 6),
    r"RTX 4090": (128, 32, 82_580, 1_008, 100, 72),
    r"MI50": (60, 64, 13_400, 1_024, 64, 4),
    r"MI250X": (110, 64, 23_950, 1_638, 64, 8),
    r"W6600": (28, 32, 10_400, 224, 64, 32),
    r"W7800": (70, 32, 45_200, 576, 64, 64),
}
_GPU_NUMBERS = ("processors", "lanes", "gflops", "bandwidth", "shared_kib", "cache_mib")


def of_device(device: str) -> Numbers:
    """A device as numbers, from the words that a journal or a recorded space has for it.

    Returns:
        Name -> number; of a CPU its cores and lanes. Empty for a device that is not known.
    """
    for pattern, numbers in _GPUS.items():
        if re.search(rf"\b({pattern.replace(' ', '[ _]')})\b", device, re.IGNORECASE):
            known = dict(zip(_GPU_NUMBERS, numbers, strict=True))
            return known | {"flop_per_byte": known["gflops"] / known["bandwidth"]}
    if target := target_of(device, "direct"):
        return {"processors": float(target.cores), "lanes": float(target.lanes)}
    return {}


def of_task(task: LayerTask) -> Numbers:
    """A layer as numbers: its sizes, and what it computes for each number that it reads or writes.

    Returns:
        Name -> number.
    """
    sizes = {name: float(n) for name, n in asdict(task).items() if isinstance(n, int)}
    moved = _moved(task)
    return sizes | {"flop": float(task.flop), "flop_per_number": task.flop / moved}


def _moved(task: LayerTask) -> float:
    """Numbers of the inputs and the output, each once."""
    if isinstance(task, Matmul):
        one = task.rows * task.inner + task.inner * task.columns + task.rows * task.columns
        return float(task.batch * one)
    assert isinstance(task, Conv2d)  # noqa: S101 - there are two kinds
    filters = task.out_channels * task.in_channels // task.groups
    inputs = task.batch * task.in_channels * task.height * task.width
    outputs = task.batch * task.out_channels * task.out_height * task.out_width
    return float(inputs + outputs + filters * task.kernel_height * task.kernel_width)
