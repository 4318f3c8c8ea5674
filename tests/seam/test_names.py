# SPDX-License-Identifier: GPL-2.0-or-later
"""Names of leaves and statuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from .binding import Library


def _load(path: Path) -> Any:
    return yaml.load(path.read_text(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def test_a_status_keeps_its_name_with_details(library: Library) -> None:
    assert library.status_name(0xC000010000000000) == "TDX_OPERAND_INVALID"
    assert library.status_name(0xC000010000000008) == "TDX_OPERAND_INVALID"
    assert library.status_name(0) == "TDX_SUCCESS"


def test_a_loader_status_is_known_by_all_its_bits(library: Library) -> None:
    assert library.status_name(0x8000000000010003) == "PSEAMLDR_EUNSPECERR"
    assert library.status_name(0x8000000000010F03) is None


@pytest.mark.parametrize("status", [0x1234567800000000, 0xC000FF0000000000])
def test_an_unknown_status_has_no_name(library: Library, status: int) -> None:
    assert library.status_name(status) is None


def test_a_leaf_is_named_whatever_its_version(library: Library) -> None:
    assert library.leaf_name(33) == "TDH.SYS.INIT"
    assert library.leaf_name(33 | 1 << 16) == "TDH.SYS.INIT"
    assert library.leaf_name(0xFFFF) is None


def test_a_loader_leaf_is_known_by_all_of_rax(library: Library) -> None:
    assert library.leaf_name(1 << 63) == "SEAMLDR.INFO"
    assert library.leaf_name(1 << 63 | 1 << 16) is None


def test_status_names_are_those_of_the_reference(library: Library, tdx_abi: Path) -> None:
    reference = _load(tdx_abi / "status-codes.yaml")
    entries = reference["statuses"] + reference["statuses_newer"]
    entries += [code for code in reference["p_seamldr_codes"] if code["value"]]
    wrong = {
        entry["name"]: library.status_name(entry["value"])
        for entry in entries
        if library.status_name(entry["value"]) != entry["name"]
    }
    assert not wrong


def test_leaf_names_are_those_of_the_reference(library: Library, tdx_abi: Path) -> None:
    reference = _load(tdx_abi / "leaves.yaml")
    groups = ("module_leaves", "newer_module_leaves", "p_seamldr_leaves")
    entries = {entry["number"]: entry["name"] for group in groups for entry in reference[group]}
    assert {number: library.leaf_name(number) for number in entries} == entries
    for number in set(range(0x10000)) - set(entries):
        assert library.leaf_name(number) is None
