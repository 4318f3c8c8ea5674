# SPDX-License-Identifier: GPL-2.0-or-later
"""TDMRs for many to initialise side by side: small ones, at no other cost than a page each."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.seam import binding
from tests.seam.machine import OK

from .layout import Layout, Library, Limits, Range, Region, misfit_of
from .machines import GIB, MIB, TIB, Machine, machine, sockets
from .pamts import fit_in_ram
from .rules import config_answer
from .test_layout import draw_bases, memories
from .test_machines import MACHINES, seam, seam_answer

__all__ = ["seam"]

PAGE = 4096
#: Of 64 TDMRs a quarter is kept in reserve.
MOST = 48


def small(gib: int) -> Machine:
    """One node with 2 GiB of low memory and the rest from 4 GiB on, all of it convertible."""
    parts = [Range(MIB, 2 * GIB - MIB), Range(4 * GIB, (gib - 2) * GIB)]
    return machine([Region(part.base, part.size) for part in parts], parts)


def before(library: Library, of: Machine, limits: Limits | None = None, **room: bool) -> Layout:
    """The layout with its PAMTs, not spread."""
    layout = library.layout(limits, **(room or {"room_to_spread": True}))
    layout.lay_out(of.regions, of.cmrs)
    fit_in_ram(layout, of.regions, top_down=True)
    return layout


def sizes(layout: Layout) -> list[int]:
    """GiB of each TDMR."""
    return [tdmr.size // GIB for tdmr in layout.tdmrs]


def pamt_bytes(layout: Layout) -> int:
    """Memory that all PAMTs take."""
    return sum(layout.pamt_bytes(index) for index in range(len(layout.tdmrs)))


@pytest.mark.parametrize("workers", [2, 64, 2048])
@pytest.mark.parametrize("name", MACHINES)
def test_config_takes_the_tdmrs(
    library: Library, seam: binding.Library, name: str, workers: int
) -> None:
    of = MACHINES[name]
    layout = before(library, of)
    unspread = len(layout.tdmrs)
    layout.spread(workers)
    assert len(layout.tdmrs) <= max(MOST, unspread)
    assert config_answer(layout.tdmrs, of.cmrs, Limits()) is None
    assert seam_answer(seam, layout.tdmrs, of.cmrs) == OK


def test_as_many_gib_as_workers_are_as_many_tdmrs(library: Library) -> None:
    layout = before(library, small(16))
    assert sizes(layout) == [2, 14]
    layout.spread(16)
    assert sizes(layout) == [1] * 16


def test_no_tdmr_is_larger_than_a_share(library: Library) -> None:
    for workers, largest in ((1, 14), (2, 7), (3, 5), (4, 4), (5, 4), (8, 2), (15, 2), (64, 1)):
        layout = before(library, small(16))
        layout.spread(workers)
        # A share is 16 GiB by the workers, in whole GiB; parts of one TDMR are as even as can be.
        assert max(sizes(layout)) == largest, workers


def test_a_quarter_of_the_tdmrs_is_kept(library: Library) -> None:
    layout = before(library, sockets(8, 8 * TIB))
    layout.spread(2048)
    assert 40 <= len(layout.tdmrs) <= MOST
    few = before(library, small(16), Limits(max_tdmrs=8))
    few.spread(16)
    assert len(few.tdmrs) == 6


def test_one_worker_gets_what_there_was(library: Library) -> None:
    layout = before(library, MACHINES["8 nodes"])
    natural = layout.tdmrs
    layout.spread(1)
    assert layout.tdmrs == natural


def test_pieces_without_room_are_split_as_far_as_they_go(library: Library) -> None:
    layout = before(library, small(16), room_to_spread=False)
    natural = layout.tdmrs
    layout.spread(16)
    assert layout.tdmrs == natural


def test_parts_are_of_the_node_and_piece_of_the_whole(library: Library) -> None:
    layout = before(library, MACHINES["8 nodes"])
    homes = {tdmr.piece: tdmr.node for tdmr in layout.tdmrs}
    layout.spread(2048)
    assert {tdmr.piece: tdmr.node for tdmr in layout.tdmrs} == homes


@settings(max_examples=300, deadline=None)
@given(
    memory=memories(),
    limits=st.builds(
        Limits,
        max_tdmrs=st.sampled_from([1, 4, 64]),
        max_reserved=st.sampled_from([2, 4, 16]),
    ),
    workers=st.integers(1, 64),
    data=st.data(),
)
def test_whatever_fits_fits_afterwards_and_costs_a_page_a_part(
    library: Library,
    memory: tuple[list[Range], list[Region]],
    limits: Limits,
    workers: int,
    data: Any,
) -> None:
    cmrs, regions = memory
    layout = library.layout(limits, room_to_spread=True)
    if misfit_of(lambda: layout.lay_out(regions, cmrs)):
        return
    bases = draw_bases(layout, regions, data.draw)
    if bases is None or misfit_of(lambda: layout.fit(bases)):
        return
    unspread, bytes_before = layout.tdmrs, pamt_bytes(layout)
    layout.spread(workers)
    spread = layout.tdmrs
    assert config_answer(spread, cmrs, limits) is None
    assert len(spread) >= len(unspread)
    assert max(tdmr.size for tdmr in spread) <= max(tdmr.size for tdmr in unspread)
    for region in regions:
        covered = sum(
            max(0, min(tdmr.end, region.end) - max(tdmr.base, region.base)) for tdmr in spread
        )
        assert covered == region.size
    assert pamt_bytes(layout) - bytes_before <= (len(spread) - len(unspread)) * PAGE
