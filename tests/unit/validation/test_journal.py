# SPDX-License-Identifier: GPL-2.0-or-later
"""What a run's journal gives back: all that was whole, whatever came to a sudden end."""

from __future__ import annotations

import fcntl
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tdxhost.errors import BadData, TdxHostError
from tdxhost.validation.journal import JOURNAL, LATEST, PLAN, Journal, Kept, alone
from tdxhost.validation.result import Evidence, Outcome, Run, TestResult

IDS = ("lab.first", "lab.second", "lab.third")
#: Characters that end a line for some, bytes of more than one, and half of a surrogate pair.
ODD = "\u2028 \x85 \x0b ü \U0001f9ea \udc80"
STARTED, ENDED = "2026-01-02T03:04:05.678Z", "2026-01-02T03:05:00.000Z"


def blank_run() -> Run:
    """A run of one boot with three tests."""
    return Run(
        id="20260102T030405Z-lab",
        plan={"name": "lab", "about": "A lab's.", "file": "lab.yaml"},
        seed=7,
        started_at=STARTED,
        tdxhost="1.0",
        host={"kind": "bare metal", "module_version": None},
        tests=tuple(TestResult(id=one, boot="one", holds="It.", source="Lab.") for one in IDS),
    )


def ended(index: int, outcome: Outcome = Outcome.PASSED, **more: Any) -> TestResult:
    """The result of a test of that run."""
    return replace(blank_run().tests[index], outcome=outcome, started_at=STARTED, **more)


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    """The journal of a run that has just begun."""
    return Journal.create(tmp_path, blank_run(), "plan", {"tests": None})


def outcomes(kept: Kept) -> list[Outcome]:
    """What each test came to."""
    return [test.outcome for test in kept.run.tests]


def whole_run(journal: Journal) -> None:
    """All that a journal may have."""
    journal.add("boot", boot_id="a", name="one", at=STARTED)
    journal.begun(0, STARTED)
    journal.ended(0, ended(0))
    journal.begun(1, STARTED)
    journal.add("pause", at=ENDED)
    journal.add("boot", boot_id="a", name="one", at=STARTED)
    journal.begun(1, STARTED)
    evidence = Evidence(details=ODD, log=(ODD,))
    journal.ended(1, ended(1, Outcome.FAILED, message=ODD, evidence=evidence))
    journal.begun(2, STARTED)
    journal.add("resumed", boot_id="b", at=STARTED)
    journal.add("boot", boot_id="b", name="one", at=STARTED)
    journal.add("over", at=ENDED, host={"kind": "bare metal", "module_version": "1.5.06"})


def test_a_whole_journal_gives_everything_back(journal: Journal) -> None:
    whole_run(journal)
    kept = Journal.latest(journal.top).read()
    assert outcomes(kept) == [Outcome.PASSED, Outcome.FAILED, Outcome.LOST]
    failed = kept.run.tests[1]
    assert failed.evidence is not None
    assert (failed.message, failed.evidence.log) == (ODD, (ODD,))
    assert (kept.over, kept.boot_id, kept.resumed) == (True, "b", frozenset("b"))
    assert (kept.run.ended_at, kept.run.host["module_version"]) == (ENDED, "1.5.06")
    assert kept.arguments == {"tests": None}


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The journal of a whole run, as it is on disk."""
    journal = Journal.create(tmp_path_factory.mktemp("whole"), blank_run(), "plan", {})
    whole_run(journal)
    return (journal.folder / JOURNAL).read_bytes()


@settings(deadline=None)
@given(data=st.data())
def test_one_that_was_cut_gives_back_all_that_was_whole(
    data: st.DataObject, content: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    at = data.draw(st.integers(0, len(content)))
    cut, lines = content[:at], content[:at].count(b"\n")
    kept = read_back(tmp_path_factory, cut)
    if lines == 0:
        assert isinstance(kept, BadData)
        return
    assert isinstance(kept, Kept)
    events = [json.loads(line) for line in content.split(b"\n")[:lines]]
    for event in events:
        if event["event"] == "ended":
            assert kept.run.tests[event["test"]] == TestResult.of(event["result"])
    assert kept.over is any(event["event"] == "over" for event in events)


@settings(deadline=None)
@given(data=st.data())
def test_one_that_was_damaged_is_read_or_refused(
    data: st.DataObject, content: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    at = data.draw(st.integers(0, len(content) - 1))
    damaged = content[:at] + data.draw(st.binary(min_size=1, max_size=8)) + content[at + 1 :]
    assert isinstance(read_back(tmp_path_factory, damaged), Kept | BadData)


def read_back(factory: pytest.TempPathFactory, content: bytes) -> Kept | BadData:
    """What a journal with that content gives back."""
    top = factory.mktemp("cut")
    (top / "run").mkdir()
    (top / "run" / JOURNAL).write_bytes(content)
    try:
        return Journal(top, top / "run").read()
    except BadData as error:
        return error


@pytest.mark.parametrize("torn", [b'{"event": "bo', b"\0" * 4096, b'{"event": "over"}'])
def test_after_a_torn_line_it_goes_on_as_if_that_had_never_been(
    journal: Journal, torn: bytes
) -> None:
    journal.begun(0, STARTED)
    file = journal.folder / JOURNAL
    file.write_bytes(file.read_bytes() + torn)
    assert outcomes(journal.read())[0] is Outcome.LOST
    journal.begun(1, STARTED)
    journal.ended(1, ended(1))
    kept = journal.read()
    assert outcomes(kept) == [Outcome.LOST, Outcome.PASSED, Outcome.NOT_RUN]
    assert kept.over is False


def test_what_was_running_is_lost_and_stays_so(journal: Journal) -> None:
    """A machine that crashes in each boot has lost a test in each."""
    for index in (0, 1):
        journal.add("boot", boot_id=str(index), name="one", at=STARTED)
        journal.begun(index, STARTED)
    kept = journal.read()
    assert outcomes(kept) == [Outcome.LOST, Outcome.LOST, Outcome.NOT_RUN]
    assert "sudden end" in kept.run.tests[0].message
    assert "journalctl -k" in kept.run.tests[0].message


def test_what_was_interrupted_is_still_to_be_done(journal: Journal) -> None:
    journal.add("boot", boot_id="a", name="one", at=STARTED)
    journal.begun(0, STARTED)
    journal.add("pause", at=ENDED)
    kept = journal.read()
    assert outcomes(kept) == [Outcome.NOT_RUN] * 3
    # That it had begun tells that the boot may go on without a reboot.
    assert kept.run.tests[0].started_at == STARTED


def test_reboots_are_counted_once_for_each_boot_of_the_machine(journal: Journal) -> None:
    for boot_id in ("b", "b", "c"):
        journal.add("resumed", boot_id=boot_id, at=STARTED)
    assert journal.read().resumed == {"b", "c"}


def test_events_of_a_later_version_are_passed_over(journal: Journal) -> None:
    journal.add("coffee", cups=2)
    assert outcomes(journal.read()) == [Outcome.NOT_RUN] * 3


def test_a_boot_is_known_to_be_touched_until_the_next(journal: Journal) -> None:
    assert not journal.is_touched("a")
    journal.touch("a")
    assert journal.is_touched("a")
    assert not journal.is_touched("b")


def test_where_no_run_is_kept_it_says_how_to_begin_one(tmp_path: Path) -> None:
    with pytest.raises(TdxHostError, match="no run of a plan is kept in") as caught:
        Journal.latest(tmp_path)
    assert caught.value.hint == "Begin one: sudo tdxhost validate PLAN"


def test_what_was_taken_away_is_named(journal: Journal) -> None:
    (journal.folder / PLAN).unlink()
    (journal.folder / JOURNAL).unlink()
    with pytest.raises(TdxHostError, match=PLAN):
        journal.plan_text()
    with pytest.raises(TdxHostError, match=JOURNAL):
        journal.read()
    (journal.top / LATEST).write_bytes(b"\xff\n")
    with pytest.raises(TdxHostError, match="No such file"):
        Journal.latest(journal.top).read()


def test_only_one_run_goes_on_at_a_time(tmp_path: Path) -> None:
    top = tmp_path / "validate"
    with alone(top), pytest.raises(TdxHostError, match="another tdxhost validate"), alone(top):
        pass
    fd = os.open(top, os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        os.close(fd)
