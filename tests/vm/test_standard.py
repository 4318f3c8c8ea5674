# SPDX-License-Identifier: GPL-2.0-or-later
"""The plan standard, whole, on one and two sockets: scripts/test --all does it on each kernel."""

from __future__ import annotations

import pytest

from tests.vm.hosts import Boot
from tests.vm.plans import play


@pytest.mark.slow
@pytest.mark.parametrize("name", ["spr-1s", "spr-2s"])
def test_every_boot_of_the_plan_passes(boot: Boot, name: str) -> None:
    played = play(boot, name, "standard", cpus=4)
    assert played.not_passed() == []
    assert played.document["outcome"] == "passed"
    assert played.complaints == []
    # Only the last boot leaves nothing to do.
    assert played.statuses == [1] * (len(played.statuses) - 1) + [0]
    boots = {test["boot"] for test in played.document["tests"]}
    assert len(played.witnesses) == len(boots)
    for witness in played.witnesses:
        assert len(witness.succeeded("TDH.SYS.CONFIG")) == 1
