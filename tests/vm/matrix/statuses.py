# SPDX-License-Identifier: GPL-2.0-or-later
"""What each TDH.SYS leaf that the driver calls can answer, bit by bit.

Copied from the TDX module ABI reference and held against it by
tests/unit/test_fault_table.py. Names, values and low halves only: what the
driver makes of a status is in contract.py.
"""

from __future__ import annotations

from dataclasses import dataclass, field

ERROR = 1 << 63
NON_RECOVERABLE = 1 << 62
CODE_MASK = 0xFFFFFFFF_00000000

#: Operand ids (low half of TDX_OPERAND_INVALID and TDX_OPERAND_BUSY).
RAX, RCX, RDX, R8, KET = 0, 1, 2, 8, 187

INIT = "TDH.SYS.INIT"
LP_INIT = "TDH.SYS.LP.INIT"
RD = "TDH.SYS.RD"
CONFIG = "TDH.SYS.CONFIG"
KEY_CONFIG = "TDH.SYS.KEY.CONFIG"
TDMR_INIT = "TDH.SYS.TDMR.INIT"

LEAVES = {KEY_CONFIG: 31, INIT: 33, RD: 34, LP_INIT: 35, TDMR_INIT: 36, CONFIG: 45}

#: Bits 63:32 of every status that one of the leaves can return.
VALUES = {
    "TDX_SUCCESS": 0x00000000_00000000,
    "TDX_OPERAND_INVALID": 0xC0000100_00000000,
    "TDX_OPERAND_BUSY": 0x80000200_00000000,
    "TDX_SYS_BUSY": 0x80000202_00000000,
    "TDX_RND_NO_ENTROPY": 0x80000203_00000000,
    "TDX_SYS_INIT_NOT_PENDING": 0xC0000500_00000000,
    "TDX_SYS_LP_INIT_NOT_DONE": 0xC0000502_00000000,
    "TDX_SYS_LP_INIT_DONE": 0xC0000503_00000000,
    "TDX_SYS_NOT_READY": 0xC0000505_00000000,
    "TDX_SYS_SHUTDOWN": 0xC0000506_00000000,
    "TDX_SYS_KEY_CONFIG_NOT_PENDING": 0xC0000507_00000000,
    "TDX_SYS_INCOMPATIBLE_SIGSTRUCT": 0xC000050A_00000000,
    "TDX_SYS_LP_INIT_NOT_PENDING": 0xC000050B_00000000,
    "TDX_SYS_CONFIG_NOT_PENDING": 0xC000050C_00000000,
    "TDX_INCOMPATIBLE_SEAM_CAPABILITIES": 0xC000050D_00000000,
    "TDX_KEY_GENERATION_FAILED": 0x80000800_00000000,
    "TDX_KEY_CONFIGURED": 0x00000815_00000000,
    "TDX_NUM_ACTIVATED_HKIDS_NOT_SUPPORTED": 0xC0000825_00000000,
    "TDX_INCORRECT_CPUID_VALUE": 0xC0000900_00000000,
    "TDX_LIMIT_CPUID_MAXVAL_SET": 0xC0000901_00000000,
    "TDX_INCONSISTENT_CPUID_FIELD": 0xC0000902_00000000,
    "TDX_CPUID_LEAF_1F_FORMAT_UNRECOGNIZED": 0xC0000904_00000000,
    "TDX_INVALID_WBINVD_SCOPE": 0xC0000905_00000000,
    "TDX_INVALID_PKG_ID": 0xC0000906_00000000,
    "TDX_CPUID_LEAF_NOT_SUPPORTED": 0xC0000908_00000000,
    "TDX_SMRR_NOT_LOCKED": 0xC0000910_00000000,
    "TDX_INVALID_SMRR_CONFIGURATION": 0xC0000911_00000000,
    "TDX_SMRR_OVERLAPS_CMR": 0xC0000912_00000000,
    "TDX_SMRR_LOCK_NOT_SUPPORTED": 0xC0000913_00000000,
    "TDX_SMRR_NOT_SUPPORTED": 0xC0000914_00000000,
    "TDX_INCONSISTENT_MSR": 0xC0000920_00000000,
    "TDX_INCORRECT_MSR_VALUE": 0xC0000921_00000000,
    "TDX_INVALID_TDMR": 0xC0000A00_00000000,
    "TDX_NON_ORDERED_TDMR": 0xC0000A01_00000000,
    "TDX_TDMR_OUTSIDE_CMRS": 0xC0000A02_00000000,
    "TDX_TDMR_ALREADY_INITIALIZED": 0x00000A03_00000000,
    "TDX_INVALID_PAMT": 0xC0000A10_00000000,
    "TDX_PAMT_OUTSIDE_CMRS": 0xC0000A11_00000000,
    "TDX_PAMT_OVERLAP": 0xC0000A12_00000000,
    "TDX_INVALID_RESERVED_IN_TDMR": 0xC0000A20_00000000,
    "TDX_NON_ORDERED_RESERVED_IN_TDMR": 0xC0000A21_00000000,
    "TDX_CMR_LIST_INVALID": 0xC0000A22_00000000,
    "TDX_METADATA_FIELD_ID_INCORRECT": 0xC0000C00_00000000,
    "TDX_METADATA_FIELD_NOT_READABLE": 0xC0000C02_00000000,
    "TDX_METADATA_FIRST_FIELD_ID_IN_CONTEXT": 0x00000C0B_00000000,
}


@dataclass(frozen=True)
class Row:
    """One status of a leaf: the low halves that it comes with, and its output registers.

    ``registers`` are those that the reference says the leaf fills with this status.
    """

    name: str
    low: tuple[int, ...] = (0,)
    registers: dict[str, int] = field(default_factory=dict)


# The dispatcher's answers, before a leaf's own code; semantics.md 1.5. It answers
# TDX_SYS_NOT_READY for TDH.SYS.TDMR.INIT alone.
_DISPATCHER = (Row("TDX_OPERAND_INVALID", (RAX,)), Row("TDX_SYS_SHUTDOWN"))

# A wrong CPUID(7, 0): leaf and sub-leaf, masks, wanted values; observed.md, INIT.
_CPUID_MASKS = {"rcx": 0x7, "rdx": 0x219424C3_FFFFFFFF, "r8": 0xFC082600_99000000}
_CPUID_WANTED = {"r9": 0x219424C3_00000002, "r10": 0xFC080400_99000000}

#: Every status of each leaf but TDX_SUCCESS; semantics.md 3.1 to 3.6, observed.md.
ANSWERS: dict[str, tuple[Row, ...]] = {
    INIT: (
        *_DISPATCHER,
        Row("TDX_OPERAND_INVALID", (RCX,)),
        Row("TDX_SYS_BUSY"),
        Row("TDX_RND_NO_ENTROPY"),
        Row("TDX_SYS_INIT_NOT_PENDING"),
        Row("TDX_SYS_INCOMPATIBLE_SIGSTRUCT"),
        Row("TDX_INCOMPATIBLE_SEAM_CAPABILITIES"),
        Row("TDX_NUM_ACTIVATED_HKIDS_NOT_SUPPORTED", (0x800,)),
        Row("TDX_INCORRECT_CPUID_VALUE", registers={**_CPUID_MASKS, **_CPUID_WANTED}),
        Row("TDX_LIMIT_CPUID_MAXVAL_SET"),
        Row("TDX_CPUID_LEAF_1F_FORMAT_UNRECOGNIZED"),
        Row("TDX_INVALID_WBINVD_SCOPE"),
        Row("TDX_CPUID_LEAF_NOT_SUPPORTED", (0x1F, 0x80000008, 0x15, 0)),
        Row("TDX_SMRR_NOT_LOCKED", (0, 1)),
        Row("TDX_INVALID_SMRR_CONFIGURATION", (0, 1)),
        Row("TDX_SMRR_OVERLAPS_CMR", (0x0, 0x1, 0x1F00, 0x1F01)),
        Row("TDX_SMRR_LOCK_NOT_SUPPORTED"),
        Row("TDX_SMRR_NOT_SUPPORTED"),
        Row("TDX_INCORRECT_MSR_VALUE", (0x10A, 0xBD, 0xBC, 0x345, 0x480, 0x982, 0x99)),
        Row("TDX_CMR_LIST_INVALID"),
    ),
    LP_INIT: (
        *_DISPATCHER,
        Row("TDX_SYS_BUSY"),
        Row("TDX_RND_NO_ENTROPY"),
        Row("TDX_SYS_LP_INIT_NOT_PENDING"),
        Row("TDX_SYS_LP_INIT_DONE"),
        Row("TDX_INCOMPATIBLE_SEAM_CAPABILITIES"),
        Row("TDX_LIMIT_CPUID_MAXVAL_SET"),
        Row("TDX_INCONSISTENT_CPUID_FIELD", registers=_CPUID_MASKS),
        Row("TDX_INVALID_PKG_ID", (8, 63)),
        Row("TDX_INCONSISTENT_MSR", (0xCF, 0x10A, 0x3B, 0xFE, 0x1F3, 0x480, 0x87)),
    ),
    RD: (
        *_DISPATCHER,
        Row("TDX_SYS_LP_INIT_NOT_DONE"),
        Row("TDX_METADATA_FIELD_ID_INCORRECT"),
        Row("TDX_METADATA_FIELD_NOT_READABLE"),
        Row("TDX_METADATA_FIRST_FIELD_ID_IN_CONTEXT"),
    ),
    CONFIG: (
        *_DISPATCHER,
        Row("TDX_SYS_BUSY"),
        Row("TDX_SYS_CONFIG_NOT_PENDING"),
        Row("TDX_OPERAND_INVALID", (RCX, RDX, R8)),
        Row("TDX_INVALID_TDMR", (0, 1)),
        Row("TDX_NON_ORDERED_TDMR", (1,)),
        Row("TDX_TDMR_OUTSIDE_CMRS", (0, 1)),
        Row("TDX_INVALID_PAMT", (0x200, 0x100, 0x001)),
        Row("TDX_PAMT_OUTSIDE_CMRS", (0x200, 0x101, 0x000)),
        Row("TDX_PAMT_OVERLAP", (0x000001, 0x000100, 0x010000)),
        Row("TDX_INVALID_RESERVED_IN_TDMR", (0x0000, 0x0F01)),
        Row("TDX_NON_ORDERED_RESERVED_IN_TDMR", (0x0100, 0x0F01)),
    ),
    KEY_CONFIG: (
        *_DISPATCHER,
        Row("TDX_SYS_BUSY"),
        Row("TDX_SYS_KEY_CONFIG_NOT_PENDING"),
        Row("TDX_OPERAND_BUSY", (KET,)),
        Row("TDX_KEY_GENERATION_FAILED"),
        Row("TDX_KEY_CONFIGURED"),
    ),
    TDMR_INIT: (
        *_DISPATCHER,
        Row("TDX_SYS_NOT_READY"),
        Row("TDX_OPERAND_INVALID", (RCX,)),
        Row("TDX_OPERAND_BUSY", (RCX,)),
        Row("TDX_TDMR_ALREADY_INITIALIZED"),
    ),
}


def name_of(status: int) -> str:
    """The name of a completion status."""
    code = status & CODE_MASK
    return next(name for name, value in VALUES.items() if value == code)


def is_success(status: int) -> bool:
    """Success class: bits 63 and 62 clear."""
    return not status & (ERROR | NON_RECOVERABLE)
