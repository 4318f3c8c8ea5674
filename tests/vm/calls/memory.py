# SPDX-License-Identifier: GPL-2.0-or-later
"""The memory that calls are made on; arena.h has the same map.

One page for structs and sixteen for arrays, with a page behind these that can
be read alone. Everything around is not mapped.
"""

from __future__ import annotations

from dataclasses import dataclass

PAGE = 4096
STRUCT = 0x20000000 + PAGE
STRUCT_END = STRUCT + PAGE
ARRAY = STRUCT_END + PAGE
READ_ONLY = ARRAY + 16 * PAGE
END = READ_ONLY + PAGE

CANARY = 0xCC

# Addresses that no caller has: the page at 0, the hole before the arena, the first
# one behind user space, one that is not canonical, the kernel's, the very last.
NOWHERE = (
    0x10,
    STRUCT - PAGE,
    0x7FFFFFFFF000,
    0x800000000000,
    0x8000000000000000,
    0xFFFF888000000000,
    0xFFFFFFFF81000000,
    0xFFFFFFFFFFFFFFF8,
)

_READABLE = ((STRUCT, STRUCT_END), (ARRAY, END))
_WRITABLE = ((STRUCT, STRUCT_END), (ARRAY, READ_ONLY))


@dataclass(frozen=True)
class Write:
    """Bytes at an address."""

    address: int
    data: bytes


def readable(address: int, size: int) -> bool:
    """Whether a caller can read all of it."""
    return _within(_READABLE, address, size)


def writable(address: int, size: int) -> bool:
    """Whether a caller can write all of it."""
    return _within(_WRITABLE, address, size)


def _within(parts: tuple[tuple[int, int], ...], address: int, size: int) -> bool:
    return not size or any(low <= address and address + size <= high for low, high in parts)


class Memory:
    """The arena's bytes. Addresses outside are passed over: nothing can be there."""

    def __init__(self, data: bytearray | None = None) -> None:
        self.data = data or bytearray([CANARY]) * (END - STRUCT)

    def copy(self) -> Memory:
        """A second one with the same bytes."""
        return Memory(bytearray(self.data))

    def read_some(self, address: int, size: int) -> bytes:
        """As many of the bytes, from the first on, as can be read."""
        ends = [high for low, high in _READABLE if low <= address < high]
        return self.read(address, min(size, ends[0] - address)) if ends else b""

    def read(self, address: int, size: int) -> bytes:
        """Bytes that readable() says are there."""
        assert readable(address, size)
        return bytes(self.data[address - STRUCT :][:size]) if size else b""

    def write(self, address: int, data: bytes) -> None:
        """Change bytes, as far as they are writable or in the read-only page."""
        for low, high in _READABLE:
            first, last = max(low, address), min(high, address + len(data))
            if first < last:
                self.data[first - STRUCT : last - STRUCT] = data[first - address : last - address]

    def take_over(self, other: Memory, address: int, size: int) -> None:
        """Make a range as it is in another memory, as far as callers can write it."""
        for low, high in _WRITABLE:
            first, last = max(low, address) - STRUCT, min(high, address + size) - STRUCT
            if first < last:
                self.data[first:last] = other.data[first:last]

    def difference(self, other: Memory) -> list[int]:
        """Addresses at which two memories differ."""
        if self.data == other.data:
            return []
        pairs = enumerate(zip(self.data, other.data, strict=True))
        return [STRUCT + i for i, (one, two) in pairs if one != two]
