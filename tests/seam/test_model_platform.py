# SPDX-License-Identifier: GPL-2.0-or-later
"""The library against the model: TDH.SYS.INIT and LP.INIT on platforms with up to three faults."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from .binding import ALL_ONES, DONE, Library
from .machine import (
    DEFAULT_CMRS,
    GIB,
    HEALTHY_CPUID,
    HEALTHY_MSRS,
    INIT,
    LP_INIT,
    MIB,
    PAGE,
    Machine,
)
from .model import ModelLibrary
from .model_pair import Pair, Step

Change = Callable[[Machine], None]
CpuidKey = tuple[int, int | None]

MSRS = sorted([*HEALTHY_MSRS, 0x87])
SMRR_MSRS = [0xFE, 0x1F2, 0x1F3, 0x1F6, 0x1F7]
# A fault in CPUID 0x15 EAX would be a divide error: recorded nowhere.
NOT_CHANGED = ((0x15, None), 0)
ABSENT = (0, 0, 0, 0)
BIT = st.integers(0, 63)
SOME_BITS = st.one_of(
    BIT.map(lambda bit: 1 << bit),
    st.tuples(BIT, BIT).map(lambda two: 1 << two[0] | 1 << two[1]),
    st.integers(1, ALL_ONES),
)


def _baseline(msr: int) -> int:
    value = Machine().msrs[msr]
    assert value is not None
    return value


BASELINE = {msr: _baseline(msr) for msr in MSRS}


def _values(msr: int) -> st.SearchStrategy[int | None]:
    flipped = SOME_BITS.map(lambda bits: BASELINE[msr] ^ bits)
    return st.one_of(flipped, flipped, flipped, st.none())


def _cpuid_keys(model: ModelLibrary) -> list[CpuidKey]:
    rows = {(row.leaf, row.subleaf) for row in model.reference.cpuid}
    return sorted(rows | set(HEALTHY_CPUID), key=str)


@st.composite
def _msr(draw: st.DrawFn, lp: int | None) -> Change:
    msr = draw(st.sampled_from(MSRS))
    value = draw(_values(msr))

    def change(machine: Machine) -> None:
        if lp is None:
            machine.msrs[msr] = value
        else:
            machine.lp_msrs[lp, msr] = value

    return change


@st.composite
def _cpuid(draw: st.DrawFn, keys: list[CpuidKey], lp: int | None) -> Change:
    key, register = draw(st.sampled_from(keys)), draw(st.integers(0, 3))
    bits = draw(SOME_BITS) & 0xFFFFFFFF if (key, register) != NOT_CHANGED else 0
    if lp is None:
        return _wrong_cpuid(key, register, bits)
    return _other_cpuid(lp, key, register, bits)


@st.composite
def _smrr(draw: st.DrawFn) -> Change:
    """SMRRs of all sizes, where there are CMRs and where there are none."""
    base = draw(st.sampled_from([0, MIB, 0x70000000, 0x80000000, 0x88000000, 0x88001000]))
    mask = draw(st.sampled_from([0, 0xFF800000, 0xFFFFF000, 0x80000000, 0xFE800000, 0xFFF]))
    flags = draw(st.sampled_from([0xC00, 0xC00, 0x800, 0x400, 0]))
    at = draw(st.sampled_from([0x1F2, 0x1F6]))
    mtrrcap = draw(st.sampled_from([0xDD0A, 0xFD0A, 0xFD0A, 0xF50A, 0xBD0A]))

    def change(machine: Machine) -> None:
        machine.msrs |= {0xFE: mtrrcap, at: base | 6, at + 1: mask & 0xFFFFF000 | flags}

    return change


@st.composite
def _levels(draw: st.DrawFn) -> Change:
    """CPUID 0x1F: levels of (shift, type) in all orders."""
    level = st.tuples(st.integers(0, 6), st.sampled_from([1, 2, 2, 3, 5, 6, 0]))
    levels = draw(st.lists(level, max_size=5))

    def change(machine: Machine) -> None:
        for subleaf in range(6):
            shift, kind = levels[subleaf] if subleaf < len(levels) else (0, 0)
            machine.cpuids[0x1F, subleaf] = (shift, 0, kind << 8 | subleaf, 0)

    return change


def _set(name: str, values: st.SearchStrategy[Any]) -> st.SearchStrategy[Change]:
    def build(value: Any) -> Change:
        return lambda machine: setattr(machine, name, value)

    return values.map(build)


def _platform_changes(keys: list[CpuidKey]) -> st.SearchStrategy[list[Change]]:
    one = st.one_of(
        _msr(None),
        _cpuid(keys, None),
        _smrr(),
        _levels(),
        _set("capabilities", st.sampled_from([0x3F, 0x2F, 0x1F, 0x30, 0])),
        _set("rdrand_failures", st.just(1)),
    )
    return st.lists(one, max_size=3)


EDGE = 1 << 46  # of addresses without KeyID bits
CMR_BASES = [0, MIB, MIB + 2048, GIB, 2 * GIB, 4 * GIB, EDGE - PAGE, EDGE, 1 << 52, ALL_ONES - 4095]
CMR_SIZES = [0, PAGE, MIB, 2048, GIB, 2 * GIB, 30 * GIB, EDGE, ALL_ONES]
TABLES = st.one_of(
    st.just(list(DEFAULT_CMRS)),
    st.just(list(DEFAULT_CMRS)),
    st.lists(st.tuples(st.sampled_from(CMR_BASES), st.sampled_from(CMR_SIZES)), max_size=4),
    st.lists(st.sampled_from(CMR_BASES[1:6:2]), max_size=4).map(
        lambda bases: [(base, GIB) for base in sorted(bases)]
    ),
)
SETTINGS = st.fixed_dictionaries(
    {
        "cmrs": TABLES,
        "num_handoff_pages": st.sampled_from([13, 13, 13, 14, 12, 0]),
        "skip_smrr2": st.sampled_from([0, 0, 1]),
        "no_integrity": st.sampled_from([0, 0, 1]),
    }
)


@settings(max_examples=300)
@given(data=st.data(), numbers=SETTINGS)
def test_init_finds_the_first_fault(
    library: Library, model: ModelLibrary, data: st.DataObject, numbers: dict[str, Any]
) -> None:
    pair = Pair(library, model, **numbers)
    _apply(pair, data.draw(_platform_changes(_cpuid_keys(model))))
    pair.run(Step(data.draw(st.integers(0, 7)), INIT, {"rcx": 0}))
    pair.run(Step(3, LP_INIT))


# A value that breaks each rule about an MSR, in the order of the rules.
WRONG_MSRS: list[tuple[int, int | None]] = [
    (0xCF, None),
    (0x10A, BASELINE[0x10A] ^ 1),
    (0xBD, 3),
    (0xBC, 0),
    (0x345, 0),
    (0x3B, None),
    (0x1A0, 1 << 22),
]
LATER_WRONG_MSRS: list[tuple[int, int | None]] = [
    (0x480, 1 << 54),
    (0x48D, 0),
    (0x48E, 0),
    (0x48B, 0),
    (0x492, 0),
    (0x48F, 0),
    (0x490, 0),
    (0x485, 0),
    (0x48C, 0),
    (0x486, 0x80000061),
    (0x487, 0),
    (0x488, 1),
    (0x489, 0),
    *[(0x48D, BASELINE[0x48D] | 1 << 6), (0x48E, BASELINE[0x48E] & ~(1 << 44))],
    *[(0x48B, BASELINE[0x48B] & ~(1 << 41)), (0x492, BASELINE[0x492] & ~(1 << 1))],
    (0x487, 0x21),
    (0x982, BASELINE[0x982] & ~1),
    *[(0x981, None), (0x981, 0x5)],
    (0x982, 0x5000600000003),
    (0x87, 0x400 << 32 | 0x400),
    *[(0x98, None), (0x99, 0x11)],
    (0xFE, 0xDD0A & ~(1 << 11)),
    (0xFE, 0xDD0A & ~(1 << 14)),
    *[(0x1F3, 0xFF800800), (0x1F3, 0xFE800C00), (0x1F2, 0x70000006)],
]
# What is wrong about a machine at last; the table of CMRs is another machine's.
LAST_CHANGES: list[Change] = [
    lambda machine: setattr(machine, "capabilities", 0x0F),
    lambda machine: setattr(machine, "rdrand_failures", 1),
]


def _wrong_msr(msr: int, value: int | None) -> Change:
    return lambda machine: machine.msrs.update({msr: value})


def _lowest_bit(mask: int) -> int:
    return mask & -mask


def _wrong_cpuid(key: CpuidKey, register: int, bits: int) -> Change:
    def change(machine: Machine) -> None:
        regs = list(machine.cpuids.get(key, ABSENT))
        regs[register] ^= bits
        machine.cpuids[key] = (regs[0], regs[1], regs[2], regs[3])

    return change


def _cpuid_faults(model: ModelLibrary) -> Iterator[Change]:
    """One for each register that TDH.SYS.INIT verifies, and the special rules between them."""
    special: dict[CpuidKey, list[tuple[int, int]]] = {
        (0xA, None): [(0, 6), (3, 0x1C)],
        (0x15, None): [(1, 0xA0), (2, 0x17D7840)],
        (0x1F, 5): [(2, 0x600)],
        (0x80000008, None): [(0, 0x900)],
        (0x0, None): [(0, 0x20)],
        (0x7, 0): [(2, 1 << 16), (2, 1 << 5)],
        (0x80000000, None): [(0, 0x8)],
        (0x4, 3): [(0, 1 << 19)],
    }
    for row in model.reference.cpuid:
        key = row.leaf, row.subleaf
        for register, mask in enumerate(row.mask):
            if mask:
                yield _wrong_cpuid(key, register, _lowest_bit(mask))
        for register, bits in special.get(key, []):
            yield _wrong_cpuid(key, register, bits)


@pytest.mark.parametrize(
    "numbers",
    [{}, {"num_handoff_pages": 12}, {"cmrs": [(MIB, MIB), (MIB, MIB)]}],
    ids=["sound", "handoff pages", "CMRs"],
)
def test_of_two_faults_init_finds_the_first(
    library: Library, model: ModelLibrary, numbers: dict[str, Any]
) -> None:
    before = [_wrong_msr(*wrong) for wrong in WRONG_MSRS]
    after = [_wrong_msr(*wrong) for wrong in LATER_WRONG_MSRS]
    faults = [*before, *_cpuid_faults(model), *after, *LAST_CHANGES]
    chosen = faults if not numbers else [*after, *LAST_CHANGES]
    found = set()
    for changes in _neighbours(chosen):
        pair = Pair(library, model, **numbers)
        _apply(pair, changes)
        found.add(pair.run(Step(0, INIT, {"rcx": 0}))[1].get("rax"))
    assert len(found) > len(numbers)


def _neighbours(faults: Sequence[Change], reach: int = 4) -> Iterator[tuple[Change, ...]]:
    """Each alone, then two: orders that differ do so in neighbours of one of them."""
    for at, fault in enumerate(faults):
        yield (fault,)
        for other in faults[at + 1 : at + 1 + reach]:
            yield fault, other


def _apply(pair: Pair, changes: Sequence[Change]) -> None:
    for change in changes:
        pair.each(change)


def _differences(model: ModelLibrary, lp: int) -> Iterator[Change]:
    """One for each value that TDH.SYS.LP.INIT compares, in its order."""
    yield lambda machine: setattr(machine, "rdrand_failures", 1)
    yield lambda machine: machine.lp_capabilities.update({lp: 0x30})
    for msr in (0xCF, 0x10A, 0xBC, 0xBD):
        yield _other_msr(lp, msr, BASELINE[msr] ^ 1)
    yield _other_msr(lp, 0x1A0, 1 << 22)
    for row in model.reference.cpuid:
        for register, mask in enumerate(row.same):
            if mask and (row.leaf, row.subleaf, register) != (0x15, None, 0):
                yield _other_cpuid(lp, (row.leaf, row.subleaf), register, _lowest_bit(mask))
    yield lambda machine: machine.x2apic_ids.update({lp: 0x80})
    for msr in (
        *(0x3B, 0xFE, 0x1F2, 0x1F3, 0x1F6, 0x1F7),
        *(0x480, 0x48D, 0x48E, 0x48B, 0x492, 0x48F, 0x490, 0x485, 0x48C),
        *(0x486, 0x487, 0x488, 0x489, 0x345, 0x981, 0x982, 0x87, 0x98, 0x99),
    ):
        yield _other_msr(lp, msr, BASELINE[msr] ^ 1 << 12)


def _other_msr(lp: int, msr: int, value: int) -> Change:
    return lambda machine: machine.lp_msrs.update({(lp, msr): value})


def _other_cpuid(lp: int, key: CpuidKey, register: int, bits: int) -> Change:
    def change(machine: Machine) -> None:
        old = machine.lp_cpuids.get((lp, *key), machine.cpuids.get(key, ABSENT))
        regs = list(old)
        regs[register] ^= bits
        machine.lp_cpuids[lp, key[0], key[1]] = (regs[0], regs[1], regs[2], regs[3])

    return change


@pytest.mark.parametrize("mtrrcap", [0xDD0A, 0xFD0A], ids=["one SMRR", "two SMRRs"])
def test_of_two_differences_lp_init_finds_the_first(
    library: Library, model: ModelLibrary, mtrrcap: int
) -> None:
    pair = _initialised(library, model, mtrrcap)
    found = set()
    for changes in _neighbours(list(_differences(model, lp=5))):
        _apply(pair, changes)
        found.add(pair.run(Step(5, LP_INIT))[1]["rax"])
        pair.each(_heal)
        if pair.sides[0].module.state()["lps"]:
            pair = _initialised(library, model, mtrrcap)
    assert len(found) > 30


def _initialised(library: Library, model: ModelLibrary, mtrrcap: int) -> Pair:
    pair = Pair(library, model)
    pair.each(lambda machine: machine.msrs.update({0xFE: mtrrcap}))
    assert pair.status(Step(0, INIT, {"rcx": 0})) == "TDX_SUCCESS"
    return pair


@settings(max_examples=300)
@given(data=st.data())
def test_lp_init_finds_the_first_difference(
    library: Library, model: ModelLibrary, data: st.DataObject
) -> None:
    pair = Pair(library, model)
    assert pair.status(Step(0, INIT, {"rcx": 0})) == "TDX_SUCCESS"
    lp = 5
    ids = st.sampled_from([0, 0x7F, 0x80, 0xFF, 0x1000]).map(lambda value: {lp: value})
    one = st.one_of(
        _msr(lp),
        _cpuid(_cpuid_keys(model), lp),
        _set("lp_capabilities", st.sampled_from([{lp: 0x30}, {lp: 0x3F}, {lp: 0}])),
        _set("rdrand_failures", st.just(1)),
        ids.map(lambda changed: lambda machine: machine.x2apic_ids.update(changed)),
    )
    _apply(pair, data.draw(st.lists(one, min_size=1, max_size=3)))
    ending, _ = pair.run(Step(lp, LP_INIT))
    pair.each(_heal)
    pair.run(Step(lp, LP_INIT))
    if ending == DONE:
        pair.run(Step(lp, LP_INIT))


def _heal(machine: Machine) -> None:
    machine.lp_msrs.clear()
    machine.lp_cpuids.clear()
    machine.lp_capabilities = {}
    machine.x2apic_ids[5] = 0x11
