# SPDX-License-Identifier: GPL-2.0-or-later
"""CMRs of real machines, and the PAMTs that Linux allocated on them.

Numbers as kernels printed them in public reports; the source stands with each.
Linux's figure is "<n> KB allocated for PAMT", and its TDMRs are the memory in
the CMRs rounded out to 1 GiB, the first one [0, 2 GiB).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from .layout import Library, Limits, Range, Region
from .pamts import fit_in_ram
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


def check_machine(library: Library, machine: Machine, top_down: bool) -> None:
    """TDH.SYS.CONFIG takes the layout, and its PAMTs are as large as Linux's."""
    layout = library.layout()
    regions, cmrs = regions_of(machine), cmrs_of(machine)
    layout.lay_out(regions, cmrs)
    used = fit_in_ram(layout, regions, top_down)

    first = layout.tdmrs[0]
    assert (first.base, first.size) == (0, 2 * GIB)
    assert config_answer(layout.tdmrs, cmrs, Limits()) is None
    if machine.pamt_kib is not None:
        assert sum(piece.size for piece in used) == machine.pamt_kib * 1024


@pytest.mark.parametrize("top_down", [False, True], ids=["bottom up", "top down"])
@pytest.mark.parametrize("name", MACHINES)
def test_config_takes_the_layout_with_linuxs_pamts(
    library: Library, name: str, top_down: bool
) -> None:
    check_machine(library, MACHINES[name], top_down)


CMR = re.compile(r"CMR: \[0x([0-9a-f]+), 0x([0-9a-f]+)\)")
PAMT = re.compile(r"(\d+) KB allocated for PAMT")
E820 = re.compile(r"BIOS-e820: \[mem 0x([0-9a-f]+)-0x([0-9a-f]+)\] usable")


def recorded(path: Path) -> Machine | None:
    """The machine that a kernel's log shows, where it shows CMRs."""
    text = path.read_text()
    cmrs = tuple((int(base, 16), int(end, 16)) for base, end in CMR.findall(text))
    pamt = PAMT.search(text)
    return Machine(path.name, cmrs, int(pamt[1]) if pamt else None) if cmrs else None


def test_every_recorded_memory_map_can_be_laid_out(library: Library, shared: Path) -> None:
    paths = sorted((shared / "field-cases" / "memory-maps").glob("*.txt"))
    machines = [machine for path in paths if (machine := recorded(path))]
    assert machines
    for machine in machines:
        check_machine(library, machine, top_down=False)
        check_machine(library, machine, top_down=True)


def test_every_recorded_e820_map_can_be_laid_out(library: Library, shared: Path) -> None:
    """Without CMRs in the log, they are put around the RAM: holes in it are no holes of theirs."""
    paths = sorted((shared / "field-cases" / "memory-maps").glob("*.txt"))
    found = 0
    for path in paths:
        usable = [(int(a, 16), int(b, 16)) for a, b in E820.findall(path.read_text())]
        regions = [Region(a, b + 1 - a) for a, b in usable if a >= MIB]
        if not regions:
            continue
        found += 1
        low_end = max(region.end for region in regions if region.base < 4 * GIB)
        high_end = regions[-1].end
        cmrs = [Range(MIB, low_end - MIB), Range(4 * GIB, high_end - 4 * GIB)]
        layout = library.layout()
        layout.lay_out(regions, cmrs)
        fit_in_ram(layout, regions, top_down=True)
        assert config_answer(layout.tdmrs, cmrs, Limits()) is None
    assert found


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
    layout.lay_out(regions, cmrs)
    assert [(t.base, t.size) for t in layout.tdmrs] == [
        (0, 2 * GIB),
        (4 * GIB, 0x2080000000 - 4 * GIB),
    ]
    fit_in_ram(layout, regions, top_down=True)

    assert config_answer(layout.tdmrs, cmrs, Limits()) is None
    # Holes inside a CMR count for nothing; PAMTs that touch are one area.
    assert [len(tdmr.reserved) for tdmr in layout.tdmrs] == [2, 1]
