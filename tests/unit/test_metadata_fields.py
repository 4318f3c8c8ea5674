# SPDX-License-Identifier: GPL-2.0-or-later
"""Names of metadata fields and features against the reference."""

from pathlib import Path

import yaml

from tdxhost.fields import FieldTable
from tests.unit.samples import FakeDriver

TABLE = FieldTable.load()


def test_fields_are_those_of_the_reference(shared: Path) -> None:
    text = (shared / "tdx-abi/sys-fields.yaml").read_text(encoding="utf-8")
    reference = yaml.safe_load(text)
    expected = {
        row["name"]: (row["id"], row["element_size"], row["fields"] * row["elements_per_field"])
        for row in reference["fields"]
    }
    expected |= {
        row["name"]: (row["id"], row["element_size"], 1) for row in reference["fields_newer"]
    }
    assert {row.name: (row.id, row.size, row.count) for row in TABLE.fields} == expected
    bits = {row["bit"] for row in reference["tdx_features0"]}
    assert TABLE.features0.keys() == bits


def test_feature_bits_are_named_and_unknown_ones_numbered() -> None:
    assert TABLE.feature_names(1 << 18 | 1 << 20 | 1 << 63) == [
        "NO_RBP_MOD",
        "TOPOLOGY_ENUM",
        "BIT_63",
    ]


def test_answers_are_sorted_by_field() -> None:
    ids = TABLE.all_ids()
    driver = FakeDriver(fields={number: number & 0xFF for number in ids})
    readings = TABLE.readings(driver.sys_rd(ids))
    for reading in readings:
        assert [value.id for value in reading.values] == list(reading.field.ids)
        assert reading.known


def test_a_field_that_the_module_lacks_is_not_known() -> None:
    readings = TABLE.readings(FakeDriver(fields={}).sys_rd(TABLE.all_ids()))
    assert not any(reading.known for reading in readings)
