# SPDX-License-Identifier: GPL-2.0-or-later
"""What the validation suite changes on a host is undone, whatever ends a test."""

import signal
import threading
from pathlib import Path

import pytest

from tdxhost.errors import TdxHostError
from tdxhost.host import LiveHost
from tdxhost.validation import undo
from tdxhost.validation.requirement import CouldNotRun
from tdxhost.validation.undo import (
    offline,
    removable,
    suspends_are_tests,
    switch_of,
    undisturbed,
    written,
)


@pytest.fixture
def cpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """CPUs 0 to 3, as sysfs has them; all can be taken offline."""
    monkeypatch.setattr(undo, "CPUS", tmp_path)
    for cpu in range(4):
        switch_of(cpu).parent.mkdir()
        switch_of(cpu).write_text("1\n", encoding="ascii")
    return list(range(4))


def states(cpus: list[int]) -> str:
    """The switches of CPUs."""
    return "".join(switch_of(cpu).read_text(encoding="ascii").strip() for cpu in cpus)


@pytest.mark.parametrize("error", [KeyboardInterrupt, AssertionError, OSError, SystemExit])
def test_cpus_come_back_whatever_ends_the_test(cpus: list[int], error: type[BaseException]) -> None:
    seen = []

    def test() -> None:
        with offline([2, 3]):
            seen.append(states(cpus))
            raise error

    with pytest.raises(error):
        test()
    assert [*seen, states(cpus)] == ["1100", "1111"]


def test_a_cpu_that_does_not_go_is_told_and_those_before_it_come_back(cpus: list[int]) -> None:
    switch_of(3).unlink()
    switch_of(3).mkdir()
    lost = "CPUs did not come back online: CPU 3: Is a dir"
    with pytest.raises(TdxHostError, match=lost) as it, offline([2, 3]):
        raise NotImplementedError
    assert "CPU 3 can't be taken offline: Is a directory" in str(it.value.__context__)
    assert states(cpus[:3]) == "111"


def test_the_boot_cpu_and_cpus_without_a_switch_stay(cpus: list[int]) -> None:
    switch_of(2).unlink()
    assert removable(LiveHost(), cpus) == [1, 3]


def test_signals_wait_until_what_was_changed_is_undone() -> None:
    done = []

    def undo_something() -> None:
        with undisturbed():
            # To this thread: others, such as those of a test runner, hold nothing back.
            signal.pthread_kill(threading.get_ident(), signal.SIGINT)
            done.append("undone")

    with pytest.raises(KeyboardInterrupt):
        undo_something()
    assert done


def test_files_have_what_they_had_also_where_a_choice_stands_in_brackets(tmp_path: Path) -> None:
    plain, choice = tmp_path / "delay", tmp_path / "pm_test"
    plain.write_text("5\n", encoding="ascii")
    choice.write_text("none core [devices] freezer\n", encoding="ascii")
    seen = []

    def test() -> None:
        with written((plain, "0"), (choice, "freezer")):
            seen.append((plain.read_text("ascii"), choice.read_text("ascii")))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        test()
    assert seen == [("0", "freezer")]
    assert (plain.read_text("ascii"), choice.read_text("ascii")) == ("5", "devices")


def test_no_suspend_is_asked_for_where_it_would_be_a_real_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(undo, "POWER", tmp_path)
    why = "a suspend that is not refused would be a real one"
    with pytest.raises(CouldNotRun, match=why), suspends_are_tests(LiveHost(), "devices"):
        raise NotImplementedError
