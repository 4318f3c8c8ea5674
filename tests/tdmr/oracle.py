# SPDX-License-Identifier: GPL-2.0-or-later
"""What the layout could come to at best, found by trying everything; for small machines."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import pairwise

from .layout import Range, Region
from .rules import GIB, convertible, extended_cmrs


def areas_needed(span: Range, cmrs: Sequence[Range], pamts: Sequence[Range] = ()) -> int:
    """Reserved areas of a TDMR at least: runs of what can't be usable."""
    edges = sorted(
        {edge for part in [*extended_cmrs(cmrs), *pamts] for edge in (part.base, part.end)}
    )
    cuts = [span.base, *(edge for edge in edges if span.base < edge < span.end), span.end]
    unusable = [
        not convertible(cmrs, Range(start, end - start))
        or any(pamt.base <= start < pamt.end for pamt in pamts)
        for start, end in pairwise(cuts)
    ]
    return sum(now and not was for was, now in pairwise([False, *unusable]))


def touched_gibs(regions: Sequence[Region]) -> set[int]:
    """Numbers of the GiB that have memory in them."""
    return {gib for region in regions for gib in range(region.base // GIB, -(-region.end // GIB))}


def fewest_tdmrs(
    gibs: set[int],
    cmrs: Sequence[Range],
    max_reserved: int,
    pamts: Sequence[Range] = (),
) -> int | None:
    """The least number of TDMRs that cover these GiB, of all sets of TDMRs; None for none."""
    top = max(gibs) + 1

    @cache
    def fits(first: int, end: int) -> bool:
        span = Range(first * GIB, (end - first) * GIB)
        return areas_needed(span, cmrs, pamts) <= max_reserved

    @cache
    def fewest(floor: int) -> int | None:
        """Over TDMRs that begin at or above ``floor``."""
        if not any(gib >= floor for gib in gibs):
            return 0
        last_start = min(gib for gib in gibs if gib >= floor)
        counts = [
            1 + rest
            for first in range(floor, last_start + 1)
            for end in range(first + 1, top + 1)
            if fits(first, end) and (rest := fewest(end)) is not None
        ]
        return min(counts, default=None)

    return fewest(min(gibs))
