# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs the groups of the fault matrix side by side, and counts its cases."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.vm.matrix.cases import Case, Group
from tests.vm.matrix.machine import Problems, prepared, run_group
from vtdx.vm.machine import Snapshot

#: A machine waits for its host often enough to leave room for a second one.
MACHINES_AT_ONCE = 2
MATRIX_TEST = "test_a_fault_is_answered_as_the_contract_says"


class Matrix:
    """Results of the groups that this run asks for; they begin when it is made."""

    def __init__(self, groups: list[Group], start: Snapshot, folder: Path) -> None:
        self._pool = ThreadPoolExecutor(MACHINES_AT_ONCE)
        self._results: dict[str, Future[Problems]] = {
            group.name: self._pool.submit(run_group, group, start, folder / str(number))
            for number, group in enumerate(groups)
        }

    def problems(self, group: Group, case: Case) -> list[str]:
        """What is wrong with a case; waits for its machine."""
        return self._results[group.name].result()[case.name]

    def close(self) -> None:
        """Start no more machines, and wait for those that run."""
        self._pool.shutdown(cancel_futures=True)


def _asked_for(items: list[pytest.Item]) -> list[Group]:
    """The groups of the tests that will run, with only their cases where they stand alone."""
    groups: dict[str, Group] = {}
    cases: dict[str, list[Case]] = {}
    for item in items:
        if isinstance(item, pytest.Function) and item.originalname == MATRIX_TEST:
            group: Any = item.callspec.params["group"]
            case: Any = item.callspec.params["case"]
            groups[group.name] = group
            cases.setdefault(group.name, []).append(case)
    return [
        replace(group, cases=tuple(cases[group.name])) if group.reload else group
        for group in groups.values()
    ]


@pytest.fixture(scope="session")
def matrix(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Matrix]:
    """The machines of the fault matrix."""
    folder = tmp_path_factory.mktemp("matrix")
    with prepared(folder / "prepared") as start:
        running = Matrix(_asked_for(request.session.items), start, folder)
        try:
            yield running
        finally:
            running.close()
