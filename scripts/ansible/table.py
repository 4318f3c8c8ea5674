#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A table of hosts by test, from what the playbook collected.

DIR/HOST/result.json is what tdxhost validate came to there, DIR/HOST/ended.json how the playbook
ended there. Exit codes: 0 every host passed; 1 one did not, or is not known; 2 usage.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import textwrap
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO

SCHEMA = "tdxhost/1"
GAP = "  "
#: Width of what is piped, unless COLUMNS says otherwise.
PIPE_WIDTH = 80
#: The list of what did not pass is not made narrower than this.
MIN_LIST = 16

# Outcomes of tests that leave a host passed, where there is one of the first.
_PASSED = "passed"
_WELL = frozenset({_PASSED, "not-applicable"})

# As a cell has them; capitals are what counts against a host.
_WORDS = {
    "passed": "passed",
    "failed": "FAILED",
    "broken": "BROKEN",
    "could-not-run": "could not run",
    "not-applicable": "n/a",
    "needs-reboot": "needs reboot",
    "not-run": "not run",
    "lost": "LOST",
    "": "-",
}


# What is red where there are colours.
_LOUD = ("FAILED", "BROKEN", "LOST", "UNREACHABLE", "STOPPED", "UNREADABLE", "NO RESULT")


@dataclass(frozen=True, slots=True)
class Test:
    """A test of a plan on one host."""

    __test__ = False  # not a test of pytest's

    boot: str
    title: str
    outcome: str
    message: str = ""


@dataclass(frozen=True, slots=True)
class Host:
    """What a host came to.

    outcome: that of its run, or unreachable, stopped (the playbook failed there, or the suite did
    not come to its end), lost (the playbook came to no end there), no-result, unreadable.
    """

    name: str
    outcome: str
    message: str = ""
    plan: str = ""
    tests: tuple[Test, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether all is well."""
        return self.outcome == _PASSED

    def count(self, outcome: str) -> int:
        """How many tests came to an outcome."""
        return sum(test.outcome == outcome for test in self.tests)


def read_hosts(folder: Path) -> list[Host]:
    """Every host that has a folder below folder, by name."""
    return [read_host(path) for path in sorted(folder.iterdir()) if path.is_dir()]


def read_host(folder: Path) -> Host:
    """What a host came to, from its folder; what can't be read is never passed."""
    name = folder.name
    try:
        ended = _document(folder / "ended.json")
        result = _document(folder / "result.json")
        tests = tuple(_tests(result or {}))
    except (OSError, ValueError, KeyError, TypeError) as error:
        return Host(name, "unreadable", f"what was collected can't be read: {error!r}")
    outcome, message = _judge(ended, result, tests)
    plan = str((result or {}).get("plan", {}).get("name", ""))
    return Host(name, outcome, _line(message), _line(plan), tests)


def _document(file: Path) -> dict[str, Any] | None:
    """A JSON document, None where there is none; ValueError for another schema."""
    if not file.exists():
        return None
    document = json.loads(file.read_text(encoding="utf-8"))
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        raise ValueError(f"{file.name} is not of schema {SCHEMA}")
    return document


def _tests(result: Mapping[str, Any]) -> Iterable[Test]:
    for test in result.get("tests", []):
        options = ", ".join(f"{name}={value}" for name, value in test.get("options", {}).items())
        title = f"{test['id']} ({options})" if options else test["id"]
        message = test.get("message") or ""
        yield Test(
            _line(test.get("boot", "")), _line(title), _line(test["outcome"]), _line(message)
        )


def _judge(
    ended: Mapping[str, Any] | None, result: Mapping[str, Any] | None, tests: Sequence[Test]
) -> tuple[str, str]:
    """Outcome and message: how the playbook ended first, then what the suite says."""
    state = (ended or {}).get("state", "ended")
    code = (ended or {}).get("exit_code")
    if state != "ended":
        return str(state), str((ended or {}).get("message") or "")
    if result is None:
        return "no-result", "there is no result.json"
    outcome = str(result.get("outcome"))
    if outcome == _PASSED and (code not in (None, 0) or not _all_well(result, tests)):
        return "unreadable", "result.json says passed, and the rest does not"
    if outcome != _PASSED and result.get("needs_reboot"):
        return outcome, "tests are left that need a reboot"
    return outcome, ""


def _all_well(result: Mapping[str, Any], tests: Sequence[Test]) -> bool:
    outcomes = {test.outcome for test in tests}
    return outcomes <= _WELL and _PASSED in outcomes and not result.get("needs_reboot")


def _line(text: object) -> str:
    """Text of a host's on one line, without what a terminal takes for commands."""
    shown = "".join(char if char.isprintable() else " " for char in str(text))
    return " ".join(shown.split())


def document(hosts: Sequence[Host]) -> dict[str, Any]:
    """All hosts, for programs."""
    shown = [{**asdict(host), "passed": host.passed} for host in hosts]
    return {"schema": SCHEMA, "passed": all_passed(hosts), "hosts": shown}


def all_passed(hosts: Sequence[Host]) -> bool:
    """Whether there are hosts, and each has passed."""
    return bool(hosts) and all(host.passed for host in hosts)


def lines(hosts: Sequence[Host], width: int) -> list[str]:
    """The table, what did not pass and why, and the sum of it."""
    table = _grid(_by_test(hosts))
    if max(map(len, table), default=0) > width:
        table = _by_host(hosts, width)
    reasons = [part for reason in _reasons(hosts) for part in _wrap(reason, width)]
    blank = [""] if reasons else []
    return [*table, *blank, *reasons, "", *_wrap(_sum(hosts), width)]


def _by_test(hosts: Sequence[Host]) -> list[list[str]]:
    """A row for each test, a column for each host; boots are told where there are several."""
    found = {(test.boot, test.title): None for host in hosts for test in host.tests}
    boots = len({boot for boot, _ in found}) > 1
    outcomes = [{(test.boot, test.title): test.outcome for test in host.tests} for host in hosts]
    rows = [["BOOT", "TEST", *(host.name for host in hosts)]]
    rows += [[*key, *(_word(of.get(key, "")) for of in outcomes)] for key in found]
    rows.append(["", "HOST", *(_word(host.outcome, host=True) for host in hosts)])
    return rows if boots else [row[1:] for row in rows]


def _word(outcome: str, *, host: bool = False) -> str:
    if host:
        return outcome if outcome == _PASSED else outcome.upper().replace("-", " ")
    return _WORDS.get(outcome, outcome)


def _grid(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    padded = [[cell.ljust(size) for cell, size in zip(row, widths, strict=True)] for row in rows]
    return [GAP.join(row).rstrip() for row in padded]


def _by_host(hosts: Sequence[Host], width: int) -> list[str]:
    """A row for each host: how many tests passed, and which did not."""
    rows = [["HOST", "RESULT", "PASSED"]]
    rows += [
        [host.name, _word(host.outcome, host=True), f"{host.count(_PASSED)} of {len(host.tests)}"]
        for host in hosts
    ]
    others = ["NOT PASSED", *(_others(host) for host in hosts)]
    grid = _grid(rows)
    lead = max(map(len, grid)) + len(GAP)
    made: list[str] = []
    for start, rest in zip(grid, others, strict=True):
        parts = textwrap.wrap(rest, max(width - lead, MIN_LIST), break_long_words=False) or [""]
        made.append((start.ljust(lead) + parts[0]).rstrip())
        made += [" " * lead + part for part in parts[1:]]
    return made


def _others(host: Host) -> str:
    told = [f"{test.title} {_word(test.outcome)}" for test in host.tests if test.outcome != _PASSED]
    return ", ".join(told)


def _reasons(hosts: Sequence[Host]) -> Iterable[str]:
    for host in hosts:
        if host.message:
            yield f"{host.name}: {host.message}"
        for test in host.tests:
            if test.outcome not in _WELL and test.message:
                yield f"{host.name}: {test.title}: {test.message}"


def _sum(hosts: Sequence[Host]) -> str:
    plans = sorted({host.plan for host in hosts if host.plan})
    counts = Counter(host.outcome for host in hosts)
    told = ", ".join(f"{count} {outcome}" for outcome, count in counts.items())
    number = f"{len(hosts)} host{'' if len(hosts) == 1 else 's'}"
    plan = f", plan {' and '.join(plans)}" if plans else ""
    return f"{number}{plan}: {told or 'nothing was collected'}"


def _wrap(text: str, width: int) -> list[str]:
    return textwrap.wrap(
        text, width, subsequent_indent=GAP, break_long_words=False, break_on_hyphens=False
    )


def show(hosts: Sequence[Host], stream: TextIO) -> None:
    """Writes the table, coloured where that is a terminal that wants it."""
    made = lines(hosts, shutil.get_terminal_size((PIPE_WIDTH, 24)).columns)
    if not (stream.isatty() and _coloured(made, stream)):
        stream.writelines(f"{line}\n" for line in made)


def _coloured(made: Sequence[str], stream: TextIO) -> bool:
    """Writes with colours; False where rich is not installed, or colours are not wanted."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    try:
        from rich.console import Console
        from rich.text import Text
    except ImportError:
        return False
    console = Console(file=stream, highlight=False)
    for line in made:
        text = Text(line)
        text.highlight_words(_LOUD, "bold red")
        console.print(text, soft_wrap=True)
    return True


def main(words: Sequence[str] | None = None) -> int:
    """Shows the table; the exit code."""
    parser = argparse.ArgumentParser(
        description="Show hosts by test, from what the playbook validate.yaml collected.",
        epilog="exit codes: 0 every host passed; 1 one did not, or is not known; 2 usage",
    )
    parser.add_argument("folder", metavar="DIR", type=Path, help="has a folder for each host")
    parser.add_argument("--format", choices=("table", "json"), default="table")
    given = parser.parse_args(words)
    if not given.folder.is_dir():
        parser.error(f"{given.folder}: there is no such folder")
    hosts = read_hosts(given.folder)
    if given.format == "json":
        print(json.dumps(document(hosts), indent=2, ensure_ascii=False))
    else:
        show(hosts, sys.stdout)
    return 0 if all_passed(hosts) else 1


if __name__ == "__main__":
    sys.exit(main())
