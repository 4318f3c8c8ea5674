# SPDX-License-Identifier: GPL-2.0-or-later
"""The journal of a run: written as it goes, so that a crash leaves all that was known.

STATE/validate/RUN/journal.jsonl has an event a line, each on disk before the run goes on:
"run" with the document of a run without results, "boot" where tests begin or go on, "begun" and
"ended" with a test's number in the plan, "pause" where it was interrupted in good order, "resumed"
where it goes on by itself after a reboot, "over". STATE/validate/touched has the id of the boot in
which the TDX module was last seen to be no longer untouched.
"""

import fcntl
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO

from tdxhost.errors import BadData, TdxHostError
from tdxhost.report.output import replace_file
from tdxhost.validation.result import Outcome, Run, TestResult, run_document, test_document

JOURNAL = "journal.jsonl"
PLAN = "plan.yaml"
TOUCHED = "touched"
LATEST = "latest"

LOST = (
    "it was running when the run came to a sudden end: a crash, a reset or a power failure; "
    "the kernel log of that boot may say more (journalctl -k -b -1)"
)


@dataclass(frozen=True, slots=True)
class Kept:
    """What a journal has of a run: how far it came, and in which boot a test last ran.

    resumed are the boots of the machine in which it went on by itself.
    """

    run: Run
    boot_id: str
    arguments: Mapping[str, Any]
    over: bool
    resumed: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Journal:
    """The folder of a run; top is that of all runs."""

    top: Path
    folder: Path

    @classmethod
    def create(cls, top: Path, run: Run, plan_text: str, arguments: Mapping[str, Any]) -> "Journal":
        """Begins the journal of a new run; arguments are needed to go on with it."""
        try:
            top.mkdir(parents=True, exist_ok=True)
            folder = top / run.id
            folder.mkdir()
        except OSError as error:
            raise _not_writable(top, error) from error
        journal = cls(top, folder)
        replace_file(folder / PLAN, plan_text.encode())
        journal.add("run", document=run_document(run), arguments=dict(arguments))
        replace_file(top / LATEST, f"{run.id}\n".encode())
        return journal

    @classmethod
    def latest(cls, top: Path) -> "Journal":
        """The journal of the run that was begun last."""
        try:
            name = (top / LATEST).read_text(encoding="utf-8", errors="replace").strip()
        except FileNotFoundError:
            hint = "Begin one: sudo tdxhost validate PLAN"
            raise TdxHostError(f"no run of a plan is kept in {top}", hint) from None
        except OSError as error:
            raise _not_writable(top, error) from error
        return cls(top, top / name)

    def add(self, event: str, **members: Any) -> None:
        """Adds an event; it is on disk afterwards."""
        line = json.dumps({"event": event, **members})
        try:
            with (self.folder / JOURNAL).open("ab+") as file:
                _cut_torn_line(file)
                file.write(f"{line}\n".encode())
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise _not_writable(self.folder, error) from error

    def begun(self, index: int, started_at: str) -> None:
        """A test begins."""
        self.add("begun", test=index, at=started_at)

    def ended(self, index: int, result: TestResult) -> None:
        """A test has ended, or could not begin."""
        self.add("ended", test=index, result=test_document(result))

    def touch(self, boot_id: str) -> None:
        """The TDX module is no longer untouched in this boot."""
        if not self.is_touched(boot_id):
            replace_file(self.top / TOUCHED, f"{boot_id}\n".encode())

    def is_touched(self, boot_id: str) -> bool:
        """Whether the TDX module was seen to be no longer untouched in this boot."""
        try:
            return (self.top / TOUCHED).read_text(encoding="utf-8").strip() == boot_id
        except OSError:
            return False

    def plan_text(self) -> bytes:
        """The plan as it was when the run began."""
        try:
            return (self.folder / PLAN).read_bytes()
        except OSError as error:
            raise _not_writable(self.folder, error) from error

    def read(self) -> Kept:
        """What was kept; BadData where it makes no sense."""
        path = self.folder / JOURNAL
        try:
            return _replayed(_events(path.read_bytes()))
        except OSError as error:
            raise _not_writable(self.folder, error) from error
        except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
            raise BadData(str(path), "the journal", f"{error!r}") from error


@contextmanager
def alone(top: Path) -> Iterator[None]:
    """No other run at the same time: TdxHostError where there is one."""
    try:
        top.mkdir(parents=True, exist_ok=True)
        fd = os.open(top, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise _not_writable(top, error) from error
    try:
        _lock(fd)
        yield
    finally:
        os.close(fd)


def _lock(fd: int) -> None:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        hint = "One that goes on by itself is watched with: journalctl -fu tdxhost-validate"
        raise TdxHostError("another tdxhost validate is running", hint) from None


def _events(content: bytes) -> list[dict[str, Any]]:
    """The events; a line without an end was torn by a crash, and nothing came after it."""
    return [json.loads(line) for line in content.split(b"\n")[:-1]]


def _cut_torn_line(file: BinaryIO) -> None:
    """What comes next must not stand behind half a line."""
    file.seek(0)
    content = file.read()
    file.truncate(content.rfind(b"\n") + 1)


def _replayed(events: Iterable[Mapping[str, Any]]) -> Kept:
    first, *rest = events
    replay = _Replay(Run.of(first["document"]))
    for event in rest:
        replay.take(event)
    replay.lose()
    run = replace(replay.run, tests=tuple(replay.results))
    resumed = frozenset(replay.resumed)
    return Kept(run, replay.boot_id, dict(first["arguments"]), replay.over, resumed)


@dataclass
class _Replay:
    """A run as far as the events up to now tell it."""

    run: Run
    results: list[TestResult] = field(init=False)
    running: int | None = None
    boot_id: str = ""
    resumed: set[str] = field(default_factory=set)
    over: bool = False

    def __post_init__(self) -> None:
        self.results = list(self.run.tests)

    def take(self, event: Mapping[str, Any]) -> None:
        """Goes on by one event; what this version does not know says nothing of results."""
        match event["event"]:
            case "boot":
                self.lose()
                self.boot_id = event["boot_id"]
            case "resumed":
                self.resumed.add(event["boot_id"])
            case "begun":
                self.lose()
                index = self.running = event["test"]
                self.results[index] = replace(self.results[index], started_at=event["at"])
            case "ended":
                self.running = None
                self.results[event["test"]] = TestResult.of(event["result"])
            case "pause":
                self.running = None
            case "over":
                self.over = True
                self.run = replace(self.run, host=event["host"], ended_at=event["at"])

    def lose(self) -> None:
        """The test that runs did not come to its end."""
        if self.running is not None:
            lost = replace(self.results[self.running], outcome=Outcome.LOST, message=LOST)
            self.results[self.running] = lost
            self.running = None


def _not_writable(path: Path, error: OSError) -> TdxHostError:
    hint = "Run it as root, or name another folder: --state DIR"
    return TdxHostError(f"{error.filename or path}: {error.strerror}", hint)
