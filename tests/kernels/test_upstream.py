# SPDX-License-Identifier: GPL-2.0-or-later
"""Unmodified upstream kernels are vtdx's judge: Linux 7.3 initialises TDX by itself at boot."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.kernels.conftest import Boot
from tests.vm.hosts import Host
from tests.vm.witness import SUCCESS, Tdmr

KERNEL = "7.3-tdx"

HERE = Path(__file__).resolve().parent

# Linux 7.3 arch/x86/virt/vmx/tdx/tdx.c: TDMRs begin and end at multiples of this.
TDMR_ALIGN = 1 << 30


def pamt_kib(tdmrs: list[Tdmr]) -> int:
    """What Linux prints: all of the PAMTs that TDH.SYS.CONFIG was given."""
    pamts = [pamt for tdmr in tdmrs for pamt in (tdmr.pamt_1g, tdmr.pamt_2m, tdmr.pamt_4k)]
    return sum(size for _, size in pamts) // 1024


def check_initialised(host: Host) -> None:
    """What the kernel says it did, and what vtdx saw."""
    log, witness = host.run("dmesg").stdout, host.witness()
    machine = host.machine.spec.platform
    assert "virt/tdx: TDX-Module initialized" in log
    tdmrs = witness.tdmrs()
    (said,) = re.findall(r"virt/tdx: (\d+) KB allocated for PAMT", log)
    assert int(said) == pamt_kib(tdmrs)
    assert witness.cpus("TDH.SYS.LP.INIT") == dict.fromkeys(range(machine.cpus), 1)
    assert len(witness.succeeded("TDH.SYS.KEY.CONFIG")) == machine.sockets
    for tdmr in tdmrs:
        assert tdmr.base % TDMR_ALIGN == tdmr.size % TDMR_ALIGN == 0
        assert witness.initialized_to(tdmr) == tdmr.base + tdmr.size


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("spr-2s", "TDX_OPERAND_INVALID"),  # a TDX module that lacks the leaf
        pytest.param("spr-1s", "TDX_OPERAND_INVALID", marks=pytest.mark.slow),
        pytest.param(str(HERE / "with-disable.ini"), SUCCESS, marks=pytest.mark.slow),
    ],
)
def test_linux_initialises_tdx_at_boot_and_hands_it_in_at_shutdown(
    boot: Boot, name: str, answer: str
) -> None:
    with boot(KERNEL, name, driver=False) as host:
        check_initialised(host)
        assert host.kernel_complaints() == []
        assert host.witness().of("TDH.SYS.DISABLE") == []
        host.machine.power_off()
        assert host.witness().of("TDH.SYS.DISABLE")[-1].status == answer


def setting(host: Host, name: str) -> str:
    """A line of the platform file's [module]."""
    (found,) = re.findall(rf"^{name} ?= ?(.*)$", host.machine.spec.platform.text, re.MULTILINE)
    return str(found)


def shown(host: Host, name: str) -> str:
    """A file of the kernel's own tdx-host driver."""
    return host.run("cat", f"/sys/devices/faux/tdx_host/{name}").stdout.strip()


@pytest.mark.slow
def test_tdx_host_reads_versions_of_module_and_loader(boot: Boot) -> None:
    """gnr-2s, where SEAMCALLs of P-SEAMLDR leave the current VMCS alone (VMX_BASIC bit 60)."""
    with boot(KERNEL, "gnr-2s", driver=False) as host:
        assert host.run("modprobe", "tdx-host").status == 0
        assert shown(host, "version") == setting(host, "version")
        assert host.witness().of("SEAMLDR.INFO") == []
        assert shown(host, "num_remaining_updates") == setting(host, "remaining_updates")
        assert re.fullmatch(r"\d+\.\d+\.\d\d", shown(host, "seamldr_version"))
        calls = host.witness().of("SEAMLDR.INFO")
        assert [call.registers_out["rax"] for call in calls] == [0, 0]
        assert host.kernel_complaints() == []


@pytest.mark.slow
def test_a_failure_at_boot_is_logged_as_linux_logs_it(boot: Boot) -> None:
    fault = "TDH.SYS.CONFIG status=TDX_TDMR_OUTSIDE_CMRS"
    with boot(KERNEL, driver=False, faults=(fault,)) as host:
        log = host.run("dmesg").stdout
        (call,) = host.witness().of("TDH.SYS.CONFIG")
        assert call.fault == 1
    assert "SEAMCALL (0x000000000000002d) failed: 0xc0000a0200000000" in log
    assert "TDX-Module initialized" not in log
