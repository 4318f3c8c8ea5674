# SPDX-License-Identifier: GPL-2.0-or-later
"""What vtdx stands in for, instruction by instruction, in a real kernel.

Expected outcomes: SDM vol. 3C, VMX instruction reference (errors by number: 32.4) and
SEAMCALL; vol. 2, MOV to control registers, RDMSR, WRMSR, MOVDIR64B; proof of SEAMCALL's
by the TDX module ABI.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.vm.hosts import Boot, Host, host
from vtdx.vm import build, kernels

UD, GP, NONE = 6, 13, -1
EIO = -5

VM_FAIL_INVALID = {"trap": NONE, "cf": 1, "zf": 0}

# VM-instruction error numbers, by what the probe did; SDM vol. 3C, 32.4.
ERRORS = {
    "error_vmxon": 15,
    "error_vmclear_misaligned": 2,
    "error_vmclear_too_high": 2,
    "error_vmclear_vmxon": 3,
    "error_vmptrld_misaligned": 9,
    "error_vmptrld_too_high": 9,
    "error_vmptrld_vmxon": 10,
    "error_vmptrld_revision": 11,
    "error_vmread_no_field": 12,
    "error_vmread_too_high": 12,
    "error_vmread_high_of_32": 12,
    "error_vmwrite_no_field": 12,
    "error_vmlaunch": 7,
    "error_vmresume": 5,
    "error_invept_type_0": 28,
    "error_invept_type_3": 28,
    "error_invept_type_too_high": 28,
    "error_invept_memory_type": 28,
    "error_invept_walk": 28,
    "error_invept_reserved": 28,
    "error_invept_too_high": 28,
    "error_invvpid_type_4": 28,
    "error_invvpid_vpid_0": 28,
    "error_invvpid_reserved": 28,
    "error_invvpid_address": 28,
}

# What VMREAD returns of what VMWRITE wrote: as much as the field is wide.
VALUES = {
    "value_16": 0xDEF0,
    "value_32": 0x9ABCDEF0,
    "value_64": 0x123456789ABCDEF0,
    "value_64_high": 0x12345678,
    "value_64_both": 0xFEDCBA989ABCDEF0,
    "value_natural": 0xFFFFFFFF81000000,
    "value_memory": 0x80050033,
    "value_read_only": 99,
    "value_of_first": 0x1111,
    "value_after_vmclear": 0x1111,
}

# What VMPTRST stores, as the probe tells it.
ANOTHER, SAME, NO_VMCS = 0, 1, 2

# TDH.SYS.RD on a CPU without TDH.SYS.LP.INIT; semantics.md 3.6.
LP_INIT_NOT_DONE = 0xC000050200000000


def probe(machine: Host) -> dict[int, dict[str, Any]]:
    """Load the probe; what it found, by CPU."""
    loaded = machine.run("insmod", "/opt/probe.ko")
    assert loaded.status == 0, loaded
    text = machine.run("cat", "/sys/kernel/debug/vtdx_probe/results").stdout
    assert machine.run("rmmod", "probe").status == 0
    found: dict[int, dict[str, Any]] = yaml.safe_load(text)
    return found


def extra() -> dict[str, Any]:
    """The probe as a file of the guest."""
    module = build.module(kernels.find(kernels.default()), "tests/vm/probe", "probe")
    return {"/opt/probe.ko": module}


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[int, dict[str, Any]]]:
    """The probe's findings on a healthy platform; RDMSR of 0x1401 faults on CPU 1."""
    folder = tmp_path_factory.mktemp("probe")
    faults = ("RDMSR:0x1401 cpu=1 trap=GP",)
    with host(folder, driver=False, faults=faults, extra=extra()) as machine:
        found = probe(machine)
        assert machine.kernel_complaints() == []
        yield found


def each(found: dict[int, dict[str, Any]], name: str) -> list[Any]:
    """One finding on every CPU."""
    assert len(found) == 4
    return [cpu[name] for cpu in found.values()]


@pytest.mark.parametrize(
    "name", ["seamcall_outside_vmx", "vmxon_without_vmxe", "vmxoff_outside_vmx"]
)
def test_outside_vmx_operation_it_is_ud(healthy: dict[int, dict[str, Any]], name: str) -> None:
    assert [found["trap"] for found in each(healthy, name)] == [UD] * 4


@pytest.mark.parametrize("name", ["vmxe_cleared_in_vmx", "movdir64b_misaligned"])
def test_what_is_gp_on_a_xeon_is_gp(healthy: dict[int, dict[str, Any]], name: str) -> None:
    assert [found["trap"] for found in each(healthy, name)] == [GP] * 4


@pytest.mark.parametrize("name", ["vmxon_misaligned", "vmxon_wrong_revision", "vmxon_twice"])
def test_a_bad_vmxon_is_vmfailinvalid(healthy: dict[int, dict[str, Any]], name: str) -> None:
    assert each(healthy, name) == [VM_FAIL_INVALID] * 4


def test_seamcall_in_vmx_operation_reaches_the_module(healthy: dict[int, dict[str, Any]]) -> None:
    assert each(healthy, "seamcall") == [{"trap": NONE, "cf": 0, "zf": 0}] * 4
    assert each(healthy, "status") == [LP_INIT_NOT_DONE] * 4


@pytest.mark.parametrize("name", ["wrong_jumps", "wrong_sets", "wrong_moves"])
def test_flags_left_over_from_before_do_not_show(
    healthy: dict[int, dict[str, Any]], name: str
) -> None:
    assert each(healthy, name) == [0] * 4


def test_mov_to_cr4_leaves_system_flags_alone(healthy: dict[int, dict[str, Any]]) -> None:
    assert each(healthy, "strange_flags") == [0] * 4


def test_cr4_shows_vmxe_in_the_window_alone(healthy: dict[int, dict[str, Any]]) -> None:
    assert each(healthy, "cr4_shows_vmxe") == [1] * 4
    assert each(healthy, "cr4_hides_vmxe") == [1] * 4


def test_movdir64b_moves_sixty_four_bytes(healthy: dict[int, dict[str, Any]]) -> None:
    assert each(healthy, "movdir64b_same") == [1] * 4


def test_a_faulted_msr_is_gp_on_that_cpu(healthy: dict[int, dict[str, Any]]) -> None:
    assert each(healthy, "rdmsr_0x1401") == [0, EIO, 0, 0]


@pytest.mark.parametrize("name", ["wrmsr_locked", "wrmsr_keyids"])
def test_a_locked_msr_can_t_be_written(healthy: dict[int, dict[str, Any]], name: str) -> None:
    assert each(healthy, name) == [EIO] * 4


def steps(found: dict[int, dict[str, Any]], start: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """What the probe did with VMCSs on every CPU, of the steps whose names start so."""
    assert len(found) == 4
    named = [step for cpu in found.values() for step in cpu.items() if step[0].startswith(start)]
    assert named
    yield from named


def test_the_probe_has_room_for_all_its_steps(healthy: dict[int, dict[str, Any]]) -> None:
    for cpu in healthy.values():
        told = [finding for finding in cpu.values() if isinstance(finding, dict)]
        assert len([step for step in told if "error" in step]) == cpu["vmcs_steps"]


def test_outside_vmx_operation_instructions_about_a_vmcs_are_ud(
    healthy: dict[int, dict[str, Any]],
) -> None:
    traps = {name: step["trap"] for name, step in steps(healthy, "outside_")}
    assert len(traps) == 9
    assert set(traps.values()) == {UD}


def test_what_is_right_succeeds(healthy: dict[int, dict[str, Any]]) -> None:
    for name, step in [*steps(healthy, "good_"), *steps(healthy, "value_")]:
        assert (step["trap"], step["cf"], step["zf"]) == (NONE, 0, 0), name


def test_without_a_current_vmcs_failures_are_vmfailinvalid(
    healthy: dict[int, dict[str, Any]],
) -> None:
    for name, step in steps(healthy, "none_"):
        if "value" not in step:
            assert step | {"error": 0} == VM_FAIL_INVALID | {"error": 0}, name


def test_with_a_current_vmcs_failures_are_vmfailvalid_and_say_why(
    healthy: dict[int, dict[str, Any]],
) -> None:
    for cpu in healthy.values():
        found = {name: step for name, step in cpu.items() if name.startswith("error_")}
        assert {name: step["error"] for name, step in found.items()} == ERRORS
        assert {(s["trap"], s["cf"], s["zf"]) for s in found.values()} == {(NONE, 0, 1)}


def test_fields_hold_what_they_have_room_for(healthy: dict[int, dict[str, Any]]) -> None:
    for cpu in healthy.values():
        found = {name: step["value"] for name, step in cpu.items() if name.startswith("value_")}
        assert found == VALUES


def test_vmptrst_stores_which_vmcs_is_current(healthy: dict[int, dict[str, Any]]) -> None:
    for name, step in steps(healthy, "same_"):
        assert step["value"] == SAME, name
    pointers = [step["value"] for _, step in steps(healthy, "none_") if "value" in step]
    assert len(pointers) == 3 * 4
    assert set(pointers) == {NO_VMCS}


def test_where_the_processor_forgets_it_pseamldr_leaves_no_vmcs_current(
    healthy: dict[int, dict[str, Any]],
) -> None:
    """IA32_VMX_BASIC bit 60 is clear (msrs-cpuid.yaml)."""
    assert [step["value"] for step in each(healthy, "after_seamldr")] == [NO_VMCS] * 4


def test_where_the_processor_keeps_it_the_vmcs_stays_current(boot: Boot) -> None:
    with boot("gnr-2s", driver=False, extra=extra()) as machine:
        found = probe(machine)
        complaints = machine.kernel_complaints()

    assert len(found) == 8
    assert {cpu["seamldr_info"]["cf"] for cpu in found.values()} == {0}
    assert {cpu["after_seamldr"]["value"] for cpu in found.values()} == {SAME}
    assert complaints == []


def test_without_a_module_seamcall_is_vmfailinvalid(boot: Boot) -> None:
    with boot("module-absent", driver=False, extra=extra()) as machine:
        found = probe(machine)
        rounds = {name: each(found, name) for name in ("wrong_jumps", "wrong_sets", "wrong_moves")}
        complaints = machine.kernel_complaints()

    assert each(found, "seamcall") == [VM_FAIL_INVALID] * 4
    # Here the carry flag is what SEAMCALL answers, in each of the 500 rounds.
    assert rounds == {name: [500] * 4 for name in rounds}
    assert complaints == []


def test_where_firmware_locked_vmx_off_vmxon_is_gp(boot: Boot) -> None:
    with boot("vmx-locked-off", driver=False, extra=extra()) as machine:
        found = probe(machine)
        events = machine.witness().events
        complaints = machine.kernel_complaints()

    assert [finding["trap"] for finding in each(found, "vmxon_twice")] == [GP] * 4
    results = {event["result"] for event in events if event["event"] == "vmxon"}
    assert results - {"ud"} == {"gp"}
    assert complaints == []


def test_a_seamcall_that_faults_is_gp_in_the_guest(boot: Boot) -> None:
    faults = ("TDH.SYS.RD cpu=2 times=1 trap=GP",)
    with boot(driver=False, faults=faults, extra=extra()) as machine:
        found = probe(machine)
        complaints = machine.kernel_complaints()

    assert [finding["trap"] for finding in each(found, "seamcall")] == [NONE, NONE, GP, NONE]
    assert complaints == []
