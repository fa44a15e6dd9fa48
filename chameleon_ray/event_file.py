"""Files that TensorBoard reads: records with checksums, each an `Event` in protobuf's encoding.

Written here, for a package that does so brings a second of imports (tensorboardX imports torch).
"""

from __future__ import annotations

import struct
import time
from collections.abc import Mapping
from pathlib import Path

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # wire types of protobuf
_CASTAGNOLI = 0x82F63B78


class EventFile:
    """One file of scalars, appended to; whole events are on disk after `flush`.

    Args:
        folder: Its folder, which is made; TensorBoard takes it for one run.

    Raises:
        OSError: It cannot be made, as from all methods.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        now = time.time()
        self._file = (folder / f"events.out.tfevents.{now:.0f}.chameleon-ray").open("wb")
        self._append(_field(1, _FIXED64, struct.pack("<d", now)) + _text(3, "brain.Event:2"))

    def add(self, step: int, scalars: Mapping[str, float]) -> None:
        """Append an event: named values at a step, now."""
        values = (
            _text(1, name) + _field(2, _FIXED32, struct.pack("<f", value))
            for name, value in scalars.items()
        )
        self._append(
            _field(1, _FIXED64, struct.pack("<d", time.time()))
            + _field(2, _VARINT, _varint(step))
            + _bytes(5, b"".join(_bytes(1, value) for value in values))
        )

    def flush(self) -> None:
        """Let readers see what was added."""
        self._file.flush()

    def close(self) -> None:
        """Write what is left."""
        self._file.close()

    def _append(self, event: bytes) -> None:
        length = struct.pack("<Q", len(event))
        self._file.write(length + _checksum(length) + event + _checksum(event))


def _field(number: int, wire_type: int, content: bytes) -> bytes:
    return _varint(number << 3 | wire_type) + content


def _bytes(number: int, content: bytes) -> bytes:
    return _field(number, _BYTES, _varint(len(content)) + content)


def _text(number: int, text: str) -> bytes:
    return _bytes(number, text.encode())


def _varint(number: int) -> bytes:
    low, rest = number & 0x7F, number >> 7
    return bytes([low | 0x80]) + _varint(rest) if rest else bytes([low])


def _remainders() -> tuple[int, ...]:
    """Of each byte, for the checksum."""
    table = []
    for byte in range(256):
        value = byte
        for _ in range(8):
            value = value >> 1 ^ (_CASTAGNOLI if value & 1 else 0)
        table.append(value)
    return tuple(table)


_TABLE = _remainders()


def _checksum(content: bytes) -> bytes:
    """CRC-32C, rotated and shifted as the format wants it."""
    value = 0xFFFFFFFF
    for byte in content:
        value = _TABLE[(value ^ byte) & 0xFF] ^ value >> 8
    value ^= 0xFFFFFFFF
    return struct.pack("<I", ((value >> 15 | value << 17) + 0xA282EAD8) & 0xFFFFFFFF)
