# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests of the validation suite fail where something is wrong: tests/vm/pairs/cpus.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.vm.hosts import Boot
from tests.vm.pairs.cpus import PAIRS
from tests.vm.pairs.pair import Pair
from tests.vm.pairs.run import Bench, cases, check, drivers_for


@pytest.fixture(scope="module")
def files(request: pytest.FixtureRequest) -> dict[str, Path]:
    """The right driver and the wrong ones."""
    return drivers_for(request)


@pytest.mark.parametrize("pair", cases(PAIRS))
def test_it_fails_for_the_right_reason(boot: Boot, files: dict[str, Path], pair: Pair) -> None:
    check(pair, Bench(boot, files).play(pair))
