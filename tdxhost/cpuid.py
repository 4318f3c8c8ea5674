# SPDX-License-Identifier: GPL-2.0-or-later
"""CPUID as the TDX module checks and compares it: leaves, bits by name, what they have to be."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from tdxhost.msrs import BitField, bits_label, parse_bits
from tdxhost.reference import load

REGISTERS = ("EAX", "EBX", "ECX", "EDX")
WORD = 0xFFFFFFFF
#: What TDH.SYS.INIT gives as the sub-leaf of a leaf that has none.
NO_SUBLEAF = 0xFFFFFFFF
#: Numbers up to this read the same in decimal and in hex.
LAST_DIGIT = 9
#: A mask of more bits than this is told by the bits that it leaves out.
MANY_BITS = 16

Masks = Mapping[str, int]


@dataclass(frozen=True, slots=True)
class CpuidBits:
    """Bits of a register of CPUID; name is empty where they have none, found where not read."""

    register: str
    high: int
    low: int
    name: str
    wanted: int
    found: int | None = None
    hint: str = ""

    @property
    def label(self) -> str:
        """Which bits: ECX bit 28 MOVDIR64B."""
        return f"{self.register} {bits_label(self.high, self.low)} {self.name}".rstrip()

    @property
    def says(self) -> str:
        """What they have to be: ECX bit 28 MOVDIR64B has to be 1."""
        found = "" if self.found is None else f", and is {_number(self.found)}"
        return f"{self.label} has to be {_number(self.wanted)}{found}"

    @property
    def mask(self) -> int:
        """The bits in the register."""
        return BitField(self.high, self.low, "").mask


@dataclass(frozen=True, slots=True)
class CpuidCheck:
    """A row of the table: what TDH.SYS.INIT wants, and what TDH.SYS.LP.INIT compares (same)."""

    leaf: int
    subleaf: int | None
    verify: Masks
    expected: Masks
    same: Masks

    @property
    def where(self) -> str:
        """Names the leaf."""
        return leaf_label(self.leaf, self.subleaf)


@dataclass(frozen=True, slots=True)
class Mismatch:
    """What TDX_INCORRECT_CPUID_VALUE or TDX_INCONSISTENT_CPUID_FIELD names in registers.

    bits are empty where the TDX module gave no wanted values: it compared with another CPU.
    """

    leaf: int
    subleaf: int | None
    masks: Masks
    bits: tuple[CpuidBits, ...] = ()
    compared: tuple[str, ...] = ()

    @property
    def where(self) -> str:
        """Names the leaf."""
        return leaf_label(self.leaf, self.subleaf)

    @property
    def says(self) -> tuple[str, ...]:
        """A sentence for each bit or field."""
        if self.bits:
            return tuple(f"{self.where}: {bits.says}" for bits in self.bits)
        return tuple(
            f"{self.where}: {what} has to be the same on all CPUs" for what in self.compared
        )

    @property
    def brief(self) -> tuple[str, ...]:
        """The same with the bits of a register that are wanted alike in one sentence."""
        alike: dict[tuple[str, int], list[CpuidBits]] = {}
        for bits in self.bits:
            alike.setdefault((bits.register, bits.wanted), []).append(bits)
        return tuple(f"{self.where}: {_together(group)}" for group in alike.values())

    def against(self, values: Masks) -> "Mismatch":
        """Leaves only what is wrong with these values of EAX to EDX."""
        return replace(self, bits=tuple(_wrong(self.bits, values)))


@dataclass(frozen=True, slots=True)
class CpuidTable:
    """The tables of data/cpuid.yaml."""

    checks: tuple[CpuidCheck, ...]
    fields: Mapping[tuple[int, int | None], Mapping[str, tuple[BitField, ...]]]
    hints: tuple[tuple[int, str, BitField], ...]

    @classmethod
    def load(cls) -> "CpuidTable":
        """Reads data/cpuid.yaml."""
        table = load("cpuid")
        fields = {(row["leaf"], row.get("subleaf")): _fields(row) for row in table["fields"]}
        hints = (
            (row["leaf"], row["register"], BitField(*parse_bits(row["bits"]), row["hint"]))
            for row in table["hints"]
        )
        return cls(tuple(map(_check, table["checks"])), fields, tuple(hints))

    def mismatch(self, registers: Mapping[str, int], *, compared: bool) -> Mismatch | None:
        """What RCX, RDX, R8 (and R9, R10) name; None where they name nothing.

        compared: a status of TDH.SYS.LP.INIT, which gives masks and no values.
        Source: TDX module source 1.5.01 and its recorded answers, TDH.SYS.INIT and
        TDH.SYS.LP.INIT.
        """
        masks = _quartet(registers.get("rdx", 0), registers.get("r8", 0))
        if not any(masks.values()):
            return None
        leaf, high = registers.get("rcx", 0) & WORD, registers.get("rcx", 0) >> 32
        subleaf = None if high == NO_SUBLEAF else high
        if compared or "r9" not in registers:
            told = tuple(self._compared(leaf, subleaf, masks))
            return Mismatch(leaf, subleaf, masks, compared=told)
        expected = _quartet(registers["r9"], registers.get("r10", 0))
        return Mismatch(leaf, subleaf, masks, self.wanted(leaf, subleaf, masks, expected))

    def wanted(
        self, leaf: int, subleaf: int | None, masks: Masks, expected: Masks
    ) -> tuple[CpuidBits, ...]:
        """Names the bits in masks, with what they have to be."""
        return tuple(
            CpuidBits(
                register,
                field.high,
                field.low,
                field.name,
                field.of(expected.get(register, 0)),
                hint=self._hint(leaf, register, field),
            )
            for register in REGISTERS
            for field in self._pieces(leaf, subleaf, register, masks.get(register, 0))
        )

    def wrong(self, check: CpuidCheck, values: Masks) -> tuple[CpuidBits, ...]:
        """What TDH.SYS.INIT refuses of values of EAX to EDX, bit by bit."""
        bits = self.wanted(check.leaf, check.subleaf, check.verify, check.expected)
        return tuple(_wrong(bits, values))

    def named(self, leaf: int, subleaf: int | None, register: str) -> tuple[BitField, ...]:
        """The fields of a register that have a name."""
        of_leaf = self.fields.get((leaf, subleaf)) or self.fields.get((leaf, None)) or {}
        return of_leaf.get(register, ())

    def _pieces(
        self, leaf: int, subleaf: int | None, register: str, mask: int
    ) -> Iterator[BitField]:
        """The fields that mask touches, cut to it, and runs of bits that have no name."""
        rest, found = mask, []
        for field in self.named(leaf, subleaf, register):
            found += [replace(run, name=field.name) for run in _runs(mask & field.mask)]
            rest &= ~field.mask
        return iter(sorted((*found, *_runs(rest)), key=lambda field: field.low))

    def _hint(self, leaf: int, register: str, field: BitField) -> str:
        hints = (
            hint.name
            for row_leaf, row_register, hint in self.hints
            if (row_leaf, row_register) == (leaf, register) and hint.mask & field.mask
        )
        return next(hints, "")

    def _compared(self, leaf: int, subleaf: int | None, masks: Masks) -> Iterator[str]:
        for register, mask in masks.items():
            if mask == WORD:
                yield f"all of {register}"
            elif mask.bit_count() > MANY_BITS:
                left = self._pieces(leaf, subleaf, register, ~mask & WORD)
                yield f"{register} except {', '.join(map(_piece_label, left))}"
            else:
                for piece in self._pieces(leaf, subleaf, register, mask):
                    yield f"{register} {_piece_label(piece)}"


def leaf_label(leaf: int, subleaf: int | None) -> str:
    """Names a leaf: CPUID leaf 0x7 sub-leaf 0x0."""
    return f"CPUID leaf {leaf:#x}" + ("" if subleaf is None else f" sub-leaf {subleaf:#x}")


def _together(group: list[CpuidBits]) -> str:
    if len(group) == 1:
        return group[0].says
    labels = (bits.label.removeprefix(f"{bits.register} ") for bits in group)
    listed = ", ".join(label.removeprefix("bit ") for label in labels)
    return f"{group[0].register} bits {listed} have to be {_number(group[0].wanted)}"


def _piece_label(field: BitField) -> str:
    return f"{field.label} {field.name}".rstrip()


def _number(value: int) -> str:
    return str(value) if value <= LAST_DIGIT else f"{value} ({value:#x})"


def _quartet(low: int, high: int) -> dict[str, int]:
    words = (low & WORD, low >> 32, high & WORD, high >> 32)
    return dict(zip(REGISTERS, words, strict=True))


def _runs(mask: int) -> Iterator[BitField]:
    """Runs of set bits next to each other."""
    low = 0
    while mask >> low:
        if mask >> low & 1:
            length = (~(mask >> low) & -~(mask >> low)).bit_length() - 1
            yield BitField(low + length - 1, low, "")
            low += length
        else:
            low += 1


def _wrong(bits: tuple[CpuidBits, ...], values: Masks) -> Iterator[CpuidBits]:
    for one in bits:
        found = (values.get(one.register, 0) & one.mask) >> one.low
        if found != one.wanted:
            yield replace(one, found=found)


def _fields(row: Mapping[str, Any]) -> dict[str, tuple[BitField, ...]]:
    return {
        register: tuple(
            BitField(*parse_bits(bits), name) for bits, name in row.get(register, {}).items()
        )
        for register in REGISTERS
    }


def _check(row: Mapping[str, Any]) -> CpuidCheck:
    same = dict.fromkeys(REGISTERS, WORD) if row["same"] == "all" else row["same"]
    return CpuidCheck(
        leaf=row["leaf"],
        subleaf=row.get("subleaf"),
        verify=row.get("verify", {}),
        expected=row.get("expected", {}),
        same=same,
    )
