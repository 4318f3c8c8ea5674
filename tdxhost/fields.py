# SPDX-License-Identifier: GPL-2.0-or-later
"""Metadata fields of the TDX module: names, ids, and the bits of TDX_FEATURES0."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tdxhost.records import FieldValue
from tdxhost.reference import load


@dataclass(frozen=True, slots=True)
class Field:
    """A field of count elements with ids from id on, each of size bytes."""

    name: str
    id: int
    size: int
    count: int
    meaning: str

    @property
    def ids(self) -> range:
        """The id of each element."""
        return range(self.id, self.id + self.count)


@dataclass(frozen=True, slots=True)
class Reading:
    """A field and what TDH.SYS.RD answered for each element."""

    field: Field
    values: tuple[FieldValue, ...]

    @property
    def known(self) -> bool:
        """Whether the TDX module has the field."""
        return all(value.error == 0 for value in self.values)


@dataclass(frozen=True, slots=True)
class FieldTable:
    """What the reference knows of metadata."""

    fields: tuple[Field, ...]
    features0: Mapping[int, str]

    @classmethod
    def load(cls) -> "FieldTable":
        """Reads data/fields.yaml."""
        table = load("fields")
        rows: list[Mapping[str, Any]] = table["fields"]
        features = {row["bit"]: row["name"] for row in table["features0"]}
        return cls(tuple(Field(**row) for row in rows), features)

    def all_ids(self) -> list[int]:
        """The ids of every element of every field, in order."""
        return [number for field in self.fields for number in field.ids]

    def readings(self, values: Sequence[FieldValue]) -> list[Reading]:
        """Sorts the answers for all_ids() by field."""
        left = iter(values)
        return [
            Reading(field, tuple(next(left) for _ in range(field.count))) for field in self.fields
        ]

    def feature_names(self, features0: int) -> list[str]:
        """Names the bits that are set, lowest first; unknown ones by number."""
        bits = [bit for bit in range(64) if features0 >> bit & 1]
        return [self.features0.get(bit, f"BIT_{bit}") for bit in bits]
