# SPDX-License-Identifier: GPL-2.0-or-later
"""Kernel lockdown: the command says that it is that, and how it ends."""

from __future__ import annotations

from tests.vm.hosts import Boot
from vtdx.vm import build, kernels

LOCK = "echo integrity >/sys/kernel/security/lockdown"

# A signature is what follows a module's ELF file, and goes with a copy of that alone.
UNSIGNED = "/opt/tdxhost.ko"


def test_lockdown_closes_the_device_to_root_and_the_message_says_so(boot: Boot) -> None:
    with boot(warm=True) as host:
        assert host.run("tdxhost", "status").status == 0
        assert host.sh(LOCK).status == 0
        denied = host.run("tdxhost", "enable")
        # Who lacks the capability is told of that: lockdown is not what stopped them.
        without = host.run("setpriv", "--bounding-set=-sys_admin", "tdxhost", "status")
        public = host.run("tdxhost", "status")
        diagnosis = host.json("doctor", status=1)
        witness = host.witness()

    assert denied.status == 4
    assert "kernel lockdown (integrity) forbids it" in denied.stderr
    assert "raised since boot" in denied.stderr
    assert without.status == 4
    assert "CAP_SYS_ADMIN" in without.stderr
    assert "forbids it" not in without.stderr
    assert "kernel lockdown (integrity) forbids it" in public.stderr
    assert witness.calls == []
    assert diagnosis["cause"] == "kernel.lockdown"
    assert "lockdown" in diagnosis["verdict"]


def test_lockdown_from_the_command_line_refuses_an_unsigned_driver(boot: Boot) -> None:
    driver = build.driver(kernels.find(kernels.default()))
    with boot(driver=False, append="lockdown=integrity", extra={UNSIGNED: driver}) as host:
        refused = host.run("insmod", UNSIGNED)
        status = host.run("tdxhost", "status")
        logged = host.run("dmesg").stdout

    assert refused.status != 0
    assert "Operation not permitted" in refused.stderr
    assert "unsigned module loading is restricted" in logged
    assert status.status == 3
    assert "Kernel lockdown (integrity) is on" in status.stderr
    assert "take lockdown= away" in status.stderr
