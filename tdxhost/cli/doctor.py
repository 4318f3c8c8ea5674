# SPDX-License-Identifier: GPL-2.0-or-later
"""tdxhost doctor: is this host able, and if not, what has to change where."""

import argparse
import sys
from collections import Counter
from collections.abc import Sequence

from tdxhost.cli.context import Context, add_from, write_document
from tdxhost.cli.tables import Block, Column, Row, Table, show
from tdxhost.doctor.diagnosis import Diagnosis, diagnose
from tdxhost.doctor.document import doctor_document
from tdxhost.doctor.engine import Area, Outcome, Purpose, Result
from tdxhost.doctor.facts import Facts
from tdxhost.doctor.identity import Identity, identity
from tdxhost.errors import ExitCode
from tdxhost.topology import format_cpu_list
from tdxhost.words import count

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
SUMS = {
    Outcome.FAIL: "failed",
    Outcome.WARN: "warned",
    Outcome.PASS: "passed",
    Outcome.NOT_CHECKED: "could not be made",
    Outcome.SKIPPED: "skipped",
    Outcome.NOT_APPLICABLE: "not applicable",
}
AREA_COLUMNS = (Column("AREA"), Column("CHECKS"))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds --purpose and --from."""
    parser.add_argument(
        "--purpose",
        action="append",
        choices=[purpose.value for purpose in Purpose],
        help="make only the checks for this; may be given more than once (default: all)",
    )
    add_from(parser)


def run(context: Context) -> ExitCode:
    """Examines the host."""
    facts = Facts(context.memoised_host(), context.open_source)
    purposes = map(Purpose, context.arguments.purpose or Purpose)
    diagnosis = diagnose(facts, tuple(purposes))
    if not context.for_people:
        write_document(doctor_document(identity(facts), diagnosis), context.arguments.format)
    else:
        show(blocks(identity(facts), diagnosis, whole=context.verbose))
    sys.stdout.flush()
    return diagnosis.exit_code


def blocks(host: Identity, diagnosis: Diagnosis, *, whole: bool) -> list[Block]:
    """The verdict, what to do, and then every check."""
    made: list[Block] = [f"{diagnosis.headline}."]
    for result in (*diagnosis.of(Outcome.FAIL), *diagnosis.of(Outcome.WARN)):
        made += ["", *_told(result, whole=whole)]
    made += ["", f"Host: {host.line}", ""]
    made += _areas_in_full(diagnosis) if whole else [_areas(diagnosis)]
    return [*made, "", _counts(diagnosis, whole=whole), *_not_made(diagnosis)]


def _areas(diagnosis: Diagnosis) -> Table:
    """What the checks of each area came to, in a line."""
    rows = []
    for area in Area:
        results = [result for result in diagnosis.results if result.check.area is area]
        if results:
            bad = any(result.outcome is Outcome.FAIL for result in results)
            rows.append(Row((area.value, _in_short(results)), bad=bad))
    return Table("", AREA_COLUMNS, tuple(rows))


def _in_short(results: Sequence[Result]) -> str:
    told = [f"{WORDS[it.outcome]} {it.check.id}" for it in results if it.is_bad]
    return "; ".join([*told, *_numbers(results, [Outcome.WARN, Outcome.FAIL])])


def _areas_in_full(diagnosis: Diagnosis) -> list[Block]:
    """Every check with what it read."""
    made: list[Block] = []
    for area in Area:
        rows = [_row(result) for result in diagnosis.results if result.check.area is area]
        if rows:
            made += [Table(area.value, COLUMNS, tuple(rows)), ""]
    return made[:-1]


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
    named = not found.cpus or _cpus(result) in result.cause
    about = "" if named else f" ({_cpus(result)})"
    purpose = "" if check.purpose is Purpose.BRING_UP else f", for {check.purpose.value} alone"
    lines = [f"{WORDS[found.outcome]} {check.id}{purpose}: {result.cause}{about}"]
    lines += [f"  Read: {found.read}", f"  Do: {result.fix}"]
    if whole:
        lines += [f"  Expected: {check.expected}", f"  Why: {check.why}"]
    return list(lines)


def _cpus(result: Result) -> str:
    cpus = result.found.cpus
    return f"{'CPU' if len(cpus) == 1 else 'CPUs'} {format_cpu_list(cpus)}"


def _row(result: Result) -> Row:
    told = f"{result.check.title}: {result.found.read}"
    cells = (WORDS[result.outcome], result.check.id, result.check.purpose.value, told)
    return Row(cells, bad=result.outcome is Outcome.FAIL)


def _counts(diagnosis: Diagnosis, *, whole: bool) -> str:
    more = "" if whole else " (-v shows each, and what was read)"
    told = ", ".join(_numbers(diagnosis.results))
    return f"{count(len(diagnosis.results), 'check')}: {told}{more}"


def _numbers(results: Sequence[Result], but: Sequence[Outcome] = ()) -> list[str]:
    """How many came to what."""
    numbers = Counter(result.outcome for result in results)
    return [
        f"{numbers[outcome]} {word}"
        for outcome, word in SUMS.items()
        if numbers[outcome] and outcome not in but
    ]
