# SPDX-License-Identifier: GPL-2.0-or-later
"""A report as one HTML file that needs nothing beside it."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tdxhost.doctor.engine import Area, Outcome, Result
from tdxhost.doctor.facts import MsrReading
from tdxhost.documents import build_date
from tdxhost.klog.diagnosis import Kind
from tdxhost.leaves import leaf_name
from tdxhost.msrs import BitField, WrongBits
from tdxhost.records import Code, CpuResult, CpuState, RangeKind, StepResult
from tdxhost.report.grid import Core, Package, Thread, packages
from tdxhost.report.html import FOLDER, render
from tdxhost.report.model import Report
from tdxhost.report.space import NAMES, Drawing, draw, tracks
from tdxhost.report.timeline import Timeline, timeline
from tdxhost.report.words import metadata_text
from tdxhost.state import Outcome as Attempt
from tdxhost.topology import format_cpu_list
from tdxhost.wording import cpus_named
from tdxhost.words import count, duration, register, size, span

TEMPLATE = "report.html.j2"

#: How a CPU stands, as the grid has it: symbol and words.
STANDS = {
    "enabled": ("✓", "enabled"),
    "failed": ("✗", "failed"),
    "offline": ("-", "offline"),
    "untried": ("·", "not tried yet"),
    "online": ("○", "online; the driver was not asked"),
}
OF_STATE = {
    CpuState.ENABLED: "enabled",
    CpuState.FAILED: "failed",
    CpuState.OFFLINE: "offline",
}
LEVELS = {
    Outcome.PASS: ("✓", "Pass"),
    Outcome.WARN: ("!", "Warning"),
    Outcome.FAIL: ("✗", "Fail"),
    Outcome.NOT_APPLICABLE: ("-", "Not applicable"),
    Outcome.NOT_CHECKED: ("?", "Not checked"),
    Outcome.SKIPPED: ("↷", "Skipped"),
}
#: How many came to what.
COUNTED = {
    Outcome.PASS: "passed",
    Outcome.WARN: "warned",
    Outcome.FAIL: "failed",
    Outcome.NOT_APPLICABLE: "not applicable",
    Outcome.NOT_CHECKED: "could not be made",
    Outcome.SKIPPED: "skipped",
}
#: What the log shows, in the tones of checks.
TONES = {
    Kind.FAILURE: Outcome.FAIL,
    Kind.BENIGN: Outcome.PASS,
    Kind.CONTEXT: Outcome.NOT_APPLICABLE,
}
AREAS = {
    Area.PROCESSOR: "Processor",
    Area.FIRMWARE: "Firmware",
    Area.MEMORY: "Memory",
    Area.KERNEL: "Kernel",
    Area.MODULE: "TDX module",
    Area.KVM: "KVM",
}


@dataclass(frozen=True, slots=True)
class Cell:
    """A CPU of the grid; title is all that there is to say of it."""

    cpu: int
    stands: str
    symbol: str
    title: str


@dataclass(frozen=True, slots=True)
class PackageView:
    """A package of the grid: cores, each with its threads."""

    title: str
    summary: str
    cores: tuple[tuple[Cell, ...], ...]


@dataclass(frozen=True, slots=True)
class CpuRow:
    """A CPU of the table."""

    thread: Thread
    cell: Cell
    result: CpuResult | None
    says: str


@dataclass(frozen=True, slots=True)
class StepView:
    """A step of the timeline."""

    step: StepResult
    x: float
    width: float
    says: str


@dataclass(frozen=True, slots=True)
class MsrValue:
    """A value of an MSR, bit by bit, with what is wrong with it."""

    value: int
    cpus: str
    bits: tuple[tuple[BitField, int], ...]
    wrong: tuple[WrongBits, ...]


@dataclass(frozen=True, slots=True)
class MsrView:
    """An MSR; differs: a CPU has another value than the others, though TDX compares them."""

    reading: MsrReading
    note: str
    values: tuple[MsrValue, ...]
    faults: str
    differs: bool

    @property
    def is_bad(self) -> bool:
        """Whether somebody has to look at it."""
        return self.differs or any(value.wrong for value in self.values)


def page(report: Report) -> str:
    """The report as HTML; no network, no other file."""
    return render(FOLDER / TEMPLATE, view(report), FILTERS)


def view(report: Report) -> dict[str, Any]:
    """What the template is given."""
    rows = {row.thread.cpu: row for row in _cpu_rows(report)}
    memory = report.state.memory if report.state else None
    drawn = draw(tracks(memory, report.regions, report.logged_cmrs))
    steps = report.state.steps if report.state else ()
    return {
        "title": "TDX host report",
        "taken_at": report.taken_at,
        "tdxhost": report.tdxhost,
        "document": "tdxhost report --format json",
        "report": report,
        "level": LEVELS[report.headline.level],
        "levels": LEVELS,
        "counted": COUNTED,
        "tones": TONES,
        "stands": STANDS,
        "Outcome": Outcome,
        "Kind": RangeKind,
        "packages": [_package(one, rows) for one in packages(report.threads)],
        "cpu_rows": list(rows.values()),
        "findings": report.verdict.findings if report.verdict else (),
        "bad_results": list(_bad_results(report)),
        "areas": [(AREAS[area], found) for area, found in _by_area(report.diagnosis.results)],
        "counts": _counts(report.diagnosis.results),
        "space": drawn,
        "legend": _legend(drawn),
        "memory": memory,
        "steps": _steps(report, timeline(steps)),
        "cuts": timeline(steps).cuts,
        "msrs": [_msr(report, reading) for reading in report.msrs],
        "features": _features(report),
    }


def _bad_results(report: Report) -> Iterator[Result]:
    """Checks that did not pass, but for those that repeat what the driver found."""
    told = [found.message for found in report.verdict.findings] if report.verdict else []
    for result in report.diagnosis.results:
        if result.is_bad and not any(message in result.cause for message in told):
            yield result


def _cpu_rows(report: Report) -> Iterator[CpuRow]:
    results = {cpu.cpu: cpu for cpu in report.state.cpus} if report.state else {}
    for thread in report.threads:
        result = results.get(thread.cpu)
        says = _says(report, result) if result and result.state is CpuState.FAILED else ""
        yield CpuRow(thread, _cell(thread, result, says), result, says)


def _cell(thread: Thread, result: CpuResult | None, says: str) -> Cell:
    stands = _stands(thread, result)
    symbol, words = STANDS[stands]
    title = f"CPU {thread.cpu}: {words}"
    if result and result.tried:
        title += f", {duration(result.duration_ns)}"
    if says:
        title += f". {says}"
    return Cell(thread.cpu, stands, symbol, title)


def _stands(thread: Thread, result: CpuResult | None) -> str:
    if result is None:
        return "online" if thread.online else "offline"
    return OF_STATE.get(result.state, "untried")


def _says(report: Report, result: CpuResult | StepResult) -> str:
    """How a CPU or a step failed."""
    judge, attempt = report.tables.judge, Attempt.of(result)
    if attempt.code is Code.SEAMCALL:
        return f"{leaf_name(attempt.leaf)}: {judge.decode(attempt).label}"
    about = "" if result.cpu is None else f"CPU {result.cpu}"
    return judge.explain(attempt, cpu=about).message


def _package(package: Package, rows: dict[int, CpuRow]) -> PackageView:
    number = "Package unknown" if package.number is None else f"Package {package.number}"
    cells = [rows[cpu].cell for cpu in package.cpus]
    kinds = {kind: sum(cell.stands == kind for cell in cells) for kind in STANDS}
    told = ", ".join(f"{number} {STANDS[kind][1]}" for kind, number in kinds.items() if number)
    summary = f"{count(len(package.cores), 'core')}, {count(len(cells), 'thread')}: {told}"
    return PackageView(number, summary, tuple(_core(core, rows) for core in package.cores))


def _core(core: Core, rows: dict[int, CpuRow]) -> tuple[Cell, ...]:
    return tuple(rows[thread.cpu].cell for thread in core.threads)


def _by_area(results: Sequence[Result]) -> Iterator[tuple[Area, list[Result]]]:
    for area in Area:
        if found := [one for one in results if one.check.area is area]:
            yield area, found


def _counts(results: Sequence[Result]) -> list[tuple[Outcome, int]]:
    found = [(level, sum(one.outcome is level for one in results)) for level in LEVELS]
    return [(level, number) for level, number in found if number]


def _steps(report: Report, drawn: Timeline) -> list[StepView]:
    return [
        StepView(bar.step, bar.x, bar.width, _says(report, bar.step) if bar.step.error else "done")
        for bar in drawn.bars
    ]


def _msr(report: Report, reading: MsrReading) -> MsrView:
    msr = report.tables.msrs.get(reading.address)
    groups = reading.groups()
    values = tuple(
        MsrValue(value, format_cpu_list(cpus), msr.describe(value), msr.wrong(value))
        for value, cpus in groups
    )
    differs = msr.compared and len(groups) + bool(reading.faults) > 1
    return MsrView(reading, msr.note, values, format_cpu_list(reading.faults), differs)


#: What parts of the drawing are called, in the order of the legend.
KINDS = {
    "ram": "System RAM",
    "outside": "System RAM outside every CMR",
    "cmr": "CMR",
    "tdmr": "TDMR",
    "reserved": "reserved area",
    "pamt": "PAMT",
    "other": "other memory",
}


def _legend(drawn: Drawing | None) -> list[tuple[str, str]]:
    kinds = drawn.kinds if drawn else frozenset()
    return [(kind, name) for kind, name in KINDS.items() if kind in kinds]


def _features(report: Report) -> list[str]:
    if report.state is None or not report.state.info.has_module:
        return []
    return report.tables.fields.feature_names(report.state.info.tdx_features0)


FILTERS: dict[str, Callable[..., Any]] = {
    "kind": NAMES.__getitem__,
    "metadata": metadata_text,
    "build_date": build_date,
    "count": count,
    "cpus_named": cpus_named,
    "duration": duration,
    "register": register,
    "size": size,
    "span": span,
}
