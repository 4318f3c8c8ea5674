# SPDX-License-Identifier: GPL-2.0-or-later
"""KVM on vtdx, and KVM beside the driver: neither makes the other fail.

KVM's part is a real kvm_intel, used as a VMM uses it (guest/kvm.py), up to the VM
entry that vtdx does not model. vtdx's log is the witness of who had VMX on, and when
(vmx_states.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from tests.vm import vmx_states
from tests.vm.hosts import Boot
from tests.vm.kvm_user import EXTRA, NOT_ENTERED, Both, check_loads, using
from tests.vm.races import invariants, program
from tests.vm.vmx_states import DRIVER, KVM
from vtdx.vm.machine import Machine

KO = "/usr/lib/vtdx/tdxhost.ko"
CPUS = {0, 1, 2, 3}

# A CPU that can't be enabled is tried again by everybody who asks.
CPU_3_REFUSED = "TDH.SYS.LP.INIT cpu=3 status=TDX_INCONSISTENT_MSR detail=0x10a"

DRIVER_MIX = "sys_rd,cpus_enable,cpu_enable,enable_cpus"


def tame(machine: Machine) -> None:
    """Prepare a machine: its console and udev's rules are too slow for every round."""
    assert machine.shell("dmesg -n 1 && udevadm control --exit").status == 0


Start = Callable[[], AbstractContextManager[Both]]


@pytest.fixture(scope="module")
def races(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program that calls the driver from many threads."""
    return program.build(tmp_path_factory.mktemp("races") / "races")


@pytest.fixture
def start(boot: Boot, races: Path) -> Start:
    """Machines with nothing done yet."""

    @contextmanager
    def begin() -> Iterator[Both]:
        extra = {**EXTRA, program.IN_GUEST: races}
        with (
            boot(warm=True, prepare=tame, extra=extra, seconds=900) as host,
            using(host) as both,
        ):
            yield both

    return begin


def test_kvm_finds_a_sapphire_rapids_and_leaves_vmx_off(start: Start) -> None:
    with start() as both:
        states = check_loads(both)

    assert states.on() == states.vmxe() == set()


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


@pytest.mark.parametrize(
    ("what", "rounds", "hotplug_us"),
    [
        ("modules", 2, 0),
        ("vms", 5, 0),
        pytest.param("vms", 5, 200000, marks=pytest.mark.slow, id="vms-and-hotplug"),
    ],
)
def test_kvm_comes_and_goes_while_the_driver_works(
    start: Start, what: str, rounds: int, hotplug_us: int
) -> None:
    """VMXON and VMXOFF take their time, so that windows fall into the middle of KVM's."""
    with start() as both:
        both.host.control.fault(CPU_3_REFUSED)
        regions = both.driver_regions()
        alone, interruptible = both.states(regions), both.at_load
        for instruction in ("VMXON", "VMXOFF"):
            both.host.control.latency(instruction, "2ms")
        if what == "vms":
            both.load_for_vms()
        with both.storm(what) as storm:
            seed = 0
            while both.kvm("peek")["rounds"] < rounds:
                seed += 1
                program.run(
                    both.host,
                    "rounds",
                    seed=seed,
                    rounds=20,
                    callers=4,
                    mix=DRIVER_MIX,
                    hotplug_us=hotplug_us,
                )
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
    assert (states.half_open > 0) == interruptible


def test_drivers_come_and_go_while_kvm_does(start: Start) -> None:
    lives = 3
    with start() as both:
        both.load_for_vms()
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
