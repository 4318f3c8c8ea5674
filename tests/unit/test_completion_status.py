# SPDX-License-Identifier: GPL-2.0-or-later
"""Decoding of completion statuses, and the tables against the reference."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tdxhost.leaves import MODULE_LEAVES, PSEAMLDR_LEAVES, leaf_name
from tdxhost.status import Reference

REFERENCE = Reference()


def _read(shared: Path, name: str) -> Any:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return yaml.load((shared / "tdx-abi" / name).read_text(encoding="utf-8"), Loader=loader)


def test_every_status_of_the_reference_is_there_as_it_says(shared: Path) -> None:
    table = _read(shared, "status-codes.yaml")
    for row in (*table["statuses"], *table["statuses_newer"]):
        known = REFERENCE.statuses[row["value"]]
        assert (known.name, known.kind) == (row["name"], row["low32"]["kind"])
        assert known.meaning == row["meaning"]
        assert bool(known.likely_cause) == bool(row.get("likely_cause"))
        assert bool(known.what_to_do) == bool(row.get("what_to_do"))


def test_codes_of_kernels_and_of_the_loader_are_those_of_the_reference(shared: Path) -> None:
    table = _read(shared, "status-codes.yaml")
    software = {row["value"]: row["name"] for row in table["kernel_software_codes"]["codes"]}
    pseamldr = {row["value"]: row["name"] for row in table["p_seamldr_codes"]}
    assert {value: row.name for value, row in REFERENCE.whole_words.items()} == software
    assert {value: row.name for value, row in REFERENCE.pseamldr.items()} == pseamldr


def test_operands_are_those_of_the_reference(shared: Path) -> None:
    table = _read(shared, "operands.yaml")
    for row in table["operands"]:
        assert REFERENCE.operands[row["id"]] == (row["name"], row["meaning"])
    assert {row["id"] for row in table["operands_other"]} <= REFERENCE.operands.keys()


def test_leaves_are_those_of_the_reference(shared: Path) -> None:
    table = _read(shared, "leaves.yaml")
    module = {row["number"]: row["name"] for row in table["module_leaves"]}
    module |= {row["number"]: row["name"] for row in table["newer_module_leaves"]}
    assert module == MODULE_LEAVES
    assert {row["number"]: row["name"] for row in table["p_seamldr_leaves"]} == PSEAMLDR_LEAVES


def test_msrs_are_those_of_the_reference(shared: Path) -> None:
    for row in _read(shared, "msrs-cpuid.yaml")["host_msrs"]:
        assert REFERENCE.msrs[row["address"]] == row["name"]


def test_success_is_named_without_reading_the_table() -> None:
    fresh = Reference()
    assert fresh.name_of(0, 0x23) == "TDX_SUCCESS"
    assert fresh._loaded == {}
    assert REFERENCE.decode(0).name == "TDX_SUCCESS"


@pytest.mark.parametrize(
    ("value", "name", "says"),
    [
        (
            0xC00009200000010A,
            "TDX_INCONSISTENT_MSR",
            "MSR 0x10a IA32_ARCH_CAPABILITIES differs from the other CPUs",
        ),
        (0xC000010000000001, "TDX_OPERAND_INVALID", "operand RCX is not acceptable"),
        (0xE000010000000001, "TDX_OPERAND_INVALID", "operand RCX is not acceptable"),
        (0xC000010000000FFF, "TDX_OPERAND_INVALID", "operand 4095 is not acceptable"),
        (0xC0000A1200010203, "TDX_PAMT_OVERLAP", "TDMR 3, PAMT 1G, other TDMR 1"),
        (0xC0000A2000000502, "TDX_INVALID_RESERVED_IN_TDMR", "TDMR 2, reserved area 5"),
        (0xC000091000000001, "TDX_SMRR_NOT_LOCKED", "SMRR2 (MSRs 0x1f6 and 0x1f7) is not locked"),
        (
            0xC000090800000015,
            "TDX_CPUID_LEAF_NOT_SUPPORTED",
            "CPUID leaf 0x15 is absent or empty",
        ),
        (0x8000FF00FFFF0000, "TDX_SEAMCALL_VMFAILINVALID", ""),
        (0x8000020300000000, "TDX_RND_NO_ENTROPY", ""),
    ],
)
def test_the_low_half_is_put_in_words(value: int, name: str, says: str) -> None:
    decoded = REFERENCE.decode(value, 0x23)
    assert decoded.name == name
    assert decoded.says == says if says else decoded.says
    assert f"{value:#018x}" in decoded.label


def test_registers_tell_which_cpuid_bits_differ() -> None:
    registers = {"rcx": 0x7, "rdx": 0x4 << 32, "r8": 0x10}
    decoded = REFERENCE.decode(0xC000090200000000, 0x23, registers)
    assert decoded.says == (
        "CPUID leaf 0x7 sub-leaf 0x0 (bits checked: EBX 0x4, ECX 0x10) differs from the other CPUs"
    )


def test_a_sub_leaf_of_all_ones_is_none() -> None:
    registers = {"rcx": 0xFFFFFFFF00000001, "rdx": 1, "r8": 0}
    assert "sub-leaf" not in REFERENCE.decode(0xC000090000000000, 0x21, registers).says


def test_a_status_of_the_loader_is_not_taken_for_one_of_the_module() -> None:
    decoded = REFERENCE.decode(0x8000000000000003, 0x8000000000000001)
    assert decoded.name == "PSEAMLDR_EBADCALL"


def test_an_unknown_status_keeps_its_number_and_has_no_name() -> None:
    assert REFERENCE.name_of(0xC0007F0000000000) is None
    assert "0xc0007f0000000000" in REFERENCE.decode(0xC0007F0000000000).label


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
def test_any_number_decodes(value: int, leaf: int) -> None:
    decoded = REFERENCE.decode(value, leaf, {"rcx": value, "rdx": leaf, "r8": value})
    assert decoded.name
    assert leaf_name(leaf)


@pytest.mark.parametrize(
    ("rax", "name"),
    [
        (0x23, "TDH.SYS.LP.INIT"),
        (0x1002D, "TDH.SYS.CONFIG version 1"),
        (0x8000000000000000, "SEAMLDR.INFO"),
        (0xFE0, "leaf 4064"),
    ],
)
def test_leaves_are_named(rax: int, name: str) -> None:
    assert leaf_name(rax) == name


def test_cpuid_bits_are_told_also_where_one_of_the_registers_is_missing() -> None:
    decoded = Reference().decode(0xC000090000000000, 33, {"rcx": 0xFFFFFFFF80000008, "rdx": 0xFF})
    assert decoded.detail == "CPUID leaf 0x80000008 (bits checked: EAX 0xff)"
