# SPDX-License-Identifier: GPL-2.0-or-later
"""A TDX module that takes its time: the machine goes on, and so does who waits."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.vm.hosts import Boot, Host
from tests.vm.witness import Witness

GAPS = Path(__file__).parent / "guest/gaps.py"

LEAF_S = 0.1
SLOW = """
[platform]
summary = a TDX module that takes 100 ms for each leaf
base = spr-2s
[memory]
node0 = 512M
node1 = 512M
[latency]
default = 100ms
TDH.SYS.INIT = 100ms
TDH.SYS.LP.INIT = 100ms
TDH.SYS.CONFIG = 100ms
TDH.SYS.KEY.CONFIG = 100ms
TDH.SYS.TDMR.INIT = 100ms
"""

#: Each TDH.SYS.TDMR.INIT does 4 MiB of the one TDMR, which covers 1 GiB (TDX module ABI spec).
TDMR_INITS = 256

#: A task that does not yield for the 25 s of TDMR_INITS leaves is reported many times over: soft
#: lockups after twice the threshold, RCU stalls and hung tasks after their own time.
WATCHDOGS = """
set -e
echo 2 > /proc/sys/kernel/watchdog_thresh
echo 4 > /sys/module/rcupdate/parameters/rcu_cpu_stall_timeout
echo 5 > /proc/sys/kernel/hung_task_timeout_secs
echo 1 > /proc/sys/kernel/hung_task_check_interval_secs
"""
COMPLAINTS = re.compile(
    r"soft lockup|hard LOCKUP|rcu.*stall|blocked for more than|Call Trace|WARNING"
)

#: Interrupts are off for two leaves at most, TDH.SYS.INIT and TDH.SYS.LP.INIT in one go, and a
#: task that wakes meanwhile may find the caller of ENABLE next in turn, for a leaf more: 0.3 s on
#: a host with a core for each CPU, three times that on a crowded one. What must not be is that a
#: step holds a CPU from its begin to its end: the shortest of many leaves, module_info, has 70 to
#: read, so half of that is out of reach for a driver that pauses and not for one that doesn't.
LONGEST_GAP_S = 70 * LEAF_S / 2


#: Ctrl-C waits for the leaf that runs, and for Python to say so; the bring-up has 20 s to go.
ENOUGH_S = 5


def check_called_once(witness: Witness) -> None:
    """Every leaf that counts was called as often as there is work for it, and no more."""
    assert len(witness.of("TDH.SYS.INIT")) == 1
    assert witness.cpus("TDH.SYS.LP.INIT") == {0: 1, 1: 1, 2: 1, 3: 1}
    assert len(witness.of("TDH.SYS.LP.INIT")) == 4
    assert len(witness.of("TDH.SYS.CONFIG")) == 1
    assert len(witness.of("TDH.SYS.KEY.CONFIG")) == 2
    assert len(witness.of("TDH.SYS.TDMR.INIT")) == TDMR_INITS


@pytest.fixture
def slow(boot: Boot, tmp_path: Path) -> Iterator[Host]:
    """A machine whose TDX module is slow, and whose watchdogs are impatient."""
    platform = tmp_path / "slow.ini"
    platform.write_text(SLOW)
    with boot(str(platform), extra={"/opt/gaps.py": GAPS}) as host:
        assert host.sh(WATCHDOGS).status == 0
        yield host
        log = host.run("dmesg").stdout.splitlines()
        assert [line for line in log if COMPLAINTS.search(line)] == []


def test_slow_leaves_hold_nobody_up(slow: Host) -> None:
    told = slow.run("python3", "/opt/gaps.py", timeout=200).json()

    assert told["status"] == 0
    assert set(told["gaps_s"]) == {"0", "1", "2", "3"}
    assert max(told["gaps_s"].values()) < LONGEST_GAP_S
    assert told["asked_s"] < LONGEST_GAP_S
    # Steps of a second or more; shorter ones may pass between two questions.
    assert {"module_info", "tdmr_init"} <= set(told["steps"])
    check_called_once(slow.witness())


def test_ctrl_c_at_a_terminal_ends_a_slow_bring_up_in_time(slow: Host) -> None:
    shown, sent = "", 0.0

    def watch(_: str, piece: bytes) -> None:
        nonlocal shown, sent
        shown += piece.decode(errors="replace")
        if "tdmr_init, 0 of 1 GiB" in shown and not sent:
            sent = time.monotonic()
            slow.machine.signal(signal.SIGINT)

    stopped = slow.machine.run(["tdxhost", "enable"], terminal=(80, 24), output=watch, timeout=120)
    took = time.monotonic() - sent
    done = len(slow.witness().of("TDH.SYS.TDMR.INIT"))

    assert stopped.status == 130
    assert took < ENOUGH_S, took
    assert 0 < done < TDMR_INITS
    check_screen(shown)
    meanwhile = slow.json("status", status=1)["module"]
    assert (meanwhile["status"], meanwhile["code"]) == ("unknown", "interrupted")

    finished = slow.run("tdxhost", "enable", timeout=200)
    assert finished.status == 0
    assert finished.stderr == ""
    check_called_once(slow.witness())


def check_screen(shown: str) -> None:
    """The display of progress is wiped out, the cursor is back, and two lines are left."""
    before, _, after = shown.rpartition("\x1b[2K")
    assert "tdmr_init, 0 of 1 GiB" in before
    assert before.count("\x1b[?25l") == shown.count("\x1b[?25h") == 1
    left = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", after).split("\r\n")
    assert [line for line in left if line.strip()] == [
        "tdxhost: interrupted at step tdmr_init, 0 of 1 GiB done",
        "  Go on with: sudo tdxhost enable",
    ]
