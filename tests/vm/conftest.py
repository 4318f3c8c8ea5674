# SPDX-License-Identifier: GPL-2.0-or-later
"""Machines for tests.

The TDX module is initialised once a boot and a boot costs seconds: tests that
only look share a machine that was brought up, the others boot their own or start it
from a snapshot of a booted one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from tests.vm.hosts import Boot, BroughtUp, Host, Prepare, Snapshots, host


@pytest.fixture(scope="session")
def snapshots() -> Iterator[Snapshots]:
    """Booted machines to start from, one for each kind that is asked for."""
    with Snapshots() as taken:
        yield taken


@pytest.fixture
def boot(tmp_path: Path, snapshots: Snapshots) -> Boot:
    """Machines of the test's own: ``with boot("spr-2s", ...) as host``.

    ``warm=True`` starts one from a snapshot, which has ``prepare`` behind it. That is
    for tests to which the boot and the driver's loading are nothing: these went
    by without the test's faults, and are not in vtdx's log.
    """

    def start(
        name: str = "spr-2s",
        *,
        warm: bool = False,
        prepare: Prepare | None = None,
        **options: Any,
    ) -> AbstractContextManager[Host]:
        taken = snapshots if warm else None
        return host(tmp_path, name, snapshots=taken, prepare=prepare, **options)

    return start


@pytest.fixture(scope="session")
def brought_up(
    tmp_path_factory: pytest.TempPathFactory, snapshots: Snapshots
) -> Iterator[BroughtUp]:
    """A two-socket machine, brought up; for tests that leave it as it is."""
    folder = tmp_path_factory.mktemp("brought-up")
    with host(folder, seconds=None, snapshots=snapshots) as machine:
        yield BroughtUp(machine, machine.json("enable"))
