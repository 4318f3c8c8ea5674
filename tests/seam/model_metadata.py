# SPDX-License-Identifier: GPL-2.0-or-later
"""TDH.SYS.RD, RDALL and INFO, from sys-fields.yaml, structures.yaml and observed.md."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from .binding import ALL_ONES
from .model_call import Platform, Refused
from .model_reference import Field

CONTEXT = 7 << 52
RD_MUST_BE_ZERO = 0xFF << 24 | 0xFFFF << 34 | 1 << 55 | 1 << 62
RDALL_MUST_BE_ZERO = 0xFF << 24 | 0xFFFF << 34
LAST_ELEMENT_BIT, LAST_FIELD_BIT = 34, 38
ATTRIBUTES_FIXED0 = 1 << 0 | 1 << 28 | 1 << 29 | 1 << 30 | 1 << 63
XFAM_FIXED0 = 0x6DBE7
TDX_FEATURES0 = 0xF0FBF
ARCH_CAPABILITIES_CONFIG_MASK = 1 << 4 | 1 << 19 | 1 << 20 | 1 << 24
CMR_ENTRIES = 32
INFO_BYTES, CMR_INFO_BYTES = 1024, 512
CPUID_CONFIG_AT, CPUID_CONFIG_BYTES = 132, 288

# An element: its field, and its number in the field's row.
Element = tuple[Field, int]


@dataclass(frozen=True)
class Handoff:
    """The header of handoff data."""

    valid: bool = False
    version: int = 0
    size: int = 0


@dataclass(frozen=True)
class Unspecified:
    """Values that the reference leaves to the build: a test says what they are."""

    element: Callable[[int], int]
    info_cpuid_config: bytes
    seamldr_info: bytes


class Metadata:
    """The fields of a module and what they read as."""

    def __init__(self, platform: Platform, unspecified: Unspecified) -> None:
        self._platform = platform
        self._unspecified = unspecified
        self._fields = platform.reference.fields
        self._by_name = {field.name: field for field in self._fields}

    def read(self, field_id: int, handoff: Handoff) -> tuple[int, int]:
        """TDH.SYS.RD: next id and value."""
        if field_id | CONTEXT == ALL_ONES:
            raise Refused("TDX_METADATA_FIRST_FIELD_ID_IN_CONTEXT", rdx=self._fields[0].id)
        if field_id & RD_MUST_BE_ZERO:
            raise Refused("TDX_METADATA_FIELD_ID_INCORRECT")
        field, index = self._find(field_id)
        value = self._value(field, index, handoff)
        if index + 1 < field.elements:
            return (field_id & ~CONTEXT) + 1, value
        position = self._fields.index(field) + 1
        last = position == len(self._fields)
        return ALL_ONES if last else self._fields[position].id, value

    def _find(self, field_id: int) -> Element:
        for field in self._fields:
            index = (field_id & 0xFFFFFF) - field.code
            if field.field_class == field_id >> 56 & 0x3F and 0 <= index < field.elements:
                return field, index
        raise Refused("TDX_METADATA_FIELD_ID_INCORRECT")

    # Values

    def _value(self, field: Field, index: int, handoff: Handoff) -> int:
        if field.value is not None:
            return field.value
        for values in (self._of_config(index), self._of_platform(index), self._of(handoff)):
            if field.name in values:
                return values[field.name]
        return self._unspecified.element(field.id + index)

    def _of_config(self, index: int) -> Mapping[str, int]:
        config: Mapping[str, Any] = self._platform.config
        return {
            "NUM_PKGS": config["packages"],
            "PKG_FMS": config["package_fms"][index % len(config["package_fms"])],
            "BUILD_DATE": config["build_date"],
            "BUILD_NUM": config["build_num"],
            "UPDATE_VERSION": config["update"],
            "INTERNAL_VERSION": config.get("internal", 0),
            "MODULE_HV": config.get("module_hv", 0),
            "MIN_UPDATE_HV": config.get("min_update_hv", 0),
            "NO_DOWNGRADE": config.get("no_downgrade", 0),
            "NUM_HANDOFF_PAGES": config["num_handoff_pages"],
            "TDX_FEATURES0": config.get("tdx_features0") or TDX_FEATURES0,
        }

    def _of_platform(self, index: int) -> Mapping[str, int]:
        base, size = self.cmr_table()[index % CMR_ENTRIES]
        low, _, _, high = self._platform.machine.cpuid(0, 0xD, 0)
        supervisor = self._platform.machine.cpuid(0, 0xD, 1)[2]
        return {
            "NUM_CMRS": CMR_ENTRIES,
            "CMR_BASE": base,
            "CMR_SIZE": size,
            "ATTRIBUTES_FIXED0": ATTRIBUTES_FIXED0,
            "XFAM_FIXED0": XFAM_FIXED0 & (low | high << 32 | supervisor),
            "IA32_ARCH_CAPABILITIES_CONFIG_MASK": ARCH_CAPABILITIES_CONFIG_MASK,
        }

    def _of(self, handoff: Handoff) -> Mapping[str, int]:
        return {
            "HANDOFF_DATA_VALID": int(handoff.valid),
            "HANDOFF_DATA_HV": handoff.version,
            "HANDOFF_DATA_SIZE": handoff.size,
        }

    def cmr_table(self) -> list[tuple[int, int]]:
        """All 32 entries."""
        cmrs = self._platform.cmrs
        return cmrs + [(0, 0)] * (CMR_ENTRIES - len(cmrs))

    # TDH.SYS.RDALL

    def read_all(self, first: int, handoff: Handoff) -> bytes:
        """The list from a field on; all of them fit in its page."""
        sequences = b""
        count = 0
        for sequence in _sequences(self._from(first)):
            sequences += _sequence_header(sequence)
            for field, index in sequence:
                for element in range(index, index + field.elements_per_field):
                    sequences += self._value(field, element, handoff).to_bytes(8, "little")
            count += 1
        return struct.pack("<HHI", len(sequences) + 8, count, 0) + sequences

    def _from(self, first: int) -> list[Element]:
        """Each field from one on, by its first element."""
        every = [
            (field, number * field.elements_per_field)
            for field in self._fields
            for number in range(field.fields)
        ]
        if first == ALL_ONES:
            return every
        if first & RDALL_MUST_BE_ZERO:
            raise Refused("TDX_METADATA_FIELD_ID_INCORRECT")
        field, index = self._find(first)
        has_size = field.id >> 32 & 3 == first >> 32 & 3
        if not has_size or index % field.elements_per_field:
            raise Refused("TDX_METADATA_FIELD_ID_INCORRECT")
        return every[every.index((field, index)) :]

    # TDH.SYS.INFO

    def info(self, handoff: Handoff) -> bytes:
        """TDSYSINFO_STRUCT."""
        parts = {
            0: ("<I", "SYS_ATTRIBUTES"),
            4: ("<I", "VENDOR_ID"),
            8: ("<I", "BUILD_DATE"),
            12: ("<H", "BUILD_NUM"),
            14: ("<H", "MINOR_VERSION"),
            16: ("<H", "MAJOR_VERSION"),
            32: ("<H", "MAX_TDMRS"),
            34: ("<H", "MAX_RESERVED_PER_TDMR"),
            36: ("<H", "PAMT_4K_ENTRY_SIZE"),
            48: ("<H", "TDCS_BASE_SIZE"),
            52: ("<H", "TDVPS_BASE_SIZE"),
            64: ("<Q", "ATTRIBUTES_FIXED0"),
            72: ("<Q", "ATTRIBUTES_FIXED1"),
            80: ("<Q", "XFAM_FIXED0"),
            88: ("<Q", "XFAM_FIXED1"),
            128: ("<I", "NUM_CPUID_CONFIG"),
        }
        out = bytearray(INFO_BYTES)
        for offset, (kind, name) in parts.items():
            value = self._value(self._by_name[name], 0, handoff)
            struct.pack_into(kind, out, offset, value)
        out[18] = 1
        out[CPUID_CONFIG_AT : CPUID_CONFIG_AT + CPUID_CONFIG_BYTES] = (
            self._unspecified.info_cpuid_config
        )
        return bytes(out)

    def cmr_info(self) -> bytes:
        return b"".join(struct.pack("<QQ", *cmr) for cmr in self.cmr_table())


def _sequences(fields: list[Element]) -> Iterator[list[Element]]:
    """Fields that follow each other in a class, of one size and count of elements."""

    def group(numbered: tuple[int, Element]) -> tuple[int, int, int, int]:
        number, (field, index) = numbered
        fields_before = (field.code + index) // field.elements_per_field
        return (
            fields_before - number,
            field.field_class,
            field.element_size,
            field.elements_per_field,
        )

    for _, run in groupby(enumerate(fields), group):
        yield [element for _, element in run]


def _sequence_header(sequence: list[Element]) -> bytes:
    field, index = sequence[0]
    header = (
        field.id + index
        | field.elements_per_field - 1 << LAST_ELEMENT_BIT
        | len(sequence) - 1 << LAST_FIELD_BIT
    )
    return header.to_bytes(8, "little")
