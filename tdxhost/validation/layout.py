# SPDX-License-Identifier: GPL-2.0-or-later
"""What is wrong with a memory layout, by the rules of TDH.SYS.CONFIG; nothing where all is well.

Each function takes what GET_MEMORY tells and yields a sentence for everything that breaks a rule
(TDX module ABI spec, TDH.SYS.CONFIG and TDMR_INFO).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from tdxhost.records import Memory, Range, RangeKind
from tdxhost.validation.ranges import (
    Span,
    ascending,
    common,
    merged,
    named,
    overlaps,
    spans,
    without,
)

PAGE = 4 << 10
GIB = 1 << 30
#: Physical addresses of processors with TDX end here, KeyID bits included.
ADDRESSES_END = 1 << 52
#: Entries of the TDX module's table of CMRs.
MOST_CMRS = 32
#: PAMTs by the pages that they have an entry for; bytes of such a page.
PAMT_PAGES: Mapping[RangeKind, int] = {
    RangeKind.PAMT_4K: 4 << 10,
    RangeKind.PAMT_2M: 2 << 20,
    RangeKind.PAMT_1G: 1 << 30,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TdmrLimits:
    """What the TDX module's metadata says of TDMRs; bytes of a PAMT entry by its kind."""

    max_tdmrs: int
    max_reserved: int
    entry_bytes: Mapping[RangeKind, int]

    def pamt_bytes(self, tdmr: Span, kind: RangeKind) -> int:
        """Bytes of a PAMT: an entry for each page of the TDMR, in whole pages of 4 KiB."""
        entries = tdmr.bytes // PAMT_PAGES[kind]
        return -(-entries * self.entry_bytes[kind] // PAGE) * PAGE


def reserved_of(memory: Memory, tdmr: Range) -> list[Span]:
    """The reserved areas of a TDMR, in the order in which they are told."""
    kept = memory.of_kind(RangeKind.RESERVED)
    return spans(area for area in kept if area.tdmr == tdmr.tdmr)


def usable(memory: Memory) -> list[Span]:
    """What TDs can have pages of: TDMRs without their reserved areas."""
    areas = spans(memory.of_kind(RangeKind.RESERVED))
    return without(spans(memory.of_kind(RangeKind.TDMR)), areas)


def cmr_problems(cmrs: Sequence[Span], told: Sequence[Span] | None) -> Iterator[str]:
    """What is wrong with CMRs; told are those that the metadata has, where it can be read."""
    if not cmrs:
        yield "there is no CMR"
    if len(cmrs) > MOST_CMRS:
        yield f"there are {len(cmrs)} CMRs, and the TDX module's table has room for {MOST_CMRS}"
    for cmr in cmrs:
        if cmr.bytes <= 0 or cmr.end > ADDRESSES_END:
            yield f"CMR {cmr} is empty, or ends above the highest physical address"
        elif not cmr.aligned(PAGE):
            yield f"CMR {cmr} is not whole pages of 4 KiB"
    if not ascending(cmrs):
        yield f"CMRs do not ascend, or overlap: {', '.join(map(str, cmrs))}"
    if told is not None and list(cmrs) != list(told):
        yield f"the driver tells the CMRs {named(cmrs)}, the TDX module's metadata {named(told)}"


def ram_problems(memory: Memory, ram: Sequence[Span]) -> Iterator[str]:
    """What is wrong between CMRs, the driver's ranges, and System RAM as Linux tells it, merged.

    RAM without a node is offline; outside CMRs the driver keeps it so.
    """
    told = memory.of_kind(RangeKind.RAM)
    cmrs = merged(spans(memory.of_kind(RangeKind.CMR)))
    outside = spans(memory.of_kind(RangeKind.OUTSIDE))
    offline = spans(part for part in told if part.node is None)
    if (mine := merged(spans(told))) != list(ram):
        yield f"the driver tells System RAM {named(mine)}, /proc/iomem {named(ram)}"
    if lost := without(ram, [*cmrs, *outside, *offline]):
        yield f"System RAM that is in no CMR, and not told as OUTSIDE: {named(lost)}"
    if both := common(outside, cmrs):
        yield f"memory that is told as OUTSIDE lies in a CMR: {named(both)}"
    if stray := without(outside, ram):
        yield f"memory that is told as OUTSIDE is no System RAM: {named(stray)}"


def tdx_memory_problems(memory: Memory, ram: Sequence[Span]) -> Iterator[str]:
    """What is wrong with TDX memory: it is the System RAM that lies in CMRs."""
    cmrs = spans(memory.of_kind(RangeKind.CMR))
    tdx = spans(memory.of_kind(RangeKind.TDX))
    if not tdx:
        yield "there is no TDX memory"
    if twice := overlaps(tdx):
        yield f"TDX memory is told twice: {named(twice)}"
    if bad := without(tdx, cmrs):
        yield f"TDX memory that is in no CMR: {named(bad)}"
    if gone := without(tdx, ram):
        yield f"TDX memory that is no System RAM (was it unplugged?): {named(gone)}"
    offline = spans(part for part in memory.of_kind(RangeKind.RAM) if part.node is None)
    if lost := without(common(ram, cmrs), [*tdx, *offline]):
        yield f"System RAM in CMRs that is no TDX memory: {named(lost)}"


def tdmr_problems(memory: Memory, limits: TdmrLimits) -> Iterator[str]:
    """What is wrong with TDMRs and their reserved areas."""
    tdmrs = memory.of_kind(RangeKind.TDMR)
    if not 0 < len(tdmrs) <= limits.max_tdmrs:
        yield f"there are {len(tdmrs)} TDMRs, and MAX_TDMRS is {limits.max_tdmrs}"
    if [tdmr.tdmr for tdmr in tdmrs] != list(range(len(tdmrs))):
        yield f"TDMRs are numbered {[tdmr.tdmr for tdmr in tdmrs]}, not by address"
    if not ascending(spans(tdmrs)):
        yield f"TDMRs do not ascend, or overlap: {', '.join(map(str, spans(tdmrs)))}"
    for tdmr in tdmrs:
        if tdmr.bytes <= 0 or not Span.of(tdmr).aligned(GIB):
            yield f"TDMR {Span.of(tdmr)} is empty, or base or size is not a multiple of 1 GiB"
        yield from _reserved_problems(tdmr, reserved_of(memory, tdmr), limits)
    known = {tdmr.tdmr for tdmr in tdmrs}
    if stray := [area for area in memory.of_kind(RangeKind.RESERVED) if area.tdmr not in known]:
        yield f"reserved areas of no TDMR: {named(spans(stray))}"
    yield from _cover_problems(memory)


def _reserved_problems(tdmr: Range, areas: list[Span], limits: TdmrLimits) -> Iterator[str]:
    whole = Span.of(tdmr)
    if len(areas) > limits.max_reserved:
        yield (
            f"TDMR {whole} has {len(areas)} reserved areas, and MAX_RESERVED_PER_TDMR is "
            f"{limits.max_reserved}"
        )
    for area in areas:
        if area.bytes <= 0 or not area.aligned(PAGE):
            yield f"reserved area {area} of TDMR {whole} is empty, or no whole pages of 4 KiB"
    if not ascending(areas):
        yield f"reserved areas of TDMR {whole} do not ascend, or overlap: {named(areas)}"
    if beyond := without(areas, [whole]):
        yield f"reserved areas of TDMR {whole} lie outside it: {named(beyond)}"


def _cover_problems(memory: Memory) -> Iterator[str]:
    """TDMRs hold all TDX memory; what of them is not reserved can be used, and all that can is."""
    tdx = spans(memory.of_kind(RangeKind.TDX))
    cmrs = spans(memory.of_kind(RangeKind.CMR))
    pamts = spans(memory.of_kind(*PAMT_PAGES))
    free = usable(memory)
    if lost := without(tdx, spans(memory.of_kind(RangeKind.TDMR))):
        yield f"TDX memory that no TDMR covers: {named(lost)}"
    if bad := without(free, cmrs):
        yield f"memory of TDMRs that is in no CMR, and not reserved: {named(bad)}"
    if kept := without(tdx, [*free, *pamts]):
        yield f"TDX memory that is reserved although no PAMT is there: {named(kept)}"


def pamt_problems(memory: Memory, limits: TdmrLimits) -> Iterator[str]:
    """What is wrong with PAMTs, each by itself and together."""
    for tdmr in memory.of_kind(RangeKind.TDMR):
        for kind in PAMT_PAGES:
            mine = [pamt for pamt in memory.of_kind(kind) if pamt.tdmr == tdmr.tdmr]
            yield from _size_problems(Span.of(tdmr), kind, mine, limits)
    pamts = spans(memory.of_kind(*PAMT_PAGES))
    if twice := overlaps(pamts):
        yield f"PAMTs overlap: {named(twice)}"
    if bad := without(pamts, spans(memory.of_kind(RangeKind.CMR))):
        yield f"PAMTs outside CMRs: {named(bad)}"
    if open_to_tds := common(pamts, usable(memory)):
        yield f"PAMTs in memory of TDMRs that is not reserved: {named(open_to_tds)}"
    if stray := without(pamts, spans(memory.of_kind(RangeKind.RAM))):
        yield f"PAMTs that are not in System RAM: {named(stray)}"


def _size_problems(
    tdmr: Span, kind: RangeKind, mine: Sequence[Range], limits: TdmrLimits
) -> Iterator[str]:
    if len(mine) != 1:
        yield f"TDMR {tdmr} has {len(mine)} ranges of {kind.name}, not one"
    wanted = limits.pamt_bytes(tdmr, kind)
    for pamt in mine:
        if pamt.bytes != wanted:
            yield (
                f"{kind.name} of TDMR {tdmr} has {pamt.bytes} bytes; {tdmr.bytes} bytes in pages "
                f"of {PAMT_PAGES[kind]} with {limits.entry_bytes[kind]} bytes each take {wanted}"
            )
        if not Span.of(pamt).aligned(PAGE):
            yield f"{kind.name} {Span.of(pamt)} of TDMR {tdmr} is not whole pages of 4 KiB"


def far_pamts(memory: Memory) -> list[str]:
    """PAMTs on another node than the memory that they describe: slower, and no fault."""
    nodes = {tdmr.tdmr: tdmr.node for tdmr in memory.of_kind(RangeKind.TDMR)}
    return [
        f"{pamt.kind.name} {Span.of(pamt)} is on node {pamt.node}, and describes memory of node "
        f"{nodes[pamt.tdmr]}"
        for pamt in memory.of_kind(*PAMT_PAGES)
        if pamt.tdmr in nodes and pamt.node != nodes[pamt.tdmr]
    ]
