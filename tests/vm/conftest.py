# SPDX-License-Identifier: GPL-2.0-or-later
"""Machines for tests.

The TDX module is initialised once a boot and a boot costs seconds: tests that
only look share a machine that was brought up, the others boot their own.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from tests.vm.hosts import Boot, BroughtUp, Host, host


@pytest.fixture
def boot(tmp_path: Path) -> Boot:
    """Boots machines of the test's own: ``with boot("spr-2s", ...) as host``."""

    def start(name: str = "spr-2s", **options: Any) -> AbstractContextManager[Host]:
        return host(tmp_path, name, **options)

    return start


@pytest.fixture(scope="session")
def brought_up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BroughtUp]:
    """A two-socket machine, brought up; for tests that leave it as it is."""
    with host(tmp_path_factory.mktemp("brought-up"), seconds=None) as machine:
        yield BroughtUp(machine, machine.json("enable"))
