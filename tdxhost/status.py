# SPDX-License-Identifier: GPL-2.0-or-later
"""Completion statuses of SEAMCALL: name, meaning, what the low half says, what to do."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from tdxhost.leaves import PSEAMLDR_BIT
from tdxhost.reference import load

#: The half of a status that names it; the low half is detail.
NAME_MASK = 0xFFFFFFFF00000000
DETAIL_MASK = 0xFFFFFFFF
#: Set by the TDX module on top of some statuses (api_error_with_operand_id_fatal()).
FATAL_BIT = 1 << 61
ERROR_BIT = 1 << 63
SUCCESS = "TDX_SUCCESS"
NO_SUBLEAF = 0xFFFFFFFF
SMRRS = {0: "SMRR (MSRs 0x1f2 and 0x1f3)", 1: "SMRR2 (MSRs 0x1f6 and 0x1f7)"}
PAMT_LEVELS = {0: "4K", 1: "2M", 2: "1G"}
CPUID_STATUSES = {"TDX_INCORRECT_CPUID_VALUE", "TDX_INCONSISTENT_CPUID_FIELD"}


@dataclass(frozen=True, slots=True)
class Meaning:
    """One row of the reference; texts that there are none of are empty."""

    name: str
    value: int
    kind: str = "none"
    byte_names: tuple[str, ...] = ()
    note: str = ""
    says: str = ""
    meaning: str = ""
    likely_cause: str = ""
    what_to_do: str = ""
    since: str = ""


@dataclass(frozen=True, slots=True)
class Decoded:
    """A status in words."""

    value: int
    name: str
    detail: str = ""
    says: str = ""
    meaning: Meaning | None = None

    @property
    def label(self) -> str:
        """Name and number, as messages have them."""
        if self.meaning is None:
            return self.name
        return f"{self.name} ({self.value:#018x})"

    @property
    def what_to_do(self) -> str:
        """What the reference advises; empty where it says nothing."""
        return self.meaning.what_to_do if self.meaning else ""


@dataclass
class Reference:
    """The tables of data/, each read when it is first needed."""

    _loaded: dict[str, Mapping[str, Any]] = field(default_factory=dict)

    def _table(self, name: str) -> Mapping[str, Any]:
        return self._loaded.setdefault(name, load(name))

    @cached_property
    def statuses(self) -> dict[int, Meaning]:
        """Statuses of the TDX module by value, the low half being 0; older names last."""
        table = self._table("status")
        rows = [_meaning(row) for row in (*table["legacy"], *table["statuses"])]
        return {row.value: row for row in rows}

    @cached_property
    def whole_words(self) -> dict[int, Meaning]:
        """Codes of kernels, which stand for the whole word."""
        return {row["value"]: _meaning(row) for row in self._table("status")["software"]}

    @cached_property
    def pseamldr(self) -> dict[int, Meaning]:
        """Statuses of P-SEAMLDR by value."""
        return {row["value"]: _meaning(row) for row in self._table("status")["pseamldr"]}

    @cached_property
    def operands(self) -> dict[int, tuple[str, str]]:
        """Operand id to name and meaning."""
        rows = self._table("status")["operands"]
        return {row["id"]: (row["name"], row["meaning"]) for row in rows}

    @cached_property
    def msrs(self) -> dict[int, str]:
        """MSR address to name."""
        return {row["address"]: row["name"] for row in self._table("msrs")["msrs"]}

    def name_of(self, value: int, leaf: int = 0) -> str | None:
        """Names a status without its detail; None for one that is not in the reference."""
        # Every CPU of a healthy host says 0, and reading the table costs more than the rest
        # of the command does.
        if value == 0 and not leaf & PSEAMLDR_BIT:
            return SUCCESS
        decoded = self.decode(value, leaf)
        return decoded.name if decoded.meaning else None

    def decode(
        self, value: int, leaf: int = 0, registers: Mapping[str, int] | None = None
    ) -> Decoded:
        """Puts a status in words; leaf (RAX) and output registers make it more exact."""
        if leaf & PSEAMLDR_BIT:
            return _plain(value, self.pseamldr.get(value))
        if whole := self.whole_words.get(value):
            return _plain(value, whole)
        meaning = self._find(value)
        if meaning is None:
            return _plain(value, None)
        detail = self._detail(meaning, value & DETAIL_MASK, registers or {})
        says = meaning.says.format(detail=detail) if meaning.says and detail else ""
        return Decoded(value, meaning.name, detail, says or detail or meaning.meaning, meaning)

    def _find(self, value: int) -> Meaning | None:
        masked = value & NAME_MASK
        return self.statuses.get(masked) or self.statuses.get(masked & ~FATAL_BIT)

    def _detail(self, meaning: Meaning, low: int, registers: Mapping[str, int]) -> str:
        if meaning.name in CPUID_STATUSES:
            return cpuid_detail(registers)
        match meaning.kind:
            case "operand_id":
                return self._operand(low)
            case "msr_index":
                return f"MSR {low:#x} {self.msrs.get(low, '')}".strip()
            case _:
                return _number_detail(meaning, low)

    def _operand(self, low: int) -> str:
        if low not in self.operands:
            return f"operand {low}"
        name, meaning = self.operands[low]
        return f"operand {name}" if meaning == f"register {name}" else f"operand {name} ({meaning})"


def _meaning(row: Mapping[str, Any]) -> Meaning:
    low32 = row.get("low32", {})
    texts = {key: row.get(key, "") for key in ("says", "likely_cause", "what_to_do", "since")}
    return Meaning(
        name=row["name"],
        value=row["value"],
        kind=low32.get("kind", "none"),
        byte_names=tuple(low32.get("bytes", ())),
        note=low32.get("note", ""),
        meaning=row["meaning"],
        **texts,
    )


def _plain(value: int, meaning: Meaning | None) -> Decoded:
    if meaning is None:
        return Decoded(value, f"unknown status {value:#018x}")
    return Decoded(value, meaning.name, says=meaning.meaning, meaning=meaning)


def _number_detail(meaning: Meaning, low: int) -> str:
    match meaning.kind:
        case "byte_packed" if meaning.byte_names:
            return ", ".join(
                _byte(name, low >> 8 * place & 0xFF)
                for place, name in enumerate(meaning.byte_names)
            )
        case "cpuid_leaf":
            return f"CPUID leaf {low:#x}" if low else "CPUID topology (leaf 0x1f)"
        case "smrr_index":
            return SMRRS.get(low, f"SMRR {low}")
        case "package_id":
            return f"package {low}"
        case "l2_details":
            return f"VM {low >> 16}, level {low & 0xFFFF}"
        case _:
            return f"detail {low:#x}" if low else ""


def _byte(name: str, value: int) -> str:
    if name == "PAMT level":
        return f"PAMT {PAMT_LEVELS.get(value, f'level {value}')}"
    return f"{name} {value}"


def cpuid_detail(registers: Mapping[str, int]) -> str:
    """Says which CPUID leaf and bits RCX, RDX and R8 of TDH.SYS.(LP.)INIT name.

    Source: leaves.yaml of the reference: RCX leaf and sub-leaf, RDX masks of EAX and EBX,
    R8 masks of ECX and EDX.
    """
    if not registers.get("rdx") and not registers.get("r8"):
        return ""
    rcx, rdx, r8 = (registers.get(name, 0) for name in ("rcx", "rdx", "r8"))
    leaf, subleaf = rcx & DETAIL_MASK, rcx >> 32
    where = f"CPUID leaf {leaf:#x}"
    if subleaf != NO_SUBLEAF:
        where += f" sub-leaf {subleaf:#x}"
    masks = {
        "EAX": rdx & DETAIL_MASK,
        "EBX": rdx >> 32,
        "ECX": r8 & DETAIL_MASK,
        "EDX": r8 >> 32,
    }
    bits = ", ".join(f"{name} {mask:#x}" for name, mask in masks.items() if mask)
    return f"{where} (bits checked: {bits})"


def is_error(value: int) -> bool:
    """Whether a status says that the call failed."""
    return bool(value & ERROR_BIT)
