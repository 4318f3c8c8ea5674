# SPDX-License-Identifier: GPL-2.0-or-later
"""TDH.SYS.CONFIG's rules, semantics.md 3.3, in the order of checks."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from .machine import GIB, MIB, PAGE, RCX
from .model_call import KeyIds, Memory, Refused, check_shared, overlap, wraps

MAX_TDMRS = 64
TDMR_INFO_BYTES = 320
RESERVED_AREAS = 16
PAMT_ENTRY_BYTES = 16
# PAMT levels: 0 is 4K, 1 is 2M, 2 is 1G.
PAGE_BYTES = (PAGE, 2 * MIB, GIB)
UP, DOWN = (0, 1, 2), (2, 1, 0)

Range = tuple[int, int]


@dataclass
class ModelTdmr:
    """A TDMR_INFO, its PAMTs by level, and how far TDH.SYS.TDMR.INIT has come."""

    base: int
    size: int
    pamts: tuple[Range, Range, Range]
    reserved: tuple[Range, ...]
    position: int = 0

    @property
    def end(self) -> int:
        return self.base + self.size

    def available(self) -> Iterator[Range]:
        """The maximal non-reserved ranges."""
        start = self.base
        for offset, size in self.reserved:
            if size and start < self.base + offset:
                yield start, self.base + offset - start
            if size:
                start = self.base + offset + size
        if start < self.end:
            yield start, self.end - start


def parse(data: bytes) -> ModelTdmr:
    """A TDMR_INFO of structures.yaml."""
    words = struct.unpack(f"<{TDMR_INFO_BYTES // 8}Q", data)
    pairs = list(zip(words[::2], words[1::2], strict=True))
    own, pamt_1g, pamt_2m, pamt_4k, *reserved = pairs
    base, size = own
    return ModelTdmr(base, size, (pamt_4k, pamt_2m, pamt_1g), tuple(reserved), base)


@dataclass(frozen=True)
class Limits:
    """What TDMRs are checked against."""

    keyids: KeyIds
    seamrr: Range
    cmrs: Sequence[Range]

    def is_convertible(self, wanted: Range) -> bool:
        return any(
            base <= wanted[0] and wanted[0] + wanted[1] <= base + size
            for base, size in self._extended_cmrs()
        )

    def _extended_cmrs(self) -> Iterator[Range]:
        base, size = 0, 0
        for next_base, next_size in self.cmrs:
            if next_size and next_base == base + size:
                size += next_size
            elif next_size:
                yield base, size
                base, size = next_base, next_size
        yield base, size

    def is_plain_range(self, wanted: Range) -> bool:
        base, size = wanted
        return self.keyids.is_plain(base) and self.keyids.is_plain(base + size - 1)


def fetch(memory: Memory, limits: Limits, array: int, count: int) -> list[ModelTdmr]:
    """The TDMRs at an array of addresses, each checked before the next is looked at."""
    tdmrs: list[ModelTdmr] = []
    for i in range(count):
        pa = int.from_bytes(_read(memory, limits.keyids.strip(array) + 8 * i, 8), "little")
        check_shared(pa, 512, RCX, limits.keyids, limits.seamrr)
        tdmrs.append(parse(_read(memory, limits.keyids.strip(pa), TDMR_INFO_BYTES)))
        _check_tdmr(tdmrs, i, limits)
    return tdmrs


def _read(memory: Memory, pa: int, size: int) -> bytes:
    data = memory.read_pa(pa, size)
    return b"\xff" * size if data is None else data


def _check_tdmr(tdmrs: Sequence[ModelTdmr], i: int, limits: Limits) -> None:
    _check_bounds(tdmrs, i, limits)
    _check_reserved(tdmrs[i], i)
    _check_pamts_valid(tdmrs[i], i, limits)
    _check_pamts_apart(tdmrs, i)
    _check_pamts_off_memory(tdmrs, i)
    for level in DOWN:
        if not limits.is_convertible(tdmrs[i].pamts[level]):
            raise Refused("TDX_PAMT_OUTSIDE_CMRS", i | level << 8)
    for available in tdmrs[i].available():
        if not limits.is_convertible(available):
            raise Refused("TDX_TDMR_OUTSIDE_CMRS", i)


def _check_bounds(tdmrs: Sequence[ModelTdmr], i: int, limits: Limits) -> None:
    tdmr = tdmrs[i]
    if wraps(tdmr.base, tdmr.size):
        raise Refused("TDX_INVALID_TDMR", i)
    if i and tdmr.base < tdmrs[i - 1].end:
        raise Refused("TDX_NON_ORDERED_TDMR", i)
    if tdmr.base % GIB or tdmr.size % GIB or not tdmr.size:
        raise Refused("TDX_INVALID_TDMR", i)
    if not limits.is_plain_range((tdmr.base, tdmr.size)):
        raise Refused("TDX_INVALID_TDMR", i)


def _check_reserved(tdmr: ModelTdmr, i: int) -> None:
    previous_end = 0
    for j, area in enumerate(tdmr.reserved):
        detail = i | j << 8
        offset, size = area
        if not size:
            if j + 1 < RESERVED_AREAS and tdmr.reserved[j + 1][1]:
                raise Refused("TDX_NON_ORDERED_RESERVED_IN_TDMR", detail)
            continue
        if wraps(offset, size):
            raise Refused("TDX_INVALID_RESERVED_IN_TDMR", detail)
        if offset < previous_end:
            raise Refused("TDX_NON_ORDERED_RESERVED_IN_TDMR", detail)
        # An area that wraps ends above the TDMR, too.
        if offset % PAGE or size % PAGE or offset + size > tdmr.size:
            raise Refused("TDX_INVALID_RESERVED_IN_TDMR", detail)
        previous_end = offset + size


def _check_pamts_valid(tdmr: ModelTdmr, i: int, limits: Limits) -> None:
    for level in DOWN:
        base, size = tdmr.pamts[level]
        is_valid = (
            not wraps(base, size)
            and not (base | size) % PAGE
            and size >= tdmr.size // PAGE_BYTES[level] * PAMT_ENTRY_BYTES
            and limits.is_plain_range((base, size))
        )
        if not is_valid:
            raise Refused("TDX_INVALID_PAMT", i | level << 8)


def _pamt_overlap(i: int, level: int, other: int) -> Refused:
    return Refused("TDX_PAMT_OVERLAP", i | level << 8 | other << 16)


def _check_pamts_apart(tdmrs: Sequence[ModelTdmr], i: int) -> None:
    own = tdmrs[i].pamts
    for j, earlier in enumerate(tdmrs[:i]):
        for level in UP:
            if any(overlap(own[level], theirs) for theirs in earlier.pamts):
                raise _pamt_overlap(i, level, j)
    for level, other in ((0, 1), (0, 2), (1, 2)):
        if overlap(own[level], own[other]):
            raise _pamt_overlap(i, level, i)


def _check_pamts_off_memory(tdmrs: Sequence[ModelTdmr], i: int) -> None:
    for j in range(i + 1):
        _check_pamts_off(tdmrs, i, j)
        if j < i:
            _check_pamts_off(tdmrs, j, i)


def _check_pamts_off(tdmrs: Sequence[ModelTdmr], owner: int, other: int) -> None:
    for level in UP:
        pamt = tdmrs[owner].pamts[level]
        if any(overlap(pamt, available) for available in tdmrs[other].available()):
            raise _pamt_overlap(owner, level, other)
