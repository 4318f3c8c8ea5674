# SPDX-License-Identifier: GPL-2.0-or-later
"""tdxhost validate over reboots, crashes and interruptions, with a lab's plan of two boots."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from tests.vm import lab
from tests.vm.hosts import Boot
from tests.vm.lab import Boots, Lab

PLAN = {
    "first": ["lab.looks", "lab.cpus", "lab.waits", "lab.enable"],
    "second": ["lab.waits", "lab.cpus", "lab.enable", "lab.fixtures"],
}
ALL_PASSED = {f"{boot} {test}": "passed" for boot, tests in PLAN.items() for test in tests}
FIRST_PASSED = {**ALL_PASSED, **{f"second {test}": "not-run" for test in PLAN["second"]}}

FAILED, USAGE, INTERRUPTED = 1, 2, 130
REBOOT_FIRST = "4 tests left that need the TDX module as it is after a reboot: reboot first"
HOW = "sudo reboot, and then: sudo tdxhost validate --resume\n"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The lab's files."""
    return lab.write_files(tmp_path_factory.mktemp("lab"), PLAN)


@pytest.fixture
def boots(boot: Boot, files: dict[str, Path]) -> Boots:
    """A machine of the test's own, to be rebooted."""
    return Boots(boot, files)


def of(boot: str, outcome: str, *tests: str) -> dict[str, str]:
    """That outcome for tests of a boot."""
    return {f"{boot} {test}": outcome for test in tests}


def test_what_is_left_goes_on_after_a_reboot_and_only_then(boots: Boots) -> None:
    with boots.next() as machine:
        began = machine.start("--output", "/root/results")
        assert (began.status, machine.outcomes()) == (FAILED, FIRST_PASSED), began
        assert f"tdxhost: {REBOOT_FIRST}\n  {HOW}" in began.stderr
        too_early = machine.resume()
        assert (too_early.status, machine.outcomes()) == (FAILED, FIRST_PASSED)
        assert f"tdxhost: nothing was run: {REBOOT_FIRST}\n  {HOW}" in too_early.stderr
    with boots.next() as machine:
        went_on = machine.resume()
        assert (went_on.status, machine.outcomes()) == (0, ALL_PASSED), went_on
        # Where the run was to put it when it was begun.
        kept = json.loads(machine.shell("cat /root/results/result.json"))
        assert kept == machine.result()
        over = machine.resume()
        assert (over.status, machine.result()) == (0, kept)
        assert f"the run {kept['run']} is over since {kept['ended_at']}" in over.stderr
        assert len(machine.host.witness().succeeded("TDH.SYS.INIT")) == 1


def test_what_makes_sense_where_tdx_is_up_is_done_and_the_rest_after_a_reboot(
    boots: Boots,
) -> None:
    needing = ("lab.cpus", "lab.enable")
    with boots.next() as machine:
        assert machine.run("enable").status == 0
        assert machine.start().status == FAILED
        assert machine.outcomes() == {**FIRST_PASSED, **of("first", "needs-reboot", *needing)}
    with boots.next() as machine:
        assert machine.resume().status == FAILED
        assert machine.outcomes() == FIRST_PASSED
    # Something brings TDX up at each boot: these tests are given up, and never passed.
    for outcome in ("needs-reboot", "could-not-run"):
        with boots.next() as machine:
            machine.run("enable")
            assert machine.resume().status == FAILED
            assert machine.outcomes() == {**ALL_PASSED, **of("second", outcome, *needing)}
            cpus = machine.result()["tests"][5]
    assert "something brings it up at boot" in cpus["message"]


def wait(machine: Lab, *words: str) -> None:
    """Starts a command, and returns while its lab.waits runs."""
    machine.shell("rm -f /run/lab-runs && touch /run/lab-wait")
    machine.begin(*words)
    machine.shell("for i in $(seq 600); do [ -e /run/lab-runs ] && exit; sleep 0.1; done; exit 1")


def test_a_test_that_the_machine_did_not_survive_is_lost_and_the_rest_is_made(
    boots: Boots,
) -> None:
    lost = of("first", "lost", "lab.waits")
    with boots.next() as machine:
        # What is on disk while it runs is what a crash leaves.
        wait(machine, "validate", lab.PLAN, "--tests", lab.TESTS)
    with boots.next() as machine:
        assert machine.resume().status == FAILED
        assert machine.outcomes() == {**FIRST_PASSED, **lost}
        waited = machine.result()["tests"][2]
        assert "sudden end" in waited["message"]
    with boots.next() as machine:
        assert machine.resume().status == FAILED
        assert machine.outcomes() == {**ALL_PASSED, **lost}
        assert machine.result()["outcome"] == "failed"


def test_what_was_interrupted_goes_on_with_that_very_test(boots: Boots) -> None:
    with boots.next() as machine:
        wait(machine, "validate", lab.PLAN, "--tests", lab.TESTS)
        machine.signal(signal.SIGINT)
        began = machine.end()
        assert (began.status, "Traceback" in began.stderr) == (INTERRUPTED, False), began
        assert "sudo tdxhost validate --resume" in began.stderr
        left = of("first", "not-run", "lab.waits", "lab.enable")
        assert machine.outcomes() == {**FIRST_PASSED, **left}
        machine.shell("rm /run/lab-wait")
        again = machine.resume()
        assert (again.status, machine.outcomes()) == (FAILED, FIRST_PASSED)
        assert "[3/8] lab.waits: passed" in again.stderr
        assert "[2/8]" not in again.stderr


def test_a_boot_that_was_interrupted_in_its_first_test_goes_on_without_another(
    boots: Boots,
) -> None:
    with boots.next() as machine:
        machine.start()
    with boots.next() as machine:
        wait(machine, "validate", "--resume")
        machine.signal(signal.SIGTERM)
        assert machine.end().status == INTERRUPTED
        machine.shell("rm /run/lab-wait")
        assert machine.run("cpu-enable", "--cpus", "0").status == 0
        again = machine.resume()
        assert "[5/8] lab.waits: passed" in again.stderr, again
        needing = of("second", "needs-reboot", "lab.cpus")
        assert machine.outcomes() == {**ALL_PASSED, **needing}


def test_what_cant_go_on_says_so_before_anything_runs(boots: Boots) -> None:
    with boots.next() as machine:
        nothing_kept = machine.resume()
        assert nothing_kept.status == FAILED
        assert "no run of a plan is kept" in nothing_kept.stderr
        no_systemd = machine.start("--reboot")
        assert no_systemd.status == USAGE
        assert "--reboot needs systemd" in no_systemd.stderr
        assert "go on by hand after each reboot" in no_systemd.stderr
        assert machine.host.sh(f"ls {lab.STATE}").status != 0
        wait(machine, "validate", lab.PLAN, "--tests", lab.TESTS)
        second = machine.host.run("tdxhost", "validate", "--resume")
        assert second.status == FAILED
        assert "another tdxhost validate is running" in second.stderr
        machine.shell("rm /run/lab-wait")
        assert machine.end().status == FAILED
        changed = machine.resume("--seed", "1")
        assert (changed.status, machine.outcomes()) == (USAGE, FIRST_PASSED)
        assert "--seed is for a new run" in changed.stderr
