# SPDX-License-Identifier: GPL-2.0-or-later
"""What a terminal, a pipe and a program get of runs, comparisons and lists of tests."""

import io
import json
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest

from tdxhost.cli.tables import Block, show
from tdxhost.cli.validate_documents import comparison_document, list_document
from tdxhost.cli.validate_lists import list_blocks
from tdxhost.cli.validate_tables import comparison_blocks, run_blocks
from tdxhost.validation.against import compare_runs
from tdxhost.validation.options import Option, at_least, one_of
from tdxhost.validation.plan import Boot, Item, Plan
from tdxhost.validation.requirement import Requirement
from tdxhost.validation.result import Measured, Outcome, Unit
from tdxhost.validation.stage import Stage
from tests.unit.validation.runs import (
    CALL,
    EVIDENCE,
    FAILURE,
    LOG,
    changed,
    earlier,
    large_run,
    made,
    passed,
    run_of,
    sample,
)

WIDTHS = pytest.mark.parametrize("width", [60, 80, 160])


def piped(blocks: Iterable[Block], monkeypatch: pytest.MonkeyPatch, width: int = 80) -> str:
    """What a pipe gets."""
    monkeypatch.setenv("COLUMNS", str(width))
    stream = io.StringIO()
    show(blocks, stream)
    return stream.getvalue()


def flat(shown: str) -> str:
    """Text without its breaks of lines."""
    return " ".join(shown.split())


ENABLE = Requirement(
    id="cpus.enable",
    holds="every online CPU is enabled, in any order",
    source="TDX module ABI spec, TDH.SYS.LP.INIT",
    needs=frozenset({Stage.UNTOUCHED}),
    leaves=Stage.ALL_CPUS,
    options={"order": Option("in which order", one_of("forwards", "backwards"), "forwards")},
)
SOAK = Requirement(
    id="soak.cpus",
    holds="CPUs come and go, and are enabled each time",
    source="the kernel's patch, x86/virt/tdx: TDX module initialization",
    options={"rounds": Option("how often", at_least(1), 100)},
    reads=("machine", "lp_init_ns"),
    disturbs="takes CPUs offline",
    timeout_s=3600,
)
PLAN = Plan(
    name="soak",
    about="hours, bounded by time",
    file="soak.yaml",
    text="",
    disturbs=True,
    boots=(
        Boot(
            name="forwards",
            about="one after another",
            items=(
                Item(test=ENABLE, options={"order": "forwards"}, said={}, line=3),
                Item(test=SOAK, options={"rounds": 7}, said={"rounds": 7}, line=4),
            ),
        ),
    ),
)


@WIDTHS
@pytest.mark.parametrize("verbose", [False, True])
def test_a_run_and_a_comparison_fit_their_width(
    width: int, verbose: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks = [
        *run_blocks(sample(), verbose, "/var/lib/tdxhost/validate/x"),
        *comparison_blocks(compare_runs(sample(), earlier())),
        *list_blocks([ENABLE, SOAK], [PLAN], verbose=verbose),
    ]
    shown = piped(blocks, monkeypatch, width)
    assert [line for line in shown.splitlines() if len(line) > width] == []
    assert "\x1b" not in shown


@WIDTHS
def test_every_test_of_a_run_stands_under_its_boot(
    width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = piped(run_blocks(sample(), verbose=False), monkeypatch, width)
    _, *boots = shown.split("\nBoot ")
    lines = [" ".join(line.split()) for boot in boots for line in boot.splitlines()]
    wanted = [
        "at-once",
        "passed machine.able",
        "passed refusal.arguments",
        "FAILED cpus.enable (order=at-once)",
        "could not run enable.all",
        "not applicable refusal.absent-cpu",
        "forwards",
        "passed cpus.enable (order=forwards)",
        "passed memory.pamts",
        "BROKEN cpus.sane",
        "LOST hotplug.after",
        "shuffled",
        "needs a reboot cpus.enable (order=shuffled)",
        "not run time.lp-init",
    ]
    found = [next(line for line in lines if line.startswith(one)) for one in wanted]
    assert sorted(found, key=lines.index) == found


def test_a_wide_terminal_has_time_and_message(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = piped(run_blocks(sample(), verbose=False), monkeypatch, 160)
    assert "OUTCOME         TEST                           TIME  MESSAGE" in shown
    assert "1.5 s  1 of 8 CPUs failed: CPU 3: TDH.SYS.LP.INIT: TDX_INCONSISTENT_MSR ...;" in shown
    assert "lp_init: median 612 µs, most 1.81 ms on CPU 0" in shown


def test_what_is_wrong_comes_before_the_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = flat(piped(run_blocks(sample(), verbose=False), monkeypatch))
    order = [
        "3 of 10 tests failed, and 2 are left.",
        "BIOS Intel Corporation, SE5C7411.86B.9535.D04, 04/19/2024; kernel 6.12.48; TDX module",
        "Run: 20260704T083000Z-5c1e; plan standard; seed 4711",
        f"FAILED cpus.enable (order=at-once), boot at-once {FAILURE} Do: {CALL.hint}",
        "Snapshot: 003-cpus.enable.tar.gz",
        "BROKEN cpus.sane, boot forwards KeyError: 'rcx'",
        "LOST hotplug.after, boot forwards was running when the run came to a sudden end",
        "Could not run: enable.all, boot at-once CPU 3 is not enabled, and TDH.SYS.CONFIG needs",
        "Boot at-once",
        "11 tests: 1 failed, 1 broken, 1 lost, 4 passed, 1 could not run, 1 needs a reboot, "
        "1 not run, 1 not applicable",
        "Go on with: sudo tdxhost validate --resume",
    ]
    places = [shown.index(one) for one in order]
    assert places == sorted(places)


def test_a_status_that_the_message_does_not_name_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    run = changed(sample(), 2, message="a CPU failed")
    shown = flat(piped(run_blocks(run, verbose=False), monkeypatch))
    assert (
        "a CPU failed CPU 3, TDH.SYS.LP.INIT: TDX_INCONSISTENT_MSR (0xc00009200000010a) "
        f"Says: {CALL.says} Do: {CALL.hint}"
    ) in shown


def test_of_a_long_log_the_lines_about_tdx_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    noise = tuple(f"[    7.{at:06}] eth0: link {at}" for at in range(30))
    run = changed(sample(), 2, evidence=replace(EVIDENCE, log=(*LOG, *noise)))
    shown = piped(run_blocks(run, verbose=False), monkeypatch, 160)
    assert [line for line in LOG if line not in shown] == []
    assert "eth0" not in shown
    assert "(30 more lines; -v shows all)" in shown
    whole = piped(run_blocks(run, verbose=True), monkeypatch, 160)
    assert [line for line in (*LOG, *noise) if line not in whole] == []


def test_of_a_long_log_without_any_the_first_lines_are_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    noise = tuple(f"[    7.{at:06}] eth0: link {at}" for at in range(30))
    run = changed(sample(), 2, evidence=replace(EVIDENCE, log=noise))
    shown = piped(run_blocks(run, verbose=False), monkeypatch, 160)
    assert [at for at in range(30) if f"link {at}\n" in shown] == list(range(8))
    assert "(22 more lines; -v shows all)" in shown


def test_verbose_shows_all_of_the_evidence(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = flat(piped(run_blocks(sample(), verbose=True), monkeypatch))
    wanted = [
        "Holds: every online CPU is enabled, in any order",
        "Source: TDX module ABI spec, TDH.SYS.LP.INIT",
        "RCX=0x0000000000000000",
        "cpus_enabled: 7",
        "AssertionError: 1 of 8 CPUs failed: CPU 3",
    ]
    assert [one for one in wanted if one not in shown] == []


def test_tests_that_could_not_run_for_one_reason_are_told_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = run_of(
        *(made("enable.all", boot, Outcome.COULD_NOT_RUN, message="no root") for boot in "xyz")
    )
    shown = flat(piped(run_blocks(run, verbose=False), monkeypatch).split("\nBoot x")[0])
    assert shown.endswith(
        "Could not run: enable.all, boot x; enable.all, boot y; enable.all, boot z no root"
    )


def test_the_whole_is_said_to_be_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = piped(run_blocks(passed(), verbose=False, where="/x/report.html"), monkeypatch)
    assert shown.endswith("3 tests: 3 passed\nAll of it: /x/report.html\n")


def test_what_only_comes_after_a_reboot_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    run = run_of(made("enable.all", "x"), made("enable.all", "y", Outcome.NEEDS_REBOOT))
    shown = piped(run_blocks(run, verbose=False), monkeypatch)
    assert shown.startswith("Nothing has failed so far; 1 of 2 tests left.\n")
    assert shown.endswith("\nReboot, then go on with: sudo tdxhost validate --resume\n")


def test_a_run_without_tests_can_be_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = piped(run_blocks(run_of(), verbose=False), monkeypatch)
    assert shown.startswith("No test of the plan applies to this machine.\n")
    assert shown.endswith("\n0 tests\n")


def test_a_comparison_says_what_is_here_and_what_is_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = compare_runs(sample(), earlier())
    shown = flat(piped(comparison_blocks(found), monkeypatch))
    wanted = [
        "Against 20260601T101500Z-11aa, plan standard, 2026-06-01T10:15:00Z",
        "BIOS version: SE5C7411.86B.9535.D04, there SE5C7411.86B.9409.D04",
        "FAILED passed cpus.enable (order=at-once), boot at-once",
        "not run not in it time.lp-init, boot shuffled",
        "1.81 ms 600 µs 3.02x lp_init most on CPU 0: cpus.enable (order=forwards), boot forwards",
        "4294967296 B 4294901760 B +64.0 KiB pamt: memory.pamts, boot forwards",
        "5 1.2 ms 600 µs 1.97x lp_init: cpus.enable (order=forwards), boot forwards",
    ]
    assert [one for one in wanted if one not in shown] == []


def test_a_slowest_cpu_that_is_another_one_there_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    here, there = large_run({3: 9_000_000}), large_run({4: 1_000_000})
    shown = flat(piped(comparison_blocks(compare_runs(here, there)), monkeypatch))
    assert "9 ms 1 ms 9.00x lp_init most on CPU 3 (there 4): cpus.enable" in shown


def test_without_a_difference_a_comparison_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = piped(comparison_blocks(compare_runs(passed(), passed())), monkeypatch)
    assert shown.splitlines()[1:] == ["Nothing got different."]


def test_of_many_cpus_that_got_different_the_first_are_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = large_run(dict.fromkeys(range(100, 130), 1_000_000))
    shown = piped(comparison_blocks(compare_runs(run, large_run({}))), monkeypatch)
    assert shown.count("lp_init: cpus.enable") == 12
    assert shown.endswith("(18 more CPUs; --format json has all)\n")


def test_the_document_of_a_comparison_has_all_and_is_json() -> None:
    run = large_run(dict.fromkeys(range(100, 130), 1_000_000))
    document = json.loads(json.dumps(comparison_document(compare_runs(run, large_run({})))))
    assert len(document["cpus"]) == 30
    found = compare_runs(sample(), earlier())
    document = json.loads(json.dumps(comparison_document(found)))
    assert document["schema"] == "tdxhost/1"
    assert document["here"] == {
        "run": "20260704T083000Z-5c1e",
        "plan": "standard",
        "started_at": "2026-07-04T08:30:00Z",
        "outcome": "failed",
    }
    assert document["host"][-1] == {"name": "module_version", "here": "1.5.06", "there": "1.5.05"}
    assert document["tests"][-1] == {
        "boot": "shuffled",
        "title": "time.lp-init",
        "here": "not-run",
        "there": None,
        "message": "",
    }
    assert document["values"][-1] == {
        "boot": "forwards",
        "title": "memory.pamts",
        "name": "pamt",
        "unit": "bytes",
        "of": "value",
        "here": 4294967296,
        "there": 4294901760,
        "cpu_here": None,
        "cpu_there": None,
        "ratio": 4294967296 / 4294901760,
    }


def test_a_list_says_what_each_test_holds_and_where_that_comes_from(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shown = flat(piped(list_blocks([SOAK, ENABLE], [PLAN]), monkeypatch))
    assert (
        "cpus.enable every online CPU is enabled, in any order (TDX module ABI spec, "
        "TDH.SYS.LP.INIT) soak.cpus CPUs come and go"
    ) in shown
    assert "soak 1 2 hours, bounded by time (disturbs the machine's other work)" in shown
    assert shown.endswith("2 tests, 1 plan (-v shows what each needs, and its options)")


def test_a_verbose_list_says_what_each_test_needs_and_can_be_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shown = piped(list_blocks([SOAK, ENABLE], [PLAN], verbose=True), monkeypatch, 120)
    assert shown.startswith(
        "cpus.enable\n"
        "  every online CPU is enabled, in any order\n"
        "  Source: TDX module ABI spec, TDH.SYS.LP.INIT\n"
        "  Needs the TDX module untouched\n"
        "  Leaves it enabled on all CPUs\n"
        "  Option order: in which order (default: forwards)\n"
        "  Ends after 300 s at the latest\n"
        "\n"
        "soak.cpus\n"
        "  CPUs come and go, and are enabled each time\n"
        "  Source: the kernel's patch, x86/virt/tdx: TDX module initialization\n"
        "  Needs the TDX module in any state\n"
        "  Option rounds: how often (default: 100)\n"
        "  Judges by the plan's machine, lp_init_ns\n"
        "  Disturbs: takes CPUs offline\n"
        "  Ends after 3600 s at the latest\n"
    )
    assert (
        "Plan soak\n  forwards, one after another: cpus.enable, soak.cpus (rounds=7)\n"
    ) in shown


def test_the_document_of_a_list_is_json_with_stages_by_name() -> None:
    document = json.loads(json.dumps(list_document([SOAK, ENABLE], [PLAN])))
    assert document["schema"] == "tdxhost/1"
    assert document["tests"][0] == {
        "id": "cpus.enable",
        "holds": ENABLE.holds,
        "source": ENABLE.source,
        "needs": ["untouched"],
        "leaves": "all_cpus",
        "options": [{"name": "order", "help": "in which order", "default": "forwards"}],
        "reads": [],
        "disturbs": None,
        "timeout_s": 300,
    }
    every = ["untouched", "some_cpus", "all_cpus", "initialized", "stuck"]
    assert document["tests"][1]["needs"] == every
    assert document["tests"][1]["leaves"] is None
    assert document["plans"] == [
        {
            "name": "soak",
            "about": "hours, bounded by time",
            "file": "soak.yaml",
            "disturbs": True,
            "boots": [
                {
                    "name": "forwards",
                    "about": "one after another",
                    "tests": [
                        {"id": "cpus.enable", "options": {"order": "forwards"}},
                        {"id": "soak.cpus", "options": {"rounds": 7}},
                    ],
                }
            ],
        }
    ]


@pytest.mark.parametrize("odd", [object(), {1, 2}, b"x"])
def test_an_option_of_a_labs_own_can_be_anything(odd: Any) -> None:
    test = replace(ENABLE, options={"x": Option("x", lambda value: value, odd)})
    json.dumps(list_document([test], []))


def test_values_of_one_cpu_and_of_none_can_be_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    measured = (
        Measured(name="one", unit=Unit.NS, by_cpu={3: 5_000}),
        Measured(name="none", unit=Unit.NS),
    )
    run = run_of(made("enable.all", "x", measured=measured))
    shown = flat(piped(run_blocks(run, verbose=False), monkeypatch, 120))
    assert "one: median 5 µs, most 5 µs on CPU 3; none: not measured" in shown
