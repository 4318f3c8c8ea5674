# SPDX-License-Identifier: GPL-2.0-or-later
"""Suspend and hibernation: refused where TDX would be lost, and otherwise none of our business.

QEMU would not wake a machine up again, so suspends are cut short by the kernel's own pm_test
(Documentation/power/basic-pm-debugging.rst): they come as far as the devices, and back.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.vm.hosts import Boot, Host

TDMR_INIT = "TDH.SYS.TDMR.INIT"

CUT_SHORT = """
set -e
echo 0 > /sys/module/suspend/parameters/pm_test_delay
echo devices > /sys/power/pm_test
"""

IN_USE = "{} is refused: TDX is in use, and would be lost"
UNDER_WAY = "suspend is refused while the TDX module is being initialised"


@pytest.fixture
def sleepy(boot: Boot) -> Iterator[Host]:
    """A machine that wakes up from every suspend at once."""
    with boot(warm=True) as host:
        assert host.sh(CUT_SHORT).status == 0
        yield host
        assert host.kernel_complaints() == []


def sleep(host: Host, state: str) -> tuple[str, list[str]]:
    """Ask for a state of /sys/power/state: what the shell and the driver say."""
    host.run("dmesg", "--clear")
    said = host.run("bash", "-c", f"echo {state} > /sys/power/state").stderr
    log = host.run("dmesg").stdout.splitlines()
    return said, [line.split("] tdxhost: ")[1] for line in log if "] tdxhost: " in line]


def check_allowed(host: Host, state: str) -> None:
    """The machine goes to sleep, and the driver has nothing to say."""
    assert sleep(host, state) == ("", [])


def check_refused(host: Host, state: str, why: str) -> None:
    """EBUSY, and a line that says why."""
    said, log = sleep(host, state)
    assert "Device or resource busy" in said
    assert log == [why]


def test_a_machine_on_which_nothing_is_enabled_sleeps_as_it_likes(sleepy: Host) -> None:
    for state in ("freeze", "mem"):
        check_allowed(sleepy, state)
    # Hibernation waits 5 s for whoever tests it, and longer for memory if it gets that far.
    assert sleepy.sh("echo freezer > /sys/power/pm_test").status == 0
    check_allowed(sleepy, "disk")
    assert sleepy.json("enable")["module"]["status"] == "initialized"


@pytest.mark.parametrize("command", [["cpu-enable", "--cpus", "1"], ["enable"]])
def test_what_would_lose_tdx_is_refused_once_a_cpu_is_enabled(
    sleepy: Host, command: list[str]
) -> None:
    assert sleepy.run("tdxhost", *command).status == 0
    before = sleepy.json("status")
    check_refused(sleepy, "mem", IN_USE.format("suspend"))
    check_refused(sleepy, "disk", IN_USE.format("hibernation"))
    # Suspend-to-idle takes nothing from it: CPUs idle and memory stays under power.
    check_allowed(sleepy, "freeze")
    assert sleepy.json("status") == before
    assert sleepy.json("enable")["module"]["status"] == "initialized"


def test_no_suspend_ends_a_bring_up_half_way(sleepy: Host) -> None:
    """Tasks are frozen by a signal, and a signal ends ENABLE."""
    sleepy.control.latency(TDMR_INIT, "50ms")
    script = """
    tdxhost enable >/dev/null 2>/tmp/errors &
    until [ "$(cat /sys/class/misc/tdxhost/module_version)" != unknown ]; do sleep 0.2; done
    """
    assert sleepy.sh(script).status == 0
    for state in ("freeze", "mem"):
        check_refused(sleepy, state, UNDER_WAY)
    sleepy.control.latency(TDMR_INIT, "0ns")
    assert sleepy.json("enable")["module"]["status"] == "initialized"
    assert sleepy.run("cat", "/tmp/errors").stdout == ""
    (config,) = sleepy.witness().of("TDH.SYS.CONFIG")
    assert config.status == "TDX_SUCCESS"
    check_refused(sleepy, "mem", IN_USE.format("suspend"))
