# SPDX-License-Identifier: GPL-2.0-or-later
"""Every test of the suite has something under which it fails: the table in tests/vm/pairs."""

from __future__ import annotations

from pathlib import Path

from tdxhost.validation.collect import find_tests
from tests.vm.pairs import cpus, machine, memory
from tests.vm.pairs.run import every

KMOD = Path(__file__).resolve().parents[3] / "kmod"
TABLES = (cpus.PAIRS, machine.PAIRS, memory.PAIRS)


def test_every_test_of_the_suite_has_a_partner() -> None:
    paired = {test for table in TABLES for test in table}
    assert set(find_tests()) == paired


def test_pairs_have_names_of_their_own() -> None:
    names = [pair.why for table in TABLES for pair in every(table)]
    assert len(names) == len(set(names))


def test_every_edit_of_the_driver_has_one_place() -> None:
    for table in TABLES:
        for pair in every(table):
            for edit in pair.edits:
                found = (KMOD / edit.file).read_text(encoding="utf-8").count(edit.old)
                assert found == 1, (pair.why, edit.file, edit.old)
