# SPDX-License-Identifier: GPL-2.0-or-later
"""Calls and their outcomes as the program in the guest reads and writes them (replay.c)."""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import IntEnum

from tests.vm.calls.memory import Memory, Write

_CALL = struct.Struct("<IBBBBQ")
_RUN = struct.Struct("<II")
_REPLY = struct.Struct("<II")


class Descriptor(IntEnum):
    """How the device was opened."""

    READ_WRITE = 0
    READ_ONLY = 1
    WRITE_ONLY = 2


@dataclass(frozen=True)
class Call:
    """One ioctl. ``nobody`` makes it without privilege on a descriptor of root's."""

    number: int
    argument: int
    writes: tuple[Write, ...] = ()
    descriptor: Descriptor = Descriptor.READ_WRITE
    compat: bool = False
    nobody: bool = False

    def memory(self) -> Memory:
        """Memory as the call finds it."""
        memory = Memory()
        for write in self.writes:
            memory.write(write.address, write.data)
        return memory

    def ways(self) -> list[Call]:
        """The call, and the same one of a 32-bit program where that can make it."""
        return [self, replace(self, compat=True)] if self.argument < 1 << 32 else [self]

    def encoded(self) -> bytes:
        """The call as replay.c reads it."""
        head = (self.number, self.descriptor, self.compat, self.nobody, len(self.writes))
        runs = [_RUN.pack(write.address, len(write.data)) + write.data for write in self.writes]
        return _CALL.pack(*head, self.argument) + b"".join(runs)


@dataclass(frozen=True)
class Outcome:
    """What a call came to: its errno by name ("0" when it was served), what it changed."""

    error: str
    changes: tuple[Write, ...]


def outcomes(data: bytes) -> Iterator[Outcome]:
    """What replay.c wrote."""
    at = 0
    while at < len(data):
        number, runs = _REPLY.unpack_from(data, at)
        at += _REPLY.size
        changes = []
        for _ in range(runs):
            address, size = _RUN.unpack_from(data, at)
            at += _RUN.size
            changes.append(Write(address, data[at : at + size]))
            at += size
        yield Outcome(errno.errorcode.get(number, str(number)) if number else "0", tuple(changes))
