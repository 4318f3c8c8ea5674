# SPDX-License-Identifier: GPL-2.0-or-later
"""Reads everything that a report holds; what can't be read is no reason to stop."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import TypeVar

from tdxhost import __version__
from tdxhost.bringup import Metadata, read_metadata
from tdxhost.doctor.diagnosis import diagnose
from tdxhost.doctor.facts import Facts, MsrReading
from tdxhost.doctor.identity import identity
from tdxhost.errors import NotRead, TdxHostError, Why
from tdxhost.fields import FieldTable
from tdxhost.findings import Finding, Judge
from tdxhost.host import Host
from tdxhost.kernel import public_state
from tdxhost.klog.diagnoser import Diagnoser
from tdxhost.recording import (
    Opener,
    Recorder,
    Recording,
    recorded_driver,
    recorded_host,
    recording_driver,
)
from tdxhost.report.about import About
from tdxhost.report.grid import Thread, packages, read_threads
from tdxhost.report.model import Kernel, Report, Tables, Unread
from tdxhost.report.verdict import headline
from tdxhost.state import State

T = TypeVar("T")

#: Modules whose parameters bear on TDX.
MODULES = ("kvm", "kvm_intel", "tdxhost")
DRIVER = "the driver"


@dataclass
class Reader:
    """Asks, and keeps what could not be had; refusals has the first error of each."""

    unread: list[Unread] = field(default_factory=list)
    refusals: dict[str, TdxHostError] = field(default_factory=dict)

    def get(self, what: str, ask: Callable[[], T]) -> T | None:
        """What is asked for; None where it can't be had."""
        try:
            return ask()
        except TdxHostError as error:
            self.note(what, error)
            return None

    def note(self, what: str, error: TdxHostError) -> None:
        """Keeps why something could not be had."""
        reason = error.reason if isinstance(error, NotRead) else error.message
        self.unread.append(Unread(what, reason, error.hint))
        self.refusals.setdefault(what, error)


def take(host: Host, open_driver: Opener, judge: Judge) -> tuple[Report, Recording]:
    """Reads a host and its driver as they are now, and keeps all that was read."""
    now = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    recording = Recording(now, __version__)
    facts = Facts(
        Recorder(host, recording),
        partial(recording_driver, open_driver, recording),
        judge=judge,
    )
    return collect(facts, taken_at=now, tdxhost=__version__), recording


def replay(recording: Recording, judge: Judge) -> Report:
    """The report of the host that a recording was made of, as it was then."""
    facts = Facts(recorded_host(recording), partial(recorded_driver, recording), judge=judge)
    return collect(facts, taken_at=recording.taken_at, tdxhost=recording.tdxhost)


def collect(facts: Facts, *, taken_at: str, tdxhost: str) -> Report:
    """Reads a host and its driver, live or recorded; taken_at is UTC, in ISO 8601."""
    reader = Reader()
    tables = Tables(FieldTable.load(), facts.table, facts.judge)
    state = reader.get(DRIVER, lambda: _state(facts))
    threads = reader.get("CPUs", lambda: _threads(facts, state)) or ()
    diagnosis = diagnose(facts)
    verdict = facts.judge.state(state) if state else None
    return Report(
        taken_at=taken_at,
        tdxhost=tdxhost,
        headline=headline(diagnosis, state, verdict),
        about=About.of(facts, sum(one.number is not None for one in packages(threads))),
        threads=threads,
        identity=identity(facts),
        diagnosis=diagnosis,
        state=state,
        verdict=verdict,
        refusal=reader.refusals.get(DRIVER),
        metadata=_metadata(facts, tables.fields, state),
        msrs=tuple(_msrs(facts, reader)),
        regions=reader.get("memory map", lambda: facts.regions) or (),
        logged_cmrs=reader.get("CMRs in the kernel's log", lambda: facts.logged_cmrs) or (),
        kernel=_kernel(facts, reader),
        unread=tuple(dict.fromkeys(reader.unread)),
        tables=tables,
    )


def _state(facts: Facts) -> State | None:
    # What everyone may see of the driver is what status tells those who may not open it.
    public_state(facts.host)
    return facts.state


def _threads(facts: Facts, state: State | None) -> tuple[Thread, ...]:
    return read_threads(facts.host, facts.present, facts.online, state.cpus if state else ())


def _metadata(facts: Facts, table: FieldTable, state: State | None) -> Metadata:
    if state is None:
        return Metadata(not_read=Finding("the driver could not be asked"))
    try:
        with facts.open_driver() as source:
            return read_metadata(source, table)
    except TdxHostError as error:
        return Metadata(not_read=Finding(error.message, error.hint))


def _msrs(facts: Facts, reader: Reader) -> Iterator[MsrReading]:
    """Every MSR of the reference; what keeps all of them out is told once."""
    for address in sorted(facts.table.by_address):
        try:
            yield facts.msr(address)
        except TdxHostError as error:
            reader.note("MSRs", error)
            if not (isinstance(error, NotRead) and error.why is Why.NOT_RECORDED):
                return


def _kernel(facts: Facts, reader: Reader) -> Kernel:
    log = reader.get("kernel log", lambda: facts.log) or ()
    return Kernel(
        options=reader.get("kernel configuration", lambda: facts.options) or {},
        parameters=reader.get("kernel command line", lambda: facts.words) or (),
        modules=dict(_module_parameters(facts.host)),
        log=tuple(log),
        findings=Diagnoser().diagnose(log).findings if log else (),
    )


def _module_parameters(host: Host) -> Iterator[tuple[str, str]]:
    for module in MODULES:
        folder = f"/sys/module/{module}/parameters"
        try:
            names = host.names(folder)
        except NotRead:
            continue
        for name in names:
            # Some can only be written.
            if value := host.text_or(f"{folder}/{name}"):
                yield f"{module}.{name}", value
