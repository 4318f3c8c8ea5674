# SPDX-License-Identifier: GPL-2.0-or-later
"""The page of a run: what it shows in which order, and its drawing of CPUs."""

import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pytest

from tdxhost.validation.against import compare_runs
from tdxhost.validation.chart import ABOVE, HEIGHT, LEFT, chart
from tdxhost.validation.page import page
from tdxhost.validation.result import Measured, Outcome, Run, Unit
from tests.unit.validation.runs import (
    CALL,
    EVIDENCE,
    FAILURE,
    LOG,
    changed,
    earlier,
    large_run,
    lp_init,
    made,
    passed,
    run_of,
    sample,
)


class Texts(HTMLParser):
    """Texts of a page in order, without style and script."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self._hidden = False

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self._hidden = tag in ("style", "script")

    def handle_endtag(self, tag: str) -> None:
        self._hidden = False

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.found.append(data)


def text(html: str) -> str:
    """All text of a page, blanks and ends of lines taken together."""
    texts = Texts()
    texts.feed(html)
    return " ".join(" ".join(texts.found).split())


def headings(html: str) -> list[str]:
    """What its sections are called."""
    return re.findall(r"<h2[^>]*>(.*?)</h2>", html)


def section(html: str, name: str) -> str:
    """The text of a section."""
    found = re.search(rf'<section aria-labelledby="{name}">(.*?)</section>', html, re.DOTALL)
    assert found, name
    return text(found[1])


def test_the_verdict_comes_first_and_then_what_is_wrong() -> None:
    html = page(sample(), compare_runs(sample(), earlier()))
    assert headings(html) == [
        "Run and host",
        "Failures",
        "Could not run",
        "Against another run",
        "Tests",
        "Measured",
    ]
    top = text(html.split("<section")[0])
    assert "Failed 3 of 10 tests failed, and 2 are left." in top
    assert f"cpus.enable (order=at-once): {FAILURE}. Go on with" in top


def test_a_run_that_is_well_has_nothing_of_failures() -> None:
    html = page(passed())
    assert headings(html) == ["Run and host", "Tests", "Measured"]
    assert "Passed All 3 tests passed." in text(html)


@pytest.mark.parametrize(
    ("outcome", "says"),
    [
        (Outcome.COULD_NOT_RUN, "Incomplete Nothing failed, but 1 of 3 tests could not run."),
        (Outcome.NEEDS_REBOOT, "Unfinished Nothing has failed so far; 1 of 3 tests left."),
        (Outcome.NOT_RUN, "Unfinished Nothing has failed so far; 1 of 3 tests left."),
        (Outcome.LOST, "Failed 1 of 3 tests failed."),
        (Outcome.BROKEN, "Failed 1 of 3 tests failed."),
        (Outcome.NOT_APPLICABLE, "Passed All 2 tests passed."),
    ],
)
def test_only_a_run_of_which_all_passed_says_so(outcome: Outcome, says: str) -> None:
    assert says in text(page(changed(passed(), 1, outcome=outcome)))


def test_a_run_without_any_test_did_not_pass() -> None:
    html = page(run_of())
    assert "Incomplete No test of the plan applies to this machine." in text(html)
    assert "The plan has no test." in section(html, "tests")


def test_a_failure_has_all_of_its_evidence() -> None:
    told = section(page(sample()), "failures")
    wanted = [
        FAILURE,
        "CPU 3, TDH.SYS.LP.INIT: TDX_INCONSISTENT_MSR (0xc00009200000010a)",
        CALL.says,
        CALL.hint,
        "RCX 0x0000000000000000",
        "cpus_enabled 7",
        "final false",
        *(" ".join(line.split()) for line in LOG),
        *EVIDENCE.diagnosis,
        *(" ".join(line.split()) for line in EVIDENCE.details.splitlines()),
        EVIDENCE.snapshot,
        "Evidence: 1 SEAMCALL, 4 lines of the kernel's log, the driver's status, the assertion, "
        "a snapshot",
    ]
    assert [one for one in wanted if one not in told] == []
    # What the driver did not say is no evidence.
    assert "cpu None" not in told
    assert "cpu null" not in told


def test_every_test_stands_under_its_boot_with_its_outcome() -> None:
    told = section(page(sample()), "tests")
    order = [
        "at-once Outcome Test Time Message ✓ passed machine.able",
        "✓ passed refusal.arguments",
        "✗ failed cpus.enable (order=at-once)",
        "! could not run enable.all",
        "- not applicable refusal.absent-cpu",
        "forwards Outcome Test Time Message ✓ passed cpus.enable (order=forwards)",
        "✗ broken cpus.sane",
        "✗ lost hotplug.after",
        "shuffled Outcome Test Time Message ↷ needs a reboot cpus.enable (order=shuffled)",
        "? not run time.lp-init",
    ]
    places = [told.index(one) for one in order]
    assert places == sorted(places)


def test_against_another_run_it_says_what_got_different() -> None:
    told = section(page(sample(), compare_runs(sample(), earlier())), "against")
    wanted = [
        "There: run 20260601T101500Z-11aa of the plan standard, 2026-06-01T10:15:00Z.",
        "BIOS version SE5C7411.86B.9535.D04 SE5C7411.86B.9409.D04",
        "Microcode 0x21000240 0x21000161",
        "TDX module 1.5.06 1.5.05",
        "cpus.enable (order=at-once) at-once ✗ failed ✓ passed",
        "time.lp-init shuffled ? not run not in it",
        # 1810 µs beside 600 µs; the median of 612 µs is the same within a quarter.
        "lp_init , most 1.81 ms CPU 0 600 µs CPU 0 3.02x",
        # Sizes that would read the same are told to the byte.
        "pamt 4294967296 B 4294901760 B +64.0 KiB",
        # 1204/600 beside a median of 611/600.
        "5 forwards cpus.enable (order=forwards) lp_init 1.2 ms 600 µs 1.97x",
    ]
    assert [one for one in wanted if one not in told] == []


def test_against_its_own_twin_it_says_that_nothing_is_different() -> None:
    told = section(page(passed(), compare_runs(passed(), passed())), "against")
    assert "Nothing got different." in told


def test_the_cpus_that_differ_most_are_shown_and_the_others_folded() -> None:
    slow = {cpu: 1_000_000 + 10_000 * cpu for cpu in range(100, 130)}
    run = large_run(slow)
    html = page(run, compare_runs(run, large_run({})))
    shown, _, folded = section(html, "against").partition("18 more")
    assert shown.count("forwards cpus.enable") == 12
    assert folded.count("forwards cpus.enable") == 18
    assert "129 forwards" in shown
    assert "100 forwards" in folded


@pytest.mark.parametrize("place", ["message", "boot", "holds", "source", "log", "options"])
def test_nothing_that_a_test_says_becomes_markup(place: str) -> None:
    evil = "<script>alert(1)</script>"
    more: dict[str, dict[str, Any]] = {
        "log": {"evidence": replace(EVIDENCE, log=(evil,))},
        "options": {"options": {"order": evil}},
    }
    changes: dict[str, Any] = more.get(place, {place: evil})
    html = page(changed(sample(), 2, **changes))
    assert evil not in html
    assert "&lt;script&gt;alert(1)" in html


def test_it_needs_nothing_beside_it() -> None:
    html = page(sample(), compare_runs(sample(), earlier()))
    assert html.startswith("<!DOCTYPE html>")
    assert "default-src 'none'" in html
    assert re.findall(r"(?:src|href)=\"(?!data:)[^\"]*\"", html) == []
    assert "http" not in html.replace("http-equiv", "")


def test_a_host_of_which_nothing_is_known_can_be_shown() -> None:
    told = section(page(replace(passed(), host={})), "host")
    assert "BIOS not known" in told


def columns(by_cpu: dict[int, int]) -> list[tuple[int, float, bool]]:
    """CPU, height, and whether it stands out."""
    return [(one.cpu, one.height, one.high) for one in chart(lp_init(by_cpu)).columns]


def test_columns_are_as_high_as_their_values_from_nothing_on() -> None:
    assert columns({0: 1_000_000, 1: 500_000, 2: 250_000}) == [
        (0, HEIGHT, True),
        (1, HEIGHT / 2, False),
        (2, HEIGHT / 4, False),
    ]


def test_columns_end_at_the_same_line_and_none_is_too_low_to_be_seen() -> None:
    drawn = chart(lp_init({0: 1_000_000_000, 1: 1, 2: 0}))
    assert {one.y + one.height for one in drawn.columns} == {ABOVE + HEIGHT}
    assert min(one.height for one in drawn.columns) == 1


def test_columns_of_nothing_at_all_can_be_drawn() -> None:
    drawn = chart(Measured(name="retries", unit=Unit.COUNT, by_cpu={0: 0, 1: 0}))
    assert [one.height for one in drawn.columns] == [1, 1]
    assert not drawn.has_high


@pytest.mark.parametrize("number", [1, 2, 8, 64, 448, 2048])
def test_columns_stand_side_by_side_inside_the_drawing(number: int) -> None:
    drawn = chart(lp_init(dict.fromkeys(range(number), 600_000)))
    edges = [edge for one in drawn.columns for edge in (one.x, one.x + one.width)]
    assert edges == sorted(edges)
    assert edges[0] >= LEFT
    assert edges[-1] <= drawn.width
    assert drawn.cpus[0].text == "0"


def test_the_median_is_labelled_only_where_there_is_room() -> None:
    def labels(*values: int) -> list[str]:
        return [label.text for label in chart(lp_init(dict(enumerate(values)))).values]

    assert labels(1_000_000, 500_000, 500_000) == ["1 ms", "0", "500 µs"]
    assert labels(1_000_000, 990_000, 990_000) == ["1 ms", "0"]
    assert labels(1_000_000, 1_000, 1_000) == ["1 ms", "0"]


def one_cpu() -> Run:
    """A run on a machine of one CPU."""
    return run_of(made("cpus.enable", "x", measured=(lp_init({0: 600_000}),)))


def test_one_cpu_is_no_drawing() -> None:
    html = page(one_cpu())
    assert "<svg class" not in html
    assert "lp_init median 600 µs, most 600 µs on CPU 0" in section(html, "measured")
