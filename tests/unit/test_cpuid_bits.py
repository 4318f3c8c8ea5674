# SPDX-License-Identifier: GPL-2.0-or-later
"""CPUID bits against the reference and against recorded answers of the TDX module."""

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tdxhost.cpuid import REGISTERS, CpuidTable, Masks
from tests.seam.model_reference import load

#: The first example reads tables, and machines are slow at times.
UNHURRIED = settings(deadline=None)
TABLE = CpuidTable.load()
LEAF_7 = {"rcx": 0x7, "rdx": 0x219424C3FFFFFFFF, "r8": 0xFC08260099000000}
LEAF_7_WANTED = {"r9": 0x219424C300000002, "r10": 0xFC08040099000000}


def _words(masks: Masks) -> tuple[int, ...]:
    return tuple(masks.get(register, 0) for register in REGISTERS)


def _vectors(shared: Path) -> Iterator[dict[str, Any]]:
    with gzip.open(shared / "tdx-abi/vectors/msr.jsonl.gz", "rt", encoding="utf-8") as lines:
        yield from map(json.loads, lines)


def test_the_checks_are_those_of_the_reference_in_its_order(shared: Path) -> None:
    expected = [
        (row.leaf, row.subleaf, row.mask, row.expected, row.same)
        for row in load(shared / "tdx-abi").cpuid
    ]
    assert [
        (row.leaf, row.subleaf, _words(row.verify), _words(row.expected), _words(row.same))
        for row in TABLE.checks
    ] == expected


def test_recorded_answers_name_the_bit_that_was_flipped(shared: Path) -> None:
    seen = 0
    for line in _vectors(shared):
        if line["kind"] != "cpuid-init":
            continue
        register, baseline = line["target"]["reg"].upper(), int(line["baseline"], 16)
        for outcome in line["outcomes"]:
            if outcome["status"] != "TDX_INCORRECT_CPUID_VALUE":
                continue
            registers = {name: int(value, 16) for name, value in outcome["out"].items()}
            found = TABLE.mismatch(registers, compared=False)
            assert found is not None
            flipped = [bit for bit in range(32) if int(outcome["bits"], 16) >> bit & 1]
            for bit in flipped:
                # The masks name what was flipped, and the values say that it is wrong.
                named = [one for one in found.bits if one.low <= bit <= one.high]
                assert [one.register for one in named if one.register == register]
                wrong = found.against({register: baseline ^ 1 << bit}).bits
                assert bit in [low for one in wrong for low in range(one.low, one.high + 1)]
                seen += 1
    assert seen >= 32


def test_a_recorded_comparison_names_what_was_compared(shared: Path) -> None:
    for line in _vectors(shared):
        if line["kind"] != "cpuid-lpinit":
            continue
        for outcome in line["outcomes"]:
            if outcome["status"] == "TDX_INCONSISTENT_CPUID_FIELD":
                registers = {name: int(value, 16) for name, value in outcome["out"].items()}
                found = TABLE.mismatch(registers, compared=True)
                assert found is not None
                assert found.bits == ()
                register = line["target"]["reg"].upper()
                assert any(register in said for said in found.says), found.says


def test_wrong_bits_are_said_by_name() -> None:
    found = TABLE.mismatch(LEAF_7 | LEAF_7_WANTED, compared=False)
    assert found is not None
    assert "CPUID leaf 0x7 sub-leaf 0x0: ECX bit 28 MOVDIR64B has to be 1" in found.says
    assert "CPUID leaf 0x7 sub-leaf 0x0: EDX bit 13 RTM_FORCE_ABORT has to be 0" in found.says
    assert "CPUID leaf 0x7 sub-leaf 0x0: EAX bits 31:0 MAX_SUBLEAF has to be 2" in found.says


def test_with_the_values_read_only_the_wrong_bit_is_left() -> None:
    found = TABLE.mismatch(LEAF_7 | LEAF_7_WANTED, compared=False)
    assert found is not None
    healthy = {"EAX": 2, "EBX": 0x219424C3, "ECX": 0x99000000, "EDX": 0xFC080400}
    assert found.against(healthy).bits == ()
    broken = found.against(healthy | {"ECX": 0x89000000})
    assert [one.says for one in broken.bits] == ["ECX bit 28 MOVDIR64B has to be 1, and is 0"]


def test_a_field_is_said_as_a_number_and_with_its_hint() -> None:
    check = next(row for row in TABLE.checks if row.leaf == 0x80000008)
    (wrong,) = TABLE.wrong(check, {"EAX": 0x392E, "EBX": 0x200})
    assert wrong.says == (
        "EAX bits 7:0 PHYSICAL_ADDRESS_BITS has to be 52 (0x34), and is 46 (0x2e)"
    )
    assert "46 bits" in wrong.hint


def test_cpus_that_differ_are_told_without_values() -> None:
    masks = {"rcx": 0x7, "rdx": 0xFFFFFFFBFFFFFFFF, "r8": 0xFFEBFFFFBFC1FF6F}
    found = TABLE.mismatch(masks, compared=True)
    assert found is not None
    assert found.says[0] == (
        "CPUID leaf 0x7 sub-leaf 0x0: all of EAX has to be the same on all CPUs"
    )
    assert "EBX except bit 2 SGX" in found.says[1]


def test_a_leaf_without_sub_leaf_is_named_without() -> None:
    found = TABLE.mismatch({"rcx": 0xFFFFFFFF00000001, "rdx": 0xFF00, "r8": 0}, compared=True)
    assert found is not None
    assert found.where == "CPUID leaf 0x1"


def test_registers_that_were_not_printed_name_nothing() -> None:
    assert TABLE.mismatch({}, compared=False) is None
    assert TABLE.mismatch({"rcx": 0, "rdx": 0, "r8": 0}, compared=False) is None


def test_every_bit_that_is_checked_has_a_name() -> None:
    unnamed = [
        (check.where, bits.label)
        for check in TABLE.checks
        for bits in TABLE.wanted(check.leaf, check.subleaf, check.verify, check.expected)
        if not bits.name
    ]
    assert unnamed == []


@UNHURRIED
@given(st.integers(0, 2**32 - 1))
@pytest.mark.parametrize("register", REGISTERS)
@pytest.mark.parametrize("leaf", [0x1, 0x7, 0xA, 0x77])
def test_the_bits_of_a_mask_are_named_once_each(leaf: int, register: str, mask: int) -> None:
    bits = TABLE.wanted(leaf, 0, {register: mask}, {register: mask})
    assert sum(one.mask for one in bits) == mask
    assert sum(one.wanted << one.low for one in bits) == mask
