# SPDX-License-Identifier: GPL-2.0-or-later
"""What the parts of the model share: a call in progress, its refusal, addresses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn, Protocol

from .binding import ALL_ONES
from .machine import Machine
from .model_reference import Reference

MAX_PA = 1 << 52
MSR_KEYID_PARTITIONING = 0x87
MSR_TME_ACTIVATE = 0x982


class Refused(Exception):
    """The leaf ends with a status; outputs are the registers that it fills then."""

    def __init__(self, status: str, detail: int = 0, **outputs: int) -> None:
        super().__init__(status, detail)
        self.status = status
        self.detail = detail
        self.outputs = outputs


class Fatal(Exception):
    """The TDX module stops for good."""


class Memory(Protocol):
    """What the library, too, reaches memory by."""

    def read_pa(self, pa: int, size: int) -> bytes | None: ...
    def write_pa(self, pa: int, data: bytes) -> bool: ...


@dataclass
class Platform:
    """The machine and the numbers that loader and firmware gave (struct seam_config)."""

    machine: Machine
    config: Mapping[str, Any]
    reference: Reference

    @property
    def cmrs(self) -> list[tuple[int, int]]:
        return [(cmr["base_pa"], cmr["bytes"]) for cmr in self.config["cmrs"]]

    @property
    def is_later(self) -> bool:
        """Whether it is a later 1.5 than 1.5.01 (seam.h: update above 1)."""
        return bool(self.config["update"] > 1)

    def msr(self, lp: int, msr: int) -> int:
        """RDMSR; a fault inside the TDX module stops it."""
        value = self.machine.rdmsr(lp, msr)
        if value is None:
            raise Fatal(f"RDMSR {msr:#x} on LP {lp}")
        return value


@dataclass(frozen=True)
class KeyIds:
    """How KeyIDs lie in addresses and which are private, as TDH.SYS.INIT sampled them."""

    bits: int
    first_private: int
    last_private: int

    @classmethod
    def of(cls, partitioning: int, tme_activate: int) -> KeyIds:
        shared, private = partitioning & 0xFFFFFFFF, partitioning >> 32
        return cls(tme_activate >> 32 & 0xF, shared + 1, shared + private)

    @property
    def mask(self) -> int:
        return MAX_PA - (1 << 52 - self.bits)

    def of_address(self, pa: int) -> int:
        return (pa & self.mask) >> 52 - self.bits

    def strip(self, pa: int) -> int:
        return pa & ~self.mask

    def is_plain(self, pa: int) -> bool:
        """Below 2^52 and without KeyID bits."""
        return pa < MAX_PA and not pa & self.mask


def overlap(a: tuple[int, int], b: tuple[int, int]) -> bool:
    """Whether two ranges of (base, size) share a byte."""
    return a[0] < b[0] + b[1] and b[0] < a[0] + a[1]


@dataclass
class Call:
    """One SEAMCALL: where, with what, and what comes back so far."""

    lp: int
    inputs: Mapping[str, int]
    outputs: dict[str, int] = field(default_factory=dict)

    @property
    def leaf(self) -> int:
        return self.inputs["rax"] & 0xFFFF

    @property
    def version(self) -> int:
        return self.inputs["rax"] >> 16 & 0xFF


def operand_invalid(operand: int) -> NoReturn:
    raise Refused("TDX_OPERAND_INVALID", operand)


def check_shared(
    pa: int, align: int, operand: int, keyids: KeyIds, seamrr: tuple[int, int]
) -> None:
    """semantics.md 1.6."""
    private = keyids.of_address(pa) >= keyids.first_private
    if pa % align or pa >= MAX_PA or overlap((pa, align), seamrr) or private:
        operand_invalid(operand)


def wraps(base: int, size: int) -> bool:
    return base + size > ALL_ONES
