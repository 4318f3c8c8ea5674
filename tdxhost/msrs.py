# SPDX-License-Identifier: GPL-2.0-or-later
"""MSRs that matter for TDX: their bits by name, and what TDX and its firmware want of them."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from tdxhost.reference import load

WIDTH = 64
#: Bit of the allowed-1 setting of a control, above that of its allowed-0 setting.
ALLOWED_1 = 32
WORD = 0xFFFFFFFF

#: Who wants it: TDH.SYS.INIT refuses anything else, or firmware has to have set it.
MODULE, FIRMWARE = "module", "firmware"


@dataclass(frozen=True, slots=True)
class BitField:
    """Bits high to low of a value."""

    high: int
    low: int
    name: str

    @property
    def mask(self) -> int:
        """The bits of the field in the value."""
        return (1 << self.high + 1) - (1 << self.low)

    @property
    def label(self) -> str:
        """Where it is: bit 11, bits 63:32."""
        return bits_label(self.high, self.low)

    def of(self, value: int) -> int:
        """The field's number in value."""
        return (value & self.mask) >> self.low


@dataclass(frozen=True, slots=True)
class WrongBits:
    """A bit or field that is not as it has to be; wanted is 1, 0, at least 4, at most 2048."""

    high: int
    low: int
    name: str
    found: int
    wanted: str
    why: str = ""
    by: str = MODULE

    @property
    def label(self) -> str:
        """Where it is: bit 11, bits 63:32."""
        return bits_label(self.high, self.low)


@dataclass(frozen=True, slots=True)
class Rule:
    """What is wanted of a value. kind names the check, and needs says what it works with."""

    kind: str
    needs: Mapping[str, Any]
    by: str
    why: str


@dataclass(frozen=True, slots=True)
class Msr:
    """An MSR. compared: TDH.SYS.LP.INIT compares it with what TDH.SYS.INIT found."""

    address: int
    name: str
    fields: tuple[BitField, ...] = ()
    compared: bool = False
    rules: tuple[Rule, ...] = ()
    note: str = ""

    def wrong(self, value: int) -> tuple[WrongBits, ...]:
        """What is wrong with value, lowest bit first."""
        return self._broken(value, (MODULE, FIRMWARE))

    def refused(self, value: int) -> tuple[WrongBits, ...]:
        """What TDH.SYS.INIT refuses of value, lowest bit first."""
        return self._broken(value, (MODULE,))

    def describe(self, value: int) -> tuple[tuple[BitField, int], ...]:
        """Every field of value, and the bits that are set outside all fields."""
        rest = value
        for field in self.fields:
            rest &= ~field.mask
        unnamed = (BitField(bit, bit, f"bit {bit}") for bit in _bits(rest))
        shown = sorted((*self.fields, *unnamed), key=lambda field: field.low)
        return tuple((field, field.of(value)) for field in shown)

    def field_at(self, bit: int) -> BitField:
        """The field that a bit is in; the bit itself where it is in none."""
        found = (field for field in self.fields if field.low <= bit <= field.high)
        return next(found, BitField(bit, bit, f"bit {bit}"))

    def _broken(self, value: int, wanted_by: tuple[str, ...]) -> tuple[WrongBits, ...]:
        found = {
            wrong.low: wrong
            for rule in self.rules
            if rule.by in wanted_by
            for wrong in CHECKS[rule.kind](self, rule, value)
        }
        return tuple(wrong for _, wrong in sorted(found.items()))


@dataclass(frozen=True, slots=True)
class MsrTable:
    """The MSRs of data/msrs.yaml."""

    by_address: Mapping[int, Msr]

    @classmethod
    def load(cls) -> "MsrTable":
        """Reads data/msrs.yaml."""
        made = (_msr(row) for row in load("msrs")["msrs"])
        return cls(MappingProxyType({msr.address: msr for msr in made}))

    def get(self, address: int) -> Msr:
        """An MSR; one that the table lacks has no name and no fields."""
        return self.by_address.get(address) or Msr(address, "")

    def describe(self, address: int, value: int) -> tuple[tuple[BitField, int], ...]:
        """Every field of an MSR's value, for showing it bit by bit."""
        return self.get(address).describe(value)


def bits_label(high: int, low: int) -> str:
    """Where bits are: bit 11, bits 63:32."""
    return f"bit {low}" if high == low else f"bits {high}:{low}"


def parse_bits(text: str | int) -> tuple[int, int]:
    """Reads 11 or 63:32 as the highest and the lowest bit."""
    high, _, low = str(text).partition(":")
    return int(high), int(low or high)


def _bits(mask: int) -> Iterator[int]:
    return (bit for bit in range(WIDTH) if mask >> bit & 1)


def _msr(row: Mapping[str, Any]) -> Msr:
    fields = [BitField(*parse_bits(bits), name) for bits, name in row.get("fields", {}).items()]
    if "controls" in row:
        fields += _control_fields(row["controls"])
    return Msr(
        address=row["address"],
        name=row["name"],
        fields=tuple(sorted(fields, key=lambda field: field.low)),
        compared=row.get("compared", False),
        rules=tuple(map(_rule, row.get("rules", ()))),
        note=row.get("note", ""),
    )


def _control_fields(names: Mapping[int, str]) -> Iterator[BitField]:
    for bit, name in names.items():
        yield BitField(bit, bit, f"{name} fixed to 1")
        yield BitField(bit + ALLOWED_1, bit + ALLOWED_1, f"{name} allowed to be 1")


def _rule(row: Mapping[str, Any]) -> Rule:
    needs = {key: value for key, value in row.items() if key not in ("by", "why")}
    kind = next(key for key in CHECKS if key in needs)
    return Rule(kind, needs, row["by"], row.get("why", ""))


def _each(msr: Msr, rule: Rule, value: int, bits: int, wanted: int) -> Iterator[WrongBits]:
    """Names the wrong bits; those of a field of several bits that is wanted whole are one."""
    mask = rule.needs.get("ones", rule.needs.get("zeros", 0))
    told: set[int] = set()
    for bit in _bits(bits):
        field = msr.field_at(bit)
        if field.mask & ~mask:
            field = BitField(bit, bit, field.name)
        if field.low not in told:
            told.add(field.low)
            yield _wrong(field, rule, field.of(value), str(wanted))


def _wrong(field: BitField, rule: Rule, found: int, wanted: str) -> WrongBits:
    return WrongBits(field.high, field.low, field.name, found, wanted, rule.why, rule.by)


def _ones(msr: Msr, rule: Rule, value: int) -> Iterator[WrongBits]:
    return _each(msr, rule, value, ~value & rule.needs["ones"], 1)


def _zeros(msr: Msr, rule: Rule, value: int) -> Iterator[WrongBits]:
    return _each(msr, rule, value, value & rule.needs["zeros"], 0)


def _any(msr: Msr, rule: Rule, value: int) -> Iterator[WrongBits]:
    """One bit of several has to be set."""
    bits = list(_bits(rule.needs["any"]))
    field = BitField(bits[-1], bits[0], " or ".join(msr.field_at(bit).name for bit in bits))
    if not field.of(value):
        yield _wrong(field, rule, 0, "at least 1")


def _sum(_msr: Msr, rule: Rule, value: int) -> Iterator[WrongBits]:
    """Two fields together have a limit."""
    parts = [BitField(*parse_bits(bits), "") for bits in rule.needs["sum"]]
    total = sum(part.of(value) for part in parts)
    if total > rule.needs["at_most"]:
        labels = " plus ".join(part.label for part in parts)
        whole = BitField(max(part.high for part in parts), min(part.low for part in parts), labels)
        yield _wrong(whole, rule, total, f"at most {rule.needs['at_most']}")


def _range_mask(msr: Msr, rule: Rule, value: int) -> Iterator[WrongBits]:
    """A mask of a valid range: ones down from its highest bit, then zeros."""
    field = msr.field_at(parse_bits(rule.needs["mask"])[1])
    size = (1 << field.high - field.low + 1) - field.of(value)
    is_valid = value >> rule.needs["valid"] & 1
    if is_valid and (not field.of(value) or size & (size - 1)):
        yield _wrong(field, rule, field.of(value), "ones followed by zeros")


def _limits(msr: Msr, rule: Rule, value: int) -> Iterator[WrongBits]:
    high, low = parse_bits(rule.needs["bits"])
    whole = high - low + 1 == WIDTH
    field = BitField(high, low, msr.name if whole else msr.field_at(low).name)
    found = field.of(value)
    least, most = rule.needs.get("at_least"), rule.needs.get("at_most")
    if least is not None and found < least:
        yield _wrong(field, rule, found, f"at least {least}")
    if most is not None and found > most:
        yield _wrong(field, rule, found, f"at most {most}")
    if found != rule.needs.get("equals", found):
        yield _wrong(field, rule, found, str(rule.needs["equals"]))


def _control(msr: Msr, rule: Rule, value: int) -> Iterator[WrongBits]:
    """Allowed settings of a control field against those that a TD needs.

    init: controls that are 1; variable: those that are set both ways; unknown: those that may
    be what they like. Source: vmx_control_requirements of the reference (TDX module 1.5.01).
    """
    judged = WORD & ~rule.needs.get("not_judged", 0)
    init, variable = rule.needs["init"] & judged, rule.needs["variable"] & judged
    not_zero = value & judged & (~(init | rule.needs["unknown"]) | variable)
    not_one = ~(value >> ALLOWED_1) & (init | variable)
    yield from _each(msr, rule, value, not_zero, 0)
    yield from _each(msr, rule, value, not_one << ALLOWED_1, 1)


Check = Callable[[Msr, Rule, int], Iterator[WrongBits]]

#: What tells a rule in data/msrs.yaml to the check of it; the first that is there counts.
CHECKS: Mapping[str, Check] = {
    "ones": _ones,
    "zeros": _zeros,
    "any": _any,
    "sum": _sum,
    "mask": _range_mask,
    "bits": _limits,
    "init": _control,
}
