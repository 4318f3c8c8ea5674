# SPDX-License-Identifier: GPL-2.0-or-later
"""A run as JUnit XML, in the form that Jenkins, GitLab and Azure read.

There is no official schema; this keeps to what the common ones (Ant's, Jenkins' junit-10.xsd)
have in common. What could not run is an error there: what is skipped counts as well with most.
"""

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from tdxhost.validation.result import Outcome, Run, TestResult
from tdxhost.validation.values import measured_text
from tdxhost.validation.words import (
    bios,
    evidence_lines,
    fact_text,
    first_line,
    said,
    system,
)

DECLARATION = '<?xml version="1.0" encoding="UTF-8"?>\n'
#: What XML 1.0 has no way to write (production 2, Char).
NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
REPLACEMENT = "\ufffd"
#: Ant's schema wants a host, and this word for one that is not told.
HOSTNAME = "localhost"

KINDS = {
    Outcome.FAILED: "failure",
    Outcome.BROKEN: "error",
    Outcome.LOST: "error",
    Outcome.COULD_NOT_RUN: "error",
    Outcome.NEEDS_REBOOT: "error",
    Outcome.NOT_RUN: "error",
    Outcome.NOT_APPLICABLE: "skipped",
}


def junit(run: Run) -> str:
    """The run as a document, with a test suite for each boot of the plan."""
    plan = str(run.plan["name"])
    root = _element("testsuites", name=f"tdxhost validate {plan}")
    for number, (boot, tests) in enumerate(run.boots()):
        suite = _suite(run, number, boot, tests)
        root.append(suite)
    _count(root, run.tests, but="skipped")
    indent(root)
    return DECLARATION + tostring(root, encoding="unicode") + "\n"


def clean(text: str) -> str:
    """A text without what XML can't have; ends of lines are as XML has them."""
    return NO_XML.sub(REPLACEMENT, text.replace("\r\n", "\n").replace("\r", "\n"))


def _element(tag: str, text: str = "", **attributes: str) -> Element:
    made = Element(tag, {name: clean(value) for name, value in attributes.items()})
    made.text = clean(text) or None
    return made


def _suite(run: Run, number: int, boot: str, tests: list[TestResult]) -> Element:
    package = f"tdxhost.{run.plan['name']}"
    suite = _element("testsuite", name=boot, id=str(number), package=package, hostname=HOSTNAME)
    _count(suite, tests)
    began = min((test.started_at for test in tests if test.started_at), default=run.started_at)
    if moment := _moment(began):
        suite.set("timestamp", moment)
    properties = SubElement(suite, "properties")
    for name, value in _properties(run):
        properties.append(_element("property", name=name, value=value))
    for name, test in zip(_names(tests), tests, strict=True):
        suite.append(_case(run, name, test))
    return suite


def _count(element: Element, tests: Iterable[TestResult], but: str = "") -> None:
    """Sets the numbers that have to agree with the elements inside."""
    tests = list(tests)
    element.set("tests", str(len(tests)))
    for kind, name in (("failure", "failures"), ("error", "errors"), ("skipped", "skipped")):
        if name != but:
            number = sum(KINDS.get(test.outcome) == kind for test in tests)
            element.set(name, str(number))
    element.set("time", _seconds(sum(test.duration_s for test in tests)))


def _seconds(time_s: float) -> str:
    return f"{time_s:.3f}"


def _moment(text: str) -> str:
    """A time as the schemas want it: UTC to the second, without saying so."""
    try:
        moment = datetime.fromisoformat(text)
        aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return aware.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S")
    except (ValueError, OverflowError):
        return ""


def _properties(run: Run) -> Iterable[tuple[str, str]]:
    host = run.host
    return {
        "run": run.id,
        "outcome": str(run.outcome),
        "plan": str(run.plan["name"]),
        "plan_file": str(run.plan["file"]),
        "seed": str(run.seed),
        "tdxhost": run.tdxhost,
        "host": system(host),
        "bios": bios(host),
        **{
            name: fact_text(name, host.get(name))
            for name in ("cpu", "microcode", "kernel", "provider", "module_version")
        },
    }.items()


def _names(tests: Iterable[TestResult]) -> Iterable[str]:
    """Titles; a test that stands in a boot again gets a number, for CI tells tests by name."""
    seen: dict[str, int] = {}
    for test in tests:
        seen[test.title] = seen.get(test.title, 0) + 1
        again = seen[test.title]
        yield test.title if again == 1 else f"{test.title} #{again}"


def _case(run: Run, name: str, test: TestResult) -> Element:
    classname = f"{run.plan['name']}.{test.boot}"
    case = _element("testcase", classname=classname, name=name, time=_seconds(test.duration_s))
    if kind := KINDS.get(test.outcome):
        message = first_line(said(test))
        if kind == "skipped":
            case.append(_element(kind, message=message))
        else:
            text = "\n".join(_told(test))
            case.append(_element(kind, text, message=message, type=str(test.outcome)))
    if test.amounts:
        case.append(_element("system-out", "\n".join(_measured(test))))
    return case


def _told(test: TestResult) -> Iterable[str]:
    yield from (said(test), "", f"Holds: {test.holds}", f"Source: {test.source}")
    if test.started_at:
        yield f"Began: {test.started_at}"
    if test.evidence and (lines := evidence_lines(test.evidence)):
        yield from ("", *lines)


def _measured(test: TestResult) -> Iterable[str]:
    """What was measured: in words, then every value as a number."""
    for one in test.amounts:
        yield measured_text(one)
        if one.value is not None:
            yield f"{one.name}={one.value} {one.unit}"
        for cpu, value in sorted(one.by_cpu.items()):
            yield f"{one.name}[cpu{cpu}]={value} {one.unit}"
