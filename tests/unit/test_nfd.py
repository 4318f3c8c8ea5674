# SPDX-License-Identifier: GPL-2.0-or-later
"""Features for Node Feature Discovery: valid labels, and what a scheduler may rely on."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tdxhost.doctor.diagnosis import Diagnosis
from tdxhost.doctor.engine import Found, Outcome, Purpose, Result
from tdxhost.findings import Judge
from tdxhost.recording import Recording
from tdxhost.records import Memory, ModuleStatus, Step
from tdxhost.report.collect import replay, take
from tdxhost.report.model import Report
from tdxhost.report.nfd import nfd
from tdxhost.report.nfd import told as value_of
from tests import golden
from tests.unit.machines import check, fake_host, no_driver
from tests.unit.samples import INFO, STATUS, FakeDriver, context
from tests.unit.test_golden_hosts import CAUSES

#: Kubernetes, "Labels and Selectors": a prefix is a DNS name, a name has letters or digits at its
#: ends, and so has a value, which may be empty too.
PART = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?"
LINE = re.compile(rf"feature\.node\.kubernetes\.io/(tdxhost\.{PART})=((?:{PART})?)")
#: What NFD's local source reads of a file.
FILE_BYTES = 64 << 10


def features(text: str) -> dict[str, str]:
    """Labels without what they all begin with; each line is one, and each is there once."""
    found = [LINE.fullmatch(line) for line in text.splitlines()]
    pairs = [(match[1].removeprefix("tdxhost."), match[2]) for match in found if match]
    assert len(dict(pairs)) == len(found)
    assert all(match is not None and len(match[1]) <= 63 for match in found)
    return dict(pairs)


def report(driver: FakeDriver | None) -> Report:
    """A report of a host, live."""
    opened = no_driver if driver is None else context(driver).open_driver
    return take(fake_host(), opened, Judge())[0]  # type: ignore[arg-type]


@cache
def recorded(name: str) -> str:
    """The features of a platform."""
    return nfd(replay(Recording.load(golden.path_of(name)), Judge()))


@pytest.mark.parametrize(("name", "cause"), [(name, cause) for name, (cause, _) in CAUSES.items()])
def test_every_line_is_a_label_that_kubernetes_takes(name: str, cause: str | None) -> None:
    text = recorded(name)
    assert text.endswith("\n")
    assert len(text) < FILE_BYTES
    assert (features(text)["verdict"] == "fail") == bool(cause)


@pytest.mark.parametrize("name", [name for name, (cause, _) in CAUSES.items() if cause is None])
def test_a_host_that_is_up_is_initialized(name: str) -> None:
    assert features(recorded(name))["initialized"] == "true"


@pytest.mark.parametrize("name", ["seamrr-off-one-cpu", "module-absent", "package-lost-key"])
def test_a_host_that_did_not_come_up_is_not(name: str) -> None:
    found = features(recorded(name))
    assert found["initialized"] == found["kvm"] == "false"
    assert "memory-gib" not in found or name == "package-lost-key"


def test_a_host_that_is_up() -> None:
    assert features(nfd(report(FakeDriver()))) == {
        "verdict": "pass",
        "provider": "direct",
        "initialized": "true",
        "kvm": "false",
        "cpus-enabled": "4",
        "private-keyids": "32",
        "module-version": "1.5.06",
        "module-version.major": "1",
        "module-version.minor": "5",
        "module-version.update": "6",
        # 1 MiB less than 4 GiB: a node never has less than its label says.
        "memory-gib": "3",
    }


def test_what_is_not_known_has_no_label() -> None:
    driver = FakeDriver(
        info=replace(INFO, valid=0),
        status=replace(
            STATUS, module_status=ModuleStatus.UNKNOWN, step=Step.NONE, cpus_enabled=0, pamt_bytes=0
        ),
        memory=Memory((), 0),
    )
    found = features(nfd(report(driver)))
    assert set(found) == {"verdict", "provider", "initialized", "kvm", "cpus-enabled"}
    assert found["initialized"] == "false"


def test_without_the_driver_there_is_no_label_to_schedule_by() -> None:
    assert set(features(nfd(report(None)))) == {"verdict", "provider"}


def _kvm(*results: Result) -> str | None:
    made = replace(report(FakeDriver()), diagnosis=Diagnosis(results, initialized=True))
    return features(nfd(made)).get("kvm")


def _result(id_: str, outcome: Outcome) -> Result:
    return check(id_, Found(outcome, "read"), purpose=Purpose.KVM)


@pytest.mark.parametrize(
    ("outcome", "says"),
    [
        (Outcome.PASS, "true"),
        (Outcome.FAIL, "false"),
        (Outcome.WARN, "false"),
        (Outcome.SKIPPED, "false"),
        (Outcome.NOT_APPLICABLE, "false"),
        (Outcome.NOT_CHECKED, None),
    ],
)
def test_kvm_runs_tds_where_every_check_of_kvm_passed(outcome: Outcome, says: str | None) -> None:
    assert _kvm(_result("kvm.loaded", Outcome.PASS), _result("kvm.tdx", outcome)) == says


def test_a_module_that_linux_refuses_keeps_kvm_from_running_tds() -> None:
    passed = _result("kvm.tdx", Outcome.PASS)
    assert _kvm(passed, _result("module.rbp", Outcome.FAIL)) == "false"
    assert _kvm(passed, _result("module.topology", Outcome.PASS)) == "true"


@given(st.text())
def test_any_text_gives_a_value_that_kubernetes_takes(text: str) -> None:
    assert re.fullmatch(f"(?:{PART})?", value_of(text))


@given(st.from_regex(PART, fullmatch=True))
def test_a_valid_value_stays_as_it_is(text: str) -> None:
    assert value_of(text) == text
