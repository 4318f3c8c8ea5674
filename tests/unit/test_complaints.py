# SPDX-License-Identifier: GPL-2.0-or-later
"""What log.clean looks for in the kernel's log, on lines as kernels print them."""

import os
import re
from pathlib import Path

import pytest

from tdxhost.validation.kernel_log import Line, complaints, driver_errors, read, since_load

LOADED = "tdxhost: provider direct, private KeyIDs [16, 64)"


def line(text: str, level: int = 6) -> Line:
    """A line of the kernel's."""
    return Line(level, 0, text)


@pytest.mark.parametrize(
    "text",
    [
        "WARNING: CPU: 1 PID: 7 at kernel/workqueue.c:1 __queue_work+0x1/0x2",
        "BUG: kernel NULL pointer dereference, address: 0000000000000008",
        "kernel BUG at mm/slub.c:563!",
        "Oops: 0000 [#1] PREEMPT SMP NOPTI",
        "Oops: general protection fault, probably for non-canonical address 0x1: 0000 [#1] SMP",
        "Call Trace:",
        "watchdog: BUG: soft lockup - CPU#3 stuck for 26s! [tdxhost:1]",
        "rcu: INFO: rcu_preempt self-detected stall on CPU",
        "INFO: task tdxhost:71 blocked for more than 120 seconds.",
        "WARNING: possible recursive locking detected",
        "mce: [Hardware Error]: CPU 5: Machine Check Exception: 5 Bank 1: bd80000000100134",
        "{1}[Hardware Error]: event severity: corrected",
        "mce: [Hardware Error]: TDX private memory error. Possible kernel bug.",
        "unchecked MSR access error: RDMSR from 0x1401 at rIP: 0xffffffff81000000",
    ],
)
def test_defects_hangs_and_broken_hardware_are_complaints(text: str) -> None:
    assert complaints([line(text)]) == [line(text)]


@pytest.mark.parametrize(
    "text",
    [
        LOADED,
        "tdxhost: TDX module initialized",
        "mce: CPU0: Thermal monitoring enabled (TM1)",
        "MCE: In-kernel MCE decoding enabled.",
        "x86/split lock detection: #AC: crashing the kernel on kernel split_locks",
        "Spectre V2 : Mitigation: Enhanced / Automatic IBRS",
        "smpboot: CPU 3 is now offline",
    ],
)
def test_what_healthy_machines_say_is_none(text: str) -> None:
    assert complaints([line(text)]) == []


def test_lines_count_from_the_drivers_first_load_on() -> None:
    early, late = line("WARNING: CPU: 0"), line("WARNING: CPU: 1")
    told = line("tdxhost: provider kernel, as told: it may race with KVM")
    given = [early, told, line(LOADED), late, line(LOADED)]
    assert since_load(given) == given[2:]
    assert since_load([early, late]) == [early, late]


def test_errors_of_the_driver_count_and_expected_ones_do_not() -> None:
    bad = line("tdxhost: enabling failed on CPU 3: TDH.SYS.LP.INIT: TDX_SYS_BUSY 0x8 (-16)", 3)
    asked = line("tdxhost: enabling CPUs failed on CPU 0: an online CPU is not enabled (-6)", 3)
    warned = line("tdxhost: suspend is refused: TDX is in use, and would be lost", 4)
    other = line("ata1: failed", 3)
    expected = [re.compile("an online CPU is not enabled")]
    assert driver_errors([bad, asked, warned, other], expected) == [bad]


def test_records_are_read_as_the_kernel_writes_them_and_user_space_is_left_out() -> None:
    assert Line.of("3,5,12000034,-;tdxhost: x failed\n SUBSYSTEM=misc") == Line(
        3, 12000034, "tdxhost: x failed"
    )
    # Facility 1 is what a program has written to /dev/kmsg.
    assert Line.of("11,5,12000034,-;BUG: said a program") is None
    assert Line.of("nonsense") is None
    assert str(Line(3, 12000034, "x")) == "[   12.000034] x"


def test_a_log_is_read_to_its_end(tmp_path: Path) -> None:
    log = tmp_path / "kmsg"
    os.mkfifo(log)
    keep = os.open(log, os.O_RDWR)
    try:
        os.write(keep, b"6,1,5,-;tdxhost: one\n")
        assert [one.text for one in read(log)] == ["tdxhost: one"]
    finally:
        os.close(keep)
