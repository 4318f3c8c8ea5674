# SPDX-License-Identifier: GPL-2.0-or-later
"""What tdxhost decode shows people: the answer first, then what it comes from."""

from collections.abc import Iterable, Iterator, Sequence

from tdxhost.cli.tables import Block, Column, Row, Table
from tdxhost.decode import Explanation, Shown, number_text, show
from tdxhost.klog.diagnosis import Diagnosis, Finding, Kind
from tdxhost.msrs import Msr
from tdxhost.words import count

FIELD_COLUMNS = (Column("BITS"), Column("VALUE", right=True), Column("NAME"))
NOTHING = "nothing that the TDX module refuses on its own"
#: Lines of the log that a finding shows; all with -v.
SHOWN_LINES = 3


def status_blocks(explained: Explanation) -> list[Block]:
    """A status in words."""
    decoded = explained.decoded
    leaf = f"{explained.leaf_name}: " if explained.leaf_name else ""
    answer = f"{leaf}{decoded.name}"
    blocks: list[Block] = [answer]
    if not explained.is_known:
        blocks.append("The reference does not have this status; its upper half says:")
    elif explained.says:
        blocks.append(f"{explained.says[0].upper()}{explained.says[1:]}")
    if explained.shown:
        blocks.append(f"In the value that was given: {'; '.join(explained.wrong) or NOTHING}")
    rows = [
        *_rows("wanted", explained.wanted),
        *_rows("means", _other_than(explained.says, explained.meaning)),
        *_rows("likely", [explained.likely_cause]),
        *_rows("do", [*explained.hints, explained.what_to_do]),
        *_rows("note", [*explained.notes, explained.class_bits]),
    ]
    columns = (Column("status"), Column(f"{decoded.value:#018x}"))
    blocks += ["", Table("", columns, tuple(rows))]
    if explained.shown:
        blocks += ["", Table("The value that was given:", FIELD_COLUMNS, _fields(explained.shown))]
    return blocks


def msr_blocks(shown: Sequence[tuple[Msr, int]]) -> list[Block]:
    """Values of MSRs, bit by bit."""
    blocks: list[Block] = []
    for msr, value in shown:
        wrong = len(msr.wrong(value))
        name = f"{msr.name} (MSR {msr.address:#x})" if msr.name else f"MSR {msr.address:#x}"
        known = "nothing is wrong with it" if msr.rules else "no value is wanted of it"
        verdict = f"{count(wrong, 'thing')} wrong with it" if wrong else known
        blocks += [""] if blocks else []
        blocks += [f"{name} = {value:#x}: {verdict}"]
        blocks += [msr.note] if msr.note else []
        blocks += [Table("", FIELD_COLUMNS, _fields(show(msr, value)))]
    return blocks


def log_blocks(diagnosis: Diagnosis, *, whole: bool) -> list[Block]:
    """The verdict, and each finding with what it comes from."""
    blocks: list[Block] = [diagnosis.verdict.title]
    if diagnosis.boots > 1:
        told = f"The log has {diagnosis.boots} boots; this is about the last that says anything."
        blocks.append(told)
    if diagnosis.left_out:
        more = count(diagnosis.left_out, "more line")
        blocks.append(f"Of lines alike, the first are looked at and the last: not so {more}.")
    for finding in diagnosis.findings:
        if finding is not diagnosis.verdict:
            blocks += ["", finding.title]
        blocks += ["", _finding_table(finding, whole=whole)]
    return blocks


def _finding_table(finding: Finding, *, whole: bool) -> Table:
    lines = finding.lines if whole else finding.lines[:SHOWN_LINES]
    quoted = [f"{line.number}: {line.text}" for line in lines]
    if more := len(finding.lines) - len(lines):
        quoted.append(f"and {count(more, 'more line')}")
    rows = (
        *_rows("shows", finding.says),
        *_rows("means", [finding.means]),
        *_numbered("likely", finding.likely),
        *_numbered("do", finding.todo),
        *_rows("line", quoted),
    )
    is_bad = finding.kind is Kind.FAILURE
    columns = (Column(str(finding.kind)), Column(finding.cause))
    return Table(
        "", columns, tuple(Row(row.cells, is_bad and row.cells[0] == "shows") for row in rows)
    )


def _other_than(said: str, meaning: str) -> list[str]:
    return [] if said == meaning else [meaning]


def _rows(label: str, texts: Iterable[str]) -> Iterator[Row]:
    """Texts one below the other, the first with a label."""
    for place, text in enumerate(filter(None, texts)):
        yield Row(("" if place else label, text))


def _numbered(label: str, texts: Sequence[str]) -> Iterator[Row]:
    if len(texts) == 1:
        return _rows(label, texts)
    return _rows(label, [f"{place}. {text}" for place, text in enumerate(texts, start=1)])


def _fields(shown: Iterable[Shown]) -> tuple[Row, ...]:
    return tuple(
        Row((row.label, number_text(row.found), _field_says(row)), bad=bool(row.wanted))
        for row in shown
    )


def _field_says(row: Shown) -> str:
    if not row.wanted:
        return row.name
    return f"{row.name or 'it'}: has to be {row.wanted}"
