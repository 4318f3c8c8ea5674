# SPDX-License-Identifier: GPL-2.0-or-later
"""Another kernel takes over: the TDX module is as the first one left it.

The second driver starts from what the TDX module answers. Up to TDH.SYS.CONFIG all of that
leads on; afterwards the TDX module holds memory of a kernel that is gone, and takes no CPU.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.vm.hosts import Boot, Host
from tests.vm.races import invariants
from vtdx.vm import kernels
from vtdx.vm.machine import Machine

FAILED = 1
INIT, LP_INIT, RD = "TDH.SYS.INIT", "TDH.SYS.LP.INIT", "TDH.SYS.RD"
CONFIG, TDMR_INIT = "TDH.SYS.CONFIG", "TDH.SYS.TDMR.INIT"

GUEST = Path(__file__).parent / "guest/kexec.py"
PROGRAM, KERNEL = "/opt/kexec.py", "/opt/vmlinuz"


def ready(machine: Machine) -> None:
    """Load the kernel that takes over: the one that runs, with the system that runs."""
    done = machine.run(["python3", PROGRAM, "load", KERNEL], timeout=240)
    assert done.status == 0, done


@pytest.fixture
def host(boot: Boot) -> Iterator[Host]:
    """A machine whose next kernel is loaded."""
    extra = {PROGRAM: GUEST, KERNEL: kernels.find(kernels.default()).image}
    with boot(warm=True, prepare=ready, extra=extra) as machine:
        yield machine
        assert machine.kernel_complaints() == []


def hand_over(host: Host) -> None:
    """Let the other kernel take over, and look at a machine that has just booted."""
    host.machine.kexec(["python3", PROGRAM, "go"], timeout=240)
    host.control.mark("the other kernel")
    assert host.machine.hello["driver"] == "loaded"
    told = host.json("status")
    assert told["module"]["status"] == "unknown"
    assert {cpu["state"] for cpu in told["cpus"]} == {"unknown"}
    # Nothing is left on, which would keep CPUs from starting.
    invariants.check_windows(host.witness())


def statuses(host: Host, leaf: str) -> list[str | None]:
    """What the TDX module has answered to the second driver."""
    return [call.status for call in host.witness().case("the other kernel").of(leaf)]


def check_up(host: Host) -> None:
    """The second driver brings TDX up, and nothing is done twice."""
    document, witness = host.json("enable"), host.witness()
    assert document["module"]["status"] == "initialized"
    assert len(witness.succeeded(INIT)) == 1
    assert witness.cpus(LP_INIT) == dict.fromkeys(range(4), 1)
    assert [call.status for call in witness.of(CONFIG)] == ["TDX_SUCCESS"]


def test_doctor_warns_of_a_kernel_that_is_loaded(host: Host) -> None:
    """Sapphire Rapids: what was a PAMT may give the next kernel machine checks."""
    found = {check["id"]: check for check in host.json("doctor")["checks"]}
    assert found["kernel.kexec"]["outcome"] == "warn"
    assert "kexec -u" in found["kernel.kexec"]["fix"]


@pytest.mark.slow
def test_a_tdx_module_that_nobody_has_used_comes_up(host: Host) -> None:
    hand_over(host)
    check_up(host)


def test_cpus_that_the_first_kernel_enabled_stay_enabled(host: Host) -> None:
    assert host.run("tdxhost", "cpu-enable").status == 0
    hand_over(host)
    check_up(host)
    assert statuses(host, INIT) == ["TDX_SYS_INIT_NOT_PENDING"]
    assert statuses(host, LP_INIT) == ["TDX_SYS_LP_INIT_DONE"] * 4


def check_spent(host: Host) -> None:
    """The first line says that the TDX module was configured before, and the last what is left."""
    failed = host.run("tdxhost", "enable")
    first, hint, *_, left = failed.stderr.splitlines()
    assert failed.status == FAILED
    assert first == (
        "tdxhost: CPUs 0-3: TDH.SYS.LP.INIT: TDX_SYS_LP_INIT_NOT_PENDING (0xc000050b00000000): "
        "the TDX module was configured before, and takes no more CPUs"
    )
    assert "An earlier kernel (kexec) or driver has done that" in hint
    assert "What is left: a reboot" in left
    assert statuses(host, INIT) == ["TDX_SYS_INIT_NOT_PENDING"]
    assert statuses(host, LP_INIT) == ["TDX_SYS_LP_INIT_NOT_PENDING"] * 4
    after = host.witness().case("the other kernel").calls
    assert {call.leaf for call in after} == {INIT, LP_INIT}
    # Nothing belongs to the TDX module that this driver knows of.
    assert host.run("rmmod", "tdxhost").status == 0


def test_a_tdx_module_that_the_first_kernel_configured_is_told_as_such(host: Host) -> None:
    assert host.json("enable")["module"]["status"] == "initialized"
    hand_over(host)
    check_spent(host)


@pytest.mark.slow
def test_a_bring_up_under_way_is_stopped(host: Host) -> None:
    """Caches are flushed once nothing writes to PAMTs any more."""
    host.control.latency(TDMR_INIT, "100ms")
    host.sh("tdxhost enable >/dev/null 2>&1 &")
    assert host.sh("until tdxhost status | grep -q tdmr_init; do :; done").status == 0
    hand_over(host)
    host.control.latency(TDMR_INIT, "0ns")
    tdmrs = host.witness().tdmrs()
    assert len(host.witness().of(TDMR_INIT)) < sum(tdmr.size for tdmr in tdmrs) >> 22
    check_spent(host)


@pytest.mark.slow
def test_a_failure_and_kvm_are_nothing_to_the_next_kernel(host: Host) -> None:
    """KVM has VMX on, on every CPU, and turns it off before."""
    host.control.fault(f"{CONFIG} status=TDX_PAMT_OVERLAP")
    assert host.json("enable", status=FAILED)["module"]["step"] == "config"
    host.control.clear_faults()
    assert host.run("modprobe", "kvm-intel").status == 0
    host.machine.kexec(["python3", PROGRAM, "go"], timeout=240)
    assert host.json("enable")["module"]["status"] == "initialized"
