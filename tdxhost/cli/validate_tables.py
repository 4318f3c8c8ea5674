# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs of the validation suite and their comparison as text and tables."""

import re
import textwrap
from collections.abc import Iterable, Iterator, Sequence

from tdxhost.cli.tables import Block, Column, Row, Table
from tdxhost.validation.against import Apart, Comparison, Turned, Value
from tdxhost.validation.result import BAD, Evidence, FailedCall, Outcome, Run, TestResult
from tdxhost.validation.values import (
    change_text,
    measured_text,
    pair_text,
    ratio_text,
    seconds_text,
)
from tdxhost.validation.words import (
    LABELS,
    bios,
    call_title,
    counts,
    evidence_lines,
    fact_name,
    fact_text,
    first_line,
    headline,
    next_step,
    said,
    system,
)
from tdxhost.words import count

INDENT = "  "
TEST_COLUMNS = (
    Column("OUTCOME"),
    Column("TEST"),
    Column("TIME", right=True, rank=2),
    Column("MESSAGE", rank=1),
)
#: Characters of a message that its line of the table has; failures are told whole above it.
MOST_MESSAGE = 72
#: Lines of the kernel's log that a failure shows without -v.
MOST_LOG = 8
#: CPUs that got different that are named here; the document has all.
MOST_CPUS = 12
#: Lines of the kernel's log that are shown first when there are too many.
TELLING = re.compile(r"tdx|seam|\bmce\b|\bbug\b|warn|panic|lockup|stall|oops|fault", re.IGNORECASE)

TURNED_COLUMNS = (Column("HERE"), Column("THERE"), Column("TEST"))
VALUE_COLUMNS = (
    Column("HERE", right=True),
    Column("THERE", right=True),
    Column("CHANGE", right=True),
    Column("WHAT"),
)
CPU_COLUMNS = (
    Column("CPU", right=True),
    Column("HERE", right=True),
    Column("THERE", right=True),
    Column("BESIDE OTHERS", right=True, rank=1),
    Column("WHAT"),
)


def run_blocks(run: Run, verbose: bool, where: str = "") -> list[Block]:
    """A run: what it came to, failures with their evidence, and every test by boot.

    where is the folder that has the whole; verbose shows all of the evidence here.
    """
    made: list[Block] = [f"{headline(run)}.", *_about(run)]
    for test in run.tests:
        if test.outcome in BAD:
            made += ["", *_failure(test, verbose=verbose)]
    made += _unable(run)
    for boot, tests in run.boots():
        made += ["", Table(f"Boot {boot}", TEST_COLUMNS, tuple(map(_row, tests)))]
    made += ["", _counted(run)]
    if where:
        made.append(f"All of it: {where}")
    return [*made, step] if (step := next_step(run)) else made


def _about(run: Run) -> Iterator[Block]:
    kernel, module = (fact_text(name, run.host.get(name)) for name in ("kernel", "module_version"))
    yield f"Host: {system(run.host)}; BIOS {bios(run.host)}; kernel {kernel}; TDX module {module}"
    yield f"Run: {run.id}; plan {run.plan['name']}; seed {run.seed}"


def _failure(test: TestResult, *, verbose: bool) -> Iterator[str]:
    yield f"{_word(test.outcome)} {test.title}, boot {test.boot}"
    yield from _indented(said(test).splitlines())
    if verbose:
        yield from _indented((f"Holds: {test.holds}", f"Source: {test.source}"))
    if test.evidence and verbose:
        yield from _indented(evidence_lines(test.evidence))
    elif test.evidence:
        yield from _indented(_in_short(test.evidence, said(test)))


def _indented(lines: Iterable[str]) -> Iterator[str]:
    return (f"{INDENT}{line}".rstrip() for line in lines)


def _in_short(evidence: Evidence, told: str) -> Iterator[str]:
    """What matters of the evidence, and was not told in the message."""
    for call in evidence.calls:
        yield from _call(call, told)
    yield from (line for line in evidence.diagnosis if line not in told)
    shown = _telling(evidence.log)
    if shown:
        yield "Kernel log:"
        yield from _indented(shown)
    if more := len(evidence.log) - len(shown):
        yield f"{INDENT}({count(more, 'more line')}; -v shows all)"
    if evidence.snapshot:
        yield f"Snapshot: {evidence.snapshot}, for --from"


def _call(call: FailedCall, told: str) -> Iterator[str]:
    if call.name not in told or call.where not in told:
        yield call_title(call)
    if call.says not in told:
        yield f"Says: {call.says}"
    if call.hint not in told:
        yield f"Do: {call.hint}"


def _telling(log: Sequence[str]) -> Sequence[str]:
    """Lines about TDX or a fault, of all where there are none; the first tell the cause."""
    if len(log) <= MOST_LOG:
        return log
    return ([line for line in log if TELLING.search(line)] or log)[:MOST_LOG]


def _unable(run: Run) -> Iterator[Block]:
    """What could not run, by reason."""
    reasons: dict[str, list[str]] = {}
    for test in run.tests:
        if test.outcome is Outcome.COULD_NOT_RUN:
            reasons.setdefault(said(test), []).append(f"{test.title}, boot {test.boot}")
    for reason, titles in reasons.items():
        yield ""
        yield f"Could not run: {'; '.join(titles)}"
        yield from _indented(reason.splitlines())


def _row(test: TestResult) -> Row:
    message = "" if test.outcome is Outcome.PASSED else first_line(said(test))
    told = [textwrap.shorten(message, MOST_MESSAGE, placeholder=" ...")] if message else []
    told += [measured_text(one) for one in test.amounts]
    cells = _word(test.outcome), test.title, seconds_text(test.duration_s), "; ".join(told)
    return Row(cells, bad=test.outcome in BAD)


def _word(outcome: Outcome) -> str:
    """What counts against the machine stands out without colour as well."""
    return LABELS[outcome].upper() if outcome in BAD else LABELS[outcome]


def _counted(run: Run) -> str:
    told = ", ".join(f"{number} {LABELS[outcome]}" for outcome, number in counts(run))
    return f"{count(len(run.tests), 'test')}{': ' if told else ''}{told}"


def comparison_blocks(found: Comparison) -> list[Block]:
    """What a run has different from another one."""
    there = found.there
    made: list[Block] = [f"Against {there.id}, plan {there.plan['name']}, {there.started_at}"]
    if not found.differs:
        return [*made, "Nothing got different."]
    for fact in found.facts:
        made += _indented((f"{fact_name(fact.name)}: {fact.here}, there {fact.there}",))
    for title, columns, rows in (
        ("Tests that came to something else", TURNED_COLUMNS, map(_turned_row, found.tests)),
        ("Measured", VALUE_COLUMNS, map(_value_row, found.values)),
        ("CPUs that got different from the others", CPU_COLUMNS, _apart_rows(found.cpus)),
    ):
        if told := tuple(rows):
            made += ["", Table(title, columns, told)]
    if (more := len(found.cpus) - MOST_CPUS) > 0:
        made.append(f"({count(more, 'more CPU')}; --format json has all)")
    return made


def _turned_row(turned: Turned) -> Row:
    here, there = (_word(one) if one else "not in it" for one in (turned.here, turned.there))
    return Row((here, there, f"{turned.title}, boot {turned.boot}"), bad=turned.here in BAD)


def _value_row(value: Value) -> Row:
    what = f"{value.name}{'' if value.of == 'value' else f' {value.of}'}{_most_on(value)}"
    return Row(
        (
            *pair_text(value.here, value.there, value.unit),
            change_text(value.here, value.there, value.unit),
            f"{what}: {value.title}, boot {value.boot}",
        )
    )


def _most_on(value: Value) -> str:
    if value.cpu_here is None:
        return ""
    moved = value.cpu_there not in (None, value.cpu_here)
    return f" on CPU {value.cpu_here}{f' (there {value.cpu_there})' if moved else ''}"


def _apart_rows(cpus: Sequence[Apart]) -> Iterator[Row]:
    for one in cpus[:MOST_CPUS]:
        here, there = pair_text(one.here, one.there, one.unit)
        what = f"{one.name}: {one.title}, boot {one.boot}"
        yield Row((str(one.cpu), here, there, ratio_text(one.beside), what))
