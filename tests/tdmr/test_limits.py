# SPDX-License-Identifier: GPL-2.0-or-later
"""TDMRs are split and merged to fit; where that can't be, the limit in the way is named.

Small machines, on which everything can be tried (oracle.py), are made of slots of
an eighth of a GiB: convertible or not, RAM or not.
"""

from __future__ import annotations

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from .layout import Library, Limits, Range, Region, TooManyReserved, TooManyTdmrs, misfit_of
from .machines import crumbs
from .oracle import areas_needed, fewest_tdmrs, touched_gibs
from .pamts import fit_in_ram
from .rules import GIB, PAGE, config_answer

SLOTS = 8
SLOT = GIB // SLOTS
MIB = 1 << 20

Slots = tuple[list[Range], list[Region]]


def runs(slots: list[int]) -> list[tuple[int, int, int]]:
    """First, end and value of each run of slots that are alike."""
    starts = [i for i, slot in enumerate(slots) if i == 0 or slots[i - 1] != slot]
    return [
        (start, end, slots[start])
        for start, end in zip(starts, [*starts[1:], len(slots)], strict=True)
    ]


@st.composite
def small_machines(draw: st.DrawFn, gibs: int = 7) -> Slots:
    """CMRs with holes, RAM of a few nodes in them, GiB without any."""
    kinds = draw(
        st.lists(
            st.sampled_from(["full", "empty", "holes", "no ram"]), min_size=1, max_size=gibs
        ).filter(lambda drawn: "full" in drawn or "holes" in drawn)
    )
    # 0: not convertible; 1: convertible, not RAM; 2 and more: RAM of a node.
    slots: list[int] = []
    for kind in kinds:
        node = draw(st.integers(2, 3))
        choice = {
            "full": st.just([node] * SLOTS),
            "empty": st.just([0] * SLOTS),
            "no ram": st.lists(st.integers(0, 1), min_size=SLOTS, max_size=SLOTS),
            "holes": st.lists(st.sampled_from([0, 1, node]), min_size=SLOTS, max_size=SLOTS),
        }
        slots += draw(choice[kind])
    if max(slots) < 2:
        slots[0] = 2
    cmrs = [
        Range(first * SLOT, (end - first) * SLOT)
        for first, end, convertible in runs([int(slot > 0) for slot in slots])
        if convertible
    ]
    regions = [
        Region(first * SLOT, (end - first) * SLOT, slot)
        for first, end, slot in runs(slots)
        if slot > 1
    ]
    return cmrs, regions


tight_limits = st.builds(
    Limits, max_tdmrs=st.integers(1, 4), max_reserved=st.sampled_from([1, 2, 3, 4, 6])
)


def worst_gib(machine: Slots, max_reserved: int, pamts: list[Range] | None = None) -> set[int]:
    """GiB with memory that one TDMR alone could not have."""
    cmrs, regions = machine
    return {
        gib
        for gib in touched_gibs(regions)
        if areas_needed(Range(gib * GIB, GIB), cmrs, pamts or []) > max_reserved
    }


@settings(max_examples=300, deadline=None)
@given(machine=small_machines(), limits=tight_limits)
def test_a_layout_is_found_wherever_there_is_one(
    library: Library, machine: Slots, limits: Limits
) -> None:
    cmrs, regions = machine
    gibs = touched_gibs(regions)
    fewest = fewest_tdmrs(gibs, cmrs, limits.max_reserved)
    layout = library.layout(limits)
    misfit = misfit_of(lambda: layout.lay_out(regions, cmrs))
    if isinstance(misfit, TooManyReserved):
        assert fewest is None
        assert misfit.base // GIB in worst_gib(machine, limits.max_reserved)
        assert misfit.size == GIB
        assert misfit.needed == areas_needed(Range(misfit.base, GIB), cmrs)
        assert misfit.limit == limits.max_reserved
        return
    if misfit:
        assert (misfit.needed, misfit.limit) == (fewest, limits.max_tdmrs)
        assert fewest is not None
        assert fewest > limits.max_tdmrs
        assert misfit.size == 0
        return

    tdmrs = layout.tdmrs
    assert len(tdmrs) <= limits.max_tdmrs
    covered = [gib for tdmr in tdmrs for gib in range(tdmr.base // GIB, tdmr.end // GIB)]
    assert covered == sorted(set(covered))
    assert gibs <= set(covered)
    assert all(areas_needed(tdmr, cmrs) <= limits.max_reserved for tdmr in tdmrs)


@settings(max_examples=300, deadline=None)
@given(machine=small_machines(), limits=tight_limits, data=st.data())
def test_tdmrs_are_split_for_pamts_wherever_that_helps(
    library: Library, machine: Slots, limits: Limits, data: st.DataObject
) -> None:
    """Each PAMT has a slot of its own, so that how long it is makes no difference."""
    cmrs, regions = machine
    layout = library.layout(limits)
    if misfit_of(lambda: layout.lay_out(regions, cmrs)):
        return
    before = layout.tdmrs
    slots = [base for r in regions for base in range(r.base, r.end, SLOT)]
    bases = data.draw(st.permutations(slots))[: len(before)]
    if len(bases) < len(before):
        return
    pamts = [Range(base, PAGE) for base in bases]
    gibs = touched_gibs(regions)
    parts = [
        fewest_tdmrs(
            gibs & set(range(tdmr.base // GIB, tdmr.end // GIB)), cmrs, limits.max_reserved, pamts
        )
        for tdmr in before
    ]
    misfit = misfit_of(lambda: layout.fit(bases))
    if isinstance(misfit, TooManyReserved):
        assert misfit.base // GIB in worst_gib(machine, limits.max_reserved, pamts)
        assert misfit.needed == areas_needed(Range(misfit.base, GIB), cmrs, pamts)
        return
    if misfit:
        assert None in parts or sum(filter(None, parts)) > limits.max_tdmrs
        assert misfit.needed > misfit.limit == limits.max_tdmrs
        assert any(tdmr.base <= misfit.base < tdmr.end for tdmr in before)
        return

    assert None not in parts
    assert len(layout.tdmrs) == sum(filter(None, parts))
    assert config_answer(layout.tdmrs, cmrs, limits) is None


def spans(layout_tdmrs: list[tuple[int, int]]) -> tuple[list[Range], list[Region]]:
    """A CMR around memory that is [first, end) in GiB, each part a node."""
    regions = [
        Region(first * GIB, (end - first) * GIB, node)
        for node, (first, end) in enumerate(layout_tdmrs)
    ]
    return [Range(0, regions[-1].end)], regions


def laid_out(library: Library, machine: Slots, **limits: int) -> list[tuple[int, int, int]]:
    """First GiB, end and node of each TDMR."""
    layout = library.layout(Limits(**limits))  # type: ignore[arg-type]
    layout.lay_out(machine[1], machine[0])
    return [(t.base // GIB, t.end // GIB, t.node) for t in layout.tdmrs]


def test_the_smallest_gap_is_merged_first(library: Library) -> None:
    machine = spans([(0, 4), (9, 13), (14, 18), (21, 25)])

    assert laid_out(library, machine, max_tdmrs=4) == [(0, 4, 0), (9, 18, 1), (21, 25, 3)]
    assert laid_out(library, machine, max_tdmrs=2) == [(0, 4, 0), (9, 25, 1)]
    assert laid_out(library, machine, max_tdmrs=1) == [(0, 25, 0)]


def test_of_equal_gaps_the_smallest_neighbours_are_merged(library: Library) -> None:
    machine = spans([(0, 8), (8, 16), (16, 18), (18, 21), (21, 29)])

    assert laid_out(library, machine, max_tdmrs=5) == [
        (0, 8, 0),
        (8, 16, 1),
        (16, 21, 3),
        (21, 29, 4),
    ]


def test_merging_leaves_a_quarter_for_what_pamts_do(library: Library) -> None:
    machine = spans([(3 * i, 3 * i + 2) for i in range(64)])

    assert len(laid_out(library, machine)) == 48


def test_few_enough_tdmrs_stay_with_their_nodes(library: Library) -> None:
    machine = spans([(3 * i, 3 * i + 2) for i in range(48)])

    assert laid_out(library, machine) == [(3 * i, 3 * i + 2, i) for i in range(48)]


@pytest.mark.parametrize(
    ("gibs", "holes", "tdmrs"),
    [
        ([4, 5, 6], 5, [(4, 7)]),
        ([4, 5, 6], 6, [(4, 6), (6, 7)]),
        ([4, 5, 6], 9, [(4, 5), (5, 6), (6, 7)]),
        ([4], 16, [(4, 5)]),
    ],
)
def test_a_tdmr_with_too_many_holes_is_split_at_a_gib(
    library: Library, gibs: list[int], holes: int, tdmrs: list[tuple[int, int]]
) -> None:
    machine = crumbs(gibs, holes)
    layout = library.layout()
    layout.lay_out(machine.regions, machine.cmrs)

    assert [(t.base // GIB, t.end // GIB) for t in layout.tdmrs] == tdmrs


def test_a_gib_with_more_holes_than_areas_is_named(library: Library) -> None:
    machine = crumbs([4], 17)
    with pytest.raises(TooManyReserved) as caught:
        library.layout().lay_out(machine.regions, machine.cmrs)

    misfit = caught.value
    assert (misfit.base, misfit.size) == (4 * GIB, GIB)
    assert (misfit.needed, misfit.limit) == (17, 16)


def test_memory_that_takes_too_many_tdmrs_says_how_many(library: Library) -> None:
    """Nine holes in every GiB: no two of them go together."""
    machine = crumbs([4, 5, 6], 9)
    with pytest.raises(TooManyTdmrs) as caught:
        library.layout(Limits(max_tdmrs=2)).lay_out(machine.regions, machine.cmrs)

    misfit = caught.value
    assert (misfit.needed, misfit.limit, misfit.size) == (3, 2, 0)


def test_pamts_that_need_one_area_too_many_split_their_tdmr(library: Library) -> None:
    machine = crumbs([4, 5], 8)
    layout = library.layout()
    layout.lay_out(machine.regions, machine.cmrs)
    assert [(t.base // GIB, t.end // GIB) for t in layout.tdmrs] == [(4, 6)]
    ram = Region(4 * GIB + 256 * MIB, 64 * MIB)
    (used,) = fit_in_ram(layout, [ram])

    halves = layout.tdmrs
    assert [(t.base // GIB, t.end // GIB) for t in halves] == [(4, 5), (5, 6)]
    assert [len(t.reserved) for t in halves] == [9, 8]
    assert config_answer(halves, machine.cmrs, Limits()) is None
    # Both halves' PAMTs in the one piece, with a page more than before for the second 1G level.
    assert used.size == sum(layout.pamt_bytes(i) for i in (0, 1))
    assert {t.piece for t in halves} == {0}


def test_no_more_is_asked_for_than_the_pamts_where_they_can_do_no_harm(library: Library) -> None:
    machine = crumbs([4, 5], 4)
    layout = library.layout()
    layout.lay_out(machine.regions, machine.cmrs)

    assert layout.piece_bytes(0) == layout.pamt_bytes(0)


def test_the_tdmr_that_would_have_to_be_split_is_named(library: Library) -> None:
    machine = crumbs([4, 5], 8)
    layout = library.layout(Limits(max_tdmrs=1))
    layout.lay_out(machine.regions, machine.cmrs)
    with pytest.raises(TooManyTdmrs) as caught:
        fit_in_ram(layout, [Region(4 * GIB + 256 * MIB, 64 * MIB)])

    misfit = caught.value
    assert (misfit.base, misfit.size) == (4 * GIB, 2 * GIB)
    assert (misfit.needed, misfit.limit) == (2, 1)


@settings(max_examples=200, deadline=None)
@given(machine=small_machines(), max_reserved=st.integers(1, 6), data=st.data())
def test_a_crowded_gib_is_one_that_any_more_holes_are_too_many_for(
    library: Library, machine: Slots, max_reserved: int, data: st.DataObject
) -> None:
    cmrs, regions = machine
    layout = library.layout(Limits(max_reserved=max_reserved))
    assume(misfit_of(lambda: layout.lay_out(regions, cmrs)) is None)
    start = data.draw(st.integers(0, regions[-1].end // PAGE - 1)) * PAGE
    end = data.draw(st.integers(start // PAGE + 1, regions[-1].end // PAGE)) * PAGE

    touched = range(start // GIB, -(-end // GIB))
    counts = {gib: areas_needed(Range(gib * GIB, GIB), cmrs) for gib in touched}
    crowded = [gib * GIB for gib in touched if counts[gib] >= max_reserved]
    assert layout.crowded(start, end) == min(crowded, default=end)
