# SPDX-License-Identifier: GPL-2.0-or-later
"""A lab's conftest.py that runs lab.taken by itself, which is to say not at all."""

from __future__ import annotations

import pytest


def pytest_runtest_protocol(item: pytest.Item) -> bool | None:
    """True: nobody else has to run it."""
    return True if item.name == "lab.taken" else None
