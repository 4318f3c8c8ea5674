# SPDX-License-Identifier: GPL-2.0-or-later
"""Machines that start from a snapshot: the same guest, with faults of their own."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from tests.vm.hosts import MACHINE_SECONDS, Host
from tests.vm.kvm_user import EXTRA
from vtdx.vm import platform
from vtdx.vm.errors import SnapshotFailed
from vtdx.vm.machine import Machine, Snapshot, Spec
from vtdx.vm.snapshot import snapshot, stop

COUNTER = """
import json, sys
for number, line in enumerate(sys.stdin, 1):
    print(number, flush=True)
"""

# IA32_MISC_ENABLE: software may write it, and the TDX module does not look at it.
MSR, CPU, BOOTED, WRITTEN = 0x1A0, 2, 0x850089, 0x850088
WRITE_MSR = f"""
modprobe msr
python3 - <<END
import os
fd = os.open("/dev/cpu/{CPU}/msr", os.O_WRONLY)
os.pwrite(fd, ({WRITTEN}).to_bytes(8, "little"), {MSR})
END
"""
READ_MSR = f"""
python3 - <<END
import os
for cpu in range(4):
    fd = os.open(f"/dev/cpu/{{cpu}}/msr", os.O_RDONLY)
    print(int.from_bytes(os.pread(fd, 8, {MSR}), "little"))
END
"""

MISMATCH = "TDH.SYS.LP.INIT cpu=3 status=TDX_INCONSISTENT_MSR detail=0x10a"


@dataclass(frozen=True)
class Kept:
    """A snapshot, and what was so when it was taken."""

    snap: Snapshot
    boot_seconds: float
    guest_uptime: float
    taken_at: float

    def start(self, folder: Path, **changes: Any) -> tuple[Machine, Path]:
        """A machine from the snapshot, and its log; ``changes`` as for platform.load()."""
        log = folder / "log"
        changed = platform.load("spr-2s", **changes)
        spec = replace(self.snap.spec, platform=changed, log=log, console=folder / "console")
        return Machine(spec, MACHINE_SECONDS, start=self.snap), log


def uptime(machine: Machine) -> float:
    """The guest's monotonic clock, in seconds."""
    return float(machine.run(["cat", "/proc/uptime"]).stdout.split()[0])


@pytest.fixture(scope="module")
def kept() -> Iterator[Kept]:
    """A machine with a session, a file and an MSR that the guest wrote."""
    noted: dict[str, float] = {}

    def prepare(machine: Machine) -> None:
        noted["booted"] = time.monotonic()
        session = machine.session(["python3", "-c", COUNTER], name="counter")
        assert session.ask({}) == 1
        assert machine.shell(f"echo snapshot > /tmp/file; {WRITE_MSR}").status == 0
        noted["uptime"] = uptime(machine)

    begin = time.monotonic()
    with snapshot(Spec(platform.load("spr-2s"), extra=EXTRA), prepare, MACHINE_SECONDS) as snap:
        yield Kept(snap, noted["booted"] - begin, noted["uptime"], time.monotonic())


def clock_complaints(host: Host) -> list[str]:
    """What the guest's kernel says where its time jumped."""
    words = ("unstable", "stall", "lockup")
    return [line for line in host.run("dmesg").stdout.splitlines() if any(w in line for w in words)]


def test_a_machine_comes_up_on_tdx_and_the_log_shows_it(kept: Kept, tmp_path: Path) -> None:
    machine, log = kept.start(tmp_path)
    with machine:
        host = Host(machine, log)
        document = host.json("enable")
        witness = host.witness()
        assert host.kernel_complaints() == []
        assert clock_complaints(host) == []

    assert document["module"]["status"] == "initialized"
    assert witness.events[0]["event"] == "start"
    assert witness.cpus("TDH.SYS.LP.INIT") == dict.fromkeys(range(4), 1)
    assert {call.fault for call in witness.calls} == {None}
    (tdmr, *_) = witness.tdmrs()
    assert witness.initialized_to(tdmr) == tdmr.base + tdmr.size


def test_faults_are_those_of_the_machine_that_starts(kept: Kept, tmp_path: Path) -> None:
    machine, log = kept.start(tmp_path, faults=(MISMATCH,))
    with machine:
        host = Host(machine, log)
        document = host.json("enable", status=1)
        calls = host.witness().of("TDH.SYS.LP.INIT")

    assert [cpu["cpu"] for cpu in document["cpus"] if cpu["state"] == "failed"] == [3]
    assert {call.cpu for call in calls if call.fault} == {3}


def test_each_machine_has_the_snapshot_for_itself(kept: Kept, tmp_path: Path) -> None:
    for number in ("one", "two"):
        folder = tmp_path / number
        folder.mkdir()
        machine, _ = kept.start(folder)
        with machine:
            assert machine.hello == kept.snap.hello
            assert machine.run(["cat", "/tmp/file"]).stdout == "snapshot\n"
            assert machine.shell("echo changed > /tmp/file; sync").status == 0
            # The session had one question before the snapshot was taken.
            with machine.attach("counter") as counter:
                assert [counter.ask({}), counter.ask({})] == [2, 3]


def test_an_msr_that_the_guest_wrote_stays_written(kept: Kept, tmp_path: Path) -> None:
    machine, _ = kept.start(tmp_path)
    with machine:
        values = machine.shell(READ_MSR).stdout.split()

    assert [int(value) for value in values] == [
        WRITTEN if cpu == CPU else BOOTED for cpu in range(4)
    ]


def test_the_guest_s_clock_stands_still_until_it_starts(kept: Kept, tmp_path: Path) -> None:
    pause = 8.0
    time.sleep(max(0.0, kept.taken_at + pause - time.monotonic()))
    machine, _ = kept.start(tmp_path)
    begin = time.monotonic()
    with machine:
        passed = uptime(machine) - kept.guest_uptime
        limit = time.monotonic() - begin

    # What prepare() did after it looked, and what the machine did since its start.
    assert 0 < passed < limit + pause / 2


def test_a_start_takes_a_fraction_of_a_boot(kept: Kept, tmp_path: Path) -> None:
    machine, _ = kept.start(tmp_path)
    begin = time.monotonic()
    with machine:
        assert machine.run(["true"]).status == 0
        took = time.monotonic() - begin

    assert took < kept.boot_seconds / 3


def test_vmx_stands_in_the_way_of_a_snapshot(kept: Kept, tmp_path: Path) -> None:
    """KVM turns it on when it is loaded, or before Linux 6.12 with its first VM."""
    machine, _ = kept.start(tmp_path)
    with machine:
        assert machine.run(["modprobe", "kvm-intel"]).status == 0
        with machine.session(["python3", "/opt/kvm.py"]) as owner:
            owner.ask({"do": "open"})
            with pytest.raises(SnapshotFailed, match="CPU 0 uses VMX"):
                stop(machine)
        assert machine.run(["modprobe", "-r", "kvm-intel"]).status == 0
        stop(machine)


def test_a_called_module_stands_in_the_way_of_a_snapshot(kept: Kept, tmp_path: Path) -> None:
    machine, _ = kept.start(tmp_path)
    with machine:
        assert machine.run(["tdxhost", "cpu-enable", "--cpus", "1"]).status == 0
        with pytest.raises(SnapshotFailed, match="the TDX module was called"):
            stop(machine)


def test_no_file_but_a_small_one_has_a_name(kept: Kept) -> None:
    """What a killed process leaves behind must not fill the disk."""
    assert list(kept.snap.devices.parent.iterdir()) == [kept.snap.devices]
    assert kept.snap.devices.stat().st_size < 4 << 20
    assert all(file.stat().st_nlink == 0 for file in kept.snap.parts.memory)


def test_a_machine_outlives_the_files_it_started_from() -> None:
    with ExitStack() as stack:
        with snapshot(Spec(platform.load("spr-1s"), driver=False), timeout=MACHINE_SECONDS) as snap:
            machine = stack.enter_context(Machine(snap.spec, MACHINE_SECONDS, start=snap))
        assert not snap.devices.parent.exists()
        assert not any(file.exists() for file in snap.parts.memory)
        assert machine.run(["sha256sum", "/usr/bin/python3"]).status == 0


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"platform": platform.load("spr-1s")}, "hardware"),
        ({"platform": platform.load("spr-2s", cpus=6)}, "hardware"),
        ({"platform": platform.load("spr-2s", memory_bytes=3 << 30)}, "hardware"),
        ({"append": "quiet"}, "append"),
        ({"kernel": "another"}, "kernel"),
        ({"driver": False}, "driver"),
        ({"driver_args": ("provider=direct",)}, "driver_args"),
        ({"extra": {"/opt/more": Path(__file__)}}, "extra"),
    ],
)
def test_another_machine_can_t_start_from_it(
    kept: Kept, change: dict[str, Any], named: str
) -> None:
    with pytest.raises(SnapshotFailed, match=f": {named} not as asked for"):
        Machine(replace(kept.snap.spec, **change), start=kept.snap)
