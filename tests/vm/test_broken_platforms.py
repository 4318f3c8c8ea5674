# SPDX-License-Identifier: GPL-2.0-or-later
"""Broken platforms: what the driver finds on each, and what the TDX module answered.

Statuses and their order are those of the TDX module ABI spec, TDH.SYS.INIT and
TDH.SYS.LP.INIT; which value is wrong is in the platform's file.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.vm.hosts import Boot, Host
from tests.vm.witness import Witness

# Exit codes of the CLI; design, "The CLI".
WELL, FAILED, ABSENT = 0, 1, 3

ALL = frozenset({0, 1, 2, 3})
SOCKET_1 = frozenset({2, 3})
CPU_3 = frozenset({3})

INIT, LP_INIT, RD = "TDH.SYS.INIT", "TDH.SYS.LP.INIT", "TDH.SYS.RD"
CONFIG, KEY_CONFIG = "TDH.SYS.CONFIG", "TDH.SYS.KEY.CONFIG"

GENERAL_PROTECTION = 13

GIB = 1 << 30


def case(name: str, *values: object) -> Any:
    """A platform, and what there is to see on it."""
    return pytest.param(name, *values, id=name)


def slow(name: str, *values: object) -> Any:
    """A variation of what another case shows, for a boot of its own."""
    return pytest.param(name, *values, id=name, marks=pytest.mark.slow)


def enable(host: Host, status: int, *, first: bool = False) -> Any:
    """The document of tdxhost enable; ``first`` has CPU 0 call TDH.SYS.INIT, and not any CPU."""
    if first:
        assert host.run("tdxhost", "cpu-enable", "--cpus", "0").status == WELL
    return host.json("enable", status=status)


def failed(document: Any) -> dict[int, Any]:
    """The CPUs that failed, by number."""
    return {cpu["cpu"]: cpu for cpu in document["cpus"] if cpu["state"] == "failed"}


def answers(witness: Witness, leaf: str) -> set[int]:
    """The completion statuses that a leaf gave."""
    return {call.registers_out["rax"] for call in witness.of(leaf)}


def rdmsrs(witness: Witness, msr: int) -> set[tuple[str, int]]:
    """How reads of an MSR ended, with what value."""
    reads = [event for event in witness.events if event["event"] == "rdmsr"]
    return {
        (event["result"], int(event["value"], 16))
        for event in reads
        if int(event["msr"], 16) == msr
    }


def check_module(document: Any, step: str, code: str, status: int | None = None) -> None:
    """What tdx_enable() came to."""
    module = document["module"]
    shown = None if status is None else f"{status:#018x}"
    assert (module["status"], module["step"], module["code"]) == ("error", step, code)
    assert module["seam_status"] == shown
    assert document["findings"]


def check_init_refused(document: Any, witness: Witness, status: int, status_name: str) -> None:
    """Every CPU has the answer that TDH.SYS.INIT gave to the one that asked."""
    check_module(document, "cpus", "seamcall", status)
    assert set(failed(document)) == ALL
    for cpu in failed(document).values():
        assert (cpu["leaf"], cpu["status_name"]) == (INIT, status_name)
        assert cpu["seam_status"] == f"{status:#018x}"
    assert answers(witness, INIT) == {status}
    assert {(call.leaf, call.fault) for call in witness.calls} == {(INIT, None)}


@pytest.mark.parametrize(
    ("name", "read"),
    [
        slow("old-xeon", ("gp", 0)),
        slow("not-intel", ("gp", 0)),
        slow("virtual-machine", ("gp", 0)),
        slow("tme-off", ("done", 0)),
    ],
)
def test_a_host_without_keyids_makes_no_seamcall(
    boot: Boot, name: str, read: tuple[str, int]
) -> None:
    """IA32_MKTME_KEYID_PARTITIONING: there is none, or it has none."""
    with boot(name) as host:
        document = enable(host, ABSENT)
        witness = host.witness()

    assert document["code"] == "no_keyids"
    assert len(document["findings"]) == 1
    assert rdmsrs(witness, 0x87) == {read}
    assert witness.calls == []
    assert [event for event in witness.events if event["event"] == "vmxon"] == []


@pytest.mark.parametrize(
    ("name", "status", "status_name"),
    [
        case("tme-unlocked", 0xC000_0921_0000_0982, "TDX_INCORRECT_MSR_VALUE"),
        slow("tme-no-integrity", 0xC000_0921_0000_0982, "TDX_INCORRECT_MSR_VALUE"),
        slow("old-microcode", 0xC000_0921_0000_010A, "TDX_INCORRECT_MSR_VALUE"),
        slow("xapic-not-locked", 0xC000_0921_0000_00BD, "TDX_INCORRECT_MSR_VALUE"),
        slow("energy-filtering-off", 0xC000_0921_0000_00BC, "TDX_INCORRECT_MSR_VALUE"),
        slow("perf-capabilities", 0xC000_0921_0000_0345, "TDX_INCORRECT_MSR_VALUE"),
        slow("vmx-controls", 0xC000_0921_0000_048B, "TDX_INCORRECT_MSR_VALUE"),
        # The low half says how many are too many, 2048.
        slow("keyids-too-many", 0xC000_0825_0000_0800, "TDX_NUM_ACTIVATED_HKIDS_NOT_SUPPORTED"),
        slow("cmr-list-invalid", 0xC000_0A22_0000_0000, "TDX_CMR_LIST_INVALID"),
        slow("smrr-missing", 0xC000_0914_0000_0000, "TDX_SMRR_NOT_SUPPORTED"),
        slow("smrr-no-lock", 0xC000_0913_0000_0000, "TDX_SMRR_LOCK_NOT_SUPPORTED"),
        slow("smrr-unlocked", 0xC000_0910_0000_0000, "TDX_SMRR_NOT_LOCKED"),
        # SMRR 0, CMR 0.
        slow("smrr-overlaps-cmr", 0xC000_0912_0000_0000, "TDX_SMRR_OVERLAPS_CMR"),
    ],
)
def test_tdh_sys_init_refuses_the_platform(
    boot: Boot, name: str, status: int, status_name: str
) -> None:
    with boot(name) as host:
        document = enable(host, FAILED)
        witness = host.witness()
        complaints = host.kernel_complaints()

    check_init_refused(document, witness, status, status_name)
    assert complaints == []


def test_a_cpuid_leaf_that_is_wrong_is_named_in_registers(boot: Boot) -> None:
    """Leaf 0x80000008: masks 0xff of EAX and 0x200 of EBX, and what they should show."""
    with boot("pa-46-bits") as host:
        document = enable(host, FAILED)
        witness = host.witness()
        # The kernel takes off what KeyIDs need (Linux 6.12, detect_tme()).
        shown = host.run("grep", "-m1", "address sizes", "/proc/cpuinfo").stdout

    check_init_refused(document, witness, 0xC000_0900_0000_0000, "TDX_INCORRECT_CPUID_VALUE")
    call = witness.of(INIT)[0]
    assert call.registers_out["rcx"] == 0xFFFF_FFFF_8000_0008
    assert (call.registers_out["rdx"], call.registers_out["r8"]) == (0x200_0000_00FF, 0)
    assert (call.registers_out["r9"], call.registers_out["r10"]) == (0x200_0000_0034, 0)
    assert "40 bits physical" in shown


@pytest.mark.parametrize(
    ("name", "cpus", "status", "status_name"),
    [
        case("microcode-differs", SOCKET_1, 0xC000_0920_0000_010A, "TDX_INCONSISTENT_MSR"),
        slow("keyids-differ", SOCKET_1, 0xC000_0920_0000_0087, "TDX_INCONSISTENT_MSR"),
        slow("tsc-adjust-differs", SOCKET_1, 0xC000_0920_0000_003B, "TDX_INCONSISTENT_MSR"),
        slow("msr-differs", CPU_3, 0xC000_0920_0000_0345, "TDX_INCONSISTENT_MSR"),
        slow("cpuid-differs", CPU_3, 0xC000_0902_0000_0000, "TDX_INCONSISTENT_CPUID_FIELD"),
    ],
)
def test_tdh_sys_lp_init_refuses_the_cpus_that_differ(
    boot: Boot, name: str, cpus: frozenset[int], status: int, status_name: str
) -> None:
    with boot(name) as host:
        document = enable(host, FAILED, first=True)
        witness = host.witness()

    check_module(document, "cpus", "seamcall", status)
    assert document["module"]["cpu"] in cpus
    assert set(failed(document)) == cpus
    for cpu in failed(document).values():
        assert (cpu["leaf"], cpu["status_name"]) == (LP_INIT, status_name)
        assert cpu["seam_status"] == f"{status:#018x}"
    assert [call.cpu for call in witness.succeeded(INIT)] == [0]
    assert set(witness.cpus(LP_INIT)) == ALL - cpus
    assert {call.cpu for call in witness.of(LP_INIT) if call.status == status_name} == cpus
    assert answers(witness, LP_INIT) == {0, status}
    assert witness.of(CONFIG) == []


@pytest.mark.parametrize(
    ("name", "cpus"),
    [
        case("seamrr-off-one-cpu", CPU_3),
        slow("seamrr-off", ALL),
        slow("seamrr-unconfigured", ALL),
        slow("mcheck-failed", ALL),
    ],
)
def test_seamcall_faults_where_the_seam_range_is_off(
    boot: Boot, name: str, cpus: frozenset[int]
) -> None:
    """#GP, on whichever CPU asks first: no other CPU has to answer for it.

    The other reason for it, a caller outside ring 0, is none of the driver's.
    """
    everywhere = cpus == ALL
    with boot(name) as host:
        document = enable(host, ABSENT if everywhere else FAILED)
        witness = host.witness()
        complaints = host.kernel_complaints()

    check_module(document, "cpus", "no_seamrr")
    assert document["module"]["trap"] == GENERAL_PROTECTION
    assert set(failed(document)) == cpus
    for cpu in failed(document).values():
        assert (cpu["code"], cpu["trap"]) == ("no_seamrr", GENERAL_PROTECTION)
        assert cpu["seam_status"] is None
    assert {call.cpu for call in witness.calls if call.result == "gp"} <= cpus
    assert {call.result for call in witness.calls if call.cpu in cpus} == {"gp"}
    assert set(witness.cpus(LP_INIT)) == ALL - cpus
    assert complaints == []


@pytest.mark.slow
def test_vmx_that_is_off_on_one_cpu_stops_all(boot: Boot) -> None:
    with boot("vmx-off-one-cpu") as host:
        document = enable(host, ABSENT)
        witness = host.witness()

    check_module(document, "platform", "vmx_locked_off")
    assert (document["module"]["cpu"], document["module"]["trap"]) == (3, GENERAL_PROTECTION)
    vmxons = [event for event in witness.events if event["event"] == "vmxon"]
    assert {event["cpu"] for event in vmxons if event["result"] == "gp"} == CPU_3
    assert witness.calls == []


def test_a_module_1_0_can_not_be_asked(boot: Boot) -> None:
    """TDX_SYS_NOT_READY is its answer to a leaf that it does not know."""
    with boot("module-1.0") as host:
        document = enable(host, FAILED)
        witness = host.witness()

    check_module(document, "module_info", "seamcall", 0xC000_0505_0000_0000)
    assert document["module"]["leaf"] == RD
    assert document["module"]["status_name"] == "TDX_SYS_NOT_READY"
    assert set(witness.cpus(LP_INIT)) == ALL
    assert answers(witness, RD) == {0xC000_0505_0000_0000}
    assert witness.of(CONFIG) == []


def test_memory_that_is_not_convertible_is_named(boot: Boot) -> None:
    """Node 2, from 6 GiB on: behind 2 GiB of node 0 and, from 4 GiB on, 2 GiB of node 1."""
    with boot("cmr-missing-memory") as host:
        document = enable(host, FAILED)
        nodes = host.run("cat", "/sys/devices/system/node/has_cpu").stdout
        skipped = host.run("tdxhost", "enable", "--retry", "--skip-non-cmr")
        witness = host.witness()

    check_module(document, "memory", "ram_outside_cmr")
    assert nodes.strip() == "0-1"
    assert document["outside_cmrs"] == [{"base_pa": f"{6 * GIB:#018x}", "bytes": GIB, "node": 2}]
    assert document["outside_cmrs_bytes"] == GIB
    # The rest is enough for TDX.
    assert skipped.status == WELL
    assert all(tdmr.base + tdmr.size <= 6 * GIB for tdmr in witness.tdmrs())


def test_a_tdx_module_without_entropy_is_asked_ten_times(boot: Boot) -> None:
    """As often as Linux tries RDRAND itself (RDRAND_RETRY_LOOPS)."""
    with boot("no-entropy", warm=True) as host:
        document = enable(host, FAILED)
        witness = host.witness()

    check_module(document, "cpus", "seamcall", 0x8000_0203_0000_0000)
    assert document["module"]["status_name"] == "TDX_RND_NO_ENTROPY"
    assert len(witness.of(INIT)) == 10
    assert {(call.status, call.fault) for call in witness.calls} == {("TDX_RND_NO_ENTROPY", 1)}


def test_a_package_that_never_gets_its_key_is_named_by_its_cpu(boot: Boot) -> None:
    with boot("package-lost-key", warm=True) as host:
        document = enable(host, FAILED)
        witness = host.witness()

    check_module(document, "key_config", "seamcall", 0x8000_0800_0000_0000)
    assert document["module"]["status_name"] == "TDX_KEY_GENERATION_FAILED"
    assert document["module"]["cpu"] in SOCKET_1
    assert failed(document) == {}
    assert set(witness.cpus(KEY_CONFIG)) <= ALL - SOCKET_1
    struck = [call for call in witness.of(KEY_CONFIG) if call.fault]
    assert {call.cpu for call in struck} <= SOCKET_1
    assert len(struck) == 10


@pytest.mark.slow
@pytest.mark.parametrize("name", ["preproduction", "debug-unlocked", "module-1.5.01", "module-old"])
def test_what_spoils_attestation_or_other_kernels_spoils_no_bring_up(boot: Boot, name: str) -> None:
    with boot(name) as host:
        document = enable(host, WELL)
        witness = host.witness()

    assert document["module"]["status"] == "initialized"
    assert document["findings"] == []
    assert set(witness.cpus(LP_INIT)) == ALL
    assert len(witness.succeeded(CONFIG)) == 1
