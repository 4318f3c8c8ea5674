# SPDX-License-Identifier: GPL-2.0-or-later
"""The verdict: the first cause, no failure for what can't be read, the same from a recording."""

import json
from dataclasses import replace

import pytest
import yaml

from tdxhost.cli import doctor
from tdxhost.doctor.diagnosis import diagnose
from tdxhost.doctor.engine import Outcome, Purpose
from tdxhost.errors import DriverDenied
from tdxhost.recording import Recording, recorded_host
from tests.unit.doctor.host import FLAGS, HEALTHY, Patient, cpuinfo
from tests.unit.samples import FakeDriver, context


def _outcomes(patient: Patient) -> dict[str, Outcome]:
    return {result.check.id: result.outcome for result in patient.examined().results}


def test_a_healthy_host_that_is_up_fails_nothing() -> None:
    diagnosis = HEALTHY.but(driver=FakeDriver()).examined(Purpose.BRING_UP)
    assert diagnosis.of(Outcome.FAIL, Outcome.WARN) == []
    assert diagnosis.headline == "TDX is up on this host"
    assert diagnosis.exit_code == 0


def test_the_first_cause_is_the_verdict_and_what_follows_from_it_is_skipped() -> None:
    off = HEALTHY.but(msrs={0x982: 0x1, 0x87: 0x0, 0x1400: 0x0, 0x1401: 0x400})
    diagnosis = off.examined()
    assert diagnosis.headline.endswith("memory encryption (TME) is off in the BIOS")
    assert [result.check.id for result in diagnosis.of(Outcome.FAIL)] == ["firmware.tme"]
    assert _outcomes(off)["firmware.keyids"] is Outcome.SKIPPED
    assert _outcomes(off)["firmware.seamrr"] is Outcome.SKIPPED
    assert diagnosis.exit_code == 1


def test_mcheck_is_the_cause_where_the_seam_range_is_off_with_it() -> None:
    refused = HEALTHY.but(msrs={0xA0: 0x17, 0x1400: 0x0, 0x1401: 0x400})
    assert "MCHECK" in refused.examined().headline


def test_a_processor_without_vmx_is_told_from_one_that_is_locked() -> None:
    files = {"/proc/cpuinfo": cpuinfo(FLAGS.replace("vmx ", ""))}
    assert _outcomes(HEALTHY.but(files=files, msrs={0x3A: None}))["processor.vmx"] is Outcome.FAIL
    locked = _outcomes(HEALTHY.but(files=files, msrs={0x3A: 0x1}))
    assert locked["processor.vmx"] is Outcome.PASS
    assert locked["firmware.vmx"] is Outcome.FAIL


def test_no_microcode_is_a_warning() -> None:
    files = {"/proc/cpuinfo": cpuinfo(microcode={3: "0x0"})}
    assert _outcomes(HEALTHY.but(files=files))["processor.microcode"] is Outcome.WARN


def test_what_only_kvm_needs_does_not_fail_bring_up() -> None:
    files = {
        "/proc/sys/kernel/osrelease": "6.16.0",
        "/boot/config-6.16.0": "CONFIG_INTEL_TDX_HOST=y\n",
        "/sys/power/state": "freeze mem",
    }
    patient = HEALTHY.but(files=files)
    assert patient.examined().headline.startswith("TDX is no good for KVM: ")
    assert patient.examined(Purpose.BRING_UP).exit_code == 0


def test_a_bring_up_failure_goes_before_one_of_kvm() -> None:
    files = {
        "/proc/sys/kernel/osrelease": "6.16.0",
        "/boot/config-6.16.0": "CONFIG_INTEL_TDX_HOST=y\n",
    }
    cause = HEALTHY.but(files=files).examined().cause
    assert cause is not None
    assert cause.check.id == "kernel.hibernation"


def _without_root() -> Recording:
    """The healthy host as someone without root reads it."""
    recording = HEALTHY.recording()
    denied = {"why": "denied", "reason": "Permission denied", "hint": "Run it as root."}
    for key in recording.answers:
        if key.startswith(("msr ", "data /proc/iomem", "log")):
            recording.answers[key] = {"not_read": {"what": key, **denied}}
    return recording


def test_without_root_nothing_fails() -> None:
    facts = replace(HEALTHY.but(driver=DriverDenied("denied", "Run it as root")).facts())
    facts = replace(facts, host=recorded_host(_without_root()))
    diagnosis = diagnose(facts)
    assert diagnosis.of(Outcome.FAIL) == []
    reasons = {it.check.id: it.found.read for it in diagnosis.of(Outcome.NOT_CHECKED)}
    assert "needs root" in reasons["firmware.keyids"]
    assert "denied" in reasons["module.state"]
    assert diagnosis.exit_code == 0


def test_nothing_at_all_is_known_of_an_empty_recording() -> None:
    nothing = Patient(files={}, msrs={})
    assert nothing.examined().of(Outcome.FAIL) == []


@pytest.mark.parametrize("form", ["json", "yaml"])
def test_documents_have_permanent_ids_and_counts(
    form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = context(FakeDriver(), form, purpose=None)
    code = doctor.run(given.but(host=recorded_host(HEALTHY.recording())))
    document = yaml.safe_load(capsys.readouterr().out)
    assert code == 0
    assert document["schema"] == "tdxhost/1"
    assert document["host"]["signature"] == "06-8f-08"
    assert sum(document["counts"].values()) == len(document["checks"])
    assert {"id", "outcome", "read", "expected", "why", "fix", "cpus", "purpose", "scope"} <= set(
        document["checks"][0]
    )


def test_the_first_line_is_the_verdict_and_bad_checks_say_what_to_do(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    sick = HEALTHY.but(msrs={0x87: 0x3F}).recording()
    code = doctor.run(context(FakeDriver(), purpose=None).but(host=recorded_host(sick)))
    out = capsys.readouterr().out
    assert code == 1
    assert out.startswith("TDX is up, but firmware gives TDX no private KeyIDs.\n")
    assert "  Do: BIOS: TME-MT on" in out
    assert "0x3f on every CPU" in " ".join(out.split())
    assert max(map(len, out.splitlines())) <= 60


def test_a_recording_gives_the_same_document(capsys: pytest.CaptureFixture[str]) -> None:
    recording = HEALTHY.recording()
    documents = []
    for host in (
        recorded_host(recording),
        recorded_host(Recording.of(json.loads(recording.text()), "x")),
    ):
        doctor.run(context(FakeDriver(), "json", purpose=None).but(host=host))
        documents.append(capsys.readouterr().out)
    assert documents[0] == documents[1]
