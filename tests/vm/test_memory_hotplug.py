# SPDX-License-Identifier: GPL-2.0-or-later
"""Memory that is plugged in, and memory that goes offline and comes back.

TDX memory is what the TDX module was told at TDH.SYS.CONFIG, and no more can be added: from
then on memory that is no TDX memory stays offline.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.vm.hosts import Boot, Host
from tests.vm.test_memory import check_memory, merged, ranges, system_ram

MIB = 1 << 20
FAILED = 1
MEMORY = "/sys/devices/system/memory"

# Linux on x86 adds memory in blocks of this size, and QEMU's q35 plugs it in from 4 GiB on.
BLOCK = 128 * MIB
FIRST = 4 << 30

PLATFORM = f"""
[platform]
summary = room for memory to be plugged in, some of it convertible
base = spr-1s
[memory]
node0 = 1G
[cmr]
0 = 0x100000+1023M
1 = {FIRST:#x}+{3 * BLOCK:#x}
"""

#: Blocks from FIRST on: three inside CMRs, then three outside.
COMES_AND_GOES, OFFLINE, LATE, USED, UNUSED, LATE_OUTSIDE = range(6)


@pytest.fixture
def roomy(boot: Boot, tmp_path: Path) -> Iterator[Host]:
    """A machine into which memory can be plugged."""
    file = tmp_path / "roomy.ini"
    file.write_text(PLATFORM, encoding="utf-8")
    with boot(str(file), warm=True, plug_bytes=8 * BLOCK) as host:
        yield host


def place(block: int) -> int:
    """The physical address of a block."""
    return FIRST + block * BLOCK


def folder(block: int) -> str:
    """Where sysfs has a block."""
    return f"{MEMORY}/memory{place(block) // BLOCK}"


def plug(host: Host, block: int, policy: str) -> None:
    """Plug a block in, which the kernel brings online or leaves offline."""
    assert host.sh(f"echo {policy} > {MEMORY}/auto_online_blocks").status == 0
    host.machine.monitor.plug_memory(f"dimm{block}", BLOCK, place(block))
    until = time.monotonic() + 60
    while host.sh(f"cat {folder(block)}/state").status:
        assert time.monotonic() < until, "the kernel does not see the memory"
    # The block is there a moment before it is brought online.
    time.sleep(1)


def state(host: Host, block: int) -> str:
    """Whether a block is online."""
    return host.sh(f"cat {folder(block)}/state").stdout.strip()


def ask(host: Host, block: int, wanted: str) -> str:
    """Take a block offline or online; what the shell says."""
    return host.run("bash", "-c", f"echo {wanted} > {folder(block)}/state").stderr


def check_stays_offline(host: Host, block: int) -> None:
    """It was refused, with a line in the log."""
    end = place(block) + BLOCK
    line = f"tdxhost: memory [{place(block):#x}, {end:#x}) stays offline: it is no TDX memory"
    assert state(host, block) == "offline"
    assert line in host.run("dmesg").stdout


def check_refused(host: Host, block: int) -> None:
    """Bringing it online is refused."""
    host.run("dmesg", "--clear")
    assert "Device or resource busy" in ask(host, block, "online")
    check_stays_offline(host, block)


def plug_before(host: Host) -> None:
    """Before bring-up all memory is welcome."""
    plug(host, COMES_AND_GOES, "online_movable")
    plug(host, OFFLINE, "offline")
    plug(host, USED, "online_movable")
    plug(host, UNUSED, "offline")
    states = [state(host, block) for block in (COMES_AND_GOES, OFFLINE, USED, UNUSED)]
    assert states == ["online", "offline", "online", "offline"]


def check_in_the_way(host: Host) -> None:
    """Memory outside CMRs is in the way of bring-up, unless it is offline."""
    refused = host.run("tdxhost", "enable")
    assert refused.status == FAILED
    message, *advice = refused.stderr.splitlines()
    assert message.endswith(f": {place(USED):#x}-{place(USED) + BLOCK - 1:#x}")
    assert any("chmem --disable" in line for line in advice)
    told = host.run("chmem", "--disable", f"{place(USED):#x}-{place(USED) + BLOCK - 1:#x}")
    assert told.status == 0, told


def test_memory_comes_and_goes_around_bring_up(roomy: Host) -> None:
    booted = system_ram(roomy)
    plug_before(roomy)
    check_in_the_way(roomy)
    assert roomy.json("enable", "--retry")["module"]["status"] == "initialized"

    memory = roomy.json("memory")
    inside = [(place(COMES_AND_GOES), BLOCK), (place(OFFLINE), BLOCK)]
    assert merged(ranges(memory["tdx_memory"])) == merged([*booted, *inside])
    assert memory["outside_cmrs"] == []
    # What can be taken offline holds no PAMT.
    assert all(int(pamt["base_pa"], 16) < FIRST for t in memory["tdmrs"] for pamt in t["pamts"])

    # TDX memory goes and comes as it likes, also if it was never online before.
    for block, wanted in ((OFFLINE, "online"), (COMES_AND_GOES, "offline")):
        assert ask(roomy, block, wanted) == ""
        assert state(roomy, block) == wanted
    assert ask(roomy, COMES_AND_GOES, "online_movable") == ""

    for block in (USED, UNUSED):
        check_refused(roomy, block)
    for block in (LATE, LATE_OUTSIDE):
        plug(roomy, block, "online")
        check_stays_offline(roomy, block)
    assert roomy.kernel_complaints() == []


def test_memory_that_was_plugged_in_before_may_hold_pamts_and_stays_then(roomy: Host) -> None:
    plug(roomy, COMES_AND_GOES, "online")
    assert roomy.json("enable")["module"]["status"] == "initialized"
    check_memory(roomy)
    pamts = [int(p["base_pa"], 16) for t in roomy.json("memory")["tdmrs"] for p in t["pamts"]]
    assert any(place(COMES_AND_GOES) <= pamt < place(COMES_AND_GOES) + BLOCK for pamt in pamts)

    assert "Device or resource busy" in ask(roomy, COMES_AND_GOES, "offline")
    assert state(roomy, COMES_AND_GOES) == "online"
    assert roomy.kernel_complaints() == []
