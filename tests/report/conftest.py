# SPDX-License-Identifier: GPL-2.0-or-later
"""One Chromium for all tests of pages."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.report.browser import Browser, browser


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A headless Chromium with one page."""
    with browser(tmp_path_factory.mktemp("pages")) as started:
        yield started
