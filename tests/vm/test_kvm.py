# SPDX-License-Identifier: GPL-2.0-or-later
"""KVM on vtdx, and KVM beside the driver: neither makes the other fail.

KVM's part is a real kvm_intel, used as a VMM uses it (guest/kvm.py), up to the VM
entry that vtdx does not model. vtdx's log is the witness of who had VMX on, and when
(vmx_states.py).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.vm import vmx_states
from tests.vm.hosts import Boot
from tests.vm.kvm_user import EXTRA, NOT_ENTERED, Both, check_loads, using
from tests.vm.races import invariants, program
from tests.vm.vmx_states import DRIVER, ENTERING, KVM, LEAVING, States
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


def keep_the_driver_busy(both: Both, done: Callable[[], bool], hotplug_us: int = 0) -> None:
    """Some callers of the driver's, until KVM has done enough beside them; the machine's
    deadline ends it where that never comes.
    """
    for seed in itertools.count():
        if done():
            return
        program.run(
            both.host,
            "rounds",
            seed=seed,
            rounds=20,
            callers=3,
            mix=DRIVER_MIX,
            hotplug_us=hotplug_us,
        )


def check_storm(both: Both, storm: dict[str, Any], driver: frozenset[str]) -> States:
    """Nothing of KVM's failed, nothing is left on, and each used VMX in its turn."""
    states = both.states(driver)
    both.check_log()
    assert storm["failures"] == {}
    assert set(storm["exits"]) == {NOT_ENTERED}
    assert states.on() == states.vmxe() == set()
    assert states.seamcalls[DRIVER] > 0
    assert states.seamcalls[KVM] > 0
    return states


def test_kvm_is_loaded_and_unloaded_while_the_driver_works(start: Start) -> None:
    with start() as both:
        both.host.control.fault(CPU_3_REFUSED)
        regions = both.driver_regions()
        with both.storm("modules") as storm:
            keep_the_driver_busy(both, lambda: both.kvm("peek")["rounds"] >= 2)
        states = check_storm(both, storm, regions)

    assert states.entered[KVM] >= 2 * len(CPUS)


@pytest.mark.parametrize(
    "hotplug_us", [0, pytest.param(200000, marks=pytest.mark.slow, id="and-hotplug")]
)
def test_windows_fall_into_the_middle_of_kvms_entering_and_leaving(
    start: Start, hotplug_us: int
) -> None:
    """VMXON and VMXOFF take their time, in which interrupts come where KVM has them on."""
    with start() as both:
        both.host.control.fault(CPU_3_REFUSED)
        regions, interruptible = both.driver_regions(), both.at_load
        for instruction in ("VMXON", "VMXOFF"):
            both.host.control.latency(instruction, "10ms")
        middles = {ENTERING, LEAVING} if interruptible else set()

        def done() -> bool:
            seen = set(both.states(regions).half_open)
            return bool(both.kvm("peek")["rounds"] >= 5) and seen >= middles

        both.load_for_vms()
        with both.storm("vms") as storm:
            keep_the_driver_busy(both, done, hotplug_us)
        both.kvm("unload")
        states = check_storm(both, storm, regions)

    # Older kernels turn VMX on and off with interrupts off.
    assert set(states.half_open) == middles
    assert states.entered[KVM] >= 5 * len(CPUS)


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
