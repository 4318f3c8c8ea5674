# SPDX-License-Identifier: GPL-2.0-or-later
"""Machines with other kernels; each is booted for the test."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from tests.vm.hosts import Host, host

Boot = Callable[..., AbstractContextManager[Host]]


@pytest.fixture
def boot(tmp_path: Path) -> Boot:
    """``with boot("7.3", "spr-2s") as host``: a machine with that kernel."""

    def start(kernel: str, name: str = "spr-2s", **options: Any) -> AbstractContextManager[Host]:
        return host(tmp_path, name, kernel=kernel, **options)

    return start
