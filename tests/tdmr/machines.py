# SPDX-License-Identifier: GPL-2.0-or-later
"""Machines to lay out: RAM by node, and CMRs as TDH.SYS.RD lists them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .layout import Range, Region

MIB = 1 << 20
GIB = 1 << 30
TIB = 1 << 40

# Entries of a TDX module's list of CMRs; TDX module ABI spec, MAX_CMRS.
MAX_CMRS = 32


@dataclass(frozen=True)
class Machine:
    """RAM, and all 32 CMRs with empty ones behind the others."""

    regions: tuple[Region, ...]
    cmrs: tuple[Range, ...]


def machine(regions: Sequence[Region], cmrs: Sequence[Range]) -> Machine:
    """A machine whose list of CMRs is filled up with empty entries."""
    assert len(cmrs) <= MAX_CMRS
    return Machine(tuple(regions), (*cmrs, *[Range(0, 0)] * (MAX_CMRS - len(cmrs))))


def sockets(nodes: int, node_bytes: int, gap: int = 0, taken: int = 64 * MIB) -> Machine:
    """Nodes one behind the other from 4 GiB on, node 0 with low memory too.

    ``gap`` is address space between nodes, ``taken`` what firmware keeps of the
    top of each; a CMR for each node, as far as there are CMRs: then they touch.
    """
    low = Range(MIB, 0x77800000 - MIB)
    spans = [
        Range(4 * GIB + node * (node_bytes + gap), node_bytes - taken) for node in range(nodes)
    ]
    regions = [Region(low.base, low.size, 0)]
    regions += [Region(span.base, span.size, node) for node, span in enumerate(spans)]
    share = -(-nodes // (MAX_CMRS - 1))
    groups = [spans[i : i + share] for i in range(0, nodes, share)]
    joined = [Range(group[0].base, group[-1].end - group[0].base) for group in groups]
    return machine(regions, [low, *joined])


def crumbs(gibs: Sequence[int], holes: int, hole: int = 64 << 10) -> Machine:
    """One node of whole GiB, each with ``holes`` holes in its CMRs and no RAM in them."""
    cmrs: list[Range] = []
    for gib in gibs:
        step = GIB // (holes + 1)
        starts = [gib * GIB, *(gib * GIB + k * step + hole for k in range(1, holes + 1))]
        ends = [*(start - hole for start in starts[1:]), (gib + 1) * GIB]
        for start, end in zip((s // 4096 * 4096 for s in starts), ends, strict=True):
            cmrs.append(Range(start, end // 4096 * 4096 - start))
    return machine([Region(c.base, c.size) for c in cmrs], cmrs)


def sub_numa(nodes: int) -> Machine:
    """Two nodes a GiB border runs through: sub-NUMA clusters need not end at a GiB."""
    each = 48 * GIB + 512 * MIB
    regions = [Region(MIB, 2 * GIB - MIB, 0)]
    regions += [Region(4 * GIB + node * each, each, node) for node in range(nodes)]
    return machine(regions, [Range(MIB, 2 * GIB - MIB), Range(4 * GIB, nodes * each)])


def with_cxl(nodes: int, cxl_nodes: int) -> Machine:
    """Sockets, and memory of CXL devices far above them; all of it convertible."""
    base = sockets(nodes, 256 * GIB, gap=GIB)
    cxl = [Region((4 + 2 * i) * TIB, 512 * GIB, nodes + i) for i in range(cxl_nodes)]
    used = [cmr for cmr in base.cmrs if cmr.size]
    return machine([*base.regions, *cxl], [*used, *(Range(part.base, part.size) for part in cxl)])


def slivers(count: int) -> Machine:
    """Emerald Rapids: a CMR below 4 GiB whose RAM has holes, more than reserved areas.

    CMRs of https://github.com/canonical/tdx/issues/135, where Linux ran out of them.
    """
    cmrs = [
        Range(0x100000, 0x6F800000 - 0x100000),
        *(Range(base, 0x107A000000 - 0x100000000) for base in (0x100000000,)),
        *(Range(base, 0xFFC000000) for base in (0x1080000000, 0x2080000000, 0x3080000000)),
    ]
    low = [Region(MIB + i * 32 * MIB, 31 * MIB, 0) for i in range(count)]
    high = [Region(cmr.base, cmr.size, node) for node, cmr in enumerate(cmrs[1:])]
    return machine([*low, *high], cmrs)


def shattered(regions: int, nodes: int, total: int) -> Machine:
    """A very large machine whose firmware left thousands of holes in RAM, all inside CMRs."""
    step = total // regions // (4 * MIB) * (4 * MIB)
    ram = [Region(4 * GIB + i * step, step - 4 * MIB, i * nodes // regions) for i in range(regions)]
    each = total // (MAX_CMRS + 1) // GIB * GIB
    cmrs = [Range(4 * GIB + i * each, each) for i in range(MAX_CMRS - 1)]
    return machine(ram, [*cmrs, Range(cmrs[-1].end, ram[-1].end - cmrs[-1].end)])


def scattered(regions: int, nodes: int, total: int) -> Machine:
    """The worst for the layout: islands of RAM with empty GiB between, all in one CMR."""
    step = total // regions // GIB * GIB
    ram = [Region(4 * GIB + i * step, step - 2 * GIB, i * nodes // regions) for i in range(regions)]
    return machine(ram, [Range(4 * GIB, ram[-1].end - 4 * GIB)])
