# SPDX-License-Identifier: GPL-2.0-or-later
"""The driver goes and comes back in every state that it can be in.

The TDX module remembers what the driver before did: TDH.SYS.INIT and TDH.SYS.LP.INIT are
never done twice, and that they were done already is no failure.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from tests.vm.hosts import Boot, Host

KO = "/usr/lib/vtdx/tdxhost.ko"
FAILED = 1
INIT, LP_INIT, RD = "TDH.SYS.INIT", "TDH.SYS.LP.INIT", "TDH.SYS.RD"
CONFIG, KEY_CONFIG = "TDH.SYS.CONFIG", "TDH.SYS.KEY.CONFIG"


def untouched(host: Host) -> None:
    """The driver has been asked how things stand, and for nothing else."""
    assert host.json("status")["module"]["status"] == "unknown"


def some_cpus(host: Host) -> None:
    """Two CPUs are enabled."""
    assert host.run("tdxhost", "cpu-enable", "--cpus", "1,3").status == 0


def all_cpus(host: Host) -> None:
    """All are."""
    assert host.run("tdxhost", "cpu-enable").status == 0


def fails(host: Host, fault: str, step: str) -> None:
    """ENABLE fails at a step."""
    host.control.fault(fault)
    module = host.json("enable", status=FAILED)["module"]
    host.control.clear_faults()
    assert (module["status"], module["step"]) == ("error", step)


def failed_on_a_cpu(host: Host) -> None:
    """One CPU is refused."""
    fails(host, f"{LP_INIT} cpu=3 status=TDX_INCONSISTENT_MSR detail=0x10a", "cpus")


def failed_before_config(host: Host) -> None:
    """All CPUs are enabled, and the TDX module does not say what it is."""
    fails(host, f"{RD} status=TDX_METADATA_FIELD_ID_INCORRECT", "module_info")


def failed_at_config(host: Host) -> None:
    """PAMTs were allocated, and given back."""
    fails(host, f"{CONFIG} status=TDX_PAMT_OVERLAP", "config")


def interrupted(host: Host) -> None:
    """A signal, before TDH.SYS.CONFIG; for ENABLE one is as good as another."""
    host.control.latency(RD, "50ms")
    host.sh("tdxhost enable >/dev/null 2>&1 & echo $! > /tmp/pid")
    until = time.monotonic() + 60
    while not host.witness().of(RD):
        assert time.monotonic() < until
        time.sleep(0.1)
    gone = "pid=$(cat /tmp/pid); kill $pid; while kill -0 $pid 2>/dev/null; do sleep 0.1; done"
    assert host.sh(gone).status == 0
    host.control.latency(RD, "0ns")
    assert host.json("status", status=FAILED)["module"]["code"] == "interrupted"


def stands(host: Host) -> str:
    """What everyone may see of the driver; empty where there is none."""
    return host.sh("cat /sys/class/misc/tdxhost/status 2>/dev/null").stdout.strip()


def reload(host: Host) -> None:
    """Unload the driver, of which nothing stays, and load it again."""
    done = host.run("rmmod", "tdxhost")
    assert done.status == 0, done
    assert stands(host) == ""
    assert host.run("insmod", KO).status == 0
    host.run("udevadm", "settle")
    assert stands(host) == "unknown"


@pytest.mark.parametrize(
    "state",
    [
        untouched,
        some_cpus,
        all_cpus,
        failed_on_a_cpu,
        failed_before_config,
        failed_at_config,
        interrupted,
    ],
    ids=lambda state: state.__name__,
)
def test_a_driver_that_comes_back_brings_tdx_up(boot: Boot, state: Callable[[Host], None]) -> None:
    with boot(warm=True) as host:
        state(host)
        enabled = host.witness().cpus(LP_INIT)
        reload(host)
        document = host.json("enable")
        witness = host.witness()
        complaints = host.kernel_complaints()

    assert document["module"]["status"] == "initialized"
    assert {cpu["cpu"] for cpu in document["cpus"] if cpu["was_done"]} == set(enabled)
    assert len(witness.succeeded(INIT)) == 1
    assert witness.cpus(LP_INIT) == dict.fromkeys(range(4), 1)
    assert len(witness.succeeded(CONFIG)) == 1
    assert complaints == []


def no_key(host: Host) -> None:
    """TDH.SYS.CONFIG has succeeded, and no package has its key."""
    fails(host, f"{KEY_CONFIG} status=TDX_KEY_GENERATION_FAILED", "key_config")


def initialized(host: Host) -> None:
    """All is done."""
    assert host.json("enable")["module"]["status"] == "initialized"


@pytest.mark.parametrize("state", [no_key, initialized], ids=lambda state: state.__name__)
def test_a_driver_whose_memory_the_tdx_module_holds_stays(
    boot: Boot, state: Callable[[Host], None]
) -> None:
    with boot(warm=True) as host:
        state(host)
        refused = host.run("rmmod", "tdxhost")
        assert host.json("enable", "--retry")["module"]["status"] == "initialized"
        assert host.kernel_complaints() == []

    assert refused.status != 0
    assert "in use" in refused.stderr
