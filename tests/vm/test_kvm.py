# SPDX-License-Identifier: GPL-2.0-or-later
"""KVM on vtdx, and KVM beside the driver: neither makes the other fail.

KVM's part is a real kvm_intel, used as a VMM uses it (guest/kvm.py), up to the VM
entry that vtdx does not model. vtdx's log is the witness of who had VMX on, and when
(vmx_states.py).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.vm import vmx_states
from tests.vm.hosts import Boot, Host
from tests.vm.races import invariants, program
from tests.vm.races.kernel_log import kernel_complaints
from tests.vm.vmx_states import DRIVER, KVM, States
from vtdx.vm.machine import Machine
from vtdx.vm.session import Session

KO = "/usr/lib/vtdx/tdxhost.ko"
USER = Path(__file__).parent / "guest/kvm.py"

# The oldest and the newest that the driver's own layer runs on.
KERNELS = ("6.1", "6.12")
# Before, KVM turns VMX on with its first VM and not when it is loaded.
AT_LOAD = ("6.12",)

CPUS = {0, 1, 2, 3}

# KVM_EXIT_FAIL_ENTRY, and VM-instruction error 7: invalid control fields.
NOT_ENTERED = "9:7"

# A CPU that can't be enabled is tried again by everybody who asks.
CPU_3_REFUSED = "TDH.SYS.LP.INIT cpu=3 status=TDX_INCONSISTENT_MSR detail=0x10a"

DRIVER_MIX = "sys_rd,cpus_enable,cpu_enable,enable_cpus"

# All that KVM wants of a CPU before it offers TDX (linux-behaviour.md, section 11),
# and the rest that a Sapphire Rapids has; /sys/module/*/parameters.
OFFERED = {
    "kvm_intel": (
        "ept",
        "eptad",
        "enable_apicv",
        "flexpriority",
        "pml",
        "preemption_timer",
        "unrestricted_guest",
        "vnmi",
        "vpid",
    ),
    "kvm": ("mmio_caching", "tdp_mmu"),
}


def tame(machine: Machine) -> None:
    """Prepare a machine: its console and udev's rules are too slow for every round."""
    assert machine.shell("dmesg -n 1 && udevadm control --exit").status == 0


@dataclass
class Both:
    """A machine with the driver loaded, and who uses KVM in it."""

    host: Host
    user: Session

    def kvm(self, do: str, **more: Any) -> Any:
        """Ask KVM's user for something that has to succeed."""
        answer = self.user.ask({"do": do, **more}, timeout=300)
        assert "error" not in answer, answer
        assert answer.get("status", 0) == 0, answer
        return answer

    def load(self, *arguments: str) -> None:
        """Load KVM."""
        self.kvm("load", arguments=arguments)

    def run(self, times: int = 1) -> dict[str, int]:
        """KVM_RUN on every VM that is open; how they came back."""
        exits: dict[str, int] = self.kvm("run", times=times)["exits"]
        return exits

    @contextmanager
    def storm(self, what: str, *arguments: str, threads: int = 1) -> Iterator[dict[str, Any]]:
        """KVM is used again and again inside; outside the result says what came of it."""
        result: dict[str, Any] = {}
        self.kvm("storm", what=what, threads=threads, arguments=arguments)
        try:
            yield result
        finally:
            result |= self.kvm("calm")

    def states(self, driver: frozenset[str] = frozenset()) -> States:
        """What vtdx saw of VMX up to now."""
        return States(driver).check(self.host.witness())

    def check_log(self) -> None:
        """No call that the TDX module could not be made, none done twice, no complaint."""
        witness, platform = self.host.witness(), self.host.machine.spec.platform
        for life in invariants.lives(witness):
            invariants.Life(platform).check(life)
        assert kernel_complaints(self.host) == []

    def driver_regions(self) -> frozenset[str]:
        """The driver's VMXON regions: it alone uses every CPU."""
        assert not self.states().entered
        result = self.host.run("tdxhost", "cpu-enable")
        assert result.status in (0, 1), result
        regions = vmx_states.regions(self.host.witness())
        assert len(regions) == len(CPUS)
        return regions


Start = Callable[[], AbstractContextManager[Both]]


@pytest.fixture(scope="module")
def races(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program that calls the driver from many threads."""
    return program.build(tmp_path_factory.mktemp("races") / "races")


@pytest.fixture(params=KERNELS)
def kernel(request: pytest.FixtureRequest) -> str:
    """A kernel that KVM and the driver are both of."""
    return str(request.param)


@pytest.fixture
def start(boot: Boot, races: Path, kernel: str) -> Start:
    """Machines with nothing done yet."""

    @contextmanager
    def begin() -> Iterator[Both]:
        extra = {"/opt/kvm.py": USER, program.IN_GUEST: races}
        warm = boot(warm=True, prepare=tame, extra=extra, kernel=kernel, seconds=900)
        with warm as host, host.session("python3", "/opt/kvm.py") as user:
            yield Both(host, user)

    return begin


def parameters(host: Host, module: str) -> dict[str, str]:
    """A module's parameters."""
    lines = host.sh(f"cd /sys/module/{module}/parameters && grep -H . *").stdout.splitlines()
    return dict(line.split(":", 1) for line in lines)


def warnings(host: Host) -> list[str]:
    """What the kernel warned of about VMX and KVM, its hint how to dump a VM entry apart."""
    lines = host.run("dmesg", "--level=emerg,alert,crit,err,warn").stdout.splitlines()
    ours = [line for line in lines if re.search("kvm|vmx|virtuali[sz]", line, re.IGNORECASE)]
    return [line for line in ours if "kvm_intel.dump_invalid_vmcs=1" not in line]


def test_kvm_intel_finds_a_sapphire_rapids_and_leaves_vmx_off(start: Start, kernel: str) -> None:
    with start() as both:
        assert "vmx" in both.host.run("grep", "-m1", "^flags", "/proc/cpuinfo").stdout.split()
        both.load()
        assert both.host.run("test", "-c", "/dev/kvm").status == 0
        offered = {module: parameters(both.host, module) for module in OFFERED}
        at_load = both.states()
        both.kvm("open")
        opened = both.states()
        exits = both.run(3)
        both.kvm("close")
        closed = both.states()
        both.kvm("unload")
        unloaded = both.states()
        assert warnings(both.host) == []
        both.check_log()

    for module, names in OFFERED.items():
        assert {name: offered[module][name] for name in names} == dict.fromkeys(names, "Y")
    assert at_load.on() == (CPUS if kernel in AT_LOAD else set())
    assert opened.on() == CPUS
    assert exits == {NOT_ENTERED: 3}
    assert closed.on() == at_load.on()
    assert unloaded.on() == unloaded.vmxe() == set()


def test_driver_first_then_kvm(start: Start) -> None:
    with start() as both:
        assert both.host.json("enable")["module"]["status"] == "initialized"
        regions = vmx_states.regions(both.host.witness())
        alone = both.states(regions)
        both.load()
        both.kvm("open")
        assert both.run() == {NOT_ENTERED: 1}
        assert both.host.run("tdxhost", "info").status == 0
        beside = both.states(regions)
        both.kvm("close")
        both.kvm("unload")
        assert both.host.run("tdxhost", "info").status == 0
        after = both.states(regions)
        both.check_log()

    assert alone.entered[KVM] == 0
    assert beside.on() == CPUS
    # While KVM has VMX on the driver never enters it by itself.
    assert beside.entered == {DRIVER: alone.entered[DRIVER], KVM: len(CPUS)}
    assert beside.seamcalls[KVM] > 0
    assert after.entered[DRIVER] > beside.entered[DRIVER]
    assert after.on() == after.vmxe() == set()


def test_kvm_first_then_driver(start: Start) -> None:
    with start() as both:
        both.load()
        both.kvm("open")
        theirs = both.states()
        assert both.host.json("enable")["module"]["status"] == "initialized"
        assert both.host.run("tdxhost", "info").status == 0
        borrowed = both.states()
        assert both.run(2) == {NOT_ENTERED: 2}
        both.kvm("open")
        assert both.run() == {NOT_ENTERED: 2}
        both.kvm("close")
        both.kvm("unload")
        assert both.host.run("tdxhost", "info").status == 0
        after = both.states()
        both.check_log()

    assert theirs.on() == borrowed.on() == CPUS
    # The driver has initialised everything, and never entered or left VMX operation.
    assert borrowed.entered == theirs.entered
    assert sum(borrowed.seamcalls.values()) > 1000
    assert after.on() == after.vmxe() == set()


def test_the_driver_leaves_no_trace_in_kvms_vmcs(start: Start) -> None:
    """An error of a VMX instruction would be written where KVM reads why its entry failed."""
    with start() as both:
        both.load()
        both.kvm("open")
        assert both.host.run("tdxhost", "cpu-enable").status == 0
        with both.storm("runs", threads=4) as storm:
            program.run(both.host, "rounds", seed=1, rounds=300, callers=4, mix="sys_rd")
        assert storm["failures"] == {}
        assert set(storm["exits"]) == {NOT_ENTERED}
        states = both.states()
        both.kvm("close")
        both.kvm("unload")
        both.check_log()

    assert storm["exits"][NOT_ENTERED] > 50
    assert sum(states.seamcalls.values()) > 1000


def off_at_load(kernel: str) -> tuple[str, ...]:
    """What makes KVM turn VMX on with its first VM."""
    return ("kvm.enable_virt_at_load=0",) if kernel in AT_LOAD else ()


@pytest.mark.parametrize(("what", "rounds"), [("modules", 3), ("vms", 10)])
def test_kvm_comes_and_goes_while_the_driver_works(
    start: Start, kernel: str, what: str, rounds: int
) -> None:
    """VMXON and VMXOFF take their time, so that windows fall into the middle of KVM's."""
    with start() as both:
        both.host.control.fault(CPU_3_REFUSED)
        regions = both.driver_regions()
        alone = both.states(regions)
        for instruction in ("VMXON", "VMXOFF"):
            both.host.control.latency(instruction, "2ms")
        if what == "vms":
            both.load(*off_at_load(kernel))
        with both.storm(what) as storm:
            seed = 0
            while both.kvm("peek")["rounds"] < rounds:
                seed += 1
                program.run(both.host, "rounds", seed=seed, rounds=20, callers=4, mix=DRIVER_MIX)
        if what == "vms":
            both.kvm("unload")
        states = both.states(regions)
        both.check_log()

    assert storm["failures"] == {}
    assert set(storm["exits"]) == {NOT_ENTERED}
    assert states.on() == states.vmxe() == set()
    assert states.entered[KVM] >= rounds * len(CPUS)
    assert states.seamcalls[DRIVER] > alone.seamcalls[DRIVER]
    assert states.seamcalls[KVM] > alone.seamcalls[KVM] == 0
    # Older kernels turn VMX on and off with interrupts off.
    assert (states.half_open > 0) == (kernel in AT_LOAD)


def test_drivers_come_and_go_while_kvm_does(start: Start, kernel: str) -> None:
    lives = 8
    with start() as both:
        both.load(*off_at_load(kernel))
        with both.storm("vms", threads=2) as storm:
            for _ in range(lives):
                assert both.host.run("rmmod", "tdxhost").status == 0
                both.host.control.mark(invariants.RELOAD)
                both.host.control.reload()
                assert both.host.run("insmod", KO).status == 0
                assert both.host.run("tdxhost", "cpu-enable").status == 0
        assert both.host.json("enable")["module"]["status"] == "initialized"
        both.kvm("unload")
        states = both.states()
        both.check_log()

    assert storm["failures"] == {}
    assert set(storm["exits"]) == {NOT_ENTERED}
    assert states.on() == states.vmxe() == set()
