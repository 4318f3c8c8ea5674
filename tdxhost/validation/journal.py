# SPDX-License-Identifier: GPL-2.0-or-later
"""The journal of a run: written as it goes, so that a crash leaves all that was known.

STATE/validate/RUN/journal.jsonl has an event a line, each on disk before the run goes on:
"run" with the document of a run without results, "begun" and "ended" with a test's number in
the plan, "pause" where it was interrupted in good order, "over". STATE/validate/touched has the
id of the boot in which the TDX module was last seen to be no longer untouched.
"""

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

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
    """What a journal has of a run: how far it came, and in which boot a test last ran."""

    run: Run
    boot_id: str
    arguments: Mapping[str, Any]
    over: bool


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
            name = (top / LATEST).read_text(encoding="utf-8").strip()
        except FileNotFoundError:
            hint = "Begin one: sudo tdxhost validate PLAN"
            raise TdxHostError(f"no run of a plan is kept in {top}", hint) from None
        except OSError as error:
            raise _not_writable(top, error) from error
        return cls(top, top / name)

    def add(self, event: str, **members: Any) -> None:
        """Adds an event; it is on disk afterwards."""
        line = json.dumps({"event": event, **members}, ensure_ascii=False)
        try:
            with (self.folder / JOURNAL).open("a", encoding="utf-8") as file:
                file.write(f"{line}\n")
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

    def plan_text(self) -> str:
        """The plan as it was when the run began."""
        return (self.folder / PLAN).read_text(encoding="utf-8")

    def read(self) -> Kept:
        """What was kept; BadData where it makes no sense."""
        path = self.folder / JOURNAL
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
            return _replayed(_events(lines))
        except OSError as error:
            raise _not_writable(self.folder, error) from error
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise BadData(str(path), "the journal", f"{error!r}") from error


def _events(lines: list[str]) -> list[dict[str, Any]]:
    """The events; a crash may have cut the last line."""
    whole = [json.loads(line) for line in lines[:-1]]
    try:
        last = [json.loads(line) for line in lines[-1:]]
    except ValueError:
        last = []
    return whole + last


def _replayed(events: Iterable[Mapping[str, Any]]) -> Kept:
    first, *rest = events
    run = Run.of(first["document"])
    results, running, boot_id, over = list(run.tests), None, "", False
    for event in rest:
        match event["event"]:
            case "boot":
                boot_id = event["boot_id"]
            case "begun":
                running = event["test"]
                results[running] = replace(results[running], started_at=event["at"])
            case "ended":
                results[event["test"]] = TestResult.of(event["result"])
                running = None
            case "pause":
                running = None
            case "over":
                over = True
    if running is not None:
        results[running] = replace(results[running], outcome=Outcome.LOST, message=LOST)
    return Kept(replace(run, tests=tuple(results)), boot_id, first["arguments"], over)


def _not_writable(path: Path, error: OSError) -> TdxHostError:
    hint = "Run it as root, or name another folder: --state DIR"
    return TdxHostError(f"{error.filename or path}: {error.strerror}", hint)
