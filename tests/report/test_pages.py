# SPDX-License-Identifier: GPL-2.0-or-later
"""Pages in a real Chromium: nothing overflows, all can be read, nothing is fetched."""

from __future__ import annotations

import re
import struct
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.report.browser import Browser
from tests.report.pages import PAGES, html

WIDTHS = (1280, 400)
THEMES = ("light", "dark")
#: WCAG 2.2, success criterion 1.4.3, of text that is not large.
LEAST_CONTRAST = 4.5

PROBES = (Path(__file__).parent / "probes.js").read_text(encoding="utf-8")
EVERY_PAGE = pytest.mark.parametrize("name", PAGES)
EVERY_WIDTH = pytest.mark.parametrize("width", WIDTHS)
EVERY_THEME = pytest.mark.parametrize("theme", THEMES)


def show(
    chromium: Browser, name: str, width: int = 1280, theme: str = "light", *, whole: bool = True
) -> None:
    """Loads a page with the probes; whole: all that is folded is unfolded."""
    chromium.show(html(name), width=width, theme=theme)
    chromium.ask(PROBES)
    if whole:
        chromium.ask("probes.unfold()")


def probe(chromium: Browser, name: str) -> Any:
    """What a probe of the page finds."""
    return chromium.ask(f"probes.{name}()")


@EVERY_WIDTH
@EVERY_PAGE
def test_nothing_overflows_the_page(chromium: Browser, name: str, width: int) -> None:
    for whole in (False, True):
        show(chromium, name, width, whole=whole)
        scrolled, inner = probe(chromium, "size")
        assert inner == width
        assert scrolled <= inner
        assert probe(chromium, "outside") == []
        assert probe(chromium, "cut") == []


def test_the_probe_finds_what_overflows(chromium: Browser) -> None:
    show(chromium, "healthy", 400)
    wide = "document.querySelector('h1').style.width = '600px'"
    chromium.ask(wide)
    assert probe(chromium, "size")[0] > 400
    assert any(one.startswith("h1") for one in probe(chromium, "outside"))


@EVERY_THEME
@EVERY_PAGE
def test_all_text_has_contrast(chromium: Browser, name: str, theme: str) -> None:
    show(chromium, name, theme=theme)
    found = probe(chromium, "contrasts")
    assert len(found) > 50
    assert [one for one in found if one["ratio"] < LEAST_CONTRAST] == []
    assert probe(chromium, "covered") == []


def test_the_probe_finds_what_has_no_contrast(chromium: Browser) -> None:
    show(chromium, "healthy")
    chromium.ask("document.querySelector('h1').style.color = '#999'")
    (faint,) = [one for one in probe(chromium, "contrasts") if one["ratio"] < LEAST_CONTRAST]
    # Of #999999 on white: (1 + 0.05) / (0.3185 + 0.05).
    assert faint["ratio"] == pytest.approx(2.849, abs=0.01)


@EVERY_PAGE
def test_labels_of_drawings_do_not_run_into_each_other(chromium: Browser, name: str) -> None:
    show(chromium, name)
    assert probe(chromium, "collisions") == 0


@EVERY_PAGE
def test_nothing_is_fetched_and_nothing_complains(chromium: Browser, name: str) -> None:
    show(chromium, name)
    chromium.ask("new Promise((done) => setTimeout(done, 100))")
    asked = [event["request"]["url"] for event in chromium.named("Network.requestWillBeSent")]
    assert [url for url in asked if not url.startswith("data:")] == ["file:///tmp/page/page.html"]
    for event in ("Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled"):
        assert chromium.named(event) == []


@EVERY_PAGE
def test_it_can_be_used_without_seeing_it(chromium: Browser, name: str) -> None:
    show(chromium, name)
    assert probe(chromium, "unnamed") == []
    assert probe(chromium, "ids") == []
    levels = probe(chromium, "headings")
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(later <= earlier + 1 for earlier, later in pairwise(levels))


def test_the_button_changes_the_theme_and_says_to_which(chromium: Browser) -> None:
    show(chromium, "healthy", theme="light")
    ground = "getComputedStyle(document.body).backgroundColor"
    button = "document.getElementById('theme')"
    light = chromium.ask(ground)
    assert chromium.ask(f"{button}.textContent") == "Dark theme"
    chromium.ask(f"{button}.click()")
    assert chromium.ask(f"{button}.textContent") == "Light theme"
    dark = chromium.ask(ground)
    show(chromium, "healthy", theme="dark")
    assert chromium.ask(ground) == dark != light


def test_the_keyboard_goes_from_cpu_to_cpu(chromium: Browser) -> None:
    show(chromium, "large", whole=False)
    assert chromium.ask("document.querySelectorAll('.packages [tabindex=\"0\"]').length") == 1
    chromium.ask("document.querySelector('.packages .cell').focus()")
    for key, cpu in (("ArrowRight", 224), ("ArrowRight", 1), ("ArrowDown", 225)):
        chromium.key(key)
        label = chromium.ask("document.activeElement.getAttribute('aria-label')")
        assert label.startswith(f"CPU {cpu}: enabled, ")
        assert chromium.ask("document.getElementById('now').textContent") == label


@EVERY_WIDTH
def test_cpus_of_a_large_host_are_all_of_one_size(chromium: Browser, width: int) -> None:
    show(chromium, "large", width)
    sizes = chromium.ask(
        "[...new Set([...document.querySelectorAll('.packages .cell')].map((cell) => "
        "`${cell.offsetWidth} ${cell.offsetHeight}`))]"
    )
    assert len(sizes) == 1


def test_a_cpu_that_failed_differs_by_more_than_colour(chromium: Browser) -> None:
    show(chromium, "failing")
    shown = chromium.ask(
        "[...document.querySelectorAll('.packages .cell')].map((cell) => "
        "[cell.textContent, getComputedStyle(cell).borderTopStyle])"
    )
    assert [(text.strip(), border) for text, border in shown] == [
        ("0✓", "solid"),
        ("1✓", "solid"),
        ("2✓", "solid"),
        ("3✗", "double"),
    ]


def test_a_failure_opens_with_its_evidence(chromium: Browser) -> None:
    show(chromium, "validation", whole=False)
    first = "document.querySelector('.finding.fail details')"
    shown = f"{first}.querySelector('.log').checkVisibility()"
    assert chromium.ask(shown) is False
    chromium.ask(f"{first}.querySelector('summary').focus()")
    chromium.key("Enter")
    assert chromium.ask(shown) is True
    assert "TDX_INCONSISTENT_MSR" in chromium.ask(f"{first}.textContent")


@EVERY_WIDTH
def test_every_cpu_of_a_large_run_has_a_column_that_can_be_seen(
    chromium: Browser, width: int
) -> None:
    show(chromium, "validation-large", width)
    boxes = chromium.ask(
        "[...document.querySelectorAll('svg.columns rect')].map((rect) => "
        "{ const box = rect.getBoundingClientRect(); return [box.left, box.width, box.height]; })"
    )
    assert len(boxes) == 448
    assert all(wide >= 1 and high >= 1 for _, wide, high in boxes)
    assert all(left + wide <= after for (left, wide, _), (after, _, _) in pairwise(boxes))


def test_a_picture_of_it_is_as_wide_as_the_window(chromium: Browser) -> None:
    show(chromium, "healthy", 400)
    picture = chromium.picture(height=300)
    # The IHDR chunk of a PNG: width and height.
    assert picture[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", picture[16:24]) == (400, 300)


@EVERY_PAGE
def test_it_prints(chromium: Browser, name: str) -> None:
    show(chromium, name, theme="dark", whole=False)
    printed = chromium.pdf()
    assert printed.startswith(b"%PDF-")
    assert len(re.findall(rb"/Type\s*/Page\b", printed)) > 1


def test_paper_is_white_and_shows_what_is_folded(chromium: Browser) -> None:
    show(chromium, "healthy", theme="dark", whole=False)
    chromium.call("Emulation.setEmulatedMedia", media="print")
    chromium.ask("dispatchEvent(new Event('beforeprint'))")
    assert chromium.ask("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert chromium.ask("document.querySelectorAll('details:not([open])').length") == 0
    chromium.ask("dispatchEvent(new Event('afterprint'))")
    assert chromium.ask("document.querySelectorAll('details[open]').length") == 0
    chromium.call("Emulation.setEmulatedMedia", media="")
