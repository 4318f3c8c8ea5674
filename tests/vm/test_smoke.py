# SPDX-License-Identifier: GPL-2.0-or-later
"""The plan smoke, whole, on a virtual host: all passes, and vtdx's log says the same."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any
from xml.etree import ElementTree

import pytest

from tests.vm.hosts import Host, host
from tests.vm.plans import Played, play

CPUS = 4


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Played:
    """The plan, played on a two-socket machine."""
    folder = tmp_path_factory.mktemp("smoke")

    def boot(name: str, **options: Any) -> AbstractContextManager[Host]:
        return host(folder, name, **options)

    return play(boot, "spr-2s", "smoke", cpus=CPUS)


def test_every_test_passes(played: Played) -> None:
    assert played.not_passed() == []
    assert played.statuses == [0]
    assert played.document["outcome"] == "passed"
    assert played.complaints == []


def test_the_tdx_module_was_initialised_once(played: Played) -> None:
    (witness,) = played.witnesses
    assert sum(witness.cpus("TDH.SYS.INIT").values()) == 1
    assert witness.cpus("TDH.SYS.LP.INIT") == dict.fromkeys(range(CPUS), 1)
    assert len(witness.succeeded("TDH.SYS.CONFIG")) == 1
    assert len(witness.succeeded("TDH.SYS.KEY.CONFIG")) == 2


def test_memory_is_what_the_tdx_module_was_given(played: Played) -> None:
    (witness,) = played.witnesses
    given = sum(
        pamt[1] for tdmr in witness.tdmrs() for pamt in (tdmr.pamt_1g, tdmr.pamt_2m, tdmr.pamt_4k)
    )
    (told,) = [test for test in played.document["tests"] if test["id"] == "enable.all"]
    values = {one["name"]: one["value"] for one in told["measured"]}
    assert values["pamt"] == given


def test_junit_has_every_test_and_no_failure(played: Played) -> None:
    root = ElementTree.fromstring(played.junit)
    assert len(root.findall(".//testcase")) == len(played.document["tests"])
    for kind in ("failure", "error", "skipped"):
        assert not root.findall(f".//{kind}")
