# SPDX-License-Identifier: GPL-2.0-or-later
"""The pytest plugin that runs one boot of a plan, and the fixtures that its tests take.

Fixtures, for the suite's own tests and for a lab's:

- ``driver``: the device, open for this test; ``open_driver`` opens it once more
- ``host``: files, MSRs and log of this host; ``topology``: its CPUs; ``cpus``: those that are
  online and that this process may run on, sorted; ``with pin(cpu):`` runs on one of them
- ``snapshot``: ``snapshot()`` reads all that there is of host and driver now, as report does
  (report/model.py): state, diagnosis, MSRs, memory map
- ``options``: what the plan says about this test, defaults filled in; ``machine`` and ``limits``:
  what it says of the machine
- ``rng``: random numbers, the same ones for the same ``--seed``
- ``measure``: ``measure(name, unit, value)`` or ``measure(name, unit, by_cpu={…})``, kept with the
  result
- ``earlier``: ``earlier(id)``, results of this run so far
- ``progress``: ``progress(text)``, what a long test is doing
- ``judge``, ``fields``: completion statuses in words, metadata fields by name
"""

import random
import signal
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from types import FrameType
from typing import Any

import pytest

from tdxhost.device import Driver
from tdxhost.errors import NotRead, TdxHostError
from tdxhost.fields import FieldTable
from tdxhost.findings import Judge
from tdxhost.host import Host, LogTail
from tdxhost.report.collect import take
from tdxhost.report.model import Report
from tdxhost.topology import Topology, allowed_cpus, pinned
from tdxhost.validation.evidence import gather
from tdxhost.validation.plan import Limits, Machine
from tdxhost.validation.requirement import CouldNotRun, NotApplicable
from tdxhost.validation.result import BAD, Evidence, Measured, Outcome, TestResult, Unit
from tdxhost.validation.session import Opener, Session

NOT_RUN = "it was not run: a hook of a conftest.py or of a plugin took it over"


class TookTooLong(Exception):
    """A test was not over in its time."""


def now() -> str:
    """UTC, in ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """TookTooLong in the body when it takes longer; a call that can't be interrupted ends first."""

    def expired(_number: int, _frame: FrameType | None) -> None:
        raise TookTooLong(f"it was not over after {seconds:g} s")

    before = signal.signal(signal.SIGALRM, expired)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class Plugin:
    """Runs tests of a session in the order of its plan, and keeps what they came to.

    indexes are those of the tests to run. decide says of each, when its turn has come, whether
    it can run: None, or what it came to instead.
    """

    def __init__(
        self,
        session: Session,
        indexes: Sequence[int],
        decide: Callable[[int], tuple[Outcome, str] | None],
    ) -> None:
        self._session = session
        self._indexes = indexes
        self._decide = decide
        self._phases: list[tuple[pytest.CallInfo[None], pytest.TestReport]] = []

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Runs the plan's tests instead of all that were collected."""
        items = {item.name: item for item in session.items}
        for index in self._indexes:
            told = self._decide(index)
            if told is not None:
                self._session.settle(index, *told)
                continue
            self._run(index, items[self._session.results[index].id])
        return True

    def _run(self, index: int, item: pytest.Item) -> None:
        self._phases = []
        with self._session.running(index, now()), log_tail() as log:
            begun = time.monotonic()
            # None: fixtures end with the test, whichever comes next.
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=None)
            result = replace(
                self._judged(index),
                duration_s=round(time.monotonic() - begun, 3),
                measured=tuple(self._session.measured),
            )
            if result.outcome in BAD:
                # Gathering takes a while, on a machine that has just shown a fault.
                self._session.journal.ended(index, result)
                details = result.evidence.details if result.evidence else ""
                lines = log.lines() if log else ()
                result = replace(result, evidence=gather(self._session, details, lines))
            self._session.finish(index, result)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Keeps how setup, the test and teardown ended."""
        report = yield
        self._phases.append((call, report))
        return report

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self) -> Generator[None, None, None]:
        """Ends a test that takes too long."""
        with at_most(self._session.time_s):
            yield

    def _judged(self, index: int) -> TestResult:
        """What the phases come to: the first that failed, else the first that gave a reason."""
        result = self._session.results[index]
        ended = [
            (*judged(call.excinfo.value, report.when), report.longreprtext)
            for call, report in self._phases
            if call.excinfo is not None
        ]
        if not ended and not any(report.when == "call" for _, report in self._phases):
            ended = [(Outcome.BROKEN, NOT_RUN, "")]
        if not ended:
            return replace(result, outcome=Outcome.PASSED)
        # Of several that are as bad, min gives the first.
        outcome, message, details = min(ended, key=lambda one: one[0] not in BAD)
        evidence = Evidence(details=details) if outcome in BAD else None
        return replace(result, outcome=outcome, message=message, evidence=evidence)

    @pytest.fixture
    def open_driver(self) -> Opener:
        """Opens the device once more."""
        return self._session.open_driver

    @pytest.fixture
    def driver(self) -> Iterator[Driver]:
        """The device, open for this test."""
        with self._session.open_driver() as driver:
            yield driver

    @pytest.fixture
    def host(self) -> Host:
        """Files, MSRs and log of this host."""
        return self._session.host

    @pytest.fixture
    def topology(self) -> Topology:
        """CPUs of this host."""
        return Topology(self._session.host)

    @pytest.fixture
    def cpus(self) -> tuple[int, ...]:
        """CPUs that are online and that this process may run on."""
        return tuple(sorted(Topology(self._session.host).online() & allowed_cpus()))

    @pytest.fixture
    def pin(self) -> Callable[[int], AbstractContextManager[None]]:
        """Runs a body on a CPU."""
        return pinned

    @pytest.fixture
    def snapshot(self) -> Callable[[], Report]:
        """Reads all that there is of host and driver."""
        session = self._session
        return lambda: take(session.host, session.open_driver, session.judge)[0]

    @pytest.fixture
    def options(self) -> Mapping[str, Any]:
        """What the plan says about this test."""
        return self._session.item.options

    @pytest.fixture
    def machine(self) -> Machine:
        """What the plan says that the machine is."""
        return self._session.plan.machine

    @pytest.fixture
    def limits(self) -> Limits:
        """What the plan says that it takes at most."""
        return self._session.plan.limits

    @pytest.fixture
    def rng(self) -> random.Random:
        """Random numbers of this test's own."""
        return self._session.rng()

    @pytest.fixture
    def judge(self) -> Judge:
        """What completion statuses and findings mean."""
        return self._session.judge

    @pytest.fixture
    def fields(self) -> FieldTable:
        """The TDX module's metadata fields."""
        return FieldTable.load()

    @pytest.fixture
    def progress(self) -> Callable[[str], None]:
        """Says what a long test is doing."""
        return self._session.watcher.says

    @pytest.fixture
    def earlier(self) -> Callable[[str], list[TestResult]]:
        """Results of this run so far, by id."""
        return lambda wanted: [
            one for one in self._session.results if one.id == wanted and one.started_at
        ]

    @pytest.fixture
    def measure(self) -> Callable[..., None]:
        """Keeps what was measured with the result."""

        def keep(
            name: str,
            unit: Unit,
            value: int | None = None,
            *,
            by_cpu: Mapping[int, int] | None = None,
        ) -> None:
            if any(one.name == name for one in self._session.measured):
                raise ValueError(f"{name} was measured before in this test")
            made = Measured(name=name, unit=unit, value=value, by_cpu=dict(by_cpu or {}))
            self._session.measured.append(made)

        return keep


@contextmanager
def log_tail() -> Iterator[LogTail | None]:
    """What the kernel logs meanwhile; None where that can't be read."""
    try:
        tail = LogTail()
    except NotRead:
        yield None
        return
    with tail:
        yield tail


def judged(error: BaseException, when: str) -> tuple[Outcome, str]:
    """What an exception of a test's means: setup and teardown can't fail, but break."""
    if isinstance(error, NotApplicable):
        return Outcome.NOT_APPLICABLE, str(error)
    if isinstance(error, CouldNotRun):
        return Outcome.COULD_NOT_RUN, str(error)
    if isinstance(error, pytest.skip.Exception):
        return Outcome.COULD_NOT_RUN, str(error.msg)
    if isinstance(error, AssertionError | pytest.fail.Exception) and when == "call":
        return Outcome.FAILED, str(error)
    if isinstance(error, TdxHostError):
        said = f"{error.message}\n{error.hint}" if error.hint else error.message
        return (Outcome.FAILED if when == "call" else Outcome.BROKEN), said
    return Outcome.BROKEN, f"{type(error).__name__}: {error}"
