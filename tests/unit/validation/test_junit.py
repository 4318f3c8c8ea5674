# SPDX-License-Identifier: GPL-2.0-or-later
"""A run as JUnit XML: the rules that its readers have in common, and what it must not lose."""

import re
from collections.abc import Callable
from dataclasses import replace
from xml.etree.ElementTree import Element, fromstring

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tdxhost.validation.junit import NO_XML, REPLACEMENT, junit
from tdxhost.validation.result import Evidence, Outcome, Run
from tests.unit.validation.runs import (
    CALL,
    EVIDENCE,
    FAILURE,
    LOG,
    changed,
    made,
    passed,
    run_of,
    sample,
)

RUNS: dict[str, Callable[[], Run]] = {"sample": sample, "passed": passed, "empty": run_of}
ALL_RUNS = pytest.mark.parametrize("name", RUNS)
#: Element to its parents, attributes that it must have, and those that it may have: what the
#: schemas of Ant (JUnit.xsd) and of Jenkins' xUnit plugin (junit-10.xsd) both allow.
GRAMMAR: dict[str, tuple[set[str], set[str], set[str]]] = {
    "testsuites": (set(), {"name", "tests", "failures", "errors", "time"}, set()),
    "testsuite": (
        {"testsuites"},
        {"name", "id", "package", "hostname", "tests", "failures", "errors", "skipped", "time"},
        {"timestamp"},
    ),
    "properties": ({"testsuite"}, set(), set()),
    "property": ({"properties"}, {"name", "value"}, set()),
    "testcase": ({"testsuite"}, {"classname", "name", "time"}, set()),
    "failure": ({"testcase"}, {"message", "type"}, set()),
    "error": ({"testcase"}, {"message", "type"}, set()),
    "skipped": ({"testcase"}, {"message"}, set()),
    "system-out": ({"testcase"}, set(), set()),
}
COUNTED = {"tests": "testcase", "failures": "failure", "errors": "error", "skipped": "skipped"}
TIMES = re.compile(r"\d+\.\d{3}")
#: xs:dateTime as Ant's schema narrows it: no fraction, no zone.
MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d")


def read(run: Run) -> Element:
    """The document, read back as CI does: from bytes in UTF-8."""
    return fromstring(junit(run).encode())


def case(run: Run, name: str) -> Element:
    """The only test case with a name."""
    (found,) = [one for one in read(run).iter("testcase") if one.get("name") == name]
    return found


@ALL_RUNS
def test_only_known_elements_stand_where_they_may(name: str) -> None:
    root = read(RUNS[name]())
    assert root.tag == "testsuites"
    for parent in root.iter():
        for child in parent:
            parents, needed, more = GRAMMAR[child.tag]
            assert parent.tag in parents
            assert needed <= set(child.attrib) <= needed | more
    assert set(root.attrib) == GRAMMAR["testsuites"][1]


@ALL_RUNS
def test_numbers_are_those_of_the_elements(name: str) -> None:
    root = read(RUNS[name]())
    for parent in (root, *root.iter("testsuite")):
        for attribute, tag in COUNTED.items():
            if attribute in parent.attrib:
                assert int(parent.attrib[attribute]) == len(list(parent.iter(tag)))
        total = sum(float(one.attrib["time"]) for one in parent.iter("testcase"))
        assert float(parent.attrib["time"]) == pytest.approx(total, abs=0.01)


@ALL_RUNS
def test_properties_come_first_and_every_case_has_one_result_at_most(name: str) -> None:
    for suite in read(RUNS[name]()).iter("testsuite"):
        tags = [child.tag for child in suite]
        assert tags == ["properties"] + ["testcase"] * (len(tags) - 1)
        for one in suite.iter("testcase"):
            results = [child.tag for child in one if child.tag != "system-out"]
            assert len(results) <= 1


@ALL_RUNS
def test_times_are_plain_decimals(name: str) -> None:
    root = read(RUNS[name]())
    for element in root.iter():
        assert TIMES.fullmatch(element.get("time", "0.000"))
        assert MOMENT.fullmatch(element.get("timestamp", "2026-01-01T00:00:00"))


def test_each_boot_is_a_suite_that_says_when_it_began() -> None:
    suites = list(read(sample()).iter("testsuite"))
    assert [one.get("name") for one in suites] == ["at-once", "forwards", "shuffled"]
    assert [one.get("id") for one in suites] == ["0", "1", "2"]
    # Of the last one nothing has begun, so that it is the run's own time.
    assert [one.get("timestamp") for one in suites] == [
        "2026-07-04T08:30:05",
        "2026-07-04T08:30:05",
        "2026-07-04T08:30:00",
    ]


def test_a_time_with_a_zone_is_turned_into_utc() -> None:
    run = run_of(replace(made("enable.all", "x"), started_at="2026-07-04T01:30:00.5+02:00"))
    (suite,) = read(run).iter("testsuite")
    assert suite.get("timestamp") == "2026-07-03T23:30:00"


def test_a_time_that_is_none_is_left_out() -> None:
    run = run_of(replace(made("enable.all", "x"), started_at="yesterday"))
    (suite,) = read(run).iter("testsuite")
    assert "timestamp" not in suite.attrib


RESULTS = {
    Outcome.PASSED: (None, None),
    Outcome.FAILED: ("failure", "failed"),
    Outcome.BROKEN: ("error", "broken"),
    Outcome.LOST: ("error", "lost"),
    Outcome.COULD_NOT_RUN: ("error", "could-not-run"),
    Outcome.NEEDS_REBOOT: ("error", "needs-reboot"),
    Outcome.NOT_RUN: ("error", "not-run"),
    Outcome.NOT_APPLICABLE: ("skipped", None),
}


@pytest.mark.parametrize("outcome", Outcome)
def test_only_what_passed_looks_passed_and_only_what_does_not_apply_is_skipped(
    outcome: Outcome,
) -> None:
    tag, kind = RESULTS[outcome]
    found = list(case(run_of(made("enable.all", "x", outcome)), "enable.all"))
    if tag is None:
        assert found == []
    else:
        (result,) = found
        assert (result.tag, result.get("type")) == (tag, kind)
        assert result.get("message")


def test_a_failure_has_all_of_its_evidence() -> None:
    (failure,) = case(sample(), "cpus.enable (order=at-once)").iter("failure")
    assert failure.get("message") == FAILURE
    text = failure.text or ""
    wanted = [
        FAILURE,
        "every online CPU is enabled, in any order",
        "CPU 3, TDH.SYS.LP.INIT: TDX_INCONSISTENT_MSR (0xc00009200000010a)",
        CALL.says,
        CALL.hint,
        "RCX=0x0000000000000000",
        "cpus_enabled: 7",
        *LOG,
        *EVIDENCE.diagnosis,
        *(line.strip() for line in EVIDENCE.details.splitlines()),
        EVIDENCE.snapshot,
    ]
    assert [one for one in wanted if one not in text] == []


def test_only_the_first_line_of_a_message_is_the_attribute() -> None:
    run = run_of(made("enable.all", "x", Outcome.FAILED, message="\nfirst\nsecond"))
    (failure,) = case(run, "enable.all")
    assert failure.get("message") == "first"
    assert "first\nsecond" in (failure.text or "")


def test_what_was_measured_is_in_the_output_of_the_case() -> None:
    out = case(sample(), "cpus.enable (order=forwards)").findtext("system-out") or ""
    lines = out.splitlines()
    # Of 605, 609, 611, 612, 615, 618, 1204 and 1810 µs the fourth.
    assert lines[0] == "lp_init: median 612 µs, most 1.81 ms on CPU 0"
    assert lines[1] == "lp_init[cpu0]=1810000 ns"
    assert lines[8] == "lp_init[cpu7]=615000 ns"
    pamt = case(sample(), "memory.pamts").findtext("system-out") or ""
    assert pamt.splitlines() == ["pamt: 4.0 GiB", "pamt=4294967296 bytes"]


def test_properties_say_which_run_of_which_host_it_was() -> None:
    for suite in read(sample()).iter("testsuite"):
        found = {one.get("name"): one.get("value") for one in suite.iter("property")}
        assert found == {
            "run": "20260704T083000Z-5c1e",
            "outcome": "failed",
            "plan": "standard",
            "plan_file": "standard.yaml",
            "seed": "4711",
            "tdxhost": "0.1.0",
            "host": "Intel Corporation M50FCP2SBSTD",
            "bios": "Intel Corporation, SE5C7411.86B.9535.D04, 04/19/2024",
            "cpu": "Intel(R) Xeon(R) Platinum 8592+",
            "microcode": "0x21000240",
            "kernel": "6.12.48",
            "provider": "direct",
            "module_version": "1.5.06",
        }


def test_what_is_not_known_of_the_host_is_said_to_be_so() -> None:
    (suite,) = read(replace(run_of(made("enable.all", "x")), host={})).iter("testsuite")
    found = {one.get("name"): one.get("value") for one in suite.iter("property")}
    assert {found[name] for name in ("host", "bios", "microcode", "kernel")} == {"not known"}


def test_no_two_cases_of_a_class_have_one_name() -> None:
    again = [made("enable.all", "x"), made("enable.all", "x"), made("enable.all", "y")]
    run = run_of(*again, made("cpus.enable", "x", options={"order": "forwards", "n": 2}))
    names = [(one.get("classname"), one.get("name")) for one in read(run).iter("testcase")]
    assert names == [
        ("standard.x", "enable.all"),
        ("standard.x", "enable.all #2"),
        ("standard.x", "cpus.enable (order=forwards, n=2)"),
        ("standard.y", "enable.all"),
    ]


#: Char of XML 1.0, production 2.
def is_char(letter: str) -> bool:
    code = ord(letter)
    return (
        code in (0x9, 0xA, 0xD)
        or 0x20 <= code <= 0xD7FF
        or 0xE000 <= code <= 0xFFFD
        or 0x10000 <= code <= 0x10FFFF
    )


@settings(deadline=None)
@given(st.characters())
@example("\ud800")
@example("\uffff")
def test_what_is_replaced_is_what_xml_does_not_have(letter: str) -> None:
    assert bool(NO_XML.match(letter)) == (not is_char(letter))


def written(text: str) -> str:
    """What XML keeps of a text."""
    ends = text.replace("\r\n", "\n").replace("\r", "\n")
    return "".join(letter if is_char(letter) else REPLACEMENT for letter in ends)


ANY_TEXT = st.text(st.characters())


@example(details="\udcff\x1b[0m", line="]]>", option='&\n"', boot="\ufffe")
@settings(deadline=None)
@given(details=ANY_TEXT, line=ANY_TEXT, option=ANY_TEXT, boot=ANY_TEXT)
def test_any_text_comes_through(details: str, line: str, option: str, boot: str) -> None:
    run = changed(
        sample(),
        2,
        boot=boot,
        message=f"|{details}|",
        options={"order": option},
        evidence=Evidence(log=(line,)),
    )
    found = case(run, written(f"cpus.enable (order={option})"))
    assert found.get("classname") == written(f"standard.{boot}")
    (failure,) = found.iter("failure")
    text = failure.text or ""
    assert text.startswith(written(f"|{details}|"))
    assert written(f"  {line}".rstrip()) in text
