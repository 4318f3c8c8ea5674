# SPDX-License-Identifier: GPL-2.0-or-later
"""Sessions: a process in the guest that is asked by lines."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.vm.hosts import Host, Snapshots, host
from vtdx.vm.errors import BadAnswer, DeadlinePassed, SessionEnded
from vtdx.vm.session import Session

PROGRAM = """
import json, os, sys, time
for line in sys.stdin:
    request = json.loads(line)
    time.sleep(request.get("sleep", 0))
    if "say" in request:
        print(request["say"], file=sys.stderr, flush=True)
    if "exit" in request:
        os._exit(request["exit"])
    print(request.get("raw") or json.dumps(request), flush=True)
time.sleep(float(sys.argv[1]))
sys.exit(7)
"""


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory, snapshots: Snapshots) -> Iterator[Host]:
    """A machine to run processes in."""
    with host(tmp_path_factory.mktemp("session"), snapshots=snapshots) as up:
        yield up


def start(machine: Host, stay: float = 0) -> Session:
    """A process that answers what it is asked, and stays a while after its last line."""
    return machine.session("python3", "-c", PROGRAM, str(stay))


def test_each_question_has_its_answer(machine: Host) -> None:
    with start(machine) as session:
        for text in ("a", "é \n\t", "", "long " * 20_000):
            assert session.ask({"text": text}) == {"text": text}


def test_sessions_and_commands_run_side_by_side(machine: Host) -> None:
    with start(machine) as one, start(machine) as two:
        assert one.ask({"n": 1}) == {"n": 1}
        assert machine.run("echo", "between").stdout == "between\n"
        assert two.ask({"n": 2}) == {"n": 2}
        assert one.ask({"n": 3}) == {"n": 3}


def test_a_death_is_told_with_what_the_process_said(machine: Host) -> None:
    with start(machine) as session:
        with pytest.raises(SessionEnded, match="last words") as ended:
            session.ask({"say": "last words", "exit": 3})
        with pytest.raises(SessionEnded):
            session.ask({})

    assert ended.value.status == 3
    assert session.close() == 3


def test_what_can_t_be_started_says_so(machine: Host) -> None:
    with pytest.raises(SessionEnded, match="no-such-program: No such file"):
        machine.session("no-such-program").ask({})


def test_a_late_answer_is_not_the_next_one_s(machine: Host) -> None:
    with start(machine) as session:
        assert session.ask({"n": 1}) == {"n": 1}
        with pytest.raises(DeadlinePassed):
            session.ask({"n": 2, "sleep": 3}, timeout=0.5)
        assert session.ask({"n": 3}) == {"n": 3}


def test_an_answer_that_is_no_json_is_shown(machine: Host) -> None:
    with start(machine) as session:
        with pytest.raises(BadAnswer, match="<html>"):
            session.ask({"raw": "<html>"})
        assert session.ask({"n": 2}) == {"n": 2}


def test_the_process_ends_with_the_session(machine: Host) -> None:
    with start(machine) as session:
        session.ask({})
    assert session.close() == 7


def test_a_process_that_stays_is_killed(machine: Host) -> None:
    session = start(machine, stay=900)
    session.ask({})
    begin = time.monotonic()

    assert session.close() == 128 + 9
    assert time.monotonic() - begin < 60
    assert machine.run("pgrep", "-f", "time.sleep").status == 1
