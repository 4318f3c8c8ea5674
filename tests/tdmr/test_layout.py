# SPDX-License-Identifier: GPL-2.0-or-later
"""Any memory in: a layout that TDH.SYS.CONFIG takes out, or the right refusal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from .layout import (
    PAGE_BYTES,
    Layout,
    Library,
    Limits,
    Range,
    Region,
    misfit_of,
)
from .oracle import areas_needed, fewest_tdmrs, touched_gibs
from .rules import GIB, PAGE, config_answer, convertible, extended_cmrs

MIB = 1 << 20


def round_up(value: int, unit: int) -> int:
    """The next multiple."""
    return -(-value // unit) * unit


@st.composite
def cmr_lists(draw: st.DrawFn, holes: int = 8) -> list[Range]:
    """Convertible memory as a TDX module lists it: ascending, gaps and empty entries in it."""
    pos = draw(st.integers(0, 64)) * MIB
    cmrs: list[Range] = []
    for _ in range(draw(st.integers(1, holes))):
        size = draw(st.one_of(st.integers(1, 64), st.integers(1, 3 << 18))) * PAGE
        cmrs.append(Range(pos, size))
        gap = draw(st.one_of(st.just(0), st.integers(1, 512), st.integers(1, 1 << 20)))
        pos += size + gap * PAGE
    if draw(st.booleans()):
        cmrs.insert(draw(st.integers(0, len(cmrs))), Range(0, 0))
    return cmrs


@st.composite
def memories(draw: st.DrawFn) -> tuple[list[Range], list[Region]]:
    """CMRs, and RAM in them: with holes of its own, cut at nodes."""
    cmrs = draw(cmr_lists())
    regions: list[Region] = []
    node = 0
    for cmr in extended_cmrs(cmrs):
        pos = cmr.base
        for _ in range(draw(st.integers(0, 4))):
            pages = (cmr.end - pos) // PAGE
            if pages == 0:
                break
            skip = draw(st.integers(0, pages - 1)) if draw(st.booleans()) else 0
            size = draw(st.integers(1, pages - skip))
            node = draw(st.integers(node, node + 1))
            regions.append(Region(pos + skip * PAGE, size * PAGE, node))
            pos = regions[-1].end
    assume(regions)
    return cmrs, regions


def draw_bases(
    layout: Layout, regions: Sequence[Region], draw: Callable[[Any], Any]
) -> list[int] | None:
    """Memory for PAMTs as an allocator would find it: anywhere in RAM, apart from each other."""
    free = [Range(region.base, region.size) for region in regions]
    bases: list[int] = []
    for index in range(len(layout.tdmrs)):
        size = layout.piece_bytes(index)
        fits = [hole for hole in free if hole.size >= size]
        if not fits:
            return None
        hole = draw(st.sampled_from(fits))
        room = (hole.size - size) // PAGE
        base = hole.base + draw(st.sampled_from(sorted({0, room // 2, room}))) * PAGE
        bases.append(base)
        free.remove(hole)
        rests = Range(hole.base, base - hole.base), Range(base + size, hole.end - base - size)
        free += [rest for rest in rests if rest.size]
    return bases


limits_drawn = st.builds(
    Limits,
    max_tdmrs=st.sampled_from([1, 2, 4, 64]),
    max_reserved=st.sampled_from([1, 2, 4, 16, 64]),
)


@settings(max_examples=300, deadline=None)
@given(memory=memories(), limits=limits_drawn, data=st.data())
def test_config_takes_every_layout(
    library: Library,
    memory: tuple[list[Range], list[Region]],
    limits: Limits,
    data: st.DataObject,
) -> None:
    cmrs, regions = memory
    layout = library.layout(limits)
    if misfit_of(lambda: layout.lay_out(regions, cmrs)):
        fewest = fewest_tdmrs(touched_gibs(regions), cmrs, limits.max_reserved)
        assert fewest is None or fewest > limits.max_tdmrs
        return
    bases = draw_bases(layout, regions, data.draw)
    assume(bases is not None)
    used: list[int] = []
    misfit = misfit_of(lambda: used.extend(layout.fit(bases or [])))
    if misfit:
        assert misfit.needed > misfit.limit
        return

    tdmrs = layout.tdmrs
    assert config_answer(tdmrs, cmrs, limits) is None
    pamts = [pamt for tdmr in tdmrs for pamt in tdmr.pamt]
    assert sum(used) == sum(pamt.size for pamt in pamts)
    assert [len(tdmr.reserved) for tdmr in tdmrs] == [
        areas_needed(tdmr, cmrs, pamts) for tdmr in tdmrs
    ]


@settings(max_examples=300, deadline=None)
@given(memory=memories())
def test_tdmrs_cover_all_memory_and_no_more(
    library: Library, memory: tuple[list[Range], list[Region]]
) -> None:
    cmrs, regions = memory
    layout = library.layout(Limits(max_tdmrs=256))
    layout.lay_out(regions, cmrs)

    covered = [gib for tdmr in layout.tdmrs for gib in range(tdmr.base // GIB, tdmr.end // GIB)]
    assert sorted(covered) == sorted(touched_gibs(regions))
    for tdmr in layout.tdmrs:
        # The node that its start is of: where its PAMTs go.
        first = next(region for region in regions if region.end > tdmr.base)
        assert tdmr.node == first.node


@settings(max_examples=300, deadline=None)
@given(memory=memories())
def test_a_stretch_of_one_node_is_one_tdmr(
    library: Library, memory: tuple[list[Range], list[Region]]
) -> None:
    cmrs, regions = memory
    layout = library.layout(Limits(max_tdmrs=256, max_reserved=64))
    layout.lay_out(regions, cmrs)

    for before, after in pairwise(layout.tdmrs):
        assert before.end < after.base or before.node != after.node


@given(gib=st.integers(1, 1 << 20), entry=st.sampled_from([16, 24, 32]))
def test_pamts_are_as_large_as_config_wants(library: Library, gib: int, entry: int) -> None:
    layout = library.layout(Limits(pamt_entry_bytes=(entry, entry, entry)))
    layout.lay_out([Region(0, gib * GIB)], [Range(0, gib * GIB)])

    (tdmr,) = layout.tdmrs
    sizes = [round_up(gib * GIB // page * entry, PAGE) for page in PAGE_BYTES]
    assert [pamt.size for pamt in tdmr.pamt] == sizes
    assert layout.pamt_bytes(0) == sum(sizes)


@settings(max_examples=300, deadline=None)
@given(
    cmrs=cmr_lists(),
    start=st.integers(0, 8 << 18),
    pages=st.integers(1, 4 << 18),
)
def test_memory_outside_cmrs_is_found(
    library: Library, cmrs: list[Range], start: int, pages: int
) -> None:
    ram = Range(start * PAGE, pages * PAGE)
    outside = library.outside(cmrs, ram.base, ram.end)

    pos = ram.base
    for hole in outside:
        assert hole.size > 0
        assert not any(c.base < hole.end and hole.base < c.end for c in extended_cmrs(cmrs))
        assert pos == hole.base or convertible(cmrs, Range(pos, hole.base - pos))
        pos = hole.end
    assert pos == ram.end or convertible(cmrs, Range(pos, ram.end - pos))


@pytest.mark.parametrize(
    "regions",
    [
        [Region(0, 0)],
        [Region(GIB, GIB), Region(0, GIB)],
        [Region(0, GIB), Region(GIB - PAGE, GIB)],
        [Region((1 << 64) - GIB, GIB)],
    ],
    ids=["empty", "descending", "overlapping", "at the end of all addresses"],
)
def test_regions_that_make_no_sense_are_refused(library: Library, regions: list[Region]) -> None:
    with pytest.raises(ValueError, match="EINVAL"):
        library.layout().lay_out(regions, [Range(MIB, 64 * GIB)])


def test_holes_inside_a_cmr_need_no_reserved_area(library: Library) -> None:
    """Linux ran out of reserved areas on firmware that leaves dozens of such holes."""
    cmrs = [Range(MIB, GIB - MIB)]
    regions = [Region(MIB + i * 16 * MIB, 15 * MIB) for i in range(60)]
    layout = library.layout(Limits(max_tdmrs=1, max_reserved=2))
    layout.lay_out(regions, cmrs)
    (used,) = layout.fit([1000 * MIB])

    (tdmr,) = layout.tdmrs
    # The memory below the CMR, and three PAMTs that touch.
    assert tdmr.reserved == (Range(0, MIB), Range(1000 * MIB, used))


def test_a_node_in_the_middle_of_a_gib_gets_the_rest(library: Library) -> None:
    layout = library.layout()
    layout.lay_out(
        [Region(0, GIB + 512 * MIB, 0), Region(GIB + 512 * MIB, 3 * GIB, 1)], [Range(0, 5 * GIB)]
    )

    assert [(t.base, t.size, t.node) for t in layout.tdmrs] == [
        (0, 2 * GIB, 0),
        (2 * GIB, 3 * GIB, 1),
    ]
