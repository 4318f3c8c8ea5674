# SPDX-License-Identifier: GPL-2.0-or-later
"""kmod/tdmr*.c in Python: declarations read from tdmr.h, calls through cffi."""

from __future__ import annotations

import errno
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cffi import FFI

REPO = Path(__file__).resolve().parents[2]
KMOD = REPO / "kmod"

LEVELS = (0, 1, 2)
PAGE_BYTES = (1 << 12, 1 << 21, 1 << 30)


def declarations() -> str:
    """tdmr.h as a cdef without a preprocessor."""
    text = (KMOD / "tdmr.h").read_text()
    defines = dict(re.findall(r"^#define (\w+) (\d+)$", text, flags=re.MULTILINE))
    text = re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)
    text = re.sub(r"^#.*$", "", text, flags=re.MULTILINE)
    for name, value in defines.items():
        text = re.sub(rf"\b{name}\b", value, text)
    return "typedef uint32_t u32;\ntypedef uint64_t u64;\n" + text


ffi: Any = FFI()
ffi.cdef(declarations())


@dataclass
class Misfit(Exception):
    """No layout: struct tdmr_misfit."""

    base: int
    size: int
    needed: int
    limit: int


class TooManyTdmrs(Misfit):
    """-E2BIG: the limit on TDMRs stands in the way."""


class TooManyReserved(Misfit):
    """-ENOSPC: the limit on reserved areas stands in the way."""


def misfit_of(step: Callable[[], object]) -> Misfit | None:
    """Why a step found no layout; None where it did."""
    try:
        step()
    except Misfit as misfit:
        return misfit
    return None


@dataclass(frozen=True)
class Range:
    """[base, base + size)."""

    base: int
    size: int

    @property
    def end(self) -> int:
        """First byte behind it."""
        return self.base + self.size


@dataclass(frozen=True)
class Region(Range):
    """Memory of one node."""

    node: int = 0


@dataclass(frozen=True)
class Limits:
    """What a TDX module allows; by default what all of them so far do."""

    max_tdmrs: int = 64
    max_reserved: int = 16
    pamt_entry_bytes: tuple[int, int, int] = (16, 16, 16)


@dataclass(frozen=True)
class Tdmr(Range):
    """One TDMR; PAMTs by level 4K, 2M, 1G; reserved areas by address."""

    node: int
    piece: int
    pamt: tuple[Range, Range, Range]
    reserved: tuple[Range, ...]


class Layout:
    """One layout, from memory to reserved areas."""

    def __init__(self, lib: Any, limits: Limits, *, room_to_spread: bool = False) -> None:
        self._lib = lib
        self._limits = ffi.new(
            "struct tdmr_limits *",
            {
                "max_tdmrs": limits.max_tdmrs,
                "max_reserved": limits.max_reserved,
                "pamt_entry_bytes": limits.pamt_entry_bytes,
            },
        )
        self._tdmrs = ffi.new("struct tdmr[]", limits.max_tdmrs + 1)
        self._misfit = ffi.new("struct tdmr_misfit *")
        self._memory = ffi.new("struct tdmr_memory *")
        self._arrays: list[Any] = []
        self._pieces: Any = []
        self._room = room_to_spread
        self._count = 0

    def lay_out(self, regions: Sequence[Region], cmrs: Sequence[Range]) -> None:
        """tdmr_layout(): TDMRs and the sizes of their PAMTs."""
        self._arrays = [
            ffi.new("struct tdmr_region[]", [(r.base, r.size, r.node) for r in regions]),
            ffi.new("struct tdmr_range[]", [(c.base, c.size) for c in cmrs]),
        ]
        memory = self._memory
        memory.regions, memory.cmrs = self._arrays
        memory.nr_regions, memory.nr_cmrs = len(regions), len(cmrs)
        self._count = self._checked(
            self._lib.tdmr_layout(self._tdmrs, memory, self._limits, self._misfit)
        )

    def piece_bytes(self, index: int) -> int:
        """tdmr_piece_bytes() of a TDMR, with tdmr_spread_bytes() where there is to be room."""
        tdmr, count = self._tdmrs + index, self._count
        least = int(self._lib.tdmr_piece_bytes(tdmr, count, self._memory, self._limits))
        if not self._room:
            return least
        return least + int(self._lib.tdmr_spread_bytes(tdmr, count, self._limits))

    def crowded(self, start: int, end: int) -> int:
        """tdmr_crowded() for a PAMT at [start, end)."""
        return int(self._lib.tdmr_crowded(self._memory, self._limits, start, end))

    def fit(self, bases: Sequence[int]) -> list[int]:
        """tdmr_fit() with pieces of piece_bytes() from ``bases`` on; bytes used of each."""
        sizes = [self.piece_bytes(i) for i in range(self._count)]
        self._pieces = pieces = ffi.new(
            "struct tdmr_piece[]",
            [{"base": base, "size": size} for base, size in zip(bases, sizes, strict=True)],
        )
        self._count = self._checked(
            self._lib.tdmr_fit(
                self._tdmrs, pieces, len(sizes), self._memory, self._limits, self._misfit
            )
        )
        return self._used(sizes)

    def _used(self, sizes: Sequence[int]) -> list[int]:
        for piece, size in zip(self._pieces, sizes, strict=True):
            assert 0 < piece.used <= size
        return [piece.used for piece in self._pieces]

    def spread(self, workers: int) -> list[int]:
        """tdmr_spread() behind fit(); bytes used of each piece."""
        pieces = self._pieces
        self._count = self._lib.tdmr_spread(
            *(self._tdmrs, self._count, pieces, len(pieces), self._memory, self._limits, workers)
        )
        return self._used([piece.size for piece in pieces])

    def _checked(self, answer: int) -> int:
        found = self._misfit
        numbers = (found.base, found.size, found.needed, found.limit)
        if answer == -errno.E2BIG:
            raise TooManyTdmrs(*numbers)
        if answer == -errno.ENOSPC:
            raise TooManyReserved(*numbers)
        if answer < 0:
            raise ValueError(errno.errorcode[-answer])
        return answer

    def pamt_bytes(self, index: int) -> int:
        """tdmr_pamt_bytes() of a TDMR."""
        return int(self._lib.tdmr_pamt_bytes(self._tdmrs + index))

    @property
    def tdmrs(self) -> list[Tdmr]:
        """What there is so far."""
        return [self._tdmr(self._tdmrs[i]) for i in range(self._count)]

    @staticmethod
    def _tdmr(raw: Any) -> Tdmr:
        pamts = [Range(raw.pamt[level].base, raw.pamt[level].size) for level in LEVELS]
        reserved = [
            Range(raw.reserved[k].base, raw.reserved[k].size) for k in range(raw.nr_reserved)
        ]
        return Tdmr(
            base=raw.base,
            size=raw.size,
            node=raw.node,
            piece=raw.piece,
            pamt=(pamts[0], pamts[1], pamts[2]),
            reserved=tuple(reserved),
        )


class Library:
    """kmod/tdmr*.c as a shared library."""

    def __init__(self, path: Path) -> None:
        self._lib: Any = ffi.dlopen(str(path))

    def layout(self, limits: Limits | None = None, *, room_to_spread: bool = False) -> Layout:
        """A layout that has not begun; its pieces may have room for tdmr_spread()."""
        return Layout(self._lib, limits or Limits(), room_to_spread=room_to_spread)

    def outside(self, cmrs: Sequence[Range], start: int, end: int) -> list[Range]:
        """tdmr_next_outside() until there is no more: all that no CMR holds."""
        array = ffi.new("struct tdmr_range[]", [(c.base, c.size) for c in cmrs])
        found = ffi.new("struct tdmr_range *")
        ranges: list[Range] = []
        while self._lib.tdmr_next_outside(array, len(cmrs), start, end, found):
            ranges.append(Range(found.base, found.size))
            start = ranges[-1].end
        return ranges
