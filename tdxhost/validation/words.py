# SPDX-License-Identifier: GPL-2.0-or-later
"""What a run came to, in words that its outputs share."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from tdxhost.validation.result import (
    BAD,
    OPEN,
    Evidence,
    FailedCall,
    Outcome,
    Run,
    RunOutcome,
    TestResult,
)
from tdxhost.wording import cpus_named
from tdxhost.words import count, size

INDENT = "  "
LABELS = {
    Outcome.PASSED: "passed",
    Outcome.FAILED: "failed",
    Outcome.BROKEN: "broken",
    Outcome.LOST: "lost",
    Outcome.COULD_NOT_RUN: "could not run",
    Outcome.NEEDS_REBOOT: "needs a reboot",
    Outcome.NOT_RUN: "not run",
    Outcome.NOT_APPLICABLE: "not applicable",
}
#: What is said of a test that left no message.
UNSAID = {
    Outcome.PASSED: "",
    Outcome.FAILED: "failed, and said nothing of why",
    Outcome.BROKEN: "the test itself went wrong",
    Outcome.LOST: "was running when the run came to a sudden end; the machine may have crashed",
    Outcome.COULD_NOT_RUN: "something that it needs is missing",
    Outcome.NEEDS_REBOOT: "needs the TDX module as it is after a reboot",
    Outcome.NOT_RUN: "its turn has not come",
    Outcome.NOT_APPLICABLE: "this kind of machine does not have what it is about",
}
#: Members of a host's document, in the order in which they are told.
FACTS = {
    "sys_vendor": "vendor",
    "product_name": "product",
    "board_name": "board",
    "bios_vendor": "BIOS vendor",
    "bios_version": "BIOS version",
    "bios_date": "BIOS date",
    "cpu": "processor",
    "signature": "signature",
    "generation": "generation",
    "microcode": "microcode",
    "hypervisor": "virtual machine",
    "packages": "packages",
    "cpus_present": "CPUs present",
    "cpus_online": "CPUs online",
    "memory_bytes": "memory",
    "kernel": "kernel",
    "provider": "provider",
    "module_version": "TDX module",
}
NOT_KNOWN = "not known"
RESUME = "sudo tdxhost validate --resume"


def said(test: TestResult) -> str:
    """The message of a test; what its outcome means where it left none."""
    return test.message.strip() or UNSAID[test.outcome]


def first_line(text: str) -> str:
    """The first line of a text that says something."""
    return next((line.strip() for line in text.splitlines() if line.strip()), "")


def headline(run: Run) -> str:
    """What a run came to, in one sentence without a full stop."""
    number = len(run.tests) - run.count(Outcome.NOT_APPLICABLE)
    bad, left = run.count(*BAD), run.count(*OPEN)
    match run.outcome:
        case RunOutcome.FAILED:
            still = f", and {left} are left" if left > 1 else ", and one is left" if left else ""
            return f"{bad} of {count(number, 'test')} failed{still}"
        case RunOutcome.UNFINISHED:
            return f"Nothing has failed so far; {left} of {count(number, 'test')} left"
        case RunOutcome.INCOMPLETE if not number:
            return "No test of the plan applies to this machine"
        case RunOutcome.INCOMPLETE:
            could_not = run.count(Outcome.COULD_NOT_RUN)
            return f"Nothing failed, but {could_not} of {count(number, 'test')} could not run"
        case RunOutcome.PASSED:
            return f"All {count(number, 'test')} passed" if number > 1 else "The test passed"


def next_step(run: Run) -> str:
    """What goes on with a run; empty where it is at its end."""
    if run.needs_reboot:
        return f"Reboot, then go on with: {RESUME}"
    return f"Go on with: {RESUME}" if run.count(*OPEN) else ""


def counts(run: Run) -> list[tuple[Outcome, int]]:
    """How many tests came to what, without what none came to; the bad first."""
    order = (*(one for one in LABELS if one in BAD), *(one for one in LABELS if one not in BAD))
    return [(outcome, number) for outcome in order if (number := run.count(outcome))]


def fact_name(name: str) -> str:
    """What a member of a host's document is called."""
    return FACTS.get(name, name.replace("_", " "))


def fact_text(name: str, value: Any) -> str:
    """A member of a host's document in words."""
    if value is None or value == "":
        return NOT_KNOWN
    if isinstance(value, bool):
        return "yes" if value else "no"
    if name == "microcode":
        return microcode_text(value)
    if name.endswith("_bytes") and isinstance(value, int):
        return size(value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def microcode_text(versions: list[Mapping[str, Any]]) -> str:
    """Versions of microcode, with CPUs where there are several."""
    if len(versions) < 2:
        return versions[0]["version"] if versions else NOT_KNOWN
    return "; ".join(f"{one['version']} on {cpus_named(one['cpus'])}" for one in versions)


def system(host: Mapping[str, Any]) -> str:
    """Vendor and product."""
    return _joined(host, " ", "sys_vendor", "product_name")


def bios(host: Mapping[str, Any]) -> str:
    """Vendor, version and date of the BIOS."""
    return _joined(host, ", ", "bios_vendor", "bios_version", "bios_date")


def _joined(host: Mapping[str, Any], between: str, *names: str) -> str:
    return between.join(str(host[name]) for name in names if host.get(name)) or NOT_KNOWN


def call_title(call: FailedCall) -> str:
    """Where a SEAMCALL failed, with its status by name and number."""
    number = "" if call.status in call.name else f" ({call.status})"
    return f"{call.where}, {call.leaf}: {call.name}{number}"


def registers_text(registers: Mapping[str, str]) -> str:
    """Registers in one line."""
    return " ".join(f"{name.upper()}={value}" for name, value in registers.items())


def evidence_lines(evidence: Evidence) -> list[str]:
    """All of the evidence as text, in parts with a title each."""
    lines = []
    for title, told in _parts(evidence):
        if told:
            lines += ["", f"{title}:", *(f"{INDENT}{line}".rstrip() for line in told)]
    return lines[1:]


def _parts(evidence: Evidence) -> Iterator[tuple[str, list[str]]]:
    yield "SEAMCALLs that failed", [line for call in evidence.calls for line in call_lines(call)]
    yield "Diagnosis", list(evidence.diagnosis)
    yield "Driver", [f"{name}: {value}" for name, value in driver_facts(evidence)]
    yield "Kernel log since the test began", list(evidence.log)
    yield "Snapshot, for --from", [evidence.snapshot] if evidence.snapshot else []
    yield "Details", evidence.details.splitlines()


def driver_facts(evidence: Evidence) -> list[tuple[str, str]]:
    """What the driver told of itself, without what is not known."""
    return [
        (name, value if isinstance(value, str) else json.dumps(value))
        for name, value in evidence.driver.items()
        if value is not None
    ]


def call_lines(call: FailedCall) -> list[str]:
    """A SEAMCALL that failed: status, what it says, what to do, registers."""
    told = [call.says, call.hint, registers_text(call.registers)]
    return [call_title(call), *(f"{INDENT}{line}" for line in told if line)]
