# SPDX-License-Identifier: GPL-2.0-or-later
"""The rules of TDH.SYS.CONFIG on TDMRs, written from the TDX module's side.

In the order in which the TDX module checks them, TDMR by TDMR (semantics.md
3.3.2 to 3.3.5), on reserved areas as it sees them: by offset. The answer is the
name of the status, or None where it would take the layout.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from .layout import LEVELS, PAGE_BYTES, Limits, Range, Tdmr

GIB = 1 << 30
PAGE = 1 << 12
MAX_PA = 1 << 52


def overlap(one: Range, other: Range) -> bool:
    """Whether two ranges have a byte in common."""
    return one.base < other.end and other.base < one.end


def extended_cmrs(cmrs: Sequence[Range]) -> list[Range]:
    """CMRs as they are walked: empty ones skipped, one that touches extends the last."""
    out: list[Range] = []
    for cmr in cmrs:
        if cmr.size == 0:
            continue
        if out and out[-1].end == cmr.base:
            out[-1] = Range(out[-1].base, out[-1].size + cmr.size)
        else:
            out.append(cmr)
    return out


def convertible(cmrs: Sequence[Range], wanted: Range) -> bool:
    """Whether a range lies in one extended CMR."""
    return any(c.base <= wanted.base and wanted.end <= c.end for c in extended_cmrs(cmrs))


def usable(tdmr: Tdmr) -> Iterator[Range]:
    """Maximal ranges that are not reserved."""
    pos = tdmr.base
    for area in tdmr.reserved:
        if area.base > pos:
            yield Range(pos, area.base - pos)
        pos = area.end
    if pos < tdmr.end:
        yield Range(pos, tdmr.end - pos)


def check_base(tdmr: Tdmr, before: Tdmr | None) -> str | None:
    """3.3.2, 3 to 8."""
    if before and tdmr.base < before.end:
        return "TDX_NON_ORDERED_TDMR"
    if tdmr.base % GIB or tdmr.size % GIB or tdmr.size == 0 or tdmr.end > MAX_PA:
        return "TDX_INVALID_TDMR"
    return None


def check_reserved(tdmr: Tdmr, limits: Limits) -> str | None:
    """3.3.3; more entries than there are would not even fit into TDMR_INFO."""
    if len(tdmr.reserved) > limits.max_reserved:
        return "no room in TDMR_INFO"
    last = 0
    for area in tdmr.reserved:
        offset = area.base - tdmr.base
        if area.size == 0 or offset < last:
            return "TDX_NON_ORDERED_RESERVED_IN_TDMR"
        if offset % PAGE or area.size % PAGE or offset + area.size > tdmr.size:
            return "TDX_INVALID_RESERVED_IN_TDMR"
        last = offset + area.size
    return None


def check_pamts(tdmrs: Sequence[Tdmr], index: int, cmrs: Sequence[Range], entry: int) -> str | None:
    """3.3.4: a, b, c, d."""
    tdmr, others = tdmrs[index], tdmrs[:index]
    for level in reversed(LEVELS):
        pamt = tdmr.pamt[level]
        if pamt.base % PAGE or pamt.size % PAGE or pamt.end > MAX_PA:
            return "TDX_INVALID_PAMT"
        if pamt.size < tdmr.size // PAGE_BYTES[level] * entry:
            return "TDX_INVALID_PAMT"
    earlier = [pamt for other in others for pamt in other.pamt]
    for level in LEVELS:
        own = tdmr.pamt[level]
        if any(overlap(own, pamt) for pamt in earlier + list(tdmr.pamt[level + 1 :])):
            return "TDX_PAMT_OVERLAP"
        if any(overlap(own, free) for other in [*others, tdmr] for free in usable(other)):
            return "TDX_PAMT_OVERLAP"
    if any(overlap(pamt, free) for pamt in earlier for free in usable(tdmr)):
        return "TDX_PAMT_OVERLAP"
    if not all(convertible(cmrs, pamt) for pamt in tdmr.pamt):
        return "TDX_PAMT_OUTSIDE_CMRS"
    return None


def config_answer(
    tdmrs: Sequence[Tdmr], cmrs: Sequence[Range], limits: Limits, entry: int = 16
) -> str | None:
    """What TDH.SYS.CONFIG says to a layout."""
    if not 1 <= len(tdmrs) <= limits.max_tdmrs:
        return "TDX_OPERAND_INVALID"
    for index, tdmr in enumerate(tdmrs):
        answer = (
            check_base(tdmr, tdmrs[index - 1] if index else None)
            or check_reserved(tdmr, limits)
            or check_pamts(tdmrs, index, cmrs, entry)
        )
        if answer:
            return answer
        if not all(convertible(cmrs, free) for free in usable(tdmr)):
            return "TDX_TDMR_OUTSIDE_CMRS"
    return None
