# SPDX-License-Identifier: GPL-2.0-or-later
"""TDH.SYS.CONFIG: what a layout may be, and which status names which broken rule."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from .binding import Library
from .machine import (
    ARRAY_PA,
    CONFIG,
    FIRST_HKID,
    GIB,
    MIB,
    OK,
    PAGE,
    R8,
    R9,
    R10,
    RCX,
    RDX,
    Host,
    Machine,
    Tdmr,
    layout,
    pamt_sizes,
    write_tdmrs,
)

INVALID = "TDX_OPERAND_INVALID"
SEAMRR = 0xC0000000
PAMT_AT = 30 * GIB
BIG = 1 << 52


def _host(library: Library, **more: Any) -> Host:
    host = Host(library, **more)
    host.lp_init_all()
    return host


def _three() -> list[Tdmr]:
    tdmrs = layout([(4 * GIB, GIB), (6 * GIB, 2 * GIB), (8 * GIB, GIB)], PAMT_AT)
    tdmrs[1].reserved = [(MIB, MIB), (2 * MIB, PAGE), (GIB, 64 * MIB)]
    return tdmrs


@st.composite
def _layouts(draw: st.DrawFn) -> list[Tdmr]:
    """Layouts that keep every rule, with PAMTs apart from all TDMRs."""
    spans = []
    at = 4
    for _ in range(draw(st.integers(1, 5))):
        at += draw(st.integers(0, 2))
        size = draw(st.integers(1, 2))
        spans.append((at * GIB, size * GIB))
        at += size
    tdmrs = layout(spans, PAMT_AT)
    for tdmr in tdmrs:
        cuts = sorted(draw(st.sets(st.integers(0, tdmr.size // PAGE), max_size=12)))
        tdmr.reserved = [
            (start * PAGE, (end - start) * PAGE)
            for start, end in zip(cuts[::2], cuts[1::2], strict=False)
        ]
    return tdmrs


@given(_layouts())
def test_a_layout_that_keeps_every_rule_is_taken(library: Library, tdmrs: list[Tdmr]) -> None:
    host = _host(library)
    assert host.config(tdmrs) == OK
    assert host.sys == 2
    assert host.config(tdmrs) == ("TDX_SYS_CONFIG_NOT_PENDING", 0)


Break = Callable[[list[Tdmr], int], None]
Expected = Callable[[int], tuple[str, int]]


def _tdmr(**changes: int) -> Break:
    def apply(tdmrs: list[Tdmr], i: int) -> None:
        for name, value in changes.items():
            setattr(tdmrs[i], name, value)

    return apply


def _pamt(level: str, base: int | None = None, size: int | None = None) -> Break:
    def apply(tdmrs: list[Tdmr], i: int) -> None:
        old = getattr(tdmrs[i], level)
        pair = (old[0] if base is None else base, old[1] if size is None else size)
        setattr(tdmrs[i], level, pair)

    return apply


def _reserved(*areas: tuple[int, int]) -> Break:
    def apply(tdmrs: list[Tdmr], i: int) -> None:
        tdmrs[i].reserved = list(areas)

    return apply


def _is(name: str, *bytes_: int) -> Expected:
    """Status whose byte 0 is the TDMR and whose others are as given."""
    return lambda i: (name, i | sum(value << 8 * n for n, value in enumerate(bytes_, 1)))


RULES: dict[str, tuple[Break, Expected]] = {
    "size 0": (_tdmr(size=0), _is("TDX_INVALID_TDMR")),
    "size not whole GiB": (_tdmr(size=GIB + MIB), _is("TDX_INVALID_TDMR")),
    "base not whole GiB": (_tdmr(base=28 * GIB + MIB), _is("TDX_INVALID_TDMR")),
    "base above MAXPHYADDR": (_tdmr(base=BIG), _is("TDX_INVALID_TDMR")),
    "KeyID in base": (_tdmr(base=1 << 46), _is("TDX_INVALID_TDMR")),
    "KeyID in last byte": (_tdmr(base=(1 << 46) - GIB, size=2 * GIB), _is("TDX_INVALID_TDMR")),
    "base + size wraps": (_tdmr(base=28 * GIB, size=(1 << 64) - GIB), _is("TDX_INVALID_TDMR")),
    "PAMT 1G size 0": (_pamt("pamt_1g", size=0), _is("TDX_INVALID_PAMT", 2)),
    "PAMT 2M size not pages": (_pamt("pamt_2m", size=8192 + 16), _is("TDX_INVALID_PAMT", 1)),
    "PAMT 4K base not pages": (_pamt("pamt_4k", base=29 * GIB + 8), _is("TDX_INVALID_PAMT", 0)),
    "PAMT 4K too small": (_pamt("pamt_4k", size=4 * MIB - PAGE), _is("TDX_INVALID_PAMT", 0)),
    "PAMT 2M with KeyID": (_pamt("pamt_2m", base=1 << 47), _is("TDX_INVALID_PAMT", 1)),
    "PAMT 1G above MAXPHYADDR": (_pamt("pamt_1g", base=BIG), _is("TDX_INVALID_PAMT", 2)),
    "PAMT 4K outside CMRs": (_pamt("pamt_4k", base=50 * GIB), _is("TDX_PAMT_OUTSIDE_CMRS", 0)),
    "PAMT 1G outside CMRs": (_pamt("pamt_1g", base=34 * GIB), _is("TDX_PAMT_OUTSIDE_CMRS", 2)),
    "reserved size not pages": (
        _reserved((0, PAGE + 1)),
        _is("TDX_INVALID_RESERVED_IN_TDMR", 0),
    ),
    "reserved beyond the end": (
        _reserved((0, PAGE), (3 * GIB, PAGE)),
        _is("TDX_INVALID_RESERVED_IN_TDMR", 1),
    ),
    "reserved wraps": (
        _reserved((1 << 63, 1 << 63)),
        _is("TDX_INVALID_RESERVED_IN_TDMR", 0),
    ),
    "reserved out of order": (
        _reserved((MIB, PAGE), (0, PAGE)),
        _is("TDX_NON_ORDERED_RESERVED_IN_TDMR", 1),
    ),
    "reserved overlap": (
        _reserved((0, 2 * PAGE), (PAGE, PAGE)),
        _is("TDX_NON_ORDERED_RESERVED_IN_TDMR", 1),
    ),
    "reserved after an empty one": (
        _reserved((0, PAGE), (7, 0), (MIB, PAGE)),
        _is("TDX_NON_ORDERED_RESERVED_IN_TDMR", 1),
    ),
}


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(rule=st.sampled_from(sorted(RULES)), tdmrs=_layouts(), data=st.data())
def test_one_broken_rule_gives_its_status_whatever_the_rest(
    library: Library, rule: str, tdmrs: list[Tdmr], data: st.DataObject
) -> None:
    # The last one, so that a moved base stays above the one before.
    i = len(tdmrs) - 1
    broken = copy.deepcopy(tdmrs)
    breaks, expected = RULES[rule]
    breaks(broken, i)
    host = _host(library)
    hkid = data.draw(st.integers(FIRST_HKID, FIRST_HKID + 31))
    assert host.config(broken, hkid) == expected(i)
    assert host.sys == 1
    assert host.config(tdmrs, hkid) == OK


@pytest.mark.parametrize("base", [4 * GIB, 5 * GIB, 6 * GIB])
def test_tdmrs_that_overlap_or_go_back_are_not_ordered(library: Library, base: int) -> None:
    tdmrs = layout([(5 * GIB, 2 * GIB), (base, GIB)], PAMT_AT)
    assert _host(library).config(tdmrs) == ("TDX_NON_ORDERED_TDMR", 1)


def test_order_comes_before_alignment(library: Library) -> None:
    tdmrs = layout([(5 * GIB, 2 * GIB), (6 * GIB + MIB, GIB)], PAMT_AT)
    assert _host(library).config(tdmrs) == ("TDX_NON_ORDERED_TDMR", 1)


def test_an_error_in_one_tdmr_hides_all_later_ones(library: Library) -> None:
    tdmrs = _three()
    tdmrs[0].pamt_4k = (50 * GIB, 4 * MIB)
    tdmrs[1].base = MIB
    host = _host(library)
    write_tdmrs(host.machine.memory, tdmrs)
    host.machine.memory.write(ARRAY_PA + 16, (1).to_bytes(8, "little"))
    call = {"rcx": ARRAY_PA, "rdx": 3, "r8": FIRST_HKID}
    assert host.status(CONFIG, **call) == ("TDX_PAMT_OUTSIDE_CMRS", 0)


def test_a_bad_pointer_in_the_array_is_blamed_on_rcx_in_its_turn(library: Library) -> None:
    host = _host(library)
    assert host.config(_three()) == OK
    for bad in (1, SEAMRR, BIG, 1 << 51):
        host = _host(library)
        host.machine.memory.write(ARRAY_PA, bad.to_bytes(8, "little"))
        assert host.status(CONFIG, rcx=ARRAY_PA, rdx=1, r8=FIRST_HKID) == (INVALID, RCX)


def test_an_array_that_is_not_in_memory_reads_as_all_ones(library: Library) -> None:
    host = _host(library)
    host.machine.no_memory = (ARRAY_PA, PAGE)
    assert host.status(CONFIG, rcx=ARRAY_PA, rdx=1, r8=FIRST_HKID) == (INVALID, RCX)


@pytest.mark.parametrize(
    ("change", "operand"),
    [
        ({"rcx": ARRAY_PA + 256}, RCX),
        ({"rcx": BIG}, RCX),
        ({"rcx": SEAMRR}, RCX),
        ({"rcx": SEAMRR + 0x2000000 - 512}, RCX),
        ({"rcx": ARRAY_PA | FIRST_HKID << 46}, RCX),
        ({"rdx": 0}, RDX),
        ({"rdx": 65}, RDX),
        ({"r8": 0}, R8),
        ({"r8": FIRST_HKID - 1}, R8),
        ({"r8": FIRST_HKID + 32}, R8),
        ({"r8": FIRST_HKID | 1 << 16}, R8),
        ({"rcx": 1, "rdx": 0, "r8": 0}, RCX),
        ({"rdx": 0, "r8": 0}, RDX),
    ],
)
def test_operands(library: Library, change: dict[str, int], operand: int) -> None:
    assert _host(library).config(_three(), **change) == (INVALID, operand)


def test_a_shared_keyid_is_as_good_as_none(library: Library) -> None:
    assert _host(library).config(_three(), rcx=ARRAY_PA | (FIRST_HKID - 1) << 46) == OK


@pytest.mark.parametrize("kids", [0, 1])
def test_without_private_keyids_no_keyid_will_do(library: Library, kids: int) -> None:
    host = Host(library, Machine(num_tdx_priv_kids=kids))
    host.lp_init_all()
    status = host.config(_three())
    assert status == (OK if kids else (INVALID, R8))


def test_pamt_overlaps_name_both_tdmrs_and_the_level(library: Library) -> None:
    tdmrs = _three()
    tdmrs[2].pamt_2m = (tdmrs[1].pamt_4k[0] + PAGE, tdmrs[2].pamt_2m[1])
    assert _host(library).config(tdmrs) == ("TDX_PAMT_OVERLAP", 2 | 1 << 8 | 1 << 16)


def test_pamt_levels_may_not_overlap_each_other(library: Library) -> None:
    tdmrs = _three()
    tdmrs[1].pamt_1g = tdmrs[1].pamt_2m
    assert _host(library).config(tdmrs) == ("TDX_PAMT_OVERLAP", 1 | 1 << 8 | 1 << 16)


def test_a_pamt_may_lie_in_reserved_areas_only(library: Library) -> None:
    tdmrs = _three()
    tdmrs[0].pamt_4k = (6 * GIB + GIB, 4 * MIB)
    assert _host(library).config(tdmrs) == OK
    tdmrs[1].reserved = tdmrs[1].reserved[:2]
    # TDMR 1 is looked at later: the owner of the PAMT stands first.
    assert _host(library).config(tdmrs) == ("TDX_PAMT_OVERLAP", 0 | 0 << 8 | 1 << 16)


def test_overlap_comes_before_cmrs(library: Library) -> None:
    tdmrs = _three()
    tdmrs[0].pamt_1g = (4 * GIB + MIB, PAGE)
    cmrs = [(MIB, 2 * GIB - MIB), (4 * GIB, MIB), (4 * GIB + 2 * MIB, 30 * GIB)]
    assert _host(library, cmrs=cmrs).config(tdmrs) == ("TDX_PAMT_OVERLAP", 2 << 8)


def test_a_larger_pamt_takes_part_in_overlaps_whole(library: Library) -> None:
    tdmrs = _three()
    base, size = tdmrs[0].pamt_4k
    tdmrs[0].pamt_4k = (base, size + PAGE)
    assert _host(library).config(tdmrs) == ("TDX_PAMT_OVERLAP", 0)


def test_available_memory_has_to_be_convertible(library: Library) -> None:
    hole = [(MIB, 2 * GIB - MIB), (4 * GIB, 2 * GIB + MIB), (6 * GIB + 2 * MIB, 28 * GIB)]
    tdmrs = _three()
    tdmrs[1].reserved = []
    assert _host(library, cmrs=hole).config(tdmrs) == ("TDX_TDMR_OUTSIDE_CMRS", 1)
    tdmrs[1].reserved = [(MIB, MIB)]
    assert _host(library, cmrs=hole).config(tdmrs) == OK


def test_cmrs_that_touch_count_as_one_also_across_an_empty_entry(library: Library) -> None:
    tdmrs = layout([(6 * GIB, 2 * GIB)], PAMT_AT)
    cmrs = [(4 * GIB, GIB), (5 * GIB, 2 * GIB), (0, 0), (7 * GIB, 27 * GIB)]
    assert _host(library, cmrs=cmrs).config(tdmrs) == OK
    cmrs[3] = (7 * GIB + PAGE, 27 * GIB)
    assert _host(library, cmrs=cmrs).config(tdmrs) == ("TDX_TDMR_OUTSIDE_CMRS", 0)


def test_a_tdmr_may_be_reserved_whole(library: Library) -> None:
    tdmrs = layout([(100 * GIB, GIB)], PAMT_AT)
    tdmrs[0].reserved = [(0, GIB)]
    assert _host(library).config(tdmrs) == OK


def test_sixteen_reserved_areas_and_sixty_four_tdmrs(library: Library) -> None:
    sizes = sum(pamt_sizes(GIB))
    tdmrs = layout([((4 + i) * GIB, GIB) for i in range(64)], 100 * GIB)
    for tdmr in tdmrs:
        tdmr.reserved = [(n * MIB, PAGE) for n in range(16)]
    cmrs = [(MIB, MIB), (4 * GIB, 64 * GIB), (100 * GIB, 64 * sizes)]
    assert _host(library, cmrs=cmrs).config(tdmrs) == OK


def test_version_1_of_later_modules_takes_features_and_a_reserved_register(
    library: Library,
) -> None:
    host = Host(library, update=16)
    host.lp_init_all()
    call = {"rcx": ARRAY_PA, "rdx": 3, "r8": FIRST_HKID}
    assert host.config(_three(), rdx=0) == (INVALID, RDX)
    assert host.status(CONFIG, version=1, r9=1 << 36, **call) == (INVALID, R9)
    assert host.status(CONFIG, version=1, r9=1, r10=1, **call) == (INVALID, R10)
    assert host.status(CONFIG, version=1, r9=1, **call) == OK
