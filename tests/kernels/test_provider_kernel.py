# SPDX-License-Identifier: GPL-2.0-or-later
"""Provider kernel: Linux 6.12's own tdx_cpu_enable() and tdx_enable(), when asked."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from tests.kernels.conftest import Boot
from tests.vm.hosts import Host
from tests.vm.test_memory import BELOW, HOLES

KERNEL = "6.12-tdx"
KO = "/usr/lib/vtdx/tdxhost.ko"

pytestmark = pytest.mark.slow

STEPS = ["platform", "cpus", "module_info", "memory", "kernel"]


def vmx_at_the_end(host: Host) -> dict[int, bool]:
    """Whether each CPU that ever was in VMX operation still is."""
    state: dict[int, bool] = {}
    for event in host.witness().events:
        if event["event"] in ("vmxon", "vmxoff") and event["result"] == "done":
            state[event["cpu"]] = event["event"] == "vmxon"
    return state


def check_document(host: Host, document: Any) -> None:
    """What direct would say, as far as the kernel lets it be known."""
    witness = host.witness()
    assert document["provider"] == "kernel"
    assert document["module"]["status"] == "initialized"
    assert document["module"]["seam_status"] is None
    assert [step["name"] for step in document["steps"]] == STEPS
    assert {step["errno"] for step in document["steps"]} == {0}
    steps = {step["name"]: step for step in document["steps"]}
    for name in ("cpus", "kernel"):
        assert {steps[name][key] for key in ("leaf", "seam_status", "seamcalls")} == {None}
        assert steps[name]["duration_ns"] > 0
    assert steps["module_info"]["seamcalls"] == len(witness.of("TDH.SYS.RD")) - kernel_reads(host)
    done = witness.cpus("TDH.SYS.LP.INIT")
    assert {cpu["cpu"]: cpu["state"] for cpu in document["cpus"]} == dict.fromkeys(done, "enabled")
    for cpu in document["cpus"]:
        unknown = ("leaf", "seam_status", "status_name", "retries", "did_global_init")
        assert {cpu[name] for name in unknown} == {None}
        assert cpu["errno"] == 0
        assert cpu["duration_ns"] > 0


def kernel_reads(host: Host) -> int:
    """Linux 6.12 reads five fields about TDMRs (arch/x86/virt/vmx/tdx/tdx.c)."""
    return 5 if host.witness().of("TDH.SYS.CONFIG") else 0


def check_log(host: Host) -> None:
    """vtdx saw the kernel do all of it, once."""
    witness = host.witness()
    assert witness.order() == [
        "TDH.SYS.INIT",
        "TDH.SYS.LP.INIT",
        "TDH.SYS.CONFIG",
        "TDH.SYS.KEY.CONFIG",
        "TDH.SYS.TDMR.INIT",
    ]
    assert set(witness.cpus("TDH.SYS.LP.INIT").values()) == {1}
    for tdmr in witness.tdmrs():
        assert witness.initialized_to(tdmr) == tdmr.base + tdmr.size
    assert "virt/tdx: module initialized" in host.run("dmesg").stdout


def test_the_kernel_s_functions_bring_tdx_up(boot: Boot) -> None:
    with boot(KERNEL) as host:
        check_document(host, host.json("enable"))
        check_log(host)
        assert set(vmx_at_the_end(host).values()) == {False}
        calls = len(host.witness().of("TDH.SYS.CONFIG"))
        assert host.json("enable")["module"]["status"] == "initialized"
        assert len(host.witness().of("TDH.SYS.CONFIG")) == calls
        memory = host.json("memory")
        assert memory["tdmrs"] is None
        assert memory["pamt_owner"] == "tdx_module"
        assert host.kernel_complaints() == []


def test_the_driver_may_come_and_go_for_the_kernel_holds_the_memory(boot: Boot) -> None:
    with boot(KERNEL) as host:
        host.json("enable")
        assert host.run("rmmod", "tdxhost").status == 0
        assert host.run("insmod", KO).status == 0
        host.run("udevadm", "settle")
        document = host.json("enable")
        assert document["module"]["status"] == "initialized"
        assert set(host.witness().cpus("TDH.SYS.LP.INIT").values()) == {1}


def test_cpus_are_enabled_one_by_one(boot: Boot) -> None:
    with boot(KERNEL) as host:
        assert host.json("cpu-enable", "--cpus", "1")["cpus"][0]["state"] == "enabled"
        assert host.witness().cpus("TDH.SYS.LP.INIT") == {1: 1}
        assert set(vmx_at_the_end(host).values()) == {False}


def test_a_failure_of_the_kernel_s_is_told_as_it_tells_it_and_is_final(boot: Boot) -> None:
    with boot(KERNEL, faults=("TDH.SYS.CONFIG status=TDX_INVALID_PAMT",)) as host:
        document = host.json("enable", status=1)
        assert document["module"]["step"] == document["steps"][-1]["name"] == "kernel"
        assert document["module"]["code"] == "kernel"
        assert document["module"]["errno"] == 5  # EIO, seamcall_prerr()
        assert document["module"]["final"]
        assert document["module"]["leaf"] is None
        assert set(vmx_at_the_end(host).values()) == {False}
        again = host.json("enable", "--retry", status=1)
        assert again["module"]["code"] == "final"
        assert len(host.witness().of("TDH.SYS.CONFIG")) == 1
        said = host.run("tdxhost", "enable").stderr
        assert "dmesg" in said
        assert "reboot" in said


def test_where_the_kernel_was_not_asked_yet_it_can_be_tried_again(boot: Boot) -> None:
    # Windows on CPU 1: to see that it can, to be enabled, and for as long as tdx_enable() runs.
    with boot(KERNEL, faults=("VMXON cpu=1 call=3 times=1 trap=GP",)) as host:
        failed = host.run("taskset", "-c", "0", "tdxhost", "enable", "--format", "json")
        assert failed.status == 1
        module = failed.json()["module"]
        assert (module["step"], module["code"]) == ("kernel", "vmxon_failed")
        assert (module["cpu"], module["final"]) == (1, False)
        assert host.witness().of("TDH.SYS.CONFIG") == []
        again = host.json("enable", "--retry")
        assert again["module"]["status"] == "initialized"
        assert set(vmx_at_the_end(host).values()) == {False}


def test_a_failing_cpu_can_be_tried_again(boot: Boot) -> None:
    fault = "TDH.SYS.LP.INIT cpu=2 times=1 status=TDX_INCONSISTENT_MSR detail=0x10a"
    with boot(KERNEL, faults=(fault,)) as host:
        document = host.json("enable", status=1)
        (failed,) = [cpu for cpu in document["cpus"] if cpu["state"] == "failed"]
        assert (failed["cpu"], failed["code"], failed["errno"]) == (2, "kernel", 5)
        assert host.json("enable", "--retry")["module"]["status"] == "initialized"


def test_no_tdx_module_is_told_as_direct_tells_it(boot: Boot) -> None:
    with boot(KERNEL, "module-absent") as host:
        refused = host.run("tdxhost", "enable")
        assert refused.status == 3
        assert "the TDX module is not loaded" in refused.stderr


def test_ram_outside_cmrs_is_found_before_the_kernel_fails_for_good(
    boot: Boot, tmp_path: Path
) -> None:
    partial = tmp_path / "partial.ini"
    partial.write_text(HOLES + BELOW[0])
    with boot(KERNEL, str(partial)) as host:
        document = host.json("enable", status=1)
        assert document["module"]["code"] == "ram_outside_cmr"
        assert not document["module"]["final"]
        assert host.witness().of("TDH.SYS.CONFIG") == []
        skipped = host.run("tdxhost", "enable", "--skip-non-cmr")
        assert skipped.status == 1
        assert "--skip-non-cmr" in skipped.stderr


def test_missing_cpus_are_named_before_the_kernel_fails_for_good(boot: Boot) -> None:
    with boot(KERNEL, append="maxcpus=2") as host:
        document = host.json("enable", status=1)
        assert document["module"]["step"] == "cpus"
        assert document["module"]["code"] == "cpu_offline"
        assert host.witness().of("TDH.SYS.CONFIG") == []
        said = host.run("tdxhost", "enable").stderr.splitlines()[0]
        assert said.startswith("tdxhost: step cpus: CPUs 2-3 are offline"), said
        host.sh("for cpu in 2 3; do echo 1 > /sys/devices/system/cpu/cpu$cpu/online; done")
        assert host.json("enable", "--retry")["module"]["status"] == "initialized"


def test_kvm_s_vmx_operation_is_used_and_left_on(boot: Boot) -> None:
    with boot(KERNEL) as host:
        assert host.run("modprobe", "kvm_intel").status == 0
        assert set(vmx_at_the_end(host).values()) == {True}
        before = len([event for event in host.witness().events if event["event"] == "vmxon"])
        assert host.json("enable")["module"]["status"] == "initialized"
        after = [event for event in host.witness().events if event["event"] == "vmxon"]
        assert len(after) == before
        assert set(vmx_at_the_end(host).values()) == {True}
        assert host.run("rmmod", "kvm_intel").status == 0
        assert set(vmx_at_the_end(host).values()) == {False}
        assert host.kernel_complaints() == []


def test_kvm_can_be_loaded_after_the_kernel_s_tdx_enable(boot: Boot) -> None:
    """VMX was held for as long as it ran, and is let go of."""
    with boot(KERNEL) as host:
        host.json("enable")
        assert host.run("modprobe", "kvm_intel").status == 0
        assert host.run("rmmod", "kvm_intel").status == 0
        assert host.kernel_complaints() == []


def test_a_kvm_that_comes_meanwhile_disturbs_nothing(boot: Boot) -> None:
    """It is loaded, or it finds VMX taken and says so, and is loaded later."""
    with boot(KERNEL) as host:
        host.control.latency("TDH.SYS.TDMR.INIT", "20ms")
        host.sh("tdxhost enable --format json >/tmp/enabled 2>&1 &")
        while not host.witness().of("TDH.SYS.TDMR.INIT"):
            time.sleep(0.2)
        meanwhile = host.run("modprobe", "kvm_intel")
        assert meanwhile.status == 0 or "busy" in meanwhile.stderr.lower()
        host.sh("while ! grep -q '^}' /tmp/enabled; do sleep 1; done")
        assert '"status": "initialized"' in host.run("cat", "/tmp/enabled").stdout
        assert host.run("modprobe", "kvm_intel").status == 0
        assert set(vmx_at_the_end(host).values()) == {True}
        assert host.kernel_complaints() == []


def test_direct_and_observer_on_a_kernel_with_tdx_enable(boot: Boot) -> None:
    with boot(KERNEL) as host:
        assert host.run("rmmod", "tdxhost").status == 0
        assert host.run("insmod", KO, "provider=direct").status != 0
        assert "provider direct is refused" in host.sh("dmesg | tail -n 1").stdout
        assert host.run("insmod", KO, "provider=observer").status == 0
        host.run("udevadm", "settle")
        document = host.json("status")
        assert document["provider"] == "observer"
        # Nobody has asked the kernel yet: that is no failure.
        assert document["module"]["status"] == "unknown"
        assert {cpu["state"] for cpu in document["cpus"]} == {"unknown"}
        assert {call.leaf for call in host.witness().calls} == {"TDH.PHYMEM.PAGE.RDMD"}
