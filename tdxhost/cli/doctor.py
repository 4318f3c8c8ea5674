# SPDX-License-Identifier: GPL-2.0-or-later
"""tdxhost doctor: is this host able, and if not, what has to change where."""

import argparse
import sys
from dataclasses import asdict

from tdxhost.cli.context import Context, add_from, write_document
from tdxhost.cli.documents import SCHEMA, Document
from tdxhost.cli.tables import Block, Column, Row, Table, show
from tdxhost.doctor.diagnosis import Diagnosis, diagnose
from tdxhost.doctor.engine import Area, Outcome, Purpose, Result
from tdxhost.doctor.facts import Facts
from tdxhost.doctor.identity import Identity, identity
from tdxhost.errors import ExitCode
from tdxhost.topology import format_cpu_list
from tdxhost.words import count

NAME = "doctor"
HELP = "say whether this host is able, and if not, what has to change where"
DESCRIPTION = """\
Looks at processor, firmware, memory, kernel, TDX module and KVM, in this order, and says what
is in the way of TDX and what to do about it. Every MSR is read on every CPU. Changes nothing.
Without root much can't be looked at, which is no failure. With -v, all that was read, what is
expected and why."""

COLUMNS = (
    Column("RESULT"),
    Column("CHECK"),
    Column("FOR", rank=2),
    Column("WHAT"),
)
WORDS = {
    Outcome.PASS: "pass",
    Outcome.WARN: "WARN",
    Outcome.FAIL: "FAIL",
    Outcome.NOT_APPLICABLE: "n/a",
    Outcome.NOT_CHECKED: "?",
    Outcome.SKIPPED: "skipped",
}
#: Results that are only counted, unless -v is given.
QUIET = (Outcome.NOT_APPLICABLE, Outcome.SKIPPED)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds --purpose and --from."""
    parser.add_argument(
        "--purpose",
        action="append",
        type=Purpose,
        choices=list(Purpose),
        metavar="{" + ",".join(Purpose) + "}",
        help="make only the checks for this; may be given more than once (default: all)",
    )
    add_from(parser)


def run(context: Context) -> ExitCode:
    """Examines the host."""
    facts = Facts(context.memoised_host(), context.open_source)
    diagnosis = diagnose(facts, context.arguments.purpose or tuple(Purpose))
    if not context.for_people:
        write_document(doctor_document(identity(facts), diagnosis), context.arguments.format)
    else:
        show(blocks(identity(facts), diagnosis, whole=context.verbose))
    sys.stdout.flush()
    return diagnosis.exit_code


def doctor_document(host: Identity, diagnosis: Diagnosis) -> Document:
    """The document of doctor; ids are permanent, words are for people and may change."""
    cause = diagnosis.cause
    return {
        "schema": SCHEMA,
        "host": asdict(host),
        "verdict": diagnosis.headline,
        "cause": cause.check.id if cause else None,
        "initialized": diagnosis.initialized,
        "counts": {outcome.value: len(diagnosis.of(outcome)) for outcome in Outcome},
        "checks": [_check_document(result) for result in diagnosis.results],
    }


def _check_document(result: Result) -> Document:
    check, found = result.check, result.found
    return {
        "id": check.id,
        "title": check.title,
        "area": check.area.value,
        "purpose": check.purpose.value,
        "scope": check.scope.value,
        "outcome": found.outcome.value,
        "cpus": sorted(found.cpus),
        "cause": result.cause if result.is_bad else None,
        "read": found.read,
        "expected": check.expected,
        "why": check.why,
        "fix": result.fix or None,
        "needs": list(check.needs),
    }


def blocks(host: Identity, diagnosis: Diagnosis, *, whole: bool) -> list[Block]:
    """The verdict, what to do, and then every check."""
    made: list[Block] = [f"{diagnosis.headline}."]
    for result in diagnosis.of(Outcome.FAIL, Outcome.WARN):
        made += ["", *_told(result, whole=whole)]
    made += ["", f"Host: {host.line}"]
    for area in Area:
        results = [result for result in diagnosis.results if result.check.area is area]
        shown = [result for result in results if whole or result.outcome not in QUIET]
        if shown:
            rows = tuple(_row(result, whole=whole) for result in shown)
            made += ["", Table(area.value, COLUMNS, rows)]
    return [*made, "", *_counts(diagnosis, whole=whole), *_not_made(diagnosis)]


def _not_made(diagnosis: Diagnosis) -> list[Block]:
    """Checks that could not be made, by reason."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for result in diagnosis.of(Outcome.NOT_CHECKED):
        reasons.setdefault((result.found.read, result.fix), []).append(result.check.id)
    lines: list[Block] = []
    for (read, fix), ids in reasons.items():
        lines += ["", f"Could not be made, {read}:", f"  {', '.join(ids)}"]
        lines += [f"  {fix}"] if fix else []
    return lines


def _told(result: Result, *, whole: bool) -> list[Block]:
    """What is wrong, what was read, and what to do."""
    check, found = result.check, result.found
    about = f" ({_cpus(result)})" if found.cpus else ""
    purpose = "" if check.purpose is Purpose.BRING_UP else f", for {check.purpose.value} alone"
    lines = [f"{WORDS[found.outcome]} {check.id}{purpose}: {result.cause}{about}"]
    lines += [f"  Read: {found.read}", f"  Do: {result.fix}"]
    if whole:
        lines += [f"  Expected: {check.expected}", f"  Why: {check.why}"]
    return list(lines)


def _cpus(result: Result) -> str:
    cpus = result.found.cpus
    return f"{'CPU' if len(cpus) == 1 else 'CPUs'} {format_cpu_list(cpus)}"


def _row(result: Result, *, whole: bool) -> Row:
    outcome = result.outcome
    purpose = result.check.purpose
    told = result.check.title
    if whole:
        told = f"{told}: {result.found.read}"
    cells = (WORDS[outcome], result.check.id, purpose.value, told)
    return Row(cells, bad=outcome is Outcome.FAIL)


def _counts(diagnosis: Diagnosis, *, whole: bool) -> list[Block]:
    told = [
        f"{len(found)} {word}"
        for outcome, word in (
            (Outcome.PASS, "passed"),
            (Outcome.WARN, "warned"),
            (Outcome.FAIL, "failed"),
            (Outcome.NOT_CHECKED, "could not be made"),
            (Outcome.SKIPPED, "skipped"),
            (Outcome.NOT_APPLICABLE, "not applicable"),
        )
        if (found := diagnosis.of(outcome))
    ]
    more = "" if whole else " (-v shows what was read, and the rest)"
    return [f"{count(len(diagnosis.results), 'check')}: {', '.join(told)}{more}"]
