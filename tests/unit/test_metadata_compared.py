# SPDX-License-Identifier: GPL-2.0-or-later
"""Metadata compared between CPUs: the fields that differ, and who has which value."""

from tdxhost.fields import FieldTable
from tdxhost.records import FieldValue
from tdxhost.status import Reference
from tdxhost.validation.metadata import Answers, answers, differing, element_names

NAMES = ["MAX_TDMRS", "CMR_BASE[0]"]
#: TDX_METADATA_FIELD_ID_INCORRECT; status-codes.yaml.
INCORRECT = 0xC0000C0000000000


def read(*values: int) -> Answers:
    """What a CPU answers."""
    known = [FieldValue(id=0, value=v, next_id=0, seam_status=0, error=0, trap=0) for v in values]
    return answers(known)


def refused(status: int, trap: int = 0) -> Answers:
    """What a CPU answers that is refused the second field."""
    bad = FieldValue(id=0, value=0, next_id=0, seam_status=status, error=5, trap=trap)
    return (*read(64), *answers([bad]))


def compare(by_cpu: dict[int, Answers]) -> list[str]:
    """The sentences."""
    return differing(by_cpu, NAMES, Reference().name_of)


def test_cpus_that_agree_have_no_sentence() -> None:
    assert compare({0: read(64, 1), 1: read(64, 1), 5: read(64, 1)}) == []


def test_values_are_told_with_the_cpus_that_have_them() -> None:
    assert compare({0: read(64, 1), 1: read(64, 2), 2: read(64, 1), 3: read(64, 1)}) == [
        "CMR_BASE[0] is 0x1 on CPUs 0,2-3, 0x2 on CPU 1"
    ]


def test_refusals_and_traps_are_told_by_name() -> None:
    assert compare({0: read(64, 1), 1: refused(INCORRECT)}) == [
        "CMR_BASE[0] is 0x1 on CPU 0, refused (TDX_METADATA_FIELD_ID_INCORRECT) on CPU 1"
    ]
    assert compare({0: read(64, 1), 1: refused(0, trap=13)}) == [
        "CMR_BASE[0] is 0x1 on CPU 0, refused (trap 13) on CPU 1"
    ]


def test_every_element_has_a_name_of_its_own() -> None:
    table = FieldTable.load()
    names = element_names(table)
    assert len(names) == len(table.all_ids()) == len(set(names))
    assert names[table.all_ids().index(0x9000000300000083)] == "CMR_BASE[3]"
