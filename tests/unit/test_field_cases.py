# SPDX-License-Identifier: GPL-2.0-or-later
"""Every case that people posted (field-cases) is decoded to what turned out to be wrong.

The expectations are read off the diagnosis and fix of each case, not off the decoder.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from tdxhost.klog.diagnoser import Diagnoser
from tdxhost.klog.diagnosis import Diagnosis, Kind

DIAGNOSER = Diagnoser()


@dataclass(frozen=True)
class Expected:
    """What a case is decoded to: its cause, its kind, and phrases of the facts and the fix."""

    cause: str
    phrases: tuple[str, ...] = ()
    kind: Kind = Kind.FAILURE
    fails: bool = True
    also: Mapping[str, Kind] = field(default_factory=dict)


def _failure(cause: str, *phrases: str) -> Expected:
    return Expected(cause, phrases)


def _fine(kind: Kind, cause: str, *phrases: str, **also: Kind) -> Expected:
    others = {name.replace("_", "-"): other for name, other in also.items()}
    return Expected(cause, phrases, kind, fails=False, also=others)


EXPECTED: dict[str, Expected] = {
    "canonical-161-cpuid-value": _failure(
        "cpuid-value",
        "TDH.SYS.INIT",
        "TDX_INCORRECT_CPUID_VALUE",
        "were not printed",
        "newer BIOS",
        "outdated",
    ),
    "canonical-331-sys-rd-on-1.0-module": _failure(
        "old-module",
        "TDX module 1.0",
        "TDH.SYS.RD",
        "TDX_SYS_NOT_READY",
        "MAX_TDMRS",
        "Update the BIOS",
        "EFI/TDX",
        "from disk",
        "1.5 module",
    ),
    "canonical-260-bios-line-only": _failure(
        "not-tried", "nobody tried", "all TDX settings of the BIOS", "kvm_intel"
    ),
    "canonical-135-reserved-areas-emr": _failure(
        "reserved-areas",
        "[0x0, 0x80000000)",
        "16 reserved areas",
        "Linux 6.13",
        "Ubuntu's -intel kernels",
    ),
    "canonical-144-supermicro-tdx-greyed": _failure(
        "bios-tdx-off",
        "SEAM_RR bit: 0",
        "NUM_TDX_PRIV_KEYS: 0",
        "prerequisite",
        "greyed out",
        "selectable",
    ),
    "canonical-102-not-enabled-by-bios": _failure(
        "seam-off", "#GP", "SEAMRR", "MCHECK", "SEAM loader", "key split", "SGX", "update the BIOS"
    ),
    "emr-ra-tddebugconfig-benign": _fine(
        Kind.CONTEXT, "host-ok", "TDX module 1.5, build 507", debug_probe=Kind.BENIGN
    ),
    "acompany-hibernation-6.17": _failure("hibernation", "nohibernate", "kvm_intel.tdx=1"),
    "tdx-tools-234-disabled-platform": _failure(
        "no-tdx-platform", "TDX-capable processor", "the processor has no TDX"
    ),
    "tdx-tools-488-module-newer-than-kernel": _failure(
        "module-newer-than-kernel", "TDX module 1.5", "kernels for TDX 1.0", "6.2.16"
    ),
    "lkml-yamahata-not-in-vmx-operation": _failure(
        "not-in-vmx",
        "on CPU 162",
        "VMXON on every online CPU",
        "kvm.enable_virt_at_load=1",
        "MSR 0x3a",
    ),
    "lkml-ying-cxl-hot-add-rejected": _failure("hot-add-refused", "CXL", "devdax"),
    "canonical-385-ok-host-qemu-says-no": _fine(
        Kind.CONTEXT,
        "host-ok",
        "The host is fine",
        "pairing of QEMU and kernel",
        "6.16",
        "QEMU 10.1",
    ),
    "kvm-staging-6-qemu-upstream-vs-rhel": _failure(
        "qemu-mismatch", "distribution's QEMU", "upstream kernel"
    ),
    "esxi-24-mng-init-cpuid": _failure(
        "td-create",
        "TDH.MNG.INIT",
        "TDX_OPERAND_INVALID",
        "CPUID_CONFIG",
        "not a fault of the host's",
        "Broadcom",
    ),
    "canonical-153-reclaim-on-td-exit": _fine(
        Kind.BENIGN,
        "td-teardown",
        "TDH.PHYMEM.PAGE.RECLAIM",
        "TDX_PAGE_METADATA_INCORRECT",
        "operand RCX",
        "torn down",
    ),
    "canonical-91-install-module-files": _fine(
        Kind.CONTEXT, "module-on-esp", "EFI/TDX/TDX-SEAM.so.sigstruct", "fixed names", "from disk"
    ),
    "tdx-tools-455-module-in-bad-state-after-bios-update": _fine(
        Kind.CONTEXT, "old-module-in-use", "build 342", "After each BIOS update redo", "SEAM loader"
    ),
    "canonical-343-no-tdx-in-lscpu": _fine(
        Kind.CONTEXT, "lscpu", "no bit for TDX", "MSR 0x87", "MSR 0x1401", "dmesg", "46 bits"
    ),
    "canonical-285-tdp-mmu-from-test-suite": _fine(
        Kind.BENIGN,
        "tdp-mmu-after-init",
        "host is fine",
        "test suite",
        "Reload kvm with tdp_mmu=1",
        host_ok=Kind.CONTEXT,
    ),
    "lkml-schofield-tme-messages": _fine(
        Kind.BENIGN, "tme-benign", "harmless", "AES-XTS-256", "Nothing is needed"
    ),
    "desktop-not-supported-by-host-platform": _fine(
        Kind.BENIGN, "not-a-tdx-host", "Ignore it", "MSR 0x87", "hibernation"
    ),
    "lkml-chao-gao-no-keyids-misleading": _failure(
        "no-keyids-or-hibernation", "misleading", "KeyIDs may well exist", "nohibernate"
    ),
    "canonical-286-srf-init-vm-einval": _failure(
        "td-create", "Invalid argument", "processor generation", "not a fault of the host's"
    ),
    "canonical-114-capabilities-ioctl": _failure(
        "qemu-mismatch", "different releases", "both come from one release", "set-up again"
    ),
    "tdx-tools-227-no-kvm-device": _failure("no-kvm", "bare metal", "VT-x"),
    "kafl-19-nested-ept-ve": _failure("nested", "EPT violation #VE", "bare metal"),
    "akash-330-stock-kernel-without-tdx": _fine(
        Kind.CONTEXT,
        "kernel-config",
        "CONFIG_INTEL_TDX_HOST",
        "CONFIG_KVM_INTEL_TDX",
        "no virt/tdx line",
    ),
}

#: Cases without a line or a status: there is nothing to give to a decoder.
NOTHING_TO_DECODE = {
    "tdx-tools-348-w790-greyed": "a greyed-out menu entry of the BIOS; no log was posted",
    "tdx-tools-371-6421n-x13sei": "a processor without TDX; no log was posted",
    "tdx-module-3-uefi-without-1.5": "a question on building the SEAM loader; no log was posted",
    "tinfoil-111-dgx-ignores-esp-module": "a BIOS that ignores a newer module; no log was posted",
    "open-tdx-1-enteraccs-triple-fault": "an emulated platform that resets; no log was posted",
    "cek-bios-tdx-without-tdx-kernel": "advice of a guide on an order of steps; no log",
    "canonical-362-plucky-emr": "the error was posted as a screenshot only",
    "canonical-204-td-kexec": "a guest that freezes; no log was posted",
    "tdx-tools-271-cpu-without-tdx": "a question on hardware; no log was posted",
}


@pytest.fixture(scope="module")
def cases(shared: Path) -> dict[str, dict[str, Any]]:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    text = (shared / "field-cases/cases.yaml").read_text(encoding="utf-8")
    return {case["id"]: case for case in yaml.load(text, Loader=loader)}


def _said(diagnosis: Diagnosis) -> str:
    finding = diagnosis.verdict
    texts = (finding.title, finding.means, *finding.says, *finding.likely, *finding.todo)
    return "\n".join(texts)


def test_each_case_is_expected_or_has_nothing_to_decode(cases: dict[str, dict[str, Any]]) -> None:
    assert cases.keys() == EXPECTED.keys() | NOTHING_TO_DECODE.keys()
    assert not EXPECTED.keys() & NOTHING_TO_DECODE.keys()


@pytest.mark.parametrize("case", NOTHING_TO_DECODE)
def test_a_case_with_nothing_to_decode_has_neither_line_nor_status(
    cases: dict[str, dict[str, Any]], case: str
) -> None:
    assert not cases[case]["raw_lines"]
    assert cases[case]["status"] is None


@pytest.mark.parametrize("case", EXPECTED)
def test_a_posted_log_is_decoded_to_its_recorded_cause(
    cases: dict[str, dict[str, Any]], case: str
) -> None:
    expected = EXPECTED[case]
    diagnosis = DIAGNOSER.diagnose(cases[case]["raw_lines"])
    assert (diagnosis.verdict.cause, diagnosis.verdict.kind) == (expected.cause, expected.kind)
    assert diagnosis.failed == expected.fails
    others = {finding.cause: finding.kind for finding in diagnosis.findings[1:]}
    assert expected.also.items() <= others.items()
    said = _said(diagnosis)
    assert [phrase for phrase in expected.phrases if phrase.lower() not in said.lower()] == []


@pytest.mark.parametrize("case", EXPECTED)
def test_status_leaf_and_registers_are_those_that_were_recorded(
    cases: dict[str, dict[str, Any]], case: str
) -> None:
    recorded = cases[case]
    if not str(recorded["status"]).startswith("0x"):
        assert (
            not DIAGNOSER.reader.read(recorded["raw_lines"]).calls or "benign" in recorded["tags"]
        )
        return
    call = DIAGNOSER.reader.read(recorded["raw_lines"]).calls[0]
    assert call.status == int(recorded["status"], 16)
    assert call.leaf == int(recorded["leaf"].split()[0], 0)
    assert call.registers == {name: int(value, 16) for name, value in recorded["registers"].items()}
    explained = DIAGNOSER.decoder.explain(call.status, call.leaf)
    assert explained.decoded.name == recorded["status_name"]
    assert explained.leaf_name == recorded["leaf"].split()[2]


@pytest.mark.parametrize("prefix", ["Sep 13 12:04:49 node1 kernel: ", "6,339,5140900,-;", "> "])
@pytest.mark.parametrize("case", EXPECTED)
def test_a_posted_log_is_decoded_alike_with_any_prefix(
    cases: dict[str, dict[str, Any]], case: str, prefix: str
) -> None:
    lines = [prefix + line for line in cases[case]["raw_lines"]]
    assert DIAGNOSER.diagnose(lines).verdict.cause == EXPECTED[case].cause


def test_what_is_tagged_harmless_is_no_failure(cases: dict[str, dict[str, Any]]) -> None:
    tagged = [id_ for id_, case in cases.items() if {"benign", "host-ok"} & set(case["tags"])]
    assert len(tagged) >= 4
    for case in tagged:
        assert not DIAGNOSER.diagnose(cases[case]["raw_lines"]).failed, case


MAPS = {
    "cmr-2s-2t-canonical-385": "host-ok",
    "cmr-2s-512g-canonical-206": "host-ok",
    "cmr-hpe-1s-256g-sifchain-461": "host-ok",
    "cmr-old-module-1.0-canonical-331": "old-module",
    # Cut after the CMRs by the script that made it.
    "cmr-snc-canonical-381-partial": "cut-off",
    # An e820 map of a machine without TDX, and nothing else.
    "icx-dell-r750xs-e820-not-tdx": "nothing",
}


def test_every_memory_map_of_a_real_host_is_told_as_what_it_is(shared: Path) -> None:
    files = {file.stem: file for file in (shared / "field-cases/memory-maps").glob("*.txt")}
    found = {
        name: Diagnoser().diagnose(file.read_text(encoding="utf-8").splitlines()).verdict.cause
        for name, file in files.items()
    }
    assert found == MAPS
