# SPDX-License-Identifier: GPL-2.0-or-later
"""What doctor says of a healthy machine, by what vtdx saw it read."""

from __future__ import annotations

from typing import Any

import yaml

from tdxhost.doctor.engine import checks
from tdxhost.msrs import MsrTable
from tests.vm.hosts import Boot, BroughtUp, Host
from tests.vm.witness import Witness

CPUS = range(4)
#: Linux without TDX host support: the driver refuses hibernation itself, KVM runs no TDs, and
#: the files of tdx-host are not there. A healthy machine has no CXL memory.
NOT_APPLICABLE = {
    "kernel.hibernation",
    "kernel.reserved-areas",
    "kvm.config",
    "kvm.loaded",
    "memory.cxl",
    "module.log",
    "module.updates",
}


def outcomes(document: Any) -> dict[str, str]:
    """What each check came to."""
    return {check["id"]: check["outcome"] for check in document["checks"]}


def read_msrs(witness: Witness) -> dict[tuple[int, int], int]:
    """MSRs that were read, by CPU and address; the last value."""
    return {
        (event["cpu"], int(event["msr"], 16)): int(event["value"], 16)
        for event in witness.events
        if event["event"] == "rdmsr" and event["result"] == "done"
    }


def test_a_machine_that_is_up_passes_all_that_bring_up_needs(brought_up: BroughtUp) -> None:
    document = brought_up.host.json("doctor", "--purpose", "bring-up")
    found = outcomes(document)
    expected = {
        check.id: "not_applicable" if check.id in NOT_APPLICABLE else "pass"
        for check in checks()
        if check.purpose == "bring-up"
    }
    assert found == expected
    assert (document["cause"], document["initialized"]) == (None, True)


def test_every_msr_is_read_on_every_cpu_with_the_value_that_the_platform_has(
    boot: Boot,
) -> None:
    with boot(warm=True) as host:
        before = len(host.witness().events)
        document = host.json("doctor")
        events = host.witness().events[before:]

    asked = {address for check in checks() for address in check.msrs}
    asked |= {msr.address for msr in MsrTable.load().by_address.values() if msr.compared}
    seen = read_msrs(Witness(events))
    assert {(cpu, address) for cpu in CPUS for address in asked} <= set(seen)
    # IA32_MKTME_KEYID_PARTITIONING and SEAMRR of xeon-base.ini.
    assert {seen[cpu, 0x87] for cpu in CPUS} == {0x200000001F}
    read = {check["id"]: check["read"] for check in document["checks"]}
    assert "0x200000001f on every CPU" in read["firmware.keyids"]


def test_doctor_makes_no_seamcall_and_changes_nothing(boot: Boot) -> None:
    with boot(warm=True) as host:
        status = host.json("status")
        document = host.json("doctor")
        witness = host.witness()
        again = host.json("status")

    assert witness.calls == []
    assert {event["event"] for event in witness.events} <= {"start", "rdmsr", "mark"}
    assert again == status
    found = outcomes(document)
    assert found["module.loaded"] == "not_checked"
    assert "fail" not in found.values()


def _without_root(host: Host) -> Any:
    words = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "tdxhost", "doctor")
    result = host.run(*words, "--format", "yaml")
    assert result.status == 0, result
    return yaml.safe_load(result.stdout)


def test_without_root_what_can_t_be_read_is_no_failure(brought_up: BroughtUp) -> None:
    document = _without_root(brought_up.host)
    found = outcomes(document)
    reasons = {check["id"]: check["read"] for check in document["checks"]}
    assert "fail" not in found.values()
    assert found["processor.generation"] == "pass"
    for id_ in ("firmware.keyids", "firmware.alike", "memory.cmrs", "module.state"):
        assert found[id_] == "not_checked", id_
    assert "needs root" in reasons["firmware.keyids"]


def test_nothing_that_tells_machines_of_a_kind_apart_is_in_the_document(
    brought_up: BroughtUp,
) -> None:
    host = brought_up.host
    name = host.run("uname", "-n").stdout.strip()
    document = host.run("tdxhost", "doctor", "--format", "json", "-v").stdout
    assert name
    assert name not in document.replace("tdxhost", "")


def test_a_driver_that_is_not_loaded_is_a_warning_with_what_to_do(boot: Boot) -> None:
    with boot(warm=True) as host:
        assert host.run("rmmod", "tdxhost").status == 0
        document = host.json("doctor")

    found = {check["id"]: check for check in document["checks"]}
    assert found["kernel.driver"]["outcome"] == "warn"
    assert "modprobe tdxhost" in found["kernel.driver"]["fix"]
    assert found["firmware.keyids"]["outcome"] == "pass"
    assert found["kernel.provider"]["outcome"] == "pass"
    assert found["module.state"]["outcome"] == "not_checked"
