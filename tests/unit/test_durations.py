# SPDX-License-Identifier: GPL-2.0-or-later
"""Files of long tests are where tests/durations.py has them."""

from pathlib import Path

from tests.durations import SECONDS

TESTS = Path(__file__).resolve().parent.parent


def test_every_file_that_goes_first_is_there() -> None:
    assert [file for file in SECONDS if not (TESTS / file).is_file()] == []


def test_the_longest_is_at_the_top() -> None:
    assert list(SECONDS.values()) == sorted(SECONDS.values(), reverse=True)
