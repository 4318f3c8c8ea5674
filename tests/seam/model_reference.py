# SPDX-License-Identifier: GPL-2.0-or-later
"""Tables of the reference (tdx-abi/*.yaml) that the model of the TDX module works from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

CPUID_REGISTERS = ("EAX", "EBX", "ECX", "EDX")
Masks = tuple[int, int, int, int]


@dataclass(frozen=True)
class Field:
    """A row of sys-fields.yaml; value is None where the platform or the build gives it."""

    name: str
    id: int
    element_size: int
    fields: int
    elements_per_field: int
    value: int | None

    @property
    def field_class(self) -> int:
        return self.id >> 56 & 0x3F

    @property
    def code(self) -> int:
        return self.id & 0xFFFFFF

    @property
    def elements(self) -> int:
        return self.fields * self.elements_per_field


@dataclass(frozen=True)
class CpuidRow:
    """A row of cpuid_checks in msrs-cpuid.yaml."""

    leaf: int
    subleaf: int | None
    mask: Masks
    expected: Masks
    same: Masks


@dataclass(frozen=True)
class Control:
    """A row of vmx_control_requirements in msrs-cpuid.yaml."""

    msr: int
    init: int
    variable: int
    unknown: int


@dataclass(frozen=True)
class Reference:
    """What the model is told in tables; what is told in words is code."""

    statuses: Mapping[str, int]
    leaves: Mapping[int, str]
    fields: tuple[Field, ...]
    cpuid: tuple[CpuidRow, ...]
    td_controls: tuple[Control, ...]
    nested_controls: tuple[Control, ...]


def load(tdx_abi: Path) -> Reference:
    """The reference in the folder tdx-abi."""
    cpus = _yaml(tdx_abi / "msrs-cpuid.yaml")
    controls = cpus["vmx_control_requirements"]
    module_leaves = _yaml(tdx_abi / "leaves.yaml")["module_leaves"]
    return Reference(
        statuses=dict(_statuses(_yaml(tdx_abi / "status-codes.yaml"))),
        leaves={leaf["number"]: leaf["name"] for leaf in module_leaves},
        fields=tuple(_field(row) for row in _yaml(tdx_abi / "sys-fields.yaml")["fields"]),
        cpuid=tuple(_cpuid_row(row) for row in cpus["cpuid_checks"]["table"]),
        td_controls=tuple(Control(**row) for row in controls["td"].values()),
        nested_controls=tuple(Control(**row) for row in controls["nested_vm"].values()),
    )


def _yaml(path: Path) -> Any:
    return yaml.load(path.read_text(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def _statuses(codes: Any) -> Iterator[tuple[str, int]]:
    for group in ("statuses", "statuses_newer", "p_seamldr_codes"):
        for row in codes[group]:
            yield row["name"], row["value"]


def _field(row: Any) -> Field:
    value = row["value_1_5_01"]
    return Field(
        name=row["name"],
        id=row["id"],
        element_size=row["element_size"],
        fields=row["fields"],
        elements_per_field=row["elements_per_field"],
        value=value if isinstance(value, int) else None,
    )


def _masks(row: Mapping[str, int] | None) -> Masks:
    values = row or {}
    eax, ebx, ecx, edx = (values.get(name, 0) for name in CPUID_REGISTERS)
    return eax, ebx, ecx, edx


def _cpuid_row(row: Any) -> CpuidRow:
    return CpuidRow(
        leaf=row["leaf"],
        subleaf=None if row["subleaf"] == "none" else row["subleaf"],
        mask=_masks(row.get("verify_mask")),
        expected=_masks(row.get("verify_expected")),
        same=_masks(row["same"]),
    )
