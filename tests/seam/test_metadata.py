# SPDX-License-Identifier: GPL-2.0-or-later
"""TDH.SYS.RD, TDH.SYS.RDALL, TDH.SYS.INFO and what P-SEAMLDR tells."""

from __future__ import annotations

import re
import struct
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from .binding import Library
from .machine import (
    GIB,
    INFO,
    LP_INIT,
    MIB,
    NULL_ID,
    OK,
    R8,
    R9,
    RCX,
    RD,
    RDALL,
    RDX,
    Host,
)

NUM_PKGS = 0x0000000200000000
TDX_FEATURES0 = 0x0A00000300000008
MAX_VCPUS_PER_TD = 0x9900000100000008
CPUID_CONFIG_VALUES = 0x9900000300000500
LATER_IDS = {
    MAX_VCPUS_PER_TD,
    0x9900000000000009,
    0x990000010000000A,
    0x9100000000000013,
    0x9100000000000014,
}
INCORRECT = ("TDX_METADATA_FIELD_ID_INCORRECT", 0)
SEAMLDR_INFO, SEAMLDR_SEAMINFO = 1 << 63, 1 << 63 | 3
EBADPARAM = ("PSEAMLDR_EBADPARAM", 0)


def _host(library: Library, **more: Any) -> Host:
    host = Host(library, **more)
    host.lp_init_all()
    return host


def _read(host: Host, field: int) -> int:
    out = host.seamcall(RD, rdx=field)
    assert out["rax"] == 0, hex(out["rax"])
    return out["r8"]


def _walk(host: Host) -> list[int]:
    """Ids of all elements, by following next ids from the null id on."""
    ids = []
    field = host.seamcall(RD, rdx=NULL_ID)["rdx"]
    while field != NULL_ID:
        ids.append(field)
        field = host.seamcall(RD, rdx=field)["rdx"]
    return ids


def test_reading_needs_lp_init_on_the_lp_that_reads(library: Library) -> None:
    host = Host(library)
    assert host.status(33) == OK
    assert host.status(LP_INIT, 0) == OK
    for leaf in (RD, RDALL, INFO):
        assert host.status(leaf, 1) == ("TDX_SYS_LP_INIT_NOT_DONE", 0)
    out = host.seamcall(RD, 1, rdx=NUM_PKGS, r8=5)
    assert (out["rdx"], out["r8"]) == (NULL_ID, 0)


def test_the_walk_goes_through_every_field_of_the_reference(
    library: Library, tdx_abi: Path
) -> None:
    reference = yaml.safe_load((tdx_abi / "sys-fields.yaml").read_text())["fields"]
    expected = [
        field["id"] + n
        for field in reference
        for n in range(field["fields"] * field["elements_per_field"])
    ]
    assert _walk(_host(library)) == expected


def test_later_modules_have_five_fields_more(library: Library) -> None:
    old, new = _walk(_host(library)), _walk(_host(library, update=16))
    assert set(new) - set(old) == LATER_IDS
    assert [field for field in new if field not in LATER_IDS] == old


def test_what_linux_7_3_and_kvm_ask_for_is_there_in_later_modules(library: Library) -> None:
    host = _host(library, update=16)
    features = _read(host, TDX_FEATURES0)
    assert features & 1 << 18, "NO_RBP_MOD"
    assert features & 1 << 20, "TOPOLOGY_ENUM"
    assert not features & (1 << 36 | 1 << 53), "DYNAMIC_PAMT, SYS_DISABLE"
    assert _read(host, MAX_VCPUS_PER_TD) > 0
    assert _host(library).status(RD, rdx=MAX_VCPUS_PER_TD) == INCORRECT


def test_every_field_that_linux_7_3_reads_is_readable(library: Library, tdx_abi: Path) -> None:
    reads = yaml.safe_load((tdx_abi / "sys-fields.yaml").read_text())["linux_reads"]["7.3"]
    host = _host(library, update=16)
    for field in [*reads, MAX_VCPUS_PER_TD]:
        assert host.status(RD, rdx=field) == OK, hex(field)


def test_features_can_be_overridden(library: Library) -> None:
    assert _read(_host(library, tdx_features0=0x1234), TDX_FEATURES0) == 0x1234


def test_versions_are_those_of_the_configuration(library: Library) -> None:
    host = _host(library, major=2, minor=7, update=9, internal=11, build_num=5)
    fields = (0x0800000100000004, 0x0800000100000003, 0x0800000100000005, 0x0800000100000006)
    assert [_read(host, field) for field in fields] == [2, 7, 9, 11]
    assert _read(host, 0x8800000100000002) == 5


def test_cmrs_beyond_the_table_read_as_zero(library: Library) -> None:
    host = _host(library, cmrs=[(MIB, MIB), (4 * GIB, GIB)])
    assert _read(host, 0x9000000100000000) == 32
    bases = [_read(host, 0x9000000300000080 + i) for i in range(32)]
    sizes = [_read(host, 0x9000000300000100 + i) for i in range(32)]
    assert bases == [MIB, 4 * GIB] + [0] * 30
    assert sizes == [MIB, GIB] + [0] * 30


@given(size=st.integers(0, 3), context=st.integers(0, 7), bit50=st.booleans(), bit63=st.booleans())
def test_bits_of_an_id_that_are_ignored(
    library: Library, size: int, context: int, bit50: bool, bit63: bool
) -> None:
    kept = 25 << 56 | size << 32 | bit50 << 50 | 1 << 51 | bit63 << 63
    out = _host(library).seamcall(RD, rdx=kept | context << 52 | 0x503)
    assert (out["rax"], out["r8"]) == (0, 0xFFFFFFFB_FFFFFFFF)
    assert out["rdx"] == kept | 0x504


@given(bit=st.sampled_from([*range(24, 32), *range(34, 50), 55, 62]))
def test_bits_of_an_id_that_must_be_zero(library: Library, bit: int) -> None:
    out = _host(library).seamcall(RD, rdx=NUM_PKGS | 1 << bit)
    assert library.status_name(out["rax"]) == INCORRECT[0]
    assert (out["rdx"], out["r8"]) == (NULL_ID, 0)


def _sequences(page: bytes) -> list[tuple[int, list[int]]]:
    """Sequence header and values of a list that RDALL wrote."""
    used, count = struct.unpack_from("<HH", page)
    words = struct.unpack_from(f"<{used // 8}Q", page)[1:]
    sequences = []
    at = 0
    for _ in range(count):
        header = words[at]
        values = ((header >> 34 & 0xF) + 1) * ((header >> 38 & 0x1FF) + 1)
        sequences.append((header & ~(0xFFFF << 34), list(words[at + 1 : at + 1 + values])))
        at += 1 + values
    assert at == len(words)
    return sequences


@pytest.mark.parametrize("update", [1, 16])
def test_rdall_says_what_rd_says(library: Library, update: int) -> None:
    host = _host(library, update=update)
    out = host.seamcall(RDALL, rdx=0x9000, r8=NULL_ID)
    assert (out["rax"], out["r8"]) == (0, NULL_ID)
    listed = [
        ((first & 0x3FFFFFFF00FFFFFF) + n & ~(3 << 32), value)
        for first, values in _sequences(host.machine.memory.read(0x9000, 4096))
        for n, value in enumerate(values)
    ]
    walked = [
        (field & 0x3FFFFFFF00FFFFFF & ~(3 << 32), _read(host, field)) for field in _walk(host)
    ]
    assert listed == walked


def test_rdall_wants_the_first_element_and_the_exact_size(library: Library) -> None:
    host = _host(library)
    assert host.status(RDALL, rdx=0x9000, r8=CPUID_CONFIG_VALUES + 2) == OK
    assert host.status(RDALL, rdx=0x9000, r8=CPUID_CONFIG_VALUES + 1) == INCORRECT
    assert host.status(RDALL, rdx=0x9000, r8=CPUID_CONFIG_VALUES & ~(3 << 32)) == INCORRECT
    assert host.status(RDALL, rdx=0x9001, r8=NULL_ID) == ("TDX_OPERAND_INVALID", RDX)


def test_info_wipes_its_buffer_before_it_looks_at_r8_and_r9(library: Library) -> None:
    host = _host(library)
    for change, operand in (({"r8": 0x6001}, R8), ({"r9": 31}, R9)):
        host.machine.memory.write(0x4000, b"\xdd" * 1024)
        regs = {"rcx": 0x4000, "rdx": 1024, "r8": 0x6000, "r9": 32, **change}
        out = host.seamcall(INFO, **regs)
        assert out["rax"] & 0xFFFFFFFF == operand
        assert (out["rdx"], out["r9"]) == (0, 0)
        assert host.machine.memory.read(0x4000, 1024) == bytes(1024)
    for change, operand in (({"rcx": 0x4200}, RCX), ({"rdx": 1023}, RDX)):
        host.machine.memory.write(0x4000, b"\xdd" * 1024)
        regs = {"rcx": 0x4000, "rdx": 1024, "r8": 0x6000, "r9": 32, **change}
        assert host.status(INFO, **regs) == ("TDX_OPERAND_INVALID", operand)
        assert host.machine.memory.read(0x4000, 1024) == b"\xdd" * 1024


def test_info_gives_the_structure_and_all_32_cmrs(library: Library) -> None:
    host = _host(library, cmrs=[(MIB, MIB), (4 * GIB, GIB)])
    out = host.seamcall(INFO, rcx=0x4000, rdx=4096, r8=0x6000, r9=64)
    assert (out["rax"], out["rdx"], out["r9"]) == (0, 1024, 32)
    info = host.machine.memory.read(0x4000, 1024)
    assert struct.unpack_from("<IIIHHHB", info) == (0, 0x8086, 20240601, 0x2A1, 5, 1, 1)
    assert struct.unpack_from("<HHH", info, 32) == (64, 16, 16)
    assert struct.unpack_from("<I", info, 128) == (12,)
    cmrs = struct.unpack("<64Q", host.machine.memory.read(0x6000, 512))
    assert cmrs == (MIB, MIB, 4 * GIB, GIB) + (0,) * 60


def test_seamldr_info(library: Library) -> None:
    host = Host(library, remaining_updates=7)
    assert host.status(SEAMLDR_INFO, rcx=0x1000) == OK
    info = host.machine.memory.read(0x1000, 256)
    assert struct.unpack_from("<III", info) == (0, 0, 0x8086)
    assert struct.unpack_from("<I", info, 28) == (7,)
    assert (info[160], info[162]) == (1, 1)


def test_the_loader_answers_without_a_module(library: Library) -> None:
    host = Host(library, loaded=0)
    assert host.status(SEAMLDR_INFO, rcx=0x1000) == OK
    assert host.machine.memory.read(0x1000, 256)[160] == 0


def test_seaminfo_has_lps_packages_and_cmrs(library: Library) -> None:
    host = Host(library, cmrs=[(MIB, MIB)])
    assert host.status(SEAMLDR_SEAMINFO, rcx=0x1000) == OK
    table = host.machine.memory.read(0x1000, 2048)
    assert struct.unpack_from("<QII", table) == (0, 8, 2)
    assert struct.unpack_from("<QQ", table, 128) == (MIB, MIB)


@pytest.mark.parametrize("rcx", [0x1080, 1 << 52, 32 << 46, 0xC0000000])
def test_the_loader_refuses_buffers_like_the_module(library: Library, rcx: int) -> None:
    assert Host(library).status(SEAMLDR_INFO, rcx=rcx) == EBADPARAM


def test_an_unknown_loader_leaf(library: Library) -> None:
    assert Host(library).status(1 << 63 | 99) == EBADPARAM
    assert Host(library).status(1 << 63 | 1 << 16) == EBADPARAM


def test_the_first_loader_call_needs_entropy(library: Library) -> None:
    host = Host(library)
    host.machine.rdrand_failures = 1
    name, _ = host.status(SEAMLDR_INFO, rcx=0x1000)
    assert re.fullmatch("PSEAMLDR_EUNSPECERR", name)
    assert host.status(SEAMLDR_INFO, rcx=0x1000) == OK
