# SPDX-License-Identifier: GPL-2.0-or-later
"""What vtdx stands in for, instruction by instruction, in a real kernel.

Expected outcomes: SDM vol. 3C, VMXON, VMXOFF, SEAMCALL; vol. 2, MOV to control
registers, RDMSR, WRMSR, MOVDIR64B; proof of SEAMCALL's by the TDX module ABI.
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
