# SPDX-License-Identifier: GPL-2.0-or-later
"""CMRs of real machines, and the PAMTs that Linux allocated on them.

Numbers as kernels printed them in public reports; the source stands with each.
Linux's figure is "<n> KB allocated for PAMT", and its TDMRs are the memory in
the CMRs rounded out to 1 GiB, the first one [0, 2 GiB).
"""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from .layout import LEVELS, Library, Limits, Range, Region
from .rules import GIB, config_answer

MIB = 1 << 20


@dataclass(frozen=True)
class Machine:
    """CMRs as [base, end), and Linux's KiB of PAMTs where they were printed."""

    source: str
    cmrs: tuple[tuple[int, int], ...]
    pamt_kib: int | None = None


LOW = (0x100000, 0x77800000)

MACHINES = {
    "2s-2t": Machine(
        "https://github.com/canonical/tdx/issues/385",
        (LOW, (0x100000000, 0x1003E000000), (0x10080000000, 0x20040000000)),
        8396820,
    ),
    "2s-512g": Machine(
        "https://github.com/canonical/tdx/issues/206",
        (LOW, (0x100000000, 0x406E000000), (0x4080000000, 0x8070000000)),
        2101260,
    ),
    "1s-256g": Machine(
        "https://github.com/Sifchain/sa-eliza/issues/461",
        (LOW, (0x100000000, 0x3FFE000000)),
        1042424,
    ),
    "old-module": Machine(
        "https://github.com/canonical/tdx/issues/331",
        (
            LOW,
            (0x100000000, 0x6FFE000000),
            (0x8000000000, 0xF000000000),
            (0x10000000000, 0x10080000000),
        ),
    ),
    "snc": Machine(
        "https://github.com/canonical/tdx/issues/381",
        (
            LOW,
            (0x100000000, 0x103E000000),
            (0x1080000000, 0x2040000000),
            (0x2080000000, 0x3040000000),
        ),
    ),
}


def regions_of(machine: Machine) -> list[Region]:
    """All memory in CMRs, one node each but the first two, which share one."""
    return [Region(base, end - base, max(0, i - 1)) for i, (base, end) in enumerate(machine.cmrs)]


def cmrs_of(machine: Machine) -> list[Range]:
    """The CMRs as TDH.SYS.RD lists them: 32 entries, most of them empty."""
    used = [Range(base, end - base) for base, end in machine.cmrs]
    return used + [Range(0, 0)] * (32 - len(used))


@pytest.mark.parametrize("name", [name for name, m in MACHINES.items() if m.pamt_kib])
def test_pamts_are_linuxs_to_the_kib(library: Library, name: str) -> None:
    layout = library.layout()
    layout.lay_out(regions_of(MACHINES[name]))

    first = layout.tdmrs[0]
    assert (first.base, first.size) == (0, 2 * GIB)
    total = sum(layout.pamt_bytes(i) for i in range(len(layout.tdmrs)))
    assert total == MACHINES[name].pamt_kib * 1024  # type: ignore[operator]


@pytest.mark.parametrize("name", MACHINES)
def test_config_takes_the_layout(library: Library, name: str) -> None:
    machine = MACHINES[name]
    layout = library.layout()
    layout.lay_out(regions_of(machine))
    # From the top of each CMR down, a hole between them, as on a machine in use.
    tops = [end for _, end in machine.cmrs]
    owners = [
        next(i for i, (_, end) in enumerate(machine.cmrs) if end > tdmr.base)
        for tdmr in layout.tdmrs
    ]
    for index, owner in enumerate(owners):
        for level in LEVELS:
            tops[owner] -= layout.tdmrs[index].pamt[level].size + 16 * MIB
            layout.place(index, level, tops[owner])
    layout.reserve(cmrs_of(machine))

    assert config_answer(layout.tdmrs, cmrs_of(machine), Limits()) is None
    assert max(len(tdmr.reserved) for tdmr in layout.tdmrs) <= 6


# https://.../dmesg of a Dell PowerEdge R750xs (Ice Lake, no TDX), for the shape of its memory
# below 4 GiB: [first, last] of what its firmware calls usable.
USABLE = (
    (0x00100000, 0x42449FFF),
    (0x4A453000, 0x4A6DBFFF),
    (0x4B6DC000, 0x4C240FFF),
    (0x4C347000, 0x4D801FFF),
    (0x4D803000, 0x51AFFFFF),
    (0x51B01000, 0x5EEFDFFF),
    (0x6F7FF000, 0x6F7FFFFF),
    (0x100000000, 0x207FFFFFFF),
)


def test_many_small_holes_are_one_tdmr(library: Library) -> None:
    cmrs = [Range(MIB, 0x77800000 - MIB), Range(4 * GIB, 0x2080000000 - 4 * GIB)]
    regions = [Region(first, last + 1 - first) for first, last in USABLE]
    layout = library.layout()
    layout.lay_out(regions)
    assert [(t.base, t.size) for t in layout.tdmrs] == [
        (0, 2 * GIB),
        (4 * GIB, 0x2080000000 - 4 * GIB),
    ]
    pos = 0x2080000000
    for index in (0, 1):
        for level in LEVELS:
            pos -= layout.tdmrs[index].pamt[level].size
            layout.place(index, level, pos)
    layout.reserve(cmrs)

    assert config_answer(layout.tdmrs, cmrs, Limits()) is None
    # Holes inside a CMR count for nothing; PAMTs that touch are one area.
    assert [len(tdmr.reserved) for tdmr in layout.tdmrs] == [2, 1]
