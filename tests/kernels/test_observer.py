# SPDX-License-Identifier: GPL-2.0-or-later
"""Provider observer: what Linux 7.3 did with TDX at boot, seen by leaves that change nothing."""

from __future__ import annotations

import pytest

from tests.kernels.conftest import Boot
from tests.vm.hosts import Host

KERNEL = "7.3-tdx"
KO = "/usr/lib/vtdx/tdxhost.ko"

# The leaves that the driver may call where the kernel owns TDX.
READ_ONLY = {"TDH.SYS.RD", "TDH.PHYMEM.PAGE.RDMD"}

UNKNOWN_OF_CPU = ("errno", "leaf", "seam_status", "status_name", "retries", "did_global_init")


def check_status(host: Host) -> None:
    """All that can be known is told, and nothing else."""
    document = host.json("status")
    assert document["provider"] == "observer"
    assert document["module"]["status"] == "initialized"
    assert document["module"]["seam_status"] is None
    done = host.witness().cpus("TDH.SYS.LP.INIT")
    assert {cpu["cpu"]: cpu["state"] for cpu in document["cpus"]} == dict.fromkeys(done, "enabled")
    for cpu in document["cpus"]:
        assert {cpu[name] for name in (*UNKNOWN_OF_CPU, "start_ns", "duration_ns")} == {None}
    assert document["steps"] == []


def check_memory(host: Host) -> None:
    """CMRs are what the TDX module tells; TDMRs and PAMTs are the kernel's."""
    document = host.json("memory")
    regions = [(int(part["base_pa"], 16), part["bytes"]) for part in document["cmrs"]]
    assert regions == [(cmr.base, cmr.size) for cmr in host.machine.spec.platform.cmrs if cmr.size]
    assert document["tdmrs"] is document["tdx_memory"] is None
    # The kernel's log says it, in KiB.
    tdmrs = host.witness().tdmrs()
    given = sum(size for t in tdmrs for _, size in (t.pamt_1g, t.pamt_2m, t.pamt_4k))
    assert document["pamt_bytes"] == given
    assert {node["pamt_bytes"] for node in document["nodes"]} == {None}


def check_refusals(host: Host) -> None:
    """Commands that act say who owns TDX."""
    for command in (("enable",), ("enable", "--retry"), ("cpu-enable",)):
        refused = host.run("tdxhost", *command)
        assert refused.status == 1
        assert "the kernel" in refused.stderr


def check_doctor(host: Host) -> None:
    """A healthy machine, KVM with TDX among it once it is loaded."""
    assert host.run("modprobe", "kvm_intel", "tdx=1").status == 0
    document = host.json("doctor")
    found = {check["id"]: check["outcome"] for check in document["checks"]}
    assert (document["cause"], document["initialized"]) == (None, True)
    assert {id_ for id_ in found if id_.startswith("kvm.") and found[id_] != "pass"} == set()
    # Processors that lose the current VMCS in P-SEAMLDR have no updates (SEAMRET_INVD_VMCS).
    assert (found["kernel.hibernation"], found["module.updates"]) == ("pass", "not_applicable")


def check_trace(host: Host) -> None:
    """The driver's SEAMCALLs are traced, and the kernel's are said not to be."""
    traced = host.run("tdxhost", "trace", "--quiet", "--", "tdxhost", "info")
    assert traced.status == 0
    assert "TDH.SYS.RD " in traced.stdout
    assert "The kernel makes SEAMCALLs of its own here (provider observer)" in traced.stdout


def test_what_linux_did_at_boot_is_told_and_nothing_is_done(boot: Boot) -> None:
    with boot(KERNEL) as host:
        before = host.witness().calls
        assert {call.leaf for call in before} > READ_ONLY
        check_status(host)
        check_memory(host)
        fields = {field["name"]: field for field in host.json("info")["fields"]}
        assert int(fields["NUM_PKGS"]["value"], 16) == 2
        check_refusals(host)
        check_doctor(host)
        check_trace(host)
        new = host.witness().calls[len(before) :]
        assert {call.leaf for call in new} == READ_ONLY
        assert host.kernel_complaints() == []


def test_direct_and_kernel_refuse_a_kernel_that_initialises_tdx(boot: Boot) -> None:
    with boot(KERNEL, "spr-1s") as host:
        assert host.run("rmmod", "tdxhost").status == 0
        for provider, reason in (("direct", "owns TDX"), ("kernel", "exports no tdx_enable")):
            assert host.run("insmod", KO, f"provider={provider}").status != 0
            said = host.sh("dmesg | tail -n 1").stdout
            assert f"provider {provider} is refused" in said
            assert reason in said
        assert host.run("insmod", KO, "provider=observer").status == 0


@pytest.mark.slow
def test_a_failure_of_the_kernel_at_boot_is_told(boot: Boot) -> None:
    """CONFIG failed: the CPUs are enabled, and the TDX module is not ready."""
    fault = "TDH.SYS.CONFIG status=TDX_TDMR_OUTSIDE_CMRS"
    with boot(KERNEL, faults=(fault,)) as host:
        document = host.json("status", status=1)
        assert document["module"]["status"] == "error"
        assert document["module"]["code"] == "kernel"
        assert document["module"]["status_name"] == "TDX_SYS_NOT_READY"
        assert {cpu["state"] for cpu in document["cpus"]} == {"enabled"}
        first = host.run("tdxhost", "status").stderr.splitlines()[0]
        assert "the kernel's own initialisation of the TDX module failed" in first
        diagnosis = host.json("doctor", status=1)
        assert diagnosis["cause"] == "module.log"
        assert "TDX_TDMR_OUTSIDE_CMRS" in str(diagnosis["checks"])


@pytest.mark.slow
def test_a_cpu_that_comes_and_goes_is_still_enabled(boot: Boot) -> None:
    with boot(KERNEL) as host:
        host.sh("cd /sys/devices/system/cpu/cpu3; echo 0 > online; echo 1 > online")
        states = {cpu["cpu"]: cpu["state"] for cpu in host.json("status")["cpus"]}
        assert states[3] == "enabled"
        assert host.witness().cpus("TDH.SYS.LP.INIT")[3] == 1
        # The kernel drops VMX on a CPU that goes, and the driver leaves it as it finds it.
        assert host.run("rmmod", "tdxhost").status == 0
        assert host.kernel_complaints() == []
