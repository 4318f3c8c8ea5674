# SPDX-License-Identifier: GPL-2.0-or-later
"""Rules of a memory layout: one that keeps them all, and each of them broken."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from tdxhost.records import Memory, Range, RangeKind
from tdxhost.validation.layout import (
    PAMT_PAGES,
    TdmrLimits,
    cmr_problems,
    far_pamts,
    pamt_problems,
    ram_problems,
    tdmr_problems,
    tdx_memory_problems,
)
from tdxhost.validation.ranges import Span, spans, system_ram

MIB, GIB = 1 << 20, 1 << 30
KIB = 1 << 10
#: As the TDX module 1.5.01 has them; entries of 16 bytes (sys-fields.yaml).
LIMITS = TdmrLimits(
    max_tdmrs=64,
    max_reserved=16,
    entry_bytes=dict.fromkeys(PAMT_PAGES, 16),
)
#: PAMTs of 1 GiB (structures.yaml, TDMR_INFO: 16 bytes, 8192 bytes, 4194304 bytes).
PAMT_BYTES = {RangeKind.PAMT_4K: 4 * MIB, RangeKind.PAMT_2M: 8 * KIB, RangeKind.PAMT_1G: 4 * KIB}
IOMEM = "00100000-3fffffff : System RAM\n80000000-bfffffff : System RAM\n"


def part(kind: RangeKind, base: int, size: int, tdmr: int | None = None, node: int = 0) -> Range:
    """A range of GET_MEMORY."""
    return Range(base_pa=base, bytes=size, kind=kind, node=node, tdmr=tdmr)


def pamts(base: int, tdmr: int) -> Iterator[Range]:
    """The PAMTs of a GiB, one behind the other."""
    for kind, size in PAMT_BYTES.items():
        yield part(kind, base, size, tdmr)
        base += size


def good() -> list[Range]:
    """A machine with two GiB; PAMTs of both at the end of the second, of which 8 MiB are kept."""
    kept = 3 * GIB - 9 * MIB
    size = sum(PAMT_BYTES.values())
    ram = [(MIB, GIB - MIB), (2 * GIB, GIB)]
    return [
        *(part(RangeKind.RAM, base, bytes_) for base, bytes_ in ram),
        *(part(RangeKind.CMR, base, bytes_) for base, bytes_ in ram),
        *(part(RangeKind.TDX, base, bytes_) for base, bytes_ in ram),
        part(RangeKind.TDMR, 0, GIB, 0),
        part(RangeKind.TDMR, 2 * GIB, GIB, 1),
        part(RangeKind.RESERVED, 0, MIB, 0),
        part(RangeKind.RESERVED, kept, 2 * size, 1),
        *pamts(kept, 0),
        *pamts(kept + size, 1),
    ]


def problems_of(ranges: list[Range]) -> list[str]:
    """Everything that any rule finds."""
    memory = Memory(tuple(ranges), 0)
    ram = system_ram(IOMEM, MIB, 4096)
    return [
        *cmr_problems(spans(memory.of_kind(RangeKind.CMR)), None),
        *ram_problems(memory, ram),
        *tdx_memory_problems(memory, ram),
        *tdmr_problems(memory, LIMITS),
        *pamt_problems(memory, LIMITS),
    ]


def test_a_good_layout_has_no_problem() -> None:
    assert problems_of(good()) == []


def test_pamts_of_a_terabyte_have_the_sizes_of_the_formula() -> None:
    sizes = [LIMITS.pamt_bytes(Span(0, 1 << 40), kind) for kind in PAMT_PAGES]
    assert sizes == [4 * GIB, 8 * MIB, 16 * KIB]


Change = Callable[[list[Range]], list[Range]]


def without_kind(kind: RangeKind, nth: int = 0) -> Change:
    """Leaves a range out."""

    def change(ranges: list[Range]) -> list[Range]:
        found = [one for one in ranges if one.kind is kind][nth]
        return [one for one in ranges if one is not found]

    return change


def moved(kind: RangeKind, nth: int = 0, **members: int) -> Change:
    """Adds to members of a range."""

    def change(ranges: list[Range]) -> list[Range]:
        found = [one for one in ranges if one.kind is kind][nth]
        new = replace(found, **{name: getattr(found, name) + by for name, by in members.items()})
        return [new if one is found else one for one in ranges]

    return change


def swapped(kind: RangeKind) -> Change:
    """The first two of a kind in the other order."""

    def change(ranges: list[Range]) -> list[Range]:
        at = [index for index, one in enumerate(ranges) if one.kind is kind]
        out = list(ranges)
        out[at[0]], out[at[1]] = ranges[at[1]], ranges[at[0]]
        return out

    return change


def added(*new: Range) -> Change:
    """More ranges."""
    return lambda ranges: [*ranges, *new]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (swapped(RangeKind.CMR), "CMRs do not ascend"),
        (moved(RangeKind.CMR, 0, bytes=-1), "CMR 0x100000-0x3ffffffe is not whole pages"),
        (moved(RangeKind.CMR, 0, bytes=-4096), "in no CMR, and not told as OUTSIDE: 0x3ffff000"),
        (moved(RangeKind.CMR, 0, bytes=-4096), "TDX memory that is in no CMR: 0x3ffff000"),
        (moved(RangeKind.RAM, 0, bytes=-4096), "the driver tells System RAM"),
        (without_kind(RangeKind.TDX), "System RAM in CMRs that is no TDX memory: 0x100000-0x3ff"),
        (moved(RangeKind.TDX, 1, bytes=4096), "TDX memory that is no System RAM"),
        (added(part(RangeKind.TDX, GIB - MIB, MIB)), "TDX memory is told twice: 0x3ff00000"),
        (added(part(RangeKind.OUTSIDE, GIB - MIB, MIB)), "told as OUTSIDE lies in a CMR"),
        (added(part(RangeKind.OUTSIDE, 8 * GIB, MIB)), "told as OUTSIDE is no System RAM"),
        (moved(RangeKind.TDMR, 0, bytes=4096), "base or size is not a multiple of 1 GiB"),
        (moved(RangeKind.TDMR, 0, bytes=2 * GIB), "TDMRs do not ascend, or overlap"),
        (swapped(RangeKind.TDMR), "TDMRs are numbered"),
        (without_kind(RangeKind.TDMR), "TDX memory that no TDMR covers: 0x100000-0x3fffffff"),
        (without_kind(RangeKind.RESERVED), "in no CMR, and not reserved: 0x0-0xfffff"),
        (without_kind(RangeKind.RESERVED, 1), "PAMTs in memory of TDMRs that is not reserved"),
        (moved(RangeKind.RESERVED, 0, bytes=1), "is empty, or no whole pages of 4 KiB"),
        (moved(RangeKind.RESERVED, 0, bytes=GIB), "lie outside it"),
        (moved(RangeKind.RESERVED, 0, bytes=4096), "reserved although no PAMT is there: 0x100000"),
        (moved(RangeKind.RESERVED, 0, tdmr=5), "reserved areas of no TDMR"),
        (added(part(RangeKind.RESERVED, 0, 4096, 0)), "reserved areas of TDMR .* do not ascend"),
        (moved(RangeKind.PAMT_4K, 0, bytes=-4096), "PAMT_4K of TDMR .* has 4190208 bytes"),
        (moved(RangeKind.PAMT_1G, 0, bytes=4096), "PAMTs overlap"),
        (moved(RangeKind.PAMT_2M, 0, base_pa=64), "PAMT_2M .* is not whole pages"),
        (moved(RangeKind.PAMT_2M, 0, base_pa=8 * GIB), "PAMTs outside CMRs"),
        (moved(RangeKind.PAMT_2M, 0, base_pa=8 * GIB), "PAMTs that are not in System RAM"),
        (without_kind(RangeKind.PAMT_1G), "has 0 ranges of PAMT_1G, not one"),
    ],
)
def test_each_rule_that_is_broken_is_told(change: Change, says: str) -> None:
    with pytest.raises(AssertionError, match=says):
        raise AssertionError("\n".join(problems_of(change(good()))))


def test_more_tdmrs_and_reserved_areas_than_there_can_be_are_told() -> None:
    tight = replace(LIMITS, max_tdmrs=1, max_reserved=0)
    told = list(tdmr_problems(Memory(tuple(good()), 0), tight))
    assert "there are 2 TDMRs, and MAX_TDMRS is 1" in told
    assert any("has 1 reserved areas, and MAX_RESERVED_PER_TDMR is 0" in one for one in told)


def test_offline_memory_need_not_be_tdx_memory_and_left_out_memory_is_no_problem() -> None:
    ranges = [
        *(one for one in good() if one.kind is not RangeKind.RAM),
        part(RangeKind.RAM, MIB, GIB - MIB),
        part(RangeKind.RAM, 2 * GIB, GIB),
        replace(part(RangeKind.RAM, 4 * GIB, GIB), node=None),
        part(RangeKind.RAM, 5 * GIB, GIB),
        part(RangeKind.OUTSIDE, 5 * GIB, GIB),
    ]
    memory = Memory(tuple(ranges), 0)
    ram = system_ram(f"{IOMEM}100000000-17fffffff : System RAM\n", MIB, 4096)
    assert [*ram_problems(memory, ram), *tdx_memory_problems(memory, ram)] == []


def test_cmrs_that_the_metadata_has_otherwise_are_told() -> None:
    (told,) = cmr_problems([Span(MIB, GIB)], [Span(MIB, 2 * GIB)])
    assert told.startswith("the driver tells the CMRs 0x100000-0x3fffffff, the TDX module's")


def test_pamts_on_another_node_are_remarked_and_no_problem() -> None:
    ranges = moved(RangeKind.PAMT_4K, 0, node=1)(good())
    assert problems_of(ranges) == []
    (remark,) = far_pamts(Memory(tuple(ranges), 0))
    assert remark.endswith("is on node 1, and describes memory of node 0")
