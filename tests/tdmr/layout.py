# SPDX-License-Identifier: GPL-2.0-or-later
"""kmod/tdmr.c in Python: declarations read from tdmr.h, calls through cffi."""

from __future__ import annotations

import errno
import re
from collections.abc import Sequence
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


class TooManyTdmrs(Exception):
    """-E2BIG: the limit on TDMRs stands in the way."""


class TooManyReserved(Exception):
    """-ENOSPC: the limit on reserved areas stands in the way."""


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
    pamt: tuple[Range, Range, Range]
    reserved: tuple[Range, ...]


class Layout:
    """One layout, from regions to reserved areas."""

    def __init__(self, lib: Any, limits: Limits) -> None:
        self._lib = lib
        self._limits = ffi.new(
            "struct tdmr_limits *",
            {
                "max_tdmrs": limits.max_tdmrs,
                "max_reserved": limits.max_reserved,
                "pamt_entry_bytes": limits.pamt_entry_bytes,
            },
        )
        self._room = limits.max_tdmrs
        self._tdmrs = ffi.new("struct tdmr[]", self._room)
        self._count = 0

    def lay_out(self, regions: Sequence[Region]) -> None:
        """tdmr_layout(): TDMRs and the sizes of their PAMTs."""
        array = ffi.new("struct tdmr_region[]", [(r.base, r.size, r.node) for r in regions])
        count = self._lib.tdmr_layout(self._tdmrs, self._room, array, len(regions), self._limits)
        if count == -errno.E2BIG:
            raise TooManyTdmrs
        if count < 0:
            raise ValueError(errno.errorcode[-count])
        self._count = count

    def place(self, index: int, level: int, base: int) -> None:
        """Say where a PAMT is."""
        self._tdmrs[index].pamt[level].base = base

    def reserve(self, cmrs: Sequence[Range]) -> None:
        """tdmr_reserve(): the reserved areas."""
        array = ffi.new("struct tdmr_range[]", [(c.base, c.size) for c in cmrs])
        error = self._lib.tdmr_reserve(self._tdmrs, self._count, array, len(cmrs), self._limits)
        if error == -errno.ENOSPC:
            raise TooManyReserved
        assert error == 0

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
            pamt=(pamts[0], pamts[1], pamts[2]),
            reserved=tuple(reserved),
        )


class Library:
    """kmod/tdmr.c as a shared library."""

    def __init__(self, path: Path) -> None:
        self._lib: Any = ffi.dlopen(str(path))

    def layout(self, limits: Limits | None = None) -> Layout:
        """A layout that has not begun."""
        return Layout(self._lib, limits or Limits())

    def outside(self, cmrs: Sequence[Range], start: int, end: int) -> list[Range]:
        """tdmr_next_outside() until there is no more: all that no CMR holds."""
        array = ffi.new("struct tdmr_range[]", [(c.base, c.size) for c in cmrs])
        found = ffi.new("struct tdmr_range *")
        ranges: list[Range] = []
        while self._lib.tdmr_next_outside(array, len(cmrs), start, end, found):
            ranges.append(Range(found.base, found.size))
            start = ranges[-1].end
        return ranges
