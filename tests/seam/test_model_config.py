# SPDX-License-Identifier: GPL-2.0-or-later
"""The library against the model: TDH.SYS.CONFIG with rules broken, alone and together."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from .binding import ALL_ONES, Library
from .machine import (
    CONFIG,
    FIRST_HKID,
    GIB,
    INIT,
    LP_INIT,
    MIB,
    PAGE,
    Machine,
    Tdmr,
    layout,
    pamt_sizes,
)
from .model import ModelLibrary
from .model_pair import Differ, Pair, Step

ARRAY, INFOS = 0x200000, 0x210000
SEAMRR = 0xC0000000
KEYID = 1 << 46
BIG = 1 << 52
PAMTS_AT = 26 * GIB
# Two that touch across an empty entry, a hole, one more.
CMRS = [(MIB, 2 * GIB - MIB), (4 * GIB, 12 * GIB), (0, 0), (16 * GIB, 14 * GIB), (64 * GIB, GIB)]
HOLE = 40 * GIB
SPANS = [(4 * GIB, GIB), (6 * GIB, 2 * GIB), (8 * GIB, GIB)]
LEVELS = ("pamt_1g", "pamt_2m", "pamt_4k")


@dataclass
class Request:
    """Operands of TDH.SYS.CONFIG and what they point to."""

    tdmrs: list[Tdmr]
    rcx: int = ARRAY
    rdx: int | None = None
    r8: int = FIRST_HKID
    infos: dict[int, int] = field(default_factory=dict)

    def write(self, machine: Machine) -> None:
        for i, tdmr in enumerate(self.tdmrs):
            pa = self.infos.get(i, INFOS + 512 * i)
            machine.memory.write(INFOS + 512 * i, tdmr.pack())
            machine.memory.write(ARRAY + 8 * i, pa.to_bytes(8, "little"))

    def step(self) -> Step:
        count = len(self.tdmrs) if self.rdx is None else self.rdx
        return Step(0, CONFIG, {"rcx": self.rcx, "rdx": count, "r8": self.r8})


Break = Callable[[Request], None]


def _good() -> Request:
    tdmrs = layout(SPANS, PAMTS_AT)
    tdmrs[1].reserved = [(MIB, MIB), (2 * MIB, PAGE), (GIB, 64 * MIB)]
    return Request(tdmrs)


def _operand(**values: int) -> Break:
    def apply(request: Request) -> None:
        for name, value in values.items():
            setattr(request, name, value)

    return apply


def _info(i: int, pa: int) -> Break:
    return lambda request: request.infos.update({i: pa})


def _tdmr(i: int, **values: int) -> Break:
    def apply(request: Request) -> None:
        for name, value in values.items():
            setattr(request.tdmrs[i], name, value)

    return apply


def _reserved(i: int, *areas: tuple[int, int]) -> Break:
    return lambda request: setattr(request.tdmrs[i], "reserved", list(areas))


def _pamt(i: int, level: str, base: int | None = None, size: int | None = None) -> Break:
    def apply(request: Request) -> None:
        old = getattr(request.tdmrs[i], level)
        pair = old[0] if base is None else base, old[1] if size is None else size
        setattr(request.tdmrs[i], level, pair)

    return apply


def _onto(i: int, level: str, other: int, other_level: str) -> Break:
    """A PAMT area moved onto another one."""

    def apply(request: Request) -> None:
        base, _ = getattr(request.tdmrs[other], other_level)
        _pamt(i, level, base=base)(request)

    return apply


OPERANDS: list[Break] = [
    *[_operand(rcx=rcx) for rcx in (ARRAY + 8, ARRAY | BIG, SEAMRR, ARRAY | 32 * KEYID)],
    *[_operand(rdx=rdx) for rdx in (0, 65, ALL_ONES)],
    *[_operand(r8=r8) for r8 in (0, 31, 64, FIRST_HKID | 1 << 16, FIRST_HKID | 1 << 63)],
    *[_operand(rcx=ARRAY | 31 * KEYID), _operand(r8=63), _operand(rdx=1)],
    *[_info(0, pa) for pa in (INFOS + 8, INFOS | BIG, SEAMRR + 512, INFOS | 63 * KEYID)],
    *[_info(2, pa) for pa in (INFOS + 1024 + 256, INFOS, INFOS + 1024 | KEYID)],
]
BOUNDS: list[Break] = [
    *[_tdmr(i, size=0) for i in (0, 1)],
    *[_tdmr(i, size=GIB + MIB) for i in (0, 1)],
    *[_tdmr(0, base=base) for base in (4 * GIB + PAGE, HOLE, BIG, BIG - GIB, KEYID)],
    _tdmr(0, base=KEYID - GIB, size=2 * GIB),
    *[_tdmr(1, base=base) for base in (3 * GIB, 4 * GIB, 4 * GIB + MIB, 5 * GIB, 7 * GIB, HOLE)],
    *[_tdmr(i, size=ALL_ONES) for i in (0, 1)],
    *[_tdmr(1, base=BIG), _tdmr(2, base=ALL_ONES - GIB + 1, size=GIB), _tdmr(2, base=7 * GIB)],
    *[_tdmr(2, base=2 * GIB), _tdmr(2, size=3 * GIB), _tdmr(0, size=2 * GIB)],
]
FULL = [(n * 2 * MIB, MIB) for n in range(16)]
RESERVED: list[Break] = [
    *[_reserved(i, (0, 0), (MIB, MIB)) for i in (0, 1)],
    _reserved(1, (MIB, MIB), (123, 0), (4 * MIB, PAGE)),
    *[_reserved(1, (MIB, MIB), (start, MIB)) for start in (0, MIB, 2 * MIB - PAGE, 2 * MIB)],
    *[_reserved(1, (MIB, MIB), (start, PAGE)) for start in (2 * MIB + 1, MIB + 1)],
    *[_reserved(1, (MIB, size)) for size in (PAGE + 1, 1, ALL_ONES, ALL_ONES - MIB + 1)],
    *[_reserved(1, (2 * GIB - PAGE, size)) for size in (PAGE, 2 * PAGE)],
    *[_reserved(1, (2 * GIB, PAGE)), _reserved(1, (0, 2 * GIB)), _reserved(0, (0, GIB))],
    *[_reserved(1, *FULL), _reserved(1, *FULL[:15], (0, PAGE)), _reserved(0, (0, 3 * GIB))],
    _reserved(1, (ALL_ONES - 6 * GIB - PAGE + 1, PAGE)),
]
PAMTS: list[Break] = [
    *[_pamt(i, level, size=0) for i in (0, 1) for level in LEVELS],
    *[_pamt(1, level, base=PAMTS_AT + 1) for level in LEVELS],
    *[_pamt(1, level, size=8 * MIB + 1) for level in LEVELS],
    *[_pamt(1, level, base=BIG) for level in LEVELS],
    *[_pamt(1, level, base=KEYID - PAGE) for level in LEVELS],
    *[_pamt(1, level, base=ALL_ONES & ~0xFFF) for level in LEVELS],
    *[_pamt(1, level, size=size) for level in LEVELS for size in (PAGE, 16 * MIB, 2 * GIB)],
    _pamt(1, "pamt_4k", size=pamt_sizes(2 * GIB)[0] - PAGE),
    *[_pamt(1, level, base=HOLE) for level in LEVELS],
    *[_onto(1, level, 0, other) for level in LEVELS for other in LEVELS],
    *[_onto(2, level, 1, "pamt_4k") for level in LEVELS],
    *[_onto(1, "pamt_1g", 1, "pamt_2m"), _onto(1, "pamt_1g", 1, "pamt_4k")],
    *[_onto(1, "pamt_2m", 1, "pamt_4k"), _onto(0, "pamt_2m", 0, "pamt_4k")],
    *[_pamt(0, level, base=6 * GIB) for level in LEVELS],
    *[_pamt(0, level, base=6 * GIB + MIB) for level in LEVELS],
    *[_pamt(1, level, base=4 * GIB) for level in LEVELS],
    *[_pamt(1, level, base=7 * GIB) for level in LEVELS],
    *[_pamt(1, level, base=7 * GIB + 64 * MIB - PAGE) for level in LEVELS],
    *[_pamt(2, level, base=64 * GIB + GIB - PAGE) for level in LEVELS],
    *[_pamt(2, level, base=16 * GIB - PAGE) for level in LEVELS],
]
BREAKS = [*OPERANDS, *BOUNDS, *RESERVED, *PAMTS]
KINDS = ["operands", "bounds", "reserved areas", "PAMTs"]


def _waiting(library: Library, model: ModelLibrary) -> Pair:
    """A pair that is ready for CONFIG."""
    pair = Pair(library, model, lambda: Machine(lps=1, packages=1), cmrs=CMRS)
    for leaf in (INIT, LP_INIT):
        assert pair.status(Step(0, leaf, {"rcx": 0})) == "TDX_SUCCESS"
    return pair


@pytest.fixture(scope="module")
def pairs(library: Library, model: ModelLibrary) -> Callable[[], Pair]:
    """Gives a pair that waits for CONFIG: the last one, unless it has been configured."""
    current = [_waiting(library, model)]

    def waiting() -> Pair:
        if current[0].sys != 1:
            current[0] = _waiting(library, model)
        return current[0]

    return waiting


def _try(pair: Pair, breaks: tuple[Break, ...]) -> str | None:
    request = _good()
    for apply in breaks:
        apply(request)
    pair.each(request.write)
    return pair.status(request.step())


@pytest.mark.parametrize("kind", [OPERANDS, BOUNDS, RESERVED, PAMTS], ids=KINDS)
def test_each_rule_broken_alone_and_any_two_together(
    pairs: Callable[[], Pair], kind: list[Break]
) -> None:
    statuses = set()
    for breaks in [*((one,) for one in kind), *combinations(kind, 2)]:
        statuses.add(_try(pairs(), breaks))
    assert len(statuses) > 1


def test_rules_of_different_kinds_broken_together(pairs: Callable[[], Pair]) -> None:
    for first, second in combinations([OPERANDS, BOUNDS, RESERVED, PAMTS], 2):
        for one in first[::2]:
            for other in second[::3]:
                _try(pairs(), (one, other))


@settings(max_examples=800)
@given(breaks=st.lists(st.integers(0, len(BREAKS) - 1), min_size=2, max_size=5))
def test_many_rules_broken_at_once(pairs: Callable[[], Pair], breaks: list[int]) -> None:
    _try(pairs(), tuple(BREAKS[number] for number in breaks))


_BASE = st.integers(0, 34).map(lambda n: n * GIB // 2)
_SMALL = st.sampled_from([0, PAGE, MIB, 8 * MIB, GIB, 2 * GIB])
_AREA = st.tuples(
    st.integers(0, 8).map(lambda n: n * 256 * MIB), st.sampled_from([0, PAGE, 256 * MIB, GIB])
)


@st.composite
def _any_tdmr(draw: st.DrawFn) -> Tdmr:
    size = draw(st.sampled_from([GIB, GIB, 2 * GIB, 3 * GIB]))
    tdmr = Tdmr(draw(_BASE), size, (0, 0), (0, 0), (0, 0))
    for level, least in zip(("pamt_4k", "pamt_2m", "pamt_1g"), pamt_sizes(size), strict=True):
        extra = draw(st.sampled_from([0, 0, PAGE, MIB]))
        setattr(tdmr, level, (draw(_BASE) + draw(_SMALL), least + extra))
    tdmr.reserved = sorted(draw(st.lists(_AREA, max_size=5)), key=lambda area: (not area[1], area))
    return tdmr


@settings(max_examples=400)
@given(tdmrs=st.lists(_any_tdmr(), min_size=1, max_size=4))
def test_layouts_on_a_coarse_grid(pairs: Callable[[], Pair], tdmrs: list[Tdmr]) -> None:
    request = Request(sorted(copy.deepcopy(tdmrs), key=lambda tdmr: tdmr.base))
    pair = pairs()
    pair.each(request.write)
    pair.run(request.step())


def test_a_difference_is_noticed(library: Library, model: ModelLibrary) -> None:
    pair = _waiting(library, model)
    pair.each(_good().write)
    pair.sides[0].machine.memory.write(INFOS, _good().tdmrs[1].pack())
    with pytest.raises(Differ, match="TDX_NON_ORDERED_TDMR"):
        pair.run(_good().step())
    with pytest.raises(Differ, match="memory differs"):
        pair.compare_memory()
