# SPDX-License-Identifier: GPL-2.0-or-later
"""Commands that are watched while they run: signals end them, firmer each time."""

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tdxhost.cli.running import GRACE_S, Child, Stops, check_reader

#: Ignores some signals, says so, and stays.
STUBBORN = "import signal, sys, time; [signal.signal(int(n), signal.SIG_IGN) for n in sys.argv[1:]]"
STUBBORN += "; print(flush=True); time.sleep(60)"


@pytest.fixture(autouse=True)
def _signals_are_heeded() -> Iterator[None]:
    """As at a terminal: a shell's background jobs, and what nohup runs, ignore some."""
    ctrl_c = signal.signal(signal.SIGINT, signal.default_int_handler)
    hangup = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGINT, ctrl_c)
    signal.signal(signal.SIGHUP, hangup)


def _until(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


@contextmanager
def _stubborn(capfd: pytest.CaptureFixture[str], *numbers: int) -> Iterator[Child]:
    """A command that has come so far as to ignore these signals."""
    with Child([sys.executable, "-c", STUBBORN, *map(str, numbers)]) as child:
        _until(lambda: capfd.readouterr().out == "\n")
        yield child


def test_exit_codes_are_those_that_shells_have() -> None:
    for script, code in (("exit 7", 7), ("kill -KILL $$", 137), ("true", 0)):
        with Child(["sh", "-c", script]) as child:
            assert select.select([child], [], [], 20)[0]
            assert child.has_ended
        assert child.exit_code == code


def test_what_cant_be_started_is_an_oserror() -> None:
    with pytest.raises(FileNotFoundError):
        Child(["/no/such/command"]).__enter__()
    with pytest.raises(PermissionError):
        Child(["/"]).__enter__()


def test_a_first_ctrl_c_is_passed_on_when_the_command_did_not_get_it_itself() -> None:
    with Child(["sleep", "60"]) as child:
        child.stop(signal.SIGINT)
        child.remind()
        assert not child.has_ended
        time.sleep(GRACE_S)
        child.remind()
    assert child.exit_code == 128 + signal.SIGINT


def test_each_further_ctrl_c_asks_more_firmly(capfd: pytest.CaptureFixture[str]) -> None:
    for ignored, asked, ended in (
        ((signal.SIGINT,), 2, signal.SIGTERM),
        ((signal.SIGINT, signal.SIGTERM), 3, signal.SIGKILL),
    ):
        with _stubborn(capfd, *ignored) as child:
            for _ in range(asked):
                child.stop(signal.SIGINT)
        assert child.exit_code == 128 + ended


def test_other_signals_are_passed_on_at_once() -> None:
    with Child(["sleep", "60"]) as child:
        child.stop(signal.SIGTERM)
    assert child.exit_code == 128 + signal.SIGTERM


def test_signals_are_noted_and_interrupt_nothing() -> None:
    before = signal.getsignal(signal.SIGINT)
    with Stops() as stops:
        assert stops.taken() == []
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGHUP)
        assert select.select([stops], [], [], 20)[0]
        assert sorted(stops.taken()) == [signal.SIGHUP, signal.SIGINT]
    assert signal.getsignal(signal.SIGINT) is before


def test_what_the_parent_had_ignored_stays_ignored() -> None:
    script = "from tdxhost.cli.running import Stops; import signal\n"
    script += "with Stops(): print(signal.getsignal(signal.SIGINT) is signal.SIG_IGN)"
    ran = subprocess.run(
        ["sh", "-c", 'trap "" INT; exec "$0" -c "$1"', sys.executable, script],
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout == "True\n"


def test_a_pipe_whose_reader_is_gone_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    read, write = os.pipe()
    with os.fdopen(write, "w") as stream:
        monkeypatch.setattr("sys.stdout", stream)
        poll = select.poll()
        poll.register(stream, 0)
        check_reader(poll.poll(0))
        os.close(read)
        with pytest.raises(BrokenPipeError):
            check_reader(poll.poll(0))
