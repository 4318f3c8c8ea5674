# SPDX-License-Identifier: GPL-2.0-or-later
"""TDH.SYS.INIT and TDH.SYS.LP.INIT: platform checks, their order, what is counted."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from .binding import FATAL, Library
from .machine import (
    CONFIG,
    FIRST_HKID,
    GIB,
    HEALTHY_CPUID,
    HEALTHY_MSRS,
    INIT,
    LP_INIT,
    MIB,
    OK,
    R8,
    RCX,
    Host,
    Machine,
    Regs,
    layout,
)

DIRTY = {"rdx": 2, "rbx": 3, "r8": 8, "r9": 9, "r10": 10, "r11": 11}


def _with_msr(library: Library, msr: int, value: int | None) -> Host:
    machine = Machine()
    machine.msrs[msr] = value
    return Host(library, machine)


def _with_cpuid(library: Library, leaf: int, subleaf: int | None, regs: Regs) -> Host:
    machine = Machine()
    machine.cpuids[leaf, subleaf] = regs
    return Host(library, machine)


def _change(leaf: int, subleaf: int | None, reg: int, value: int) -> Regs:
    regs = list(HEALTHY_CPUID[leaf, subleaf])
    regs[reg] = value
    return regs[0], regs[1], regs[2], regs[3]


def test_init_clears_five_registers_and_leaves_the_others(library: Library) -> None:
    out = Host(library).seamcall(INIT, **DIRTY)
    cleared = {name: out[name] for name in ("rax", "rcx", "rdx", "r8", "r9", "r10")}
    assert set(cleared.values()) == {0}
    assert (out["rbx"], out["r11"]) == (3, 11)


def test_a_second_init_names_the_operand_before_the_state(library: Library) -> None:
    host = Host(library)
    assert host.status(INIT, rcx=1) == ("TDX_OPERAND_INVALID", RCX)
    assert host.status(INIT) == OK
    assert host.status(INIT, rcx=1) == ("TDX_OPERAND_INVALID", RCX)
    assert host.status(INIT) == ("TDX_SYS_INIT_NOT_PENDING", 0)


def test_later_init_version_1_takes_no_diagnostics_configuration(library: Library) -> None:
    host = Host(library, update=16)
    assert host.status(INIT, version=1, r8=1) == ("TDX_OPERAND_INVALID", R8)
    assert host.status(INIT, version=0, r8=1) == OK


@pytest.mark.parametrize(
    ("msr", "value"),
    [
        *((0x10A, 0x12AFD6B ^ 1 << bit) for bit in (0, 1, 2, 3, 5, 6, 8, 10, 15, 21)),
        (0xBD, 0),
        (0xBD, 3),
        (0xBC, 0),
        (0x345, 0),
        (0x480, HEALTHY_MSRS[0x480] ^ 1 << 54),
        (0x480, HEALTHY_MSRS[0x480] ^ 1 << 55),
        (0x480, 1 << 54 | 1 << 55 | 2049 << 32),
        (0x48D, HEALTHY_MSRS[0x48D] | 1 << 6),
        (0x48D, HEALTHY_MSRS[0x48D] & ~(1 << 39)),
        (0x48E, HEALTHY_MSRS[0x48E] & ~(1 << 63)),
        (0x492, 0x7F),
        (0x48F, 0),
        (0x490, 0),
        (0x485, HEALTHY_MSRS[0x485] ^ 1 << 5),
        (0x485, HEALTHY_MSRS[0x485] & ~0x1FF0000 | 3 << 16),
        (0x48C, 0),
        (0x486, 0x80000061),
        (0x487, 0xFFFFFFDE),
        (0x488, 0x2001),
        (0x489, 0),
        (0x982, HEALTHY_MSRS[0x982] & ~1),
        (0x981, 0x3F680000005),
        (0x982, 0x5000600000003),
        (0x99, 0x11),
    ],
)
def test_a_wrong_msr_is_named(library: Library, msr: int, value: int) -> None:
    assert _with_msr(library, msr, value).status(INIT) == ("TDX_INCORRECT_MSR_VALUE", msr)


@pytest.mark.parametrize(
    ("msr", "value", "status"),
    [
        (0x1A0, 0x850089 | 1 << 22, ("TDX_LIMIT_CPUID_MAXVAL_SET", 0)),
        (0x87, 0x400 << 32 | 0x400, ("TDX_NUM_ACTIVATED_HKIDS_NOT_SUPPORTED", 0x800)),
        (0xFE, 0xDD0A & ~(1 << 11), ("TDX_SMRR_NOT_SUPPORTED", 0)),
        (0xFE, 0xDD0A & ~(1 << 14), ("TDX_SMRR_LOCK_NOT_SUPPORTED", 0)),
        (0x1F3, 0xFF800800, ("TDX_SMRR_NOT_LOCKED", 0)),
        (0x1F3, 0xFE800C00, ("TDX_INVALID_SMRR_CONFIGURATION", 0)),
        (0x1F2, 0x88400006, ("TDX_INVALID_SMRR_CONFIGURATION", 0)),
        (0x1F2, 0x70000006, ("TDX_SMRR_OVERLAPS_CMR", 0)),
    ],
)
def test_statuses_of_their_own(
    library: Library, msr: int, value: int, status: tuple[str, int]
) -> None:
    assert _with_msr(library, msr, value).status(INIT) == status


def test_smrr2_counts_where_firmware_says_it_is_there(library: Library) -> None:
    machine = Machine()
    machine.msrs |= {0xFE: 0xFD0A, 0x1F6: 0x140000006 & 0xFFFFFFFF, 0x1F7: 0xFF800800}
    assert Host(library, machine).status(INIT) == ("TDX_SMRR_NOT_LOCKED", 1)
    assert Host(library, machine, skip_smrr2=1).status(INIT) == OK


def test_an_smrr_names_the_cmr_that_it_overlaps(library: Library) -> None:
    cmrs = [(MIB, MIB), (0, 0), (GIB, GIB), (4 * GIB, GIB)]
    machine = Machine()
    machine.msrs[0x1F2] = 0x70000006
    host = Host(library, machine, cmrs=cmrs)
    assert host.status(INIT) == ("TDX_SMRR_OVERLAPS_CMR", 2 << 8)


def test_an_msr_that_faults_is_fatal(library: Library) -> None:
    assert _with_msr(library, 0x480, None).ends_with(INIT) == FATAL


def test_a_wrong_cpuid_value_comes_with_leaf_masks_and_wanted_values(library: Library) -> None:
    host = _with_cpuid(library, 7, 0, _change(7, 0, 0, 1))
    out = host.seamcall(INIT, **DIRTY)
    assert library.status_name(out["rax"]) == "TDX_INCORRECT_CPUID_VALUE"
    assert out["rcx"] == 7
    assert (out["rdx"], out["r8"]) == (0x219424C3_FFFFFFFF, 0xFC082600_99000000)
    assert (out["r9"], out["r10"]) == (0x219424C3_00000002, 0xFC080400_99000000)


@pytest.mark.parametrize(
    ("leaf", "regs", "status"),
    [
        ((0x0, None), (0x1E, 0x756E6547, 0x6C65746E, 0x49656E69), 0x1F),
        ((0x80000000, None), (0x80000007, 0, 0, 0), 0x80000008),
        ((0x15, None), (2, 0, 0x17D7840, 0), 0x15),
    ],
)
def test_a_missing_cpuid_leaf_is_named(
    library: Library, leaf: tuple[int, int | None], regs: Regs, status: int
) -> None:
    assert _with_cpuid(library, *leaf, regs).status(INIT) == (
        "TDX_CPUID_LEAF_NOT_SUPPORTED",
        status,
    )


@pytest.mark.parametrize(
    ("levels", "status"),
    [
        ([], ("TDX_CPUID_LEAF_NOT_SUPPORTED", 0)),
        ([(1, 1)], ("TDX_CPUID_LEAF_NOT_SUPPORTED", 0)),
        ([(1, 1), (4, 1)], ("TDX_CPUID_LEAF_1F_FORMAT_UNRECOGNIZED", 0)),
        ([(1, 1), (4, 6)], ("TDX_CPUID_LEAF_1F_FORMAT_UNRECOGNIZED", 0)),
        ([(1, 1), (5, 2)], ("TDX_INVALID_WBINVD_SCOPE", 0)),
        ([(1, 1), (4, 2)], OK),
    ],
)
def test_topology_levels(
    library: Library, levels: Sequence[tuple[int, int]], status: tuple[str, int]
) -> None:
    machine = Machine()
    for subleaf in (0, 1):
        machine.cpuids[0x1F, subleaf] = (0, 0, subleaf, 0)
    for subleaf, (shift, kind) in enumerate(levels):
        machine.cpuids[0x1F, subleaf] = (shift, 2, kind << 8 | subleaf, 0)
    assert Host(library, machine).status(INIT) == status


@pytest.mark.parametrize(
    "cmrs",
    [
        [(MIB + 2048, MIB)],
        [(MIB, MIB + 2048)],
        [(2 * MIB, MIB), (MIB, MIB)],
        [(MIB, 2 * MIB), (2 * MIB, MIB)],
        [(1 << 47, MIB)],
        [((1 << 46) - MIB, 2 * MIB)],
        [((1 << 64) - 4096, 8192)],
    ],
)
def test_a_cmr_table_that_makes_no_sense(library: Library, cmrs: list[tuple[int, int]]) -> None:
    assert Host(library, cmrs=cmrs).status(INIT) == ("TDX_CMR_LIST_INVALID", 0)


@pytest.mark.parametrize(
    "cmrs", [[], [(0, 0)], [(MIB, MIB), (0, 0), (2 * MIB, MIB)], [(MIB, MIB), (2 * MIB, MIB)]]
)
def test_empty_and_touching_cmrs_are_fine(library: Library, cmrs: list[tuple[int, int]]) -> None:
    assert Host(library, cmrs=cmrs).status(INIT) == OK


def test_last_come_seam_capabilities_then_handoff_pages_then_entropy(library: Library) -> None:
    machine = Machine(capabilities=0x0F, rdrand_failures=1)
    host = Host(library, machine, num_handoff_pages=12)
    assert host.status(INIT) == ("TDX_INCOMPATIBLE_SEAM_CAPABILITIES", 0)
    machine.capabilities = 0x3F
    assert host.status(INIT) == ("TDX_SYS_INCOMPATIBLE_SIGSTRUCT", 0)
    host = Host(library, machine)
    assert host.status(INIT) == ("TDX_RND_NO_ENTROPY", 0)
    assert host.sys == 0
    assert host.status(INIT, lp=3) == OK


@given(st.permutations([0x10A, 0xBD, 0xBC, 0x345]), st.integers(1, 4))
def test_of_several_wrong_msrs_the_first_in_check_order_is_named(
    library: Library, msrs: list[int], count: int
) -> None:
    machine = Machine()
    wrong = msrs[:count]
    machine.msrs |= dict.fromkeys(wrong, 0)
    order = [0x10A, 0xBD, 0xBC, 0x345]
    expected = min(wrong, key=order.index)
    assert Host(library, machine).status(INIT) == ("TDX_INCORRECT_MSR_VALUE", expected)


@given(st.lists(st.integers(0, 7), max_size=24))
def test_every_lp_counts_once_and_config_waits_for_all(library: Library, lps: list[int]) -> None:
    host = Host(library)
    assert host.status(LP_INIT) == ("TDX_SYS_LP_INIT_NOT_PENDING", 0)
    assert host.status(INIT) == OK
    done: set[int] = set()
    for lp in lps:
        expected = ("TDX_SYS_LP_INIT_DONE", 0) if lp in done else OK
        assert host.status(LP_INIT, lp) == expected
        done.add(lp)
    assert host.module.state()["lps"] == len(done)
    status = host.config(layout([(4 * GIB, GIB)], 6 * GIB), FIRST_HKID)
    assert status == (OK if len(done) == 8 else ("TDX_SYS_CONFIG_NOT_PENDING", 0))


def test_after_config_an_initialised_lp_is_not_pending(library: Library) -> None:
    host = Host(library)
    host.lp_init_all()
    assert host.config(layout([(4 * GIB, GIB)], 6 * GIB)) == OK
    assert host.status(LP_INIT, 3) == ("TDX_SYS_LP_INIT_NOT_PENDING", 0)


COMPARED = [msr for msr in HEALTHY_MSRS if msr not in {0x1A0, 0x1F6, 0x1F7}] + [0x87]


@given(msr=st.sampled_from(COMPARED), bit=st.integers(0, 63), lp=st.integers(1, 7))
def test_an_msr_that_differs_on_one_lp_is_named_and_may_be_repaired(
    library: Library, msr: int, bit: int, lp: int
) -> None:
    host = Host(library)
    assert host.status(INIT) == OK
    value = host.machine.msrs[msr]
    assert value is not None
    host.machine.lp_msrs[lp, msr] = value ^ 1 << bit
    assert host.status(LP_INIT, lp) == ("TDX_INCONSISTENT_MSR", msr)
    assert host.status(LP_INIT, 0) == OK
    host.machine.lp_msrs.clear()
    assert host.status(LP_INIT, lp) == OK
    assert host.module.state()["lps"] == 2


def test_lp_init_reports_a_cpuid_leaf_without_values(library: Library) -> None:
    host = Host(library)
    assert host.status(INIT) == OK
    host.machine.lp_cpuids[5, 1, None] = _change(1, None, 2, 0)
    out = host.seamcall(LP_INIT, 5, **DIRTY)
    assert library.status_name(out["rax"]) == "TDX_INCONSISTENT_CPUID_FIELD"
    assert (out["rcx"], out["rdx"], out["r8"]) == (
        0xFFFFFFFF_00000001,
        0x0000FFFF_F000C000,
        0xFFFFFFFF_F7FFFF9F,
    )
    assert (out["r9"], out["r10"]) == (9, 10)


def test_lp_init_order_is_entropy_capabilities_msrs(library: Library) -> None:
    host = Host(library)
    assert host.status(INIT) == OK
    host.machine.lp_msrs[5, 0xCF] = 1
    host.machine.lp_capabilities[5] = 0x30
    host.machine.rdrand_failures = 1
    assert host.status(LP_INIT, 5) == ("TDX_RND_NO_ENTROPY", 0)
    assert host.status(LP_INIT, 5) == ("TDX_INCOMPATIBLE_SEAM_CAPABILITIES", 0)
    host.machine.lp_capabilities.clear()
    assert host.status(LP_INIT, 5) == ("TDX_INCONSISTENT_MSR", 0xCF)


@pytest.mark.parametrize(("x2apic_id", "package"), [(0x80, 8), (0xFF, 15)])
def test_packages_are_numbered_by_x2apic_id(library: Library, x2apic_id: int, package: int) -> None:
    host = Host(library)
    assert host.status(INIT) == OK
    host.machine.x2apic_ids[6] = x2apic_id
    assert host.status(LP_INIT, 6) == ("TDX_INVALID_PKG_ID", package)


def test_config_before_all_lps_names_no_operand(library: Library) -> None:
    host = Host(library)
    assert host.status(INIT) == OK
    assert host.status(CONFIG, rcx=1, rdx=0) == ("TDX_SYS_CONFIG_NOT_PENDING", 0)
