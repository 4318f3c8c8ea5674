# SPDX-License-Identifier: GPL-2.0-or-later
"""The table of hosts by test: what did not pass on a host never looks as if it had."""

import io
import json
from pathlib import Path
from typing import Any

import pytest

from scripts.ansible import table

ENDED = {"schema": "tdxhost/1", "state": "ended", "message": "", "exit_code": 0, "rebooted": 0}


def one(name: str, outcome: str = "passed", message: str = "", boot: str = "first") -> Any:
    """A test as result.json has it."""
    return {"id": name, "boot": boot, "outcome": outcome, "message": message, "duration_s": 1.2}


def result_of(*tests: Any, outcome: str = "passed", reboot: bool = False) -> dict[str, Any]:
    """What tdxhost validate leaves."""
    head = {"schema": "tdxhost/1", "run": "r", "plan": {"name": "smoke"}}
    return {**head, "outcome": outcome, "needs_reboot": reboot, "tests": list(tests)}


def put(folder: Path, host: str, result: Any = None, **ended: Any) -> None:
    """Leaves in a folder what the playbook collects of a host."""
    place = folder / host
    place.mkdir()
    if result is not None:
        (place / "result.json").write_text(json.dumps(result), encoding="utf-8")
    (place / "ended.json").write_text(json.dumps({**ENDED, **ended}), encoding="utf-8")


def shown(folder: Path, capsys: pytest.CaptureFixture[str], *options: str) -> tuple[int, str]:
    """Exit code and standard output of the script."""
    code = table.main([str(folder), *options])
    return code, capsys.readouterr().out


def test_hosts_that_passed_are_a_column_each(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for host in ("beta", "alpha"):
        tests = (one("cpus.partial"), one("memory.pamt", "not-applicable"))
        put(tmp_path, host, result_of(*tests))
    code, text = shown(tmp_path, capsys)
    assert code == 0
    assert text.splitlines() == [
        "TEST          alpha   beta",
        "cpus.partial  passed  passed",
        "memory.pamt   n/a     n/a",
        "HOST          passed  passed",
        "",
        "2 hosts, plan smoke: 2 passed",
    ]


def test_what_failed_is_told_with_host_and_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(tmp_path, "well", result_of(one("cpus.partial")))
    bad = one("cpus.partial", "failed", "CPU 3 is not enabled")
    put(tmp_path, "ill", result_of(bad, outcome="failed"), exit_code=1)
    code, text = shown(tmp_path, capsys)
    assert code == 1
    assert "cpus.partial  FAILED  passed\nHOST          FAILED  passed\n" in text
    assert "ill: cpus.partial: CPU 3 is not enabled\n" in text
    assert text.endswith("2 hosts, plan smoke: 1 failed, 1 passed\n")


@pytest.mark.parametrize(
    ("outcome", "word"),
    [
        ("failed", "FAILED"),
        ("broken", "BROKEN"),
        ("could-not-run", "could not run"),
        ("needs-reboot", "needs reboot"),
        ("not-run", "not run"),
        ("lost", "LOST"),
        ("something-new", "something-new"),
    ],
)
def test_a_result_that_claims_more_than_its_tests_is_not_passed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], outcome: str, word: str
) -> None:
    put(tmp_path, "host", result_of(one("a.b", outcome), one("a.c")))
    code, text = shown(tmp_path, capsys)
    assert code == 1
    assert f"a.b   {word}\n" in text
    assert "HOST  UNREADABLE\n" in text


def nothing(folder: Path) -> None:
    """No file at all."""
    (folder / "host").mkdir()


def lost(folder: Path) -> None:
    """The note that the playbook begins with."""
    put(folder, "host", state="lost", message="the playbook came to no end here")


def unreachable(folder: Path) -> None:
    """No connection."""
    put(folder, "host", state="unreachable", message="connection refused", exit_code=None)


def stopped(folder: Path) -> None:
    """The suite was killed after a first test had passed."""
    put(folder, "host", result_of(one("a.b")), state="stopped", message="killed")


def garbled(folder: Path) -> None:
    """A result that was cut off."""
    put(folder, "host")
    (folder / "host/result.json").write_text('{"schema": "tdx', encoding="utf-8")


def another_schema(folder: Path) -> None:
    """A result of another version."""
    put(folder, "host", {**result_of(one("a.b")), "schema": "tdxhost/2"})


def another_code(folder: Path) -> None:
    """Result and exit code contradict each other."""
    put(folder, "host", result_of(one("a.b")), exit_code=1)


def reboot_left(folder: Path) -> None:
    """Nothing failed, and the second boot is to come."""
    tests = (one("a.b"), one("a.b", "needs-reboot", boot="second"))
    put(folder, "host", result_of(*tests, outcome="unfinished", reboot=True), exit_code=1)


def none_ran(folder: Path) -> None:
    """A plan of which nothing is for this host."""
    put(folder, "host", result_of(one("a.b", "not-applicable")))


@pytest.mark.parametrize(
    ("leave", "outcome", "said"),
    [
        (nothing, "no-result", "no result.json"),
        (lost, "lost", "came to no end"),
        (unreachable, "unreachable", "connection refused"),
        (stopped, "stopped", "killed"),
        (garbled, "unreadable", "can't be read"),
        (another_schema, "unreadable", "schema tdxhost/1"),
        (another_code, "unreadable", "says passed"),
        (reboot_left, "unfinished", "need a reboot"),
        (none_ran, "unreadable", "says passed"),
    ],
)
def test_a_host_that_is_not_known_to_have_passed_has_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], leave: Any, outcome: str, said: str
) -> None:
    put(tmp_path, "well", result_of(one("a.b")))
    leave(tmp_path)
    code, text = shown(tmp_path, capsys)
    assert code == 1
    assert said in " ".join(text.split())
    code, text = shown(tmp_path, capsys, "--format", "json")
    document = json.loads(text)
    found = {host["name"]: host for host in document["hosts"]}
    assert code == 1
    assert (document["schema"], document["passed"]) == ("tdxhost/1", False)
    assert (found["host"]["outcome"], found["host"]["passed"]) == (outcome, False)
    assert (found["well"]["outcome"], found["well"]["passed"]) == ("passed", True)


def test_a_result_that_was_collected_by_hand_counts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(tmp_path, "host", result_of(one("a.b")))
    (tmp_path / "host/ended.json").unlink()
    assert shown(tmp_path, capsys)[0] == 0


def test_no_host_at_all_is_not_all_passed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert shown(tmp_path, capsys) == (1, "TEST\nHOST\n\n0 hosts: nothing was collected\n")


def test_a_folder_that_is_not_there_is_wrong_usage(tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as left:
        table.main([str(tmp_path / "nowhere")])
    assert left.value.code == 2


def test_boots_and_options_tell_tests_apart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    forwards = {**one("cpus.all"), "options": {"order": "forwards"}}
    shuffled = {**one("cpus.all", boot="second"), "options": {"order": "shuffled"}}
    put(tmp_path, "host", result_of(forwards, shuffled))
    assert shown(tmp_path, capsys)[1].splitlines()[:4] == [
        "BOOT    TEST                       host",
        "first   cpus.all (order=forwards)  passed",
        "second  cpus.all (order=shuffled)  passed",
        "        HOST                       passed",
    ]


@pytest.mark.parametrize("width", [60, 80, 120])
def test_more_hosts_than_fit_are_a_row_each(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    width: int,
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    for number in range(20):
        tests = [one("cpus.partial"), one("cpus.rest", "failed", "no"), one("a.b")]
        put(tmp_path, f"rack-{number:02}", result_of(*tests, outcome="failed"), exit_code=1)
    code, text = shown(tmp_path, capsys)
    assert code == 1
    assert max(map(len, text.splitlines())) <= width
    rows = [line for line in text.splitlines() if line.startswith("rack-07 ")]
    assert rows == ["rack-07  FAILED  2 of 3  cpus.rest FAILED"]


class Terminal(io.StringIO):
    """A stream that says that it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_colours_are_for_terminals_that_want_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    put(tmp_path, "ill", result_of(one("a.b", "failed"), outcome="failed"), exit_code=1)
    hosts = table.read_hosts(tmp_path)
    coloured, plain, piped = Terminal(), Terminal(), io.StringIO()
    table.show(hosts, coloured)
    table.show(hosts, piped)
    monkeypatch.setenv("NO_COLOR", "1")
    table.show(hosts, plain)
    assert "\x1b[1;31mFAILED" in coloured.getvalue()
    assert plain.getvalue() == piped.getvalue()
    assert "\x1b" not in piped.getvalue()


def test_what_a_host_says_does_not_command_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = one("a.b", "failed", "first\x1b]0;title\x07\nsecond")
    put(tmp_path, "ill", result_of(bad, outcome="failed"), exit_code=1)
    text = shown(tmp_path, capsys)[1]
    assert "ill: a.b: first ]0;title second\n" in text
    assert "\x1b" not in text
