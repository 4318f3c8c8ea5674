# SPDX-License-Identifier: GPL-2.0-or-later
"""What the driver answers, as enums and frozen dataclasses.

Names, units and meanings are those of the uapi header: times in CLOCK_MONOTONIC ns,
addresses physical, sizes in bytes. None stands for the header's ~0.
"""

from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields
from enum import IntEnum
from functools import cache
from typing import Any, Self

from tdxhost.abi import NONE_U32, NONE_U64, lib


class Named(IntEnum):
    """A number of the ABI; one that a newer driver may send keeps its value."""

    @classmethod
    def _missing_(cls, value: object) -> "Named | None":
        if not isinstance(value, int):
            return None
        member = int.__new__(cls, value)
        member._name_ = f"UNKNOWN_{value}"
        member._value_ = value
        return member

    @property
    def label(self) -> str:
        """The name as documents and tables have it."""
        return self.name.lower()


class Provider(Named):
    """Which code initialises TDX on this kernel."""

    DIRECT = lib.TDXHOST_PROVIDER_DIRECT
    KERNEL = lib.TDXHOST_PROVIDER_KERNEL
    OBSERVER = lib.TDXHOST_PROVIDER_OBSERVER


class ModuleStatus(Named):
    """Where the TDX module stands."""

    UNKNOWN = lib.TDXHOST_MODULE_UNKNOWN
    INITIALIZED = lib.TDXHOST_MODULE_INITIALIZED
    ERROR = lib.TDXHOST_MODULE_ERROR


class CpuState(Named):
    """Where a CPU stands."""

    UNKNOWN = lib.TDXHOST_CPU_UNKNOWN
    ENABLED = lib.TDXHOST_CPU_ENABLED
    FAILED = lib.TDXHOST_CPU_FAILED
    OFFLINE = lib.TDXHOST_CPU_OFFLINE


class Step(Named):
    """A step of tdx_enable()."""

    NONE = lib.TDXHOST_STEP_NONE
    PLATFORM = lib.TDXHOST_STEP_PLATFORM
    CPUS = lib.TDXHOST_STEP_CPUS
    MODULE_INFO = lib.TDXHOST_STEP_MODULE_INFO
    MEMORY = lib.TDXHOST_STEP_MEMORY
    TDMR_LAYOUT = lib.TDXHOST_STEP_TDMR_LAYOUT
    PAMT_ALLOC = lib.TDXHOST_STEP_PAMT_ALLOC
    CONFIG = lib.TDXHOST_STEP_CONFIG
    CACHE_FLUSH = lib.TDXHOST_STEP_CACHE_FLUSH
    KEY_CONFIG = lib.TDXHOST_STEP_KEY_CONFIG
    TDMR_INIT = lib.TDXHOST_STEP_TDMR_INIT
    KERNEL = lib.TDXHOST_STEP_KERNEL


class Code(Named):
    """The driver's own finding."""

    NONE = lib.TDXHOST_CODE_NONE
    SEAMCALL = lib.TDXHOST_CODE_SEAMCALL
    NO_MODULE = lib.TDXHOST_CODE_NO_MODULE
    TRAP = lib.TDXHOST_CODE_TRAP
    NO_KEYIDS = lib.TDXHOST_CODE_NO_KEYIDS
    ONE_KEYID = lib.TDXHOST_CODE_ONE_KEYID
    NO_VMX = lib.TDXHOST_CODE_NO_VMX
    VMX_LOCKED_OFF = lib.TDXHOST_CODE_VMX_LOCKED_OFF
    VMXON_FAILED = lib.TDXHOST_CODE_VMXON_FAILED
    NO_SEAMRR = lib.TDXHOST_CODE_NO_SEAMRR
    CPU_NOT_ENABLED = lib.TDXHOST_CODE_CPU_NOT_ENABLED
    CPU_OFFLINE = lib.TDXHOST_CODE_CPU_OFFLINE
    BAD_METADATA = lib.TDXHOST_CODE_BAD_METADATA
    NO_CMRS = lib.TDXHOST_CODE_NO_CMRS
    RAM_OUTSIDE_CMR = lib.TDXHOST_CODE_RAM_OUTSIDE_CMR
    TOO_MANY_TDMRS = lib.TDXHOST_CODE_TOO_MANY_TDMRS
    TOO_MANY_RESERVED = lib.TDXHOST_CODE_TOO_MANY_RESERVED
    NO_MEMORY = lib.TDXHOST_CODE_NO_MEMORY
    PACKAGE_OFFLINE = lib.TDXHOST_CODE_PACKAGE_OFFLINE
    EARLIER_FAILURE = lib.TDXHOST_CODE_EARLIER_FAILURE
    FINAL = lib.TDXHOST_CODE_FINAL
    INTERRUPTED = lib.TDXHOST_CODE_INTERRUPTED
    NO_MOVDIR64B = lib.TDXHOST_CODE_NO_MOVDIR64B
    KERNEL = lib.TDXHOST_CODE_KERNEL
    VMX_BUSY = lib.TDXHOST_CODE_VMX_BUSY


class RangeKind(Named):
    """Kind of a memory range."""

    RAM = lib.TDXHOST_RANGE_RAM
    CMR = lib.TDXHOST_RANGE_CMR
    OUTSIDE = lib.TDXHOST_RANGE_OUTSIDE
    TDX = lib.TDXHOST_RANGE_TDX
    TDMR = lib.TDXHOST_RANGE_TDMR
    RESERVED = lib.TDXHOST_RANGE_RESERVED
    PAMT_4K = lib.TDXHOST_RANGE_PAMT_4K
    PAMT_2M = lib.TDXHOST_RANGE_PAMT_2M
    PAMT_1G = lib.TDXHOST_RANGE_PAMT_1G


def _or_none(value: int) -> int | None:
    return None if value == NONE_U32 else value


def bytes_or_none(value: int) -> int | None:
    """An amount of memory; None where only the kernel knows it."""
    return None if value == NONE_U64 else value


#: How members are read that are more than a number; a name means the same in every struct.
CONVERT: Mapping[str, Callable[[int], Any]] = {
    "provider": Provider,
    "module_status": ModuleStatus,
    "state": CpuState,
    "step": Step,
    "code": Code,
    "kind": RangeKind,
    "cpu": _or_none,
    "node": _or_none,
    "package": _or_none,
    "tdmr": _or_none,
    "pamt_bytes": bytes_or_none,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """Base of everything that is read from a struct of the same member names."""

    @classmethod
    def of(cls, members: Mapping[str, int]) -> Self:
        """Builds the record; members it does not know are left out.

        KeyError where one is missing, unless it came later and has a default: a recording may be
        older.
        """
        kind: Any = cls
        needed, later, converted = _readers(kind)
        values: dict[str, Any] = {name: members[name] for name in needed}
        values |= {name: members[name] for name in later if name in members}
        for name, convert in converted:
            values[name] = convert(values[name])
        return cls(**values)


@cache
def _readers(
    kind: Any,
) -> tuple[tuple[str, ...], tuple[str, ...], tuple[tuple[str, Callable[[int], Any]], ...]]:
    """Members that a record needs, those that came later, and those that are more than a number."""
    needed = tuple(field.name for field in fields(kind) if field.default is MISSING)
    later = tuple(field.name for field in fields(kind) if field.default is not MISSING)
    return needed, later, tuple((name, CONVERT[name]) for name in needed if name in CONVERT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Info(Record):
    """GET_INFO: what am I talking to."""

    features: int
    valid: int
    provider: Provider
    code: Code
    nr_cpus: int
    nr_packages: int
    keyid_first: int
    nr_keyids: int
    keyid_global: int
    module_major: int
    module_minor: int
    module_update: int
    module_build_date: int
    module_build_num: int
    tdx_features0: int

    @property
    def has_keyids(self) -> bool:
        """Whether the KeyID members hold something."""
        return bool(self.valid & lib.TDXHOST_INFO_KEYIDS)

    @property
    def has_module(self) -> bool:
        """Whether the members about the TDX module hold something."""
        return bool(self.valid & lib.TDXHOST_INFO_MODULE)

    @property
    def can_retry(self) -> bool:
        """Whether the driver can go on after a failure."""
        return bool(self.features & lib.TDXHOST_FEATURE_RETRY)

    @property
    def can_skip_non_cmr(self) -> bool:
        """Whether the driver can leave System RAM outside CMRs to the kernel."""
        return bool(self.features & lib.TDXHOST_FEATURE_SKIP_NON_CMR)

    @property
    def module_version(self) -> str | None:
        """Version of the TDX module as Intel writes it, such as 1.5.06."""
        if not self.has_module:
            return None
        return f"{self.module_major}.{self.module_minor}.{self.module_update:02}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Status(Record):
    """GET_STATUS: where do things stand."""

    module_status: ModuleStatus
    step: Step
    running: int
    error: int
    code: Code
    trap: int
    cpu: int | None
    cpus_online: int
    cpus_enabled: int
    cpus_failed: int
    leaf: int
    seam_status: int
    progress: int
    progress_total: int
    pamt_bytes: int | None
    generation: int

    @property
    def module_has_pamts(self) -> bool:
        """Whether TDH.SYS.CONFIG has succeeded, so that PAMTs belong to the TDX module."""
        return self.step > Step.CONFIG


@dataclass(frozen=True, slots=True, kw_only=True)
class EnableResult(Record):
    """ENABLE: what tdx_enable() came to."""

    module_status: ModuleStatus
    step: Step
    error: int
    code: Code
    trap: int
    cpu: int | None
    leaf: int
    seam_status: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuResult(Record):
    """What enabling one CPU came to."""

    cpu: int
    package: int | None
    apic_id: int
    node: int | None
    state: CpuState
    error: int
    code: Code
    trap: int
    flags: int
    retries: int
    leaf: int
    seam_status: int
    rcx: int
    rdx: int
    r8: int
    r9: int
    r10: int
    r11: int
    start_ns: int
    duration_ns: int

    @property
    def tried(self) -> bool:
        """Whether tdx_cpu_enable() ever ran on the CPU."""
        return self.start_ns != 0

    @property
    def was_enabled(self) -> bool:
        """Whether it was enabled when it was last online."""
        return self.tried and not self.error

    @property
    def did_global_init(self) -> bool:
        """Whether this CPU ran TDH.SYS.INIT for the machine."""
        return bool(self.flags & lib.TDXHOST_CPU_DID_GLOBAL_INIT)

    @property
    def was_done(self) -> bool:
        """Whether the CPU was enabled before the call."""
        return bool(self.flags & lib.TDXHOST_CPU_WAS_DONE)

    @property
    def by_kernel(self) -> bool:
        """Whether the kernel made the SEAMCALLs, and told nothing of them."""
        return bool(self.flags & lib.TDXHOST_CPU_BY_KERNEL)


@dataclass(frozen=True, slots=True, kw_only=True)
class StepResult(Record):
    """What one step of tdx_enable() came to."""

    step: Step
    runs: int
    error: int
    code: Code
    trap: int
    cpu: int | None
    retries: int
    flags: int
    leaf: int
    seam_status: int
    rcx: int
    rdx: int
    r8: int
    r9: int
    r10: int
    r11: int
    seamcalls: int
    start_ns: int
    duration_ns: int
    base_pa: int
    bytes: int
    needed: int
    limit: int
    chain_ns: int = 0

    @property
    def by_kernel(self) -> bool:
        """Whether the kernel made the SEAMCALLs, and told nothing of them."""
        return bool(self.flags & lib.TDXHOST_STEPF_BY_KERNEL)

    @property
    def final(self) -> bool:
        """Whether it has failed and the driver refuses to try again."""
        return bool(self.flags & lib.TDXHOST_STEPF_FINAL)


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldValue(Record):
    """One metadata field as TDH.SYS.RD answered it."""

    id: int
    value: int
    next_id: int
    seam_status: int
    error: int
    trap: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Range(Record):
    """One range of physical memory."""

    base_pa: int
    bytes: int
    kind: RangeKind
    node: int | None
    tdmr: int | None


@dataclass(frozen=True, slots=True)
class Memory:
    """GET_MEMORY: ranges by kind, then by address, and the memory held for PAMTs.

    Where the kernel initialises TDX it keeps TDX memory, TDMRs and PAMTs to itself, and
    pamt_bytes is None; kernel_pamt_bytes is what its log says of them, where it does.
    """

    ranges: tuple[Range, ...]
    pamt_bytes: int | None
    kernel_pamt_bytes: int | None = None

    @property
    def of_kernel(self) -> bool:
        """Whether TDX memory, TDMRs and PAMTs are known to the kernel alone."""
        return self.pamt_bytes is None

    @property
    def known_pamt_bytes(self) -> int | None:
        """The memory held for PAMTs, whoever told; None where nobody did."""
        return self.kernel_pamt_bytes if self.pamt_bytes is None else self.pamt_bytes

    def of_kind(self, *kinds: RangeKind) -> list[Range]:
        """The ranges of some kinds, in order."""
        return [found for found in self.ranges if found.kind in kinds]

    def bytes_of(self, *kinds: RangeKind) -> int:
        """How much there is of some kinds."""
        return sum(found.bytes for found in self.of_kind(*kinds))
