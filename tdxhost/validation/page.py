# SPDX-License-Identifier: GPL-2.0-or-later
"""A run as one HTML file that needs nothing beside it, in the look of a report."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tdxhost.report.html import render
from tdxhost.report.words import sentence
from tdxhost.validation.against import Apart, Comparison
from tdxhost.validation.chart import Chart, chart
from tdxhost.validation.result import BAD, Evidence, Measured, Outcome, Run, RunOutcome, TestResult
from tdxhost.validation.values import (
    FACTOR,
    change_text,
    highest,
    measured_text,
    pair_text,
    ratio_text,
    seconds_text,
    typical,
    value_text,
)
from tdxhost.validation.words import (
    LABELS,
    bios,
    call_title,
    counts,
    driver_facts,
    fact_name,
    fact_text,
    first_line,
    headline,
    next_step,
    said,
    system,
)
from tdxhost.words import count

TEMPLATE = Path(__file__).parent / "validation.html.j2"
#: More CPUs than this that got different are folded.
MOST_SHOWN = 12

#: Outcomes in the tones of checks, each with a symbol.
TONES = {
    Outcome.PASSED: ("pass", "✓"),
    Outcome.FAILED: ("fail", "✗"),
    Outcome.BROKEN: ("fail", "✗"),
    Outcome.LOST: ("fail", "✗"),
    Outcome.COULD_NOT_RUN: ("warn", "!"),
    Outcome.NEEDS_REBOOT: ("not_checked", "↷"),
    Outcome.NOT_RUN: ("not_checked", "?"),
    Outcome.NOT_APPLICABLE: ("not_applicable", "-"),
}
LEVELS = {
    RunOutcome.PASSED: ("pass", "✓", "Passed"),
    RunOutcome.FAILED: ("fail", "✗", "Failed"),
    RunOutcome.INCOMPLETE: ("warn", "!", "Incomplete"),
    RunOutcome.UNFINISHED: ("not_checked", "…", "Unfinished"),
}
#: Members of the host that stand by themselves.
HOST = ("cpu", "generation", "microcode", "kernel", "provider", "module_version")


@dataclass(frozen=True, slots=True)
class Drawn:
    """Something that was measured on each CPU, drawn."""

    test: TestResult
    measured: Measured
    chart: Chart
    told: str


def page(run: Run, against: Comparison | None = None) -> str:
    """The run as HTML, beside another one where it was compared; no network, no other file."""
    return render(TEMPLATE, view(run, against), FILTERS)


def view(run: Run, against: Comparison | None) -> dict[str, Any]:
    """What the template is given."""
    tone, symbol, word = LEVELS[run.outcome]
    return {
        "title": "TDX host validation",
        "level": (symbol, word),
        "tone": tone,
        "taken_at": run.started_at,
        "tdxhost": run.tdxhost,
        "document": "result.json in the run's folder",
        "run": run,
        "headline": headline(run),
        "hint": _hint(run),
        "counts": counts(run),
        "tones": TONES,
        "labels": LABELS,
        "host": list(_host(run)),
        "failures": [test for test in run.tests if test.outcome in BAD],
        "unable": [test for test in run.tests if test.outcome is Outcome.COULD_NOT_RUN],
        "drawn": list(_drawn(run)),
        "singles": list(_singles(run)),
        "factor": FACTOR,
        "against": against,
        "apart": _folded(against.cpus) if against else ((), ()),
    }


def _hint(run: Run) -> str:
    """The first failure, and what is to be done next."""
    first = next((test for test in run.tests if test.outcome in BAD), None)
    told = sentence(f"{first.title}: {first_line(said(first))}") if first else ""
    return f"{told} {next_step(run)}".strip()


def _host(run: Run) -> Iterator[tuple[str, str]]:
    yield "System", system(run.host)
    yield "BIOS", bios(run.host)
    for name in HOST:
        yield fact_title(name), fact_text(name, run.host.get(name))
    online, packages = run.host.get("cpus_online"), run.host.get("packages")
    if online and packages:
        yield "CPUs", f"{count(online, 'CPU')} online in {count(packages, 'package')}"


def fact_title(name: str) -> str:
    """What a member of the host's document is called where it begins a line."""
    label = fact_name(name)
    return label[:1].upper() + label[1:]


def _drawn(run: Run) -> Iterator[Drawn]:
    for test in run.tests:
        for measured in test.amounts:
            if len(measured.by_cpu) > 1:
                yield Drawn(test, measured, chart(measured), _over_cpus(measured))


def _over_cpus(measured: Measured) -> str:
    least_cpu, least = min(sorted(measured.by_cpu.items()), key=lambda one: one[1])
    most_cpu, most = highest(measured)
    return ", ".join(
        (
            f"{count(len(measured.by_cpu), 'CPU')}: median "
            f"{value_text(typical(measured), measured.unit)}",
            f"least {value_text(least, measured.unit)} on CPU {least_cpu}",
            f"most {value_text(most, measured.unit)} on CPU {most_cpu}",
        )
    )


def _singles(run: Run) -> Iterator[tuple[TestResult, str, str]]:
    for test in run.tests:
        for one in test.amounts:
            if len(one.by_cpu) < 2:
                name, _, value = measured_text(one).partition(": ")
                yield test, name, value


def _folded(cpus: tuple[Apart, ...]) -> tuple[tuple[Apart, ...], tuple[Apart, ...]]:
    """CPUs that got different: those to show at once, and the rest."""
    return (cpus, ()) if len(cpus) <= MOST_SHOWN else (cpus[:MOST_SHOWN], cpus[MOST_SHOWN:])


def evidence_title(evidence: Evidence) -> str:
    """What there is of evidence, such as 1 SEAMCALL, 4 lines of the kernel's log."""
    log, calls = len(evidence.log), len(evidence.calls)
    told = (
        count(calls, "SEAMCALL") if calls else "",
        f"{count(log, 'line')} of the kernel's log" if log else "",
        "the driver's status" if evidence.driver else "",
        "the assertion" if evidence.details else "",
        "a snapshot" if evidence.snapshot else "",
    )
    return ", ".join(filter(None, told))


FILTERS: dict[str, Callable[..., Any]] = {
    "call_title": call_title,
    "evidence_title": evidence_title,
    "fact_title": fact_title,
    "first_line": first_line,
    "measured": measured_text,
    "change": change_text,
    "driver_facts": driver_facts,
    "pair": pair_text,
    "ratio": ratio_text,
    "said": said,
    "seconds": seconds_text,
}
