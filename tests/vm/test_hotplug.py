# SPDX-License-Identifier: GPL-2.0-or-later
"""CPUs that come and go around bring-up, and CPUs that Linux did not bring up at all.

The TDX module counts every CPU that firmware enabled, and TDH.SYS.CONFIG waits for all of
them (TDX module ABI spec, TDH.SYS.CONFIG).
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.vm.hosts import Boot, Host

FAILED = 1
CONFIG, LP_INIT, KEY_CONFIG = "TDH.SYS.CONFIG", "TDH.SYS.LP.INIT", "TDH.SYS.KEY.CONFIG"
NOT_PENDING = "TDX_SYS_CONFIG_NOT_PENDING"
FIRST_LINE = f"tdxhost: step config: {CONFIG}: {NOT_PENDING} (0xc000050c00000000): "
RETRY = "  Once the cause is gone, go on at step config: sudo tdxhost enable --retry"
WAITS = "; the TDX module waits for every processor that firmware enabled"


def go(host: Host, cpus: Iterable[int], online: bool) -> None:
    """Take CPUs offline, or bring them back."""
    files = " ".join(f"/sys/devices/system/cpu/cpu{cpu}/online" for cpu in cpus)
    done = host.sh(f"set -e; for file in {files}; do echo {int(online)} > $file; done")
    assert done.status == 0, done


def check_named(host: Host, who: str, advice: str) -> None:
    """TDH.SYS.CONFIG is refused, and the first line says for want of whom."""
    refused = host.run("tdxhost", "enable")
    assert refused.status == FAILED, refused
    assert refused.stderr.splitlines() == [f"{FIRST_LINE}{who}{WAITS}", f"  {advice}", RETRY]
    assert [call.status for call in host.witness().of(CONFIG)] == [NOT_PENDING]


def check_up(host: Host, document: dict[str, object]) -> None:
    """All came up, once."""
    machine, witness = host.machine.spec.platform, host.witness()
    assert document["missing_cpus"] == document["missing_apic_ids"] == document["findings"] == []
    assert witness.cpus(LP_INIT) == dict.fromkeys(range(machine.cpus), 1)
    assert len(witness.succeeded(CONFIG)) == 1
    assert len(witness.succeeded(KEY_CONFIG)) == machine.sockets
    for tdmr in witness.tdmrs():
        assert witness.initialized_to(tdmr) == tdmr.base + tdmr.size
    assert host.kernel_complaints() == []


def retry(host: Host) -> None:
    """The retry goes on, to the end."""
    check_up(host, host.json("enable", "--retry"))


def test_cpus_that_were_taken_offline_are_named_and_can_come_back(boot: Boot) -> None:
    with boot(warm=True) as host:
        go(host, (2, 3), online=False)
        check_named(
            host,
            "CPUs 2-3 are offline and were never enabled",
            "Bring them online: sudo chcpu --enable 2-3",
        )
        assert host.json("doctor", status=FAILED)["cause"] == "kernel.cpus"
        assert "tdxhost: CPUs 2-3 are missing" in host.run("dmesg").stdout
        told = host.json("status", status=FAILED)
        assert told["missing_cpus"] == [2, 3]
        assert told["missing_apic_ids"] == []
        assert host.run("chcpu", "--enable", "2-3").status == 0
        retry(host)


def test_a_cpu_that_was_enabled_may_be_offline_while_the_rest_goes_on(boot: Boot) -> None:
    """The TDX module has it; its package has another CPU for the key."""
    with boot(warm=True) as host:
        assert host.run("tdxhost", "cpu-enable", "--cpus", "3").status == 0
        go(host, (3,), online=False)
        check_up(host, host.json("enable"))
        go(host, (3,), online=True)
        states = {cpu["cpu"]: cpu["state"] for cpu in host.json("status")["cpus"]}

    assert states == dict.fromkeys(range(4), "enabled")


def test_cpus_come_and_go_afterwards_without_a_call(boot: Boot) -> None:
    with boot(warm=True) as host:
        check_up(host, host.json("enable"))
        host.control.mark("up")
        # The last CPU of a package may go too: its key is configured.
        go(host, (2, 3), online=False)
        away = {cpu["cpu"]: cpu["state"] for cpu in host.json("status")["cpus"]}
        go(host, (3, 2), online=True)
        back = host.json("enable")
        calls = host.witness().case("up").calls
        complaints = host.kernel_complaints()

    assert away == {0: "enabled", 1: "enabled", 2: "offline", 3: "offline"}
    assert {cpu["state"] for cpu in back["cpus"]} == {"enabled"}
    assert calls == []
    assert complaints == []


NO_KEY = "TDH.SYS.KEY.CONFIG cpu=2-3 status=TDX_KEY_GENERATION_FAILED"


def test_the_last_cpu_of_a_package_stays_until_its_key_is_configured(boot: Boot) -> None:
    with boot(faults=(NO_KEY,), warm=True) as host:
        assert host.json("enable", status=FAILED)["module"]["step"] == "key_config"
        # CPU 1 is the last of its package too: what counts is whether keys remain anywhere.
        go(host, (2,), online=False)
        refused = host.run("bash", "-c", "echo 0 > /sys/devices/system/cpu/cpu3/online")
        log = host.run("dmesg").stdout
        host.control.clear_faults()
        assert host.json("enable", "--retry")["module"]["status"] == "initialized"
        go(host, (3,), online=False)
        witness = host.witness()

    assert refused.status != 0
    assert "Device or resource busy" in refused.stderr
    assert "tdxhost: CPU 3 stays online: its package has no TDX key yet" in log
    # CPU 2 was offline when the retry came.
    assert witness.cpus(KEY_CONFIG).total() == 2
    assert witness.cpus(KEY_CONFIG)[3] == 1


COME_AND_GO = """
while :; do
  for cpu in 1 3 2; do
    echo 0 > /sys/devices/system/cpu/cpu$cpu/online
    sleep 0.2
    echo 1 > /sys/devices/system/cpu/cpu$cpu/online
    sleep 0.2
  done
done &
"""
UNTIL_UP = """
for n in $(seq 20); do tdxhost enable --retry >/dev/null 2>>/tmp/errors && break; done
"""


def test_commands_and_cpus_that_come_and_go_do_not_meet_badly(boot: Boot) -> None:
    """tests/vm/test_races.py has the calls alone, thousands of times; here are the commands."""
    with boot(warm=True) as host:
        for leaf in (LP_INIT, CONFIG, KEY_CONFIG):
            host.control.latency(leaf, "50ms")
        host.sh("dmesg -n 1")
        said = host.sh(
            f"{COME_AND_GO}\ntdxhost cpu-enable 2>&1; {UNTIL_UP}\nkill $!; wait; cat /tmp/errors",
            timeout=240,
        )
        go(host, (1, 2, 3), online=True)
        check_up(host, host.json("enable"))

    assert "Traceback" not in said.stdout + said.stderr


#: Two CPUs of two threads each on two sockets; as small as such a machine can be.
THREADS = """
[platform]
summary = hyperthreads
base = spr-2s
[cpu]
cores = 1
threads = 2
[memory]
node0 = 512M
node1 = 512M
"""


@pytest.fixture
def threads(tmp_path: Path) -> str:
    """A platform with hyperthreads."""
    file = tmp_path / "threads.ini"
    file.write_text(THREADS, encoding="utf-8")
    return str(file)


def test_maxcpus_leaves_cpus_that_are_named_and_can_be_brought_online(boot: Boot) -> None:
    with boot(append="maxcpus=2") as host:
        check_named(
            host,
            "CPUs 2-3 are offline and were never enabled",
            "Bring them online: sudo chcpu --enable 2-3",
        )
        assert host.run("chcpu", "--enable", "2-3").status == 0
        retry(host)


def test_nosmt_leaves_hyperthreads_that_are_named_and_can_be_turned_on(
    boot: Boot, threads: str
) -> None:
    with boot(threads, append="nosmt") as host:
        check_named(
            host,
            "CPUs 1,3 are offline and were never enabled",
            "Turn hyperthreads on: echo on | sudo tee /sys/devices/system/cpu/smt/control",
        )
        assert host.sh("echo on | tee /sys/devices/system/cpu/smt/control").status == 0
        retry(host)


@pytest.mark.slow
def test_nosmt_force_leaves_hyperthreads_until_the_next_boot(boot: Boot, threads: str) -> None:
    with boot(threads, append="nosmt=force") as host:
        check_named(
            host,
            "CPUs 1,3 are offline and were never enabled",
            "Boot without nosmt=force: until then, hyperthreads can't be turned on.",
        )
        assert host.sh("echo on | tee /sys/devices/system/cpu/smt/control").status != 0


@pytest.mark.parametrize(
    "word",
    ["nr_cpus=2", *(pytest.param(word, marks=pytest.mark.slow) for word in ["possible_cpus=2"])],
)
def test_processors_without_a_cpu_number_are_named(boot: Boot, word: str) -> None:
    with boot(append=word) as host:
        assert host.json("info")["cpus"] == 2
        # APIC ids are Linux's CPU numbers here: a thread a core, two cores a socket.
        assert host.json("doctor", status=FAILED)["cause"] == "kernel.cpus"
        check_named(host, "Linux has no CPU for APIC ids 2-3", f"Boot without {word}")
        assert host.json("status", status=FAILED)["missing_apic_ids"] == [2, 3]
        log = host.run("dmesg").stdout

    assert "was TDX in use before, or is nr_cpus= set?" in log
