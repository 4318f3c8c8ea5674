# SPDX-License-Identifier: GPL-2.0-or-later
"""What the driver makes of each way in which a call can end: its contract, as data.

From the uapi header, kmod's documentation of what is tried again, and README's
section on failures; never from what the driver printed.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

from tests.vm.matrix.statuses import (
    CODE_MASK,
    LEAVES,
    NON_RECOVERABLE,
    VALUES,
    is_success,
    name_of,
)

NONE = 0xFFFFFFFF


class Module(IntEnum):
    """TDXHOST_MODULE_*."""

    UNKNOWN = 0
    INITIALIZED = 1
    ERROR = 2


class Cpu(IntEnum):
    """TDXHOST_CPU_*."""

    UNKNOWN = 0
    ENABLED = 1
    FAILED = 2


DID_GLOBAL_INIT, WAS_DONE = 0x1, 0x2
STEP_FINAL = 0x2


class Step(IntEnum):
    """TDXHOST_STEP_*."""

    PLATFORM = 1
    CPUS = 2
    MODULE_INFO = 3
    MEMORY = 4
    TDMR_LAYOUT = 5
    PAMT_ALLOC = 6
    CONFIG = 7
    CACHE_FLUSH = 8
    KEY_CONFIG = 9
    TDMR_INIT = 10


#: How the kernel log calls the steps that a SEAMCALL can let fail.
STEP_TEXT = {
    Step.PLATFORM: "platform check",
    Step.CPUS: "enabling CPUs",
    Step.MODULE_INFO: "module information",
    Step.CONFIG: "configuration",
    Step.KEY_CONFIG: "key configuration",
    Step.TDMR_INIT: "TDMR initialisation",
}

#: RETRY begins here when a step has failed: until TDH.SYS.CONFIG has succeeded all
#: memory is given back, so it is found anew.
AGAIN_FROM = {step: step for step in Step} | {
    Step.TDMR_LAYOUT: Step.MEMORY,
    Step.PAMT_ALLOC: Step.MEMORY,
    Step.CONFIG: Step.MEMORY,
}


class Code(IntEnum):
    """TDXHOST_CODE_*, those that a fault can lead to."""

    NONE = 0
    SEAMCALL = 1
    NO_MODULE = 2
    TRAP = 3
    VMXON_FAILED = 8
    NO_SEAMRR = 9
    BAD_METADATA = 12
    NO_CMRS = 13
    EARLIER_FAILURE = 19
    FINAL = 20


#: errno and words of the kernel log for each; a status has words of its own.
CODES = {
    Code.SEAMCALL: (errno.EIO, ""),
    Code.NO_MODULE: (errno.ENODEV, "no TDX module is loaded"),
    Code.TRAP: (errno.EACCES, "SEAMCALL faulted"),
    Code.VMXON_FAILED: (errno.EIO, "VMXON failed"),
    Code.NO_SEAMRR: (errno.EOPNOTSUPP, "the SEAM range is not enabled"),
    Code.BAD_METADATA: (errno.EINVAL, "the TDX module's metadata makes no sense"),
    Code.NO_CMRS: (errno.EINVAL, "the TDX module lists no convertible memory"),
    Code.EARLIER_FAILURE: (errno.EINVAL, ""),
    Code.FINAL: (errno.EINVAL, ""),
}

#: What passes: how often it is tried in all, and the errno when that was not enough.
PASSING = {
    VALUES["TDX_RND_NO_ENTROPY"]: (10, errno.EAGAIN),
    VALUES["TDX_KEY_GENERATION_FAILED"]: (10, errno.EAGAIN),
    VALUES["TDX_SYS_BUSY"]: (100, errno.EBUSY),
    VALUES["TDX_OPERAND_BUSY"]: (100, errno.EBUSY),
}

TRAP_UD, TRAP_GP = 6, 13

#: Fields whose absence is no failure: not part of the architecture.
OPTIONAL_FIELDS = (0x8800000200000001, 0x8800000100000002)

#: Without one of these there is no way to lay out TDMRs.
LIMIT_FIELDS = (
    0x9100000100000008,  # MAX_TDMRS
    0x9100000100000009,  # MAX_RESERVED_PER_TDMR
    0x9100000100000010,  # PAMT_4K_ENTRY_SIZE
    0x9100000100000011,  # PAMT_2M_ENTRY_SIZE
    0x9100000100000012,  # PAMT_1G_ENTRY_SIZE
)
NUM_CMRS_FIELD = 0x9000000100000000
CMR_BASE_FIELD, CMR_SIZE_FIELD = 0x9000000300000080, 0x9000000300000100
#: NUM_CMRS counts unused entries too; observed.md, RD.
NUM_CMRS = 32

#: What the step module_info reads, in its order.
FIELDS_READ = (
    *OPTIONAL_FIELDS,
    0x0800000100000004,  # MAJOR_VERSION
    0x0800000100000003,  # MINOR_VERSION
    0x0800000100000005,  # UPDATE_VERSION
    0x0A00000300000008,  # TDX_FEATURES0
    *LIMIT_FIELDS,
    NUM_CMRS_FIELD,
    *(field + i for i in range(NUM_CMRS) for field in (CMR_BASE_FIELD, CMR_SIZE_FIELD)),
)


@dataclass(frozen=True)
class Answer:
    """How one try of an instruction ends: a status, or no status at all."""

    kind: str = "status"
    status: int = 0
    registers: dict[str, int] = field(default_factory=dict, compare=False)

    @property
    def passing(self) -> bool:
        """Whether it is worth another try."""
        return self.kind == "status" and self.status & CODE_MASK in PASSING

    @property
    def tries(self) -> int:
        """How often a call is made in all when each try ends so."""
        return PASSING[self.status & CODE_MASK][0] if self.passing else 1

    @property
    def words(self) -> str:
        """The answer in vtdx's fault language."""
        if self.kind != "status":
            return {"ud": "trap=UD", "gp": "trap=GP", "vmfail": "vmfail"}[self.kind]
        outputs = [f"{name}={value:#x}" for name, value in self.registers.items()]
        return " ".join([f"status={self.status:#x}", *outputs])

    def __str__(self) -> str:
        if self.kind != "status":
            return self.kind
        low = self.status & ~CODE_MASK
        return name_of(self.status) + (f"|{low:#x}" if low else "")


DONE = Answer()
UD, GP, VMFAIL = Answer("ud"), Answer("gp"), Answer("vmfail")


@dataclass
class Failure:
    """What results say of a failure; the same members in every struct of the ABI."""

    error: int = 0
    code: Code = Code.NONE
    trap: int = 0
    cpu: int = NONE
    leaf: int = 0
    seam_status: int = 0

    def members(self) -> dict[str, int]:
        """As the ABI's structs have it."""
        return {name: int(value) for name, value in vars(self).items()}


def failure_of(answer: Answer, leaf: str, cpu: int) -> Failure:
    """What a SEAMCALL whose last try ended so comes to; no error for success class."""
    number = LEAVES[leaf]
    if answer.kind == "status" and is_success(answer.status):
        return Failure(cpu=cpu, leaf=number, seam_status=answer.status)
    code = {"status": Code.SEAMCALL, "ud": Code.TRAP, "gp": Code.NO_SEAMRR}.get(
        answer.kind, Code.NO_MODULE
    )
    error = CODES[code][0]
    if answer.passing:
        error = PASSING[answer.status & CODE_MASK][1]
    trap = {"ud": TRAP_UD, "gp": TRAP_GP}.get(answer.kind, 0)
    return Failure(error, code, trap, cpu, number, answer.status)


def vmx_failure(answer: Answer, cpu: int, leaf: int = 0) -> Failure:
    """What VMXON that failed so comes to; ``leaf`` is what could not be called."""
    trap = TRAP_GP if answer.kind == "gp" else 0
    return Failure(CODES[Code.VMXON_FAILED][0], Code.VMXON_FAILED, trap, cpu, leaf)


def finding(code: Code) -> Failure:
    """A failure by a finding of the driver's own, on no CPU."""
    return Failure(CODES[code][0], code)


def is_final(failure: Failure) -> bool:
    """Whether no retry can help, once TDH.SYS.CONFIG has succeeded."""
    return failure.code is Code.SEAMCALL and bool(failure.seam_status & NON_RECOVERABLE)


#: What the kernel log says before TDH.SYS.CONFIG fails for want of CPUs, and none is missing.
NONE_MISSING = "every CPU known here is enabled: was TDX in use before, or is nr_cpus= set?"


def log_line(what: str, failure: Failure, others: int = 0) -> str:
    """The line of the kernel log; ``others``: CPUs that have failed in the same way."""
    where = "" if failure.cpu == NONE else f" on CPU {failure.cpu}"
    where += f" and {others} more" if others else ""
    how = next((f"{name}: " for name, leaf in LEAVES.items() if leaf == failure.leaf), "")
    if failure.code is Code.SEAMCALL:
        how += f"{name_of(failure.seam_status)} 0x{failure.seam_status:016x}"
    else:
        how += CODES[failure.code][1]
        how += f", trap {failure.trap}" if failure.trap else ""
    return f"{what} failed{where}: {how} (-{failure.error})"


def pamt_bytes(tdmr_sizes: list[int]) -> int:
    """Memory for the PAMTs of TDMRs: 16 bytes for each page of each size, in whole pages."""
    total = 0
    for size in tdmr_sizes:
        for page in (4 << 10, 2 << 20, 1 << 30):
            total += -(-size // page * 16 // 4096) * 4096
    return total


Record = dict[str, Any]
