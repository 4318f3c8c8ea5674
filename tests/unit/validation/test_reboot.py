# SPDX-License-Identifier: GPL-2.0-or-later
"""A run that goes on by itself: how often, and what its unit says."""

from __future__ import annotations

import configparser
from dataclasses import replace
from pathlib import Path

import pytest

from tdxhost.reference import DATA
from tdxhost.validation.journal import LATEST, Kept
from tdxhost.validation.reboot import STATE, UNIT, too_often
from tdxhost.validation.result import Outcome, Run, TestResult
from vtdx.vm.build import PROJECT


def run_of(*boots: tuple[Outcome, ...]) -> Run:
    """A run whose boots have tests that came to these outcomes."""
    tests = [
        TestResult(id="lab.test", boot=str(number), holds="It.", source="Lab.", outcome=outcome)
        for number, outcomes in enumerate(boots)
        for outcome in outcomes
    ]
    return Run(
        id="20260102T030405Z-lab",
        plan={"name": "lab"},
        seed=7,
        started_at="2026-01-02T03:04:05.678Z",
        tdxhost="1.0",
        host={},
        tests=tuple(tests),
    )


def kept(reboots: int, boots: int) -> Kept:
    """What is kept of a run that has gone on by itself after some reboots."""
    run = run_of(*[(Outcome.NOT_RUN,)] * boots)
    return Kept(run, "", {}, over=False, resumed=frozenset(map(str, range(reboots))))


@pytest.mark.parametrize("boots", [1, 3])
def test_a_plan_is_given_one_reboot_more_than_it_has_boots(boots: int) -> None:
    assert too_often(kept(boots + 1, boots)) is None
    assert too_often(kept(boots, boots), more=1) is None
    for refused in (
        too_often(kept(boots + 2, boots)),
        too_often(kept(boots + 1, boots), more=1),
    ):
        assert refused is not None
        assert "20260102T030405Z-lab: no more" in refused.message
        assert "sudo tdxhost validate --resume" in refused.hint


PASSED, LOST, NOT_RUN, NEEDS = (
    Outcome.PASSED,
    Outcome.LOST,
    Outcome.NOT_RUN,
    Outcome.NEEDS_REBOOT,
)


@pytest.mark.parametrize(
    ("boots", "needed"),
    [
        ([(PASSED, PASSED), (NOT_RUN, NOT_RUN)], True),
        ([(PASSED, NEEDS), (NOT_RUN, NOT_RUN)], True),
        ([(PASSED, LOST), (NOT_RUN, NOT_RUN)], True),
        ([(PASSED, NEEDS)], True),
        ([(PASSED, PASSED), (PASSED, LOST)], False),
        ([(NOT_RUN, NOT_RUN), (NOT_RUN, NOT_RUN)], False),
        # Interrupted: the boot goes on where it was.
        ([(PASSED, NOT_RUN), (NOT_RUN, NOT_RUN)], False),
        ([(PASSED, PASSED), (LOST, NOT_RUN)], False),
    ],
)
def test_a_reboot_is_needed_where_the_next_boot_of_the_plan_is_due(
    boots: list[tuple[Outcome, ...]], needed: bool
) -> None:
    assert run_of(*boots).needs_reboot is needed


def test_a_boot_that_was_interrupted_in_its_first_test_needs_none() -> None:
    run = run_of((PASSED, PASSED), (NOT_RUN, NOT_RUN))
    tests = list(run.tests)
    tests[2] = replace(tests[2], started_at="2026-01-02T03:04:05.678Z")
    assert not replace(run, tests=tuple(tests)).needs_reboot


def test_the_unit_goes_on_with_what_the_command_has_kept() -> None:
    unit = configparser.ConfigParser(strict=False)
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    unit.read(Path(DATA) / UNIT, encoding="utf-8")
    assert unit["Unit"]["ConditionPathExists"] == str(STATE / "validate" / LATEST)
    assert unit["Service"]["ExecStart"] == "/usr/local/bin/tdxhost validate --resume --reboot"
    assert unit["Service"]["TimeoutStartSec"] == "infinity"
    assert unit["Service"]["Type"] == "oneshot"


def test_the_scripts_know_the_units_name_and_the_folder_of_runs() -> None:
    script = (PROJECT / "scripts/host.sh").read_text(encoding="utf-8")
    assert f"/systemd/system/{UNIT}\n" in script
    assert f"\nstate={STATE}\n" in script
