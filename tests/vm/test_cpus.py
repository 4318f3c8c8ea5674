# SPDX-License-Identifier: GPL-2.0-or-later
"""``tdxhost cpu-enable``: each CPU pinned, its own call."""

from __future__ import annotations

from tests.vm.hosts import Boot, Host

CPUSET = """
set -e
cd /sys/fs/cgroup
echo +cpuset > cgroup.subtree_control
mkdir -p half
echo 0-1 > half/cpuset.cpus
echo $$ > half/cgroup.procs
"""


def states(document: dict[str, list[dict[str, object]]]) -> dict[object, object]:
    """State of each CPU in a document."""
    return {cpu["cpu"]: cpu["state"] for cpu in document["cpus"]}


def check_partial(host: Host) -> None:
    """Some CPUs alone, then ENABLE refused for the missing ones, then the rest."""
    some = host.json("cpu-enable", "--cpus", "0,2")
    assert states(some) == {0: "enabled", 2: "enabled"}
    assert host.witness().cpus("TDH.SYS.LP.INIT") == {0: 1, 2: 1}
    assert states(host.json("status"))[1] == "unknown"

    again = host.json("cpu-enable", "--cpus", "2")
    assert again["cpus"][0]["was_done"]
    assert host.witness().cpus("TDH.SYS.LP.INIT") == {0: 1, 2: 1}


def check_bad_cpus(host: Host) -> None:
    """A CPU that can't be pinned to is named, and nothing else is done."""
    before = len(host.witness().calls)
    absent = host.run("tdxhost", "cpu-enable", "--cpus", "0,77")
    assert absent.status != 0
    assert "77" in absent.stderr
    host.sh("echo 0 > /sys/devices/system/cpu/cpu3/online")
    offline = host.run("tdxhost", "cpu-enable", "--cpus", "3")
    host.sh("echo 1 > /sys/devices/system/cpu/cpu3/online")
    assert offline.status != 0
    assert "CPU 3" in offline.stderr
    assert "offline" in offline.stderr
    outside = host.sh(f"{CPUSET}\ntdxhost cpu-enable --cpus 1,2")
    assert outside.status != 0
    assert "CPU 2" in outside.stderr
    assert "cpuset" in outside.stderr
    assert len(host.witness().calls) == before


def test_cpus_are_enabled_one_by_one_where_asked(boot: Boot) -> None:
    with boot(warm=True) as host:
        check_partial(host)
        check_bad_cpus(host)
        rest = host.json("cpu-enable")
        assert set(states(rest).values()) == {"enabled"}
        assert host.witness().cpus("TDH.SYS.LP.INIT") == {0: 1, 1: 1, 2: 1, 3: 1}
        assert host.json("enable")["module"]["status"] == "initialized"
        assert len(host.witness().of("TDH.SYS.INIT")) == 1
        assert host.kernel_complaints() == []


def test_affinity_is_what_it_was_afterwards(boot: Boot) -> None:
    script = (
        "import os, sys; from tdxhost.cli.main import main; os.sched_setaffinity(0, {0, 3});"
        "main(['cpu-enable', '--cpus', '0-3']); main(['cpu-enable', '--cpus', '99']);"
        "print(sorted(os.sched_getaffinity(0)), file=sys.stderr)"
    )
    with boot(warm=True) as host:
        said = host.run("python3", "-c", script).stderr
        enabled = host.witness().cpus("TDH.SYS.LP.INIT")

    assert said.splitlines()[-1] == "[0, 3]"
    assert set(enabled) == {0, 1, 2, 3}
