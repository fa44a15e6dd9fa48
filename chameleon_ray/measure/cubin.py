"""What a compiled kernel takes of a GPU, read from its cubin: no GPU is needed for that.

A cubin is an ELF file. Section `.nv.info` has records of a format, an attribute, a size or value,
and for sized ones a payload of symbol index and number; sections are named after their kernel.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass

_SIZED = 4  # format of a record with a payload
_REGISTERS, _STACK = 0x2F, 0x12  # attributes
_RESERVED = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """Of one kernel.

    Attributes:
        registers: Of a thread.
        shared_bytes: Of a block, what the kernel itself declares.
        stack_bytes: Of a thread, in local memory: arrays and registers that did not fit.
    """

    registers: int
    shared_bytes: int
    stack_bytes: int


def resources(cubin: bytes, kernel: str) -> Resources:
    """What a kernel takes.

    Raises:
        KeyError: The cubin has no such kernel.
    """
    from elftools.elf.elffile import ELFFile

    elf = ELFFile(io.BytesIO(cubin))
    information = elf.get_section_by_name(".nv.info")
    if information is None or elf.get_section_by_name(f".text.{kernel}") is None:
        raise KeyError(kernel)
    numbers = dict(_records(information.data()))
    shared = elf.get_section_by_name(f".nv.shared.{kernel}")
    reserved = elf.get_section_by_name(".nv.shared.reserved.0")  # the system's, from sm_90 on
    own = 0 if shared is None else shared["sh_size"]
    if own and reserved is not None:
        own -= _RESERVED
    return Resources(
        registers=numbers.get(_REGISTERS, 0),
        shared_bytes=own,
        stack_bytes=numbers.get(_STACK, 0),
    )


def _records(data: bytes) -> Iterator[tuple[int, int]]:
    """Attribute and number of each record that has one."""
    at = 0
    while at + 4 <= len(data):
        form, attribute, size = struct.unpack_from("<BBH", data, at)
        at += 4
        if form != _SIZED:
            continue
        if size >= 8:
            yield attribute, struct.unpack_from("<I", data, at + 4)[0]
        at += size
