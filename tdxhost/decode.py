# SPDX-License-Identifier: GPL-2.0-or-later
"""One completion status in full: what it names, bit by bit, what it means, what to do."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from typing import Any

from tdxhost.cpuid import REGISTERS, CpuidBits, CpuidTable, Masks
from tdxhost.leaves import LEAF_MASK, MODULE_LEAVES, PSEAMLDR_BIT, PSEAMLDR_LEAVES, leaf_name
from tdxhost.msrs import BitField, Msr, MsrTable, Rule, WrongBits
from tdxhost.reference import load
from tdxhost.status import CPUID_STATUSES, DETAIL_MASK, ERROR_BIT, FATAL_BIT, Decoded, Reference

MSR_WRONG, MSR_DIFFERS = "TDX_INCORRECT_MSR_VALUE", "TDX_INCONSISTENT_MSR"
CPUID_DIFFERS = "TDX_INCONSISTENT_CPUID_FIELD"
#: Statuses about an MSR that have its number nowhere.
MSR_OF = {
    "TDX_LIMIT_CPUID_MAXVAL_SET": 0x1A0,
    "TDX_SMRR_NOT_SUPPORTED": 0xFE,
    "TDX_SMRR_LOCK_NOT_SUPPORTED": 0xFE,
    "TDX_NUM_ACTIVATED_HKIDS_NOT_SUPPORTED": 0x87,
}
NON_RECOVERABLE_BIT = 1 << 62
FIELD_ID_LEAVES = {34, 37}
NUMBER = re.compile(r"0x[0-9a-f]+|[0-9]+", re.IGNORECASE)
#: Stands for a leaf of P-SEAMLDR's that is not known.
ANY_OF_PSEAMLDR = PSEAMLDR_BIT | LEAF_MASK
COMPARE_CPUID = (
    "Compare with CPUID on that CPU (cpuid -r), and change the firmware option that decides on it; "
    "update BIOS and microcode."
)
FIRST_HEX = 10
#: Up to so many bits of CPUID are told in a sentence each.
FEW = 8

#: Leaves as TDX 1.0's first specifications, and kernels up to 5.16 with TDX, call them.
OLD_LEAVES = {
    "TDSYSINIT": "TDHSYSINIT",
    "TDSYSINITLP": "TDHSYSLPINIT",
    "TDSYSINFO": "TDHSYSINFO",
    "TDSYSCONFIG": "TDHSYSCONFIG",
    "TDSYSCONFIGKEY": "TDHSYSKEYCONFIG",
    "TDSYSINITTDMR": "TDHSYSTDMRINIT",
    "TDSYSSHUTDOWNLP": "TDHSYSLPSHUTDOWN",
    "TDCREATE": "TDHMNGCREATE",
    "TDINIT": "TDHMNGINIT",
    "TDCREATEVP": "TDHVPCREATE",
    "TDINITVP": "TDHVPINIT",
    "TDENTER": "TDHVPENTER",
    "TDADDPAGE": "TDHMEMPAGEADD",
    "TDAUGPAGE": "TDHMEMPAGEAUG",
    "TDADDSEPT": "TDHMEMSEPTADD",
    "TDREMOVEPAGE": "TDHMEMPAGEREMOVE",
    "TDBLOCK": "TDHMEMRANGEBLOCK",
    "TDTRACK": "TDHMEMTRACK",
    "TDCONFIGKEY": "TDHMNGKEYCONFIG",
    "TDRECLAIMPAGE": "TDHPHYMEMPAGERECLAIM",
    "TDWBINVDPAGE": "TDHPHYMEMPAGEWBINVD",
    "TDWBCACHE": "TDHPHYMEMCACHEWB",
    "TDFLUSHVP": "TDHVPFLUSH",
}

#: What a status is about, by bits 47:40 (TDX module ABI spec, completion status codes).
CLASSES = {
    0x00: "general, or how a TD runs",
    0x01: "operands",
    0x02: "busy, or short of something",
    0x03: "physical pages (PAMT)",
    0x04: "pages of a TD",
    0x05: "the TDX module's state",
    0x06: "a TD's state",
    0x07: "a VCPU",
    0x08: "keys",
    0x09: "the platform's checks",
    0x0A: "TDMRs, PAMTs and CMRs",
    0x0B: "secure EPT",
    0x0C: "metadata",
    0x0D: "service TDs",
    0x0E: "migration",
    0x0F: "TDX Connect",
    0x10: "report verification",
    0x11: "TD partitioning",
}

#: A value read from the hardware: of an MSR, or of EAX to EDX.
Value = int | Masks


@dataclass(frozen=True, slots=True)
class Shown:
    """A field of an MSR's value; wanted is empty where it is as it has to be."""

    label: str
    name: str
    found: int
    wanted: str = ""
    why: str = ""


@dataclass(frozen=True, slots=True)
class Explanation:
    """A status in words.

    says is what its low half or the registers name, wanted what the TDX module wants of that,
    bits the same of CPUID bit by bit, shown the value that was given, field by field.
    """

    decoded: Decoded
    leaf: int | None
    says: str
    wanted: tuple[str, ...] = ()
    bits: tuple[CpuidBits, ...] = ()
    shown: tuple[Shown, ...] = ()
    hints: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def is_known(self) -> bool:
        """Whether the reference has the status."""
        return self.decoded.meaning is not None

    @property
    def is_error(self) -> bool:
        """Whether the call failed."""
        return bool(self.decoded.value & ERROR_BIT)

    @property
    def leaf_name(self) -> str:
        """The leaf by name; empty where it is not known."""
        if self.leaf == ANY_OF_PSEAMLDR:
            return "P-SEAMLDR"
        return "" if self.leaf is None else leaf_name(self.leaf)

    @property
    def wrong(self) -> tuple[str, ...]:
        """What is wrong in the value that was given."""
        named = (f"{row.label} {row.name}".strip() for row in self.shown if row.wanted)
        rows = (row for row in self.shown if row.wanted)
        return tuple(
            f"{name} has to be {row.wanted}, and is {number_text(row.found)}"
            for name, row in zip(named, rows, strict=True)
        )

    @property
    def what_to_do(self) -> str:
        """What the reference advises, unless that is what was done here already."""
        if self.decoded.name in CPUID_STATUSES and self.wanted:
            return COMPARE_CPUID
        return self.decoded.what_to_do

    @property
    def class_bits(self) -> str:
        """What the bits of the upper half say; empty for a status of P-SEAMLDR's."""
        return status_bits(self.decoded.value, self.leaf)

    @property
    def meaning(self) -> str:
        """What the status means in general."""
        return self.decoded.meaning.meaning if self.decoded.meaning else ""

    @property
    def likely_cause(self) -> str:
        """What it usually comes from; empty where the reference does not say."""
        return self.decoded.meaning.likely_cause if self.decoded.meaning else ""


@dataclass
class Decoder:
    """Explains statuses; tables are read when they are first needed."""

    reference: Reference = field(default_factory=Reference)

    @cached_property
    def msrs(self) -> MsrTable:
        """MSRs with their bits."""
        return MsrTable.load()

    @cached_property
    def cpuid(self) -> CpuidTable:
        """CPUID leaves with their bits."""
        return CpuidTable.load()

    @cached_property
    def advice(self) -> Mapping[str, Any]:
        """data/causes.yaml: operands by leaf, and what is wrong by id."""
        return load("causes")

    @cached_property
    def field_names(self) -> dict[int, str]:
        """Metadata field id to name."""
        return {
            row["id"] + place: row["name"]
            for row in load("fields")["fields"]
            for place in range(row["count"])
        }

    def explain(
        self,
        status: int,
        leaf: int | None = None,
        registers: Mapping[str, int] | None = None,
        value: Value | None = None,
    ) -> Explanation:
        """Puts a status in words; leaf is RAX as it was called, value what the hardware has."""
        registers = registers or {}
        leaf = self._assumed_leaf(status, leaf)
        decoded = self._decode(status, leaf, registers)
        notes = tuple(self._notes(decoded, leaf, registers))
        address = self._msr_address(decoded)
        if address is not None:
            return self._about_msr(decoded, leaf, address, value, notes)
        if decoded.name in CPUID_STATUSES:
            return self._about_cpuid(decoded, leaf, registers, value, notes)
        return Explanation(decoded, leaf, self._operand_says(decoded, leaf), notes=notes)

    def _decode(self, status: int, leaf: int | None, registers: Mapping[str, int]) -> Decoded:
        """Names the status, also one that has no detail but is a whole word."""
        decoded = self.reference.decode(status, leaf or 0, registers)
        whole = self.reference.statuses.get(status)
        if decoded.meaning is None and whole is not None and not (leaf or 0) & PSEAMLDR_BIT:
            return Decoded(status, whole.name, says=whole.meaning, meaning=whole)
        return decoded

    def show_msr(self, address: int, value: int) -> tuple[Shown, ...]:
        """Every field of an MSR's value, with what is wrong."""
        return show(self.msrs.get(address), value)

    def _assumed_leaf(self, status: int, leaf: int | None) -> int | None:
        """A status that only P-SEAMLDR gives tells on its own who was called."""
        known = self.reference.decode(status).meaning is not None
        if leaf is None and not known and status in self.reference.pseamldr:
            return ANY_OF_PSEAMLDR
        return leaf

    def _msr_address(self, decoded: Decoded) -> int | None:
        if decoded.meaning is None:
            return None
        if decoded.meaning.kind == "msr_index":
            return decoded.value & DETAIL_MASK
        return MSR_OF.get(decoded.name)

    def _about_msr(
        self,
        decoded: Decoded,
        leaf: int | None,
        address: int,
        value: Value | None,
        notes: tuple[str, ...],
    ) -> Explanation:
        msr = self.msrs.get(address)
        wanted = () if decoded.name == MSR_DIFFERS else tuple(wants(msr))
        shown = show(msr, value) if isinstance(value, int) else ()
        hints = (msr.note,) if msr.note else ()
        return Explanation(decoded, leaf, decoded.says, wanted, (), shown, hints, notes)

    def _about_cpuid(
        self,
        decoded: Decoded,
        leaf: int | None,
        registers: Mapping[str, int],
        value: Value | None,
        notes: tuple[str, ...],
    ) -> Explanation:
        is_compared = decoded.name == CPUID_DIFFERS
        found = self.cpuid.mismatch(registers, compared=is_compared)
        if found is None:
            lost = "the registers that say which CPUID leaf and bits were not printed"
            return Explanation(decoded, leaf, decoded.says, notes=(lost, *notes))
        if isinstance(value, Mapping) and found.bits:
            found = found.against(value)
        hints = dict.fromkeys(bits.hint for bits in found.bits if bits.hint)
        wanted = found.says if len(found.bits) <= FEW else found.brief
        return Explanation(decoded, leaf, decoded.says, wanted, found.bits, (), tuple(hints), notes)

    def _operand_says(self, decoded: Decoded, leaf: int | None) -> str:
        meaning = decoded.meaning
        if meaning is None or meaning.kind != "operand_id" or leaf is None:
            return decoded.says
        name = self.reference.operands.get(decoded.value & DETAIL_MASK, ("", ""))[0]
        what = self.advice["operands"].get(leaf_name(leaf & LEAF_MASK), {}).get(name)
        return f"{decoded.says} (of {leaf_name(leaf)}: {what})" if what else decoded.says

    def _notes(
        self, decoded: Decoded, leaf: int | None, registers: Mapping[str, int]
    ) -> Iterator[str]:
        if leaf is not None and not leaf & PSEAMLDR_BIT and leaf & LEAF_MASK in FIELD_ID_LEAVES:
            asked = self.field_names.get(registers.get("rdx", 0))
            if asked:
                yield f"the metadata field that was asked for is {asked} ({registers['rdx']:#x})"
        low = decoded.meaning.note if decoded.meaning else ""
        if low and decoded.value & DETAIL_MASK and not decoded.detail:
            yield low


def show(msr: Msr, value: int) -> tuple[Shown, ...]:
    """Every field of value, with what is wrong; a wrong bit of a larger field has its own row."""
    wrong = {bits.low: bits for bits in msr.wrong(value)}
    rows = []
    for bits, found in msr.describe(value):
        told = wrong.pop(bits.low, None)
        whole = told is not None and told.high == bits.high
        rows.append(_shown(bits, found, told if whole else None))
        if told is not None and not whole:
            wrong[told.low] = told
    rows += [_shown(BitField(b.high, b.low, b.name), b.found, b) for b in wrong.values()]
    return tuple(rows)


def _shown(bits: BitField, found: int, wrong: WrongBits | None) -> Shown:
    wanted, why = (wrong.wanted, wrong.why) if wrong else ("", "")
    return Shown(bits.label, "" if bits.name == bits.label else bits.name, found, wanted, why)


def wants(msr: Msr) -> Iterator[str]:
    """What is wanted of an MSR, with the bits by name; those wanted alike in one sentence."""
    alike: dict[tuple[str, str], dict[str, None]] = {}
    for rule in msr.rules:
        for bits in _wanted(msr, rule):
            name = "" if bits.name == bits.label else f" {bits.name}"
            alike.setdefault((bits.wanted, bits.why), {})[f"{bits.label}{name}"] = None
    for (wanted, why), labels in alike.items():
        yield _sentence(list(labels), wanted) + (f" ({why})" if why else "")


def _wanted(msr: Msr, rule: Rule) -> Iterator[WrongBits]:
    """What a rule wants, found out by what it says of all zeros and all ones."""
    alone = replace(msr, rules=(rule,))
    return (bits for value in (0, (1 << 64) - 1) for bits in alone.wrong(value))


def _sentence(labels: list[str], wanted: str) -> str:
    if len(labels) == 1:
        return f"{labels[0]} has to be {wanted}"
    short = [label.removeprefix("bit ") for label in labels]
    return f"bits {', '.join(short)} have to be {wanted}"


def status_bits(status: int, leaf: int | None) -> str:
    """What the bits of the upper half say of any status of the TDX module, known or not."""
    if leaf is not None and leaf & PSEAMLDR_BIT:
        return ""
    outcome = "the call failed" if status & ERROR_BIT else "no failure"
    if status & ERROR_BIT and status & NON_RECOVERABLE_BIT:
        outcome += ", and fails again unless inputs or state change"
    elif status & ERROR_BIT:
        outcome += ", and may succeed when tried again"
    if status & FATAL_BIT:
        outcome += "; fatal for the TD"
    number = status >> 40 & 0xFF
    about = CLASSES.get(number, "unknown")
    return f"bits 63:61: {outcome}; bits 47:40: class {number:#04x}, {about}"


def number_text(value: int) -> str:
    """A number as people read it: small ones in decimal, others in hex."""
    return str(value) if value < FIRST_HEX else f"{value:#x}"


def parse_number(text: str) -> int | None:
    """Reads 33 or 0x21; None for anything else, and for what does not fit in 64 bits."""
    if not NUMBER.fullmatch(text):
        return None
    number = int(text, 16 if text[:2].lower() == "0x" else 10)
    return number if number < 1 << 64 else None


def parse_leaf(text: str) -> int | None:
    """Reads a leaf: 33, 0x21, TDH.SYS.INIT, tdh_sys_init, TDSYSINITLP (kernels before 5.17)."""
    number = parse_number(text)
    if number is not None:
        return number
    plain = _plain(text.removesuffix("()"))
    return _leaf_names().get(OLD_LEAVES.get(plain, plain))


def parse_cpuid(text: str) -> dict[str, int] | None:
    """Reads four registers: eax=1 ebx=2 ecx=3 edx=4 (as cpuid -r has them), or four numbers."""
    named = dict(re.findall(r"\b(e[abcd]x)\s*[=:]\s*(0x[0-9a-f]+|\d+)", text.lower()))
    if named:
        numbers = {name.upper(): parse_number(found) for name, found in named.items()}
    else:
        parts = re.split(r"[,:\s]+", text.strip())
        if len(parts) != len(REGISTERS):
            return None
        numbers = dict(zip(REGISTERS, map(parse_number, parts), strict=True))
    read = {name: number for name, number in numbers.items() if number is not None}
    return read if len(read) == len(numbers) else None


def _plain(text: str) -> str:
    return re.sub(r"[^A-Z0-9]", "", text.upper())


@cache
def _leaf_names() -> dict[str, int]:
    return {
        _plain(name): number
        for table in (PSEAMLDR_LEAVES, MODULE_LEAVES)
        for number, names in table.items()
        for name in names.split(" / ")
    }
