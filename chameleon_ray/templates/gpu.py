"""What NVIDIA's architectures allow a kernel, as data.

Source: the table of technical specifications per compute capability in NVIDIA's CUDA C++
Programming Guide, release 13.0, and the one of release 12.9 for sm_70.
"""

from __future__ import annotations

from dataclasses import dataclass

from chameleon_ray.errors import UnsupportedError

BLOCK_THREADS = 1024
BLOCK_DEPTH = 64  # threads of a block along z
GRID_ROWS = 65_535  # blocks along y, and along z
STATIC_SHARED_BYTES = 48 * 1024  # of a block, unless a kernel asks for more as it is launched
WARP = 32
THREAD_REGISTERS = 255
SM_REGISTERS = 65_536

IN_REGISTERS = "accumulators that fit the registers"  # a GPU takes others, too, and crawls


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """One compute capability; an SM is a streaming multiprocessor.

    Attributes:
        sm_threads: Threads that are resident on an SM at most.
        sm_blocks: Blocks, likewise.
        sm_shared_bytes: Shared memory of an SM.
        block_shared_bytes: What one block of it may ask for.
        sm_lanes: float32 multiply-adds that an SM begins in a cycle.
    """

    sm_threads: int
    sm_blocks: int
    sm_shared_bytes: int
    block_shared_bytes: int
    sm_lanes: int


def _architecture(threads: int, blocks: int, shared: int, block: int, lanes: int) -> Architecture:
    return Architecture(
        sm_threads=threads,
        sm_blocks=blocks,
        sm_shared_bytes=shared * 1024,
        block_shared_bytes=block * 1024,
        sm_lanes=lanes,
    )


ARCHITECTURES = {
    "sm_70": _architecture(2048, 32, 96, 96, 64),
    "sm_72": _architecture(2048, 32, 96, 96, 64),
    "sm_75": _architecture(1024, 16, 64, 64, 64),
    "sm_80": _architecture(2048, 32, 164, 163, 64),
    "sm_86": _architecture(1536, 16, 100, 99, 128),
    "sm_87": _architecture(1536, 16, 164, 163, 128),
    "sm_89": _architecture(1536, 24, 100, 99, 128),
    "sm_90": _architecture(2048, 32, 228, 227, 128),
    "sm_100": _architecture(2048, 32, 228, 227, 128),
    "sm_103": _architecture(2048, 32, 228, 227, 128),
    "sm_110": _architecture(1536, 24, 228, 227, 128),
    "sm_120": _architecture(1536, 24, 100, 99, 128),
    "sm_121": _architecture(1536, 24, 100, 99, 128),
}

# About how many times as many multiply-adds as in float32 an SM begins in tf32 on tensor cores, by
# `mma`; float16 is twice as fast again. From NVIDIA's whitepapers of A100, GA102, Ada, H100 and
# Blackwell, halved where only `wgmma` or its successor reaches the full rate.
TENSOR_SPEEDUP = {
    "sm_80": 8,
    "sm_86": 1,
    "sm_87": 2,
    "sm_89": 1,
    "sm_90": 4,
    "sm_100": 4,
    "sm_103": 4,
    "sm_110": 4,
    "sm_120": 1,
    "sm_121": 1,
}


def architecture(name: str) -> Architecture:
    """The architecture of a name such as `sm_90`.

    Raises:
        UnsupportedError: It is not in the table.
    """
    found = ARCHITECTURES.get(name)
    if found is None:
        raise UnsupportedError(
            f"GPU architecture {name!r} is not known here. Known: {', '.join(ARCHITECTURES)}. "
            "Its limits belong into chameleon_ray/templates/gpu.py; until then set `model` in the "
            "env file to the newest known one that is older."
        )
    return found
