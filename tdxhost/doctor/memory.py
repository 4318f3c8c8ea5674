# SPDX-License-Identifier: GPL-2.0-or-later
"""Checks of memory: what Linux uses of it against what TDX can protect."""

import re
from collections.abc import Iterable, Mapping

from tdxhost.doctor.engine import (
    Found,
    Look,
    failed,
    not_applicable,
    not_checked,
    passed,
    warned,
)
from tdxhost.doctor.facts import Facts, Region
from tdxhost.records import ModuleStatus, RangeKind
from tdxhost.wording import outside_memory
from tdxhost.words import size

MIB = 1 << 20
#: PAMT bytes are memory by this: 16 for each 4 KiB page, and a little for larger ones.
PAMT_SHARE = 256
KIB_LINE = re.compile(r"(\w+):\s+(\d+) kB")


def low(facts: Facts) -> Found:
    """What lies below 1 MiB is nobody's but the kernel's."""
    amount = sum(min(ram.last + 1, MIB) - ram.first for ram in facts.ram if ram.first < MIB)
    if convertible := [cmr for cmr in facts.cmrs if cmr.first < MIB]:
        return failed(f"a CMR begins at {convertible[0].first:#x}")
    return passed(f"{size(amount)} of System RAM below 1 MiB stay with the kernel")


def cmrs(facts: Facts) -> Found:
    """System RAM against CMRs: the driver's word, or a comparison with the kernel's log."""
    state = facts.state_or_none
    if state and state.memory.of_kind(RangeKind.OUTSIDE):
        return failed(outside_memory(state.memory))
    if not facts.cmrs:
        return not_checked(
            "the TDX module was not asked for its CMRs yet", "They are known after: tdxhost enable"
        )
    high = [ram for ram in facts.ram if ram.last >= MIB]
    left = [ram for ram in high if not _covered(max(ram.first, MIB), ram.last, facts.cmrs)]
    if left:
        return failed(f"outside every CMR: {_spans(left)}")
    return passed(f"{len(high)} ranges of System RAM above 1 MiB, {len(facts.cmrs)} CMRs")


def _covered(first: int, last: int, cmrs: Iterable[Region]) -> bool:
    at = first
    for cmr in sorted(cmrs, key=lambda cmr: cmr.first):
        if cmr.first <= at <= cmr.last:
            at = cmr.last + 1
    return at > last


def _spans(regions: Iterable[Region]) -> str:
    return ", ".join(region.span for region in regions)


def cxl(facts: Facts) -> Found:
    """System RAM in windows of CXL memory."""
    windows = [region for region in facts.regions if "CXL Window" in region.name]
    if not windows:
        return not_applicable("no CXL memory in /proc/iomem")
    used = [ram for ram in facts.ram if any(ram.inside(window) for window in windows)]
    if used:
        return failed(f"System RAM in a CXL window: {_spans(used)}")
    return passed(f"{len(windows)} CXL windows, no System RAM in them")


def persistent(facts: Facts) -> Found:
    """Persistent memory, as itself or as System RAM."""
    found = [region for region in facts.regions if region.name.startswith("Persistent Memory")]
    used = [region for region in facts.ram if "kmem" in region.name]
    used += [ram for ram in facts.ram if any(ram.inside(region) for region in found)]
    if used:
        return failed(f"System RAM of dax devices: {_spans(used)}")
    if found:
        return warned(f"persistent memory: {_spans(found)}", fails="there is persistent memory")
    return passed("none in /proc/iomem")


def pamt(facts: Facts) -> Found:
    """Free memory against what PAMTs will take, before they are there."""
    state = facts.state_or_none
    if state and state.module.module_status is ModuleStatus.INITIALIZED:
        held = state.memory.known_pamt_bytes
        return passed("PAMTs are there" if held is None else f"PAMTs are there: {size(held)}")
    amounts = dict(KIB_LINE.findall(facts.host.text("/proc/meminfo")))
    total, free = (int(amounts.get(name, 0)) << 10 for name in ("MemTotal", "MemAvailable"))
    read = f"about {size(total // PAMT_SHARE)} for PAMTs, {size(free)} available"
    return passed(read) if free > 2 * (total // PAMT_SHARE) else warned(read)


LOOKS: Mapping[str, Look] = {
    "memory.low": low,
    "memory.cmrs": cmrs,
    "memory.cxl": cxl,
    "memory.persistent": persistent,
    "memory.pamt": pamt,
}
