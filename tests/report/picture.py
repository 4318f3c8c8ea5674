# SPDX-License-Identifier: GPL-2.0-or-later
"""Takes a picture of a page, as README has one: python -m tests.report.picture PAGE PICTURE."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from tests.report.browser import browser


def main() -> None:
    """Loads a page into Chromium and writes it as PNG, all of it or its upper part."""
    parser = argparse.ArgumentParser(prog="tests.report.picture", description=__doc__)
    parser.add_argument("page", type=Path, help="an HTML file")
    parser.add_argument("picture", type=Path, help="the PNG to write")
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--height", type=int, help="default: all of the page")
    parser.add_argument("--theme", choices=("light", "dark"), default="light")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, browser(Path(folder)) as chromium:
        html = given.page.read_text(encoding="utf-8")
        chromium.show(html, width=given.width, theme=given.theme)
        given.picture.write_bytes(chromium.picture(height=given.height))


if __name__ == "__main__":
    main()
