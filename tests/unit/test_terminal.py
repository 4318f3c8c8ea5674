# SPDX-License-Identifier: GPL-2.0-or-later
"""What a terminal gets: tables that fit, colour that can be turned off, progress."""

import io
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import replace
from types import ModuleType

import pytest

from tdxhost.cli import memory, progress, status
from tdxhost.cli.progress import Progress, describe
from tdxhost.errors import DriverMissing
from tdxhost.records import Status, Step
from tests.unit.samples import STATUS, FakeDriver, context, cpu, failed_cpu

ONE_FAILED = FakeDriver(cpus=(cpu(0), cpu(1), cpu(2), failed_cpu(3)))
ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
COLOUR = re.compile(r"\x1b\[[0-9;]*3[0-9][0-9;]*m")


class Terminal(io.StringIO):
    """A stream that says that it is a terminal."""

    def isatty(self) -> bool:
        return True

    @contextmanager
    def used(self) -> Iterator[None]:
        """Makes it standard output and error; pytest puts its own in place for each phase."""
        with redirect_stdout(self), redirect_stderr(self):
            yield

    def show(self, command: ModuleType, driver: FakeDriver) -> str:
        """What a command writes."""
        with self.used():
            command.run(context(driver))
        return self.getvalue()


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """A colour terminal of 60 columns."""
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.delenv("NO_COLOR", raising=False)
    return Terminal()


def test_tables_fit_60_columns_and_wrap_the_last(terminal: Terminal) -> None:
    shown = ESCAPE.sub("", terminal.show(status, replace(ONE_FAILED, steps=()))).partition(
        "tdxhost:"
    )[0]
    assert max(map(len, shown.splitlines())) <= 60
    assert "TDX_INCONSISTENT_MSR" in shown
    assert "(0xc00009200000010a)" in shown


def test_addresses_are_never_cut(terminal: Terminal) -> None:
    shown = ESCAPE.sub("", terminal.show(memory, FakeDriver()))
    assert "0x100000000-0x17fffffff" in shown
    assert "…" not in shown


def test_failures_stand_out_in_colour(terminal: Terminal) -> None:
    assert COLOUR.search(terminal.show(status, ONE_FAILED))


def test_no_color_turns_colour_off(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    assert not COLOUR.search(terminal.show(status, ONE_FAILED))


def test_a_dumb_terminal_gets_plain_text(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "dumb")
    assert "\x1b" not in terminal.show(status, ONE_FAILED)


class Slow(FakeDriver):
    """A driver that says when it was asked where things stand."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = threading.Event()

    def get_status(self) -> Status:
        self.asked.set()
        return replace(STATUS, running=1, step=Step.PAMT_ALLOC)


def test_progress_shows_on_a_terminal_when_it_takes_long(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "PATIENCE_S", 0)
    driver = Slow()
    with terminal.used(), Progress(context(driver).open_driver):
        assert driver.asked.wait(10)
        # Until the display was refreshed once more.
        time.sleep(0.3)
    assert "pamt_alloc" in ESCAPE.sub("", terminal.getvalue())


def test_progress_ends_with_the_body_and_lets_its_exception_through(terminal: Terminal) -> None:
    opener = context(FakeDriver()).open_driver
    with pytest.raises(KeyboardInterrupt), terminal.used(), Progress(opener):
        raise KeyboardInterrupt
    assert "progress" not in {thread.name for thread in threading.enumerate()}


def test_progress_that_cant_open_the_driver_is_silent(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "PATIENCE_S", 0)

    def missing() -> Progress:
        raise DriverMissing("gone")

    with terminal.used(), Progress(missing):  # type: ignore[arg-type]
        time.sleep(0.1)
    assert terminal.getvalue() == ""


def test_progress_is_silent_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress(context(FakeDriver()).open_driver):
        pass
    assert capsys.readouterr().err == ""


def test_progress_tells_the_step_or_that_it_waits() -> None:
    assert describe(replace(STATUS, running=1, step=Step.CONFIG)) == "config"
    assert describe(replace(STATUS, running=1, step=Step.CPUS)) == "cpus, 4 of 4 CPUs"
    assert describe(STATUS) == "waiting"
