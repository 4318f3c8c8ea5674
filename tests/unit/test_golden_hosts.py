# SPDX-License-Identifier: GPL-2.0-or-later
"""Recordings of every platform of vtdx, made after tdxhost enable had tried: the cause is found.

Causes are what each platform's file says that it is broken by; tests/golden.py makes recordings.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tdxhost.cli.main import main
from tests import golden

#: Platform to the check that has to find the cause, and words of the first line.
CAUSES: dict[str, tuple[str | None, str]] = {
    "cmr-crowded": ("module.state", "needs 17 reserved areas, and a TDMR has 16"),
    "cmr-full": (None, "TDX is up on this host"),
    "cmr-holes": (None, "TDX is up on this host"),
    "cmr-list-invalid": ("module.state", "TDH.SYS.INIT: TDX_CMR_LIST_INVALID"),
    "cmr-missing-memory": ("memory.cmrs", "System RAM lies outside convertible memory"),
    "cpuid-differs": ("module.state", "TDH.SYS.LP.INIT: TDX_INCONSISTENT_CPUID_FIELD"),
    "debug-unlocked": (None, "TDX is up on this host"),
    "emr-2s": (None, "TDX is up on this host"),
    "emr-8n": (None, "TDX is up on this host"),
    "energy-filtering-off": ("firmware.energy-filtering", "energy reporting is not filtered"),
    "gnr-2s": (None, "TDX is up on this host"),
    "keyids-differ": ("firmware.alike", "IA32_MKTME_KEYID_PARTITIONING (MSR 0x87) differs"),
    "keyids-too-many": ("firmware.keyids-count", "more KeyIDs than the TDX module takes"),
    "mcheck-failed": ("firmware.mcheck", "the memory check (MCHECK) refused this platform"),
    "microcode-differs": ("processor.alike", "CPUs differ in microcode: CPUs 2-3"),
    "module-1.0": ("module.version", "the TDX module is of the 1.0 series"),
    "module-1.5.01": (None, "TDX is up on this host"),
    "module-absent": ("module.loaded", "no TDX module was loaded"),
    "module-old": ("module.rbp", "the TDX module has the RBP erratum"),
    "msr-differs": ("firmware.alike", "IA32_PERF_CAPABILITIES (MSR 0x345) differs on CPU 3"),
    "no-entropy": ("module.state", "TDX_RND_NO_ENTROPY"),
    "not-intel": ("processor.vendor", "this is no Intel processor"),
    "old-microcode": ("firmware.arch-capabilities", "the microcode is older"),
    "old-xeon": ("processor.generation", "generation has no TDX"),
    "one-keyid": ("firmware.keyids", "a single private KeyID"),
    "pa-46-bits": ("firmware.address-bits", "firmware cuts physical addresses short"),
    "package-lost-key": ("module.state", "TDH.SYS.KEY.CONFIG"),
    "perf-capabilities": ("firmware.perf-capabilities", "lack full-width writes"),
    "preproduction": (None, "TDX is up on this host"),
    "seamrr-off": ("firmware.seamrr", "the SEAM range is not switched on for every CPU"),
    "seamrr-off-one-cpu": ("firmware.seamrr", "the SEAM range is not switched on for CPU 3"),
    "seamrr-unconfigured": ("firmware.seamrr", "the SEAM range is not switched on"),
    "smrr-missing": ("firmware.smrr", "the SMM range is not protected"),
    "smrr-no-lock": ("firmware.smrr", "the SMM range is not protected"),
    # CMRs are known to the TDX module alone, which did not come so far as to tell them.
    "smrr-overlaps-cmr": ("module.state", "TDH.SYS.INIT: TDX_SMRR_OVERLAPS_CMR"),
    "smrr-unlocked": ("firmware.smrr", "the SMM range is not protected"),
    "spr-1s": (None, "TDX is up on this host"),
    "spr-2s": (None, "TDX is up on this host"),
    "tdx-off": ("firmware.keyids", "firmware gives TDX no private KeyIDs"),
    "tme-no-integrity": ("firmware.tme-algorithm", "no encryption algorithm that TDX uses"),
    "tme-off": ("firmware.tme", "memory encryption (TME) is off in the BIOS"),
    "tme-unlocked": ("firmware.tme-locked", "did not lock the configuration of memory encryption"),
    "tsc-adjust-differs": ("firmware.alike", "IA32_TSC_ADJUST (MSR 0x3b) differs on CPUs 2-3"),
    "virtual-machine": ("processor.bare-metal", "this is a virtual machine"),
    "vmx-controls": ("firmware.vmx-controls", "VMX lacks controls that the TDX module sets"),
    "vmx-locked-off": ("firmware.vmx", "firmware has locked VMX off"),
    "vmx-off-one-cpu": ("firmware.vmx", "firmware has locked VMX off"),
    "xapic-not-locked": ("firmware.x2apic", "did not lock the APIC in x2APIC mode"),
}

#: Checks that warn on platforms that come up all the same.
WARNED = {"debug-unlocked": "processor.debug", "preproduction": "processor.production"}

LOOKING = ("status", "info", "memory", "report", "decode")


def test_every_platform_has_a_recording_and_a_cause() -> None:
    assert {path.stem for path in golden.FOLDER.glob("*.json")} == set(golden.names())
    assert set(CAUSES) == set(golden.names())


@cache
def _doctor(name: str) -> tuple[int, Any]:
    """Exit code and document of doctor, as the command gives them."""
    return _run("doctor", name)


def _run(command: str, name: str, *words: str) -> tuple[int, Any]:
    import contextlib
    import io

    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
        path = str(golden.path_of(name))
        code = main([command, "--format", "json", "--from", path, *words])
    return code, json.loads(out.getvalue()) if out.getvalue() else None


@pytest.mark.parametrize("name", CAUSES)
def test_the_cause_is_found_and_is_the_first_line(name: str) -> None:
    cause, words = CAUSES[name]
    code, document = _doctor(name)
    assert document["cause"] == cause, document["verdict"]
    assert words in document["verdict"]
    assert code == (1 if cause else 0)


@pytest.mark.parametrize("name", [name for name, (cause, _) in CAUSES.items() if cause])
def test_what_to_do_about_the_cause_is_told(name: str) -> None:
    _, document = _doctor(name)
    (check,) = [check for check in document["checks"] if check["id"] == document["cause"]]
    assert check["fix"]
    assert check["read"]
    assert check["outcome"] == "fail"


@pytest.mark.parametrize(("name", "id_"), WARNED.items())
def test_what_only_attestation_minds_is_a_warning(name: str, id_: str) -> None:
    _, document = _doctor(name)
    assert {check["id"]: check["outcome"] for check in document["checks"]}[id_] == "warn"


@pytest.mark.parametrize("name", [name for name, (cause, _) in CAUSES.items() if cause is None])
def test_a_machine_that_is_up_fails_no_check(name: str) -> None:
    _, document = _doctor(name)
    assert document["counts"]["fail"] == 0
    assert document["initialized"]


@pytest.mark.parametrize("command", LOOKING)
@pytest.mark.parametrize("name", CAUSES)
def test_every_command_that_looks_works_on_every_recording(name: str, command: str) -> None:
    code, document = _run(command, name)
    assert code in (0, 1, 3)
    assert document["schema"].startswith("tdxhost")


@pytest.mark.parametrize("name", CAUSES)
def test_a_host_differs_from_a_healthy_one_and_not_from_itself(name: str) -> None:
    healthy, this = (str(golden.path_of(it)) for it in ("spr-2s", name))
    assert main(["compare", this, this]) == 0
    assert main(["compare", healthy, this]) == (0 if name == "spr-2s" else 1)


#: What must be in no recording: addresses of network cards, and UUIDs other than EFI's own.
PRIVATE = (r"(?:[0-9a-f]{2}:){5}[0-9a-f]{2}", r"UUID=", r"serial", r"hostname")


@pytest.mark.parametrize("name", CAUSES)
def test_nothing_private_is_in_a_recording(name: str) -> None:
    import re

    text = golden.path_of(name).read_text(encoding="utf-8")
    assert [pattern for pattern in PRIVATE if re.search(pattern, text, re.IGNORECASE)] == []


def test_recordings_are_no_larger_than_a_bug_report_can_be() -> None:
    sizes = [Path(path).stat().st_size for path in golden.FOLDER.glob("*.json")]
    assert max(sizes) < 512 << 10
