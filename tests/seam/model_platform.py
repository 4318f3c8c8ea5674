# SPDX-License-Identifier: GPL-2.0-or-later
"""Platform checks of TDH.SYS.INIT and TDH.SYS.LP.INIT, from msrs-cpuid.yaml."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from .machine import PAGE, Regs
from .model_call import (
    MAX_PA,
    MSR_KEYID_PARTITIONING,
    MSR_TME_ACTIVATE,
    Fatal,
    KeyIds,
    Platform,
    Refused,
    overlap,
    wraps,
)
from .model_reference import Control, CpuidRow, Masks

NO_SUBLEAF = 0xFFFFFFFF
ARCH_CAPABILITIES_ONES, ARCH_CAPABILITIES_MASK = 0x20FD6B, 0x20FD6F
LEAST_TSC_HZ = 0x2540C
MAX_PACKAGES = 8
CAPABILITIES_NEEDED = 1 << 4 | 1 << 5
HANDOFF_PAGES_NEEDED = 14
PROCBASED2, PROCBASED3 = 0x48B, 0x492
CR0_INIT, CR0_NESTED_VARIABLE, CR4_INIT = 0x21, 0x8005001F, 0x2040
CR0_PE_PG = 1 << 0 | 1 << 31
VMX_MSRS = (
    *(0x480, 0x48D, 0x48E, 0x48B, 0x492, 0x48F, 0x490, 0x485, 0x48C),
    *(0x486, 0x487, 0x488, 0x489),
)


@dataclass
class Sample:
    """What TDH.SYS.INIT saw: TDH.SYS.LP.INIT compares with it."""

    msrs: dict[int, int] = field(default_factory=dict)
    cpuid: dict[CpuidRow, Regs] = field(default_factory=dict)
    capabilities: int = 0
    basic_max: int = 0
    package_shift: int = 0
    keyids: KeyIds = field(default_factory=lambda: KeyIds(0, 1, 0))


class InitChecks:
    """TDH.SYS.INIT on one LP: raises Refused or Fatal, or leaves its sample."""

    def __init__(self, platform: Platform, lp: int) -> None:
        self._platform = platform
        self._lp = lp
        self.sample = Sample()

    def run(self) -> Sample:
        self._capability_msrs()
        self._cpuid()
        self._vmx_msrs()
        self._key_msrs()
        self._cmrs()
        self._smrrs()
        self._build()
        return self.sample

    def _msr(self, msr: int) -> int:
        value = self._platform.msr(self._lp, msr)
        self.sample.msrs[msr] = value
        return value

    def _expect(self, condition: bool, msr: int) -> None:
        if not condition:
            raise Refused("TDX_INCORRECT_MSR_VALUE", msr)

    def _capability_msrs(self) -> None:
        self._msr(0xCF)
        ones = self._msr(0x10A) & ARCH_CAPABILITIES_MASK
        self._expect(ones == ARCH_CAPABILITIES_ONES, 0x10A)
        self._expect(self._msr(0xBD) == 1, 0xBD)
        self._expect(bool(self._msr(0xBC) & 1), 0xBC)
        self._expect(bool(self._msr(0x345) >> 13 & 1), 0x345)
        self._msr(0x3B)
        if self._msr(0x1A0) >> 22 & 1:
            raise Refused("TDX_LIMIT_CPUID_MAXVAL_SET")

    # CPUID

    def _read(self, leaf: int, subleaf: int | None) -> Regs:
        return self._platform.machine.cpuid(self._lp, leaf, subleaf or 0)

    def _cpuid(self) -> None:
        self.sample.basic_max = self._read(0, None)[0]
        for leaf, have, needed in (
            (0x1F, self.sample.basic_max, 0x1F),
            (0x80000008, self._read(0x80000000, None)[0], 0x80000008),
        ):
            if have < needed:
                raise Refused("TDX_CPUID_LEAF_NOT_SUPPORTED", leaf)
        for row in self._platform.reference.cpuid:
            self._cpuid_row(row)

    def _cpuid_row(self, row: CpuidRow) -> None:
        is_above = self.sample.basic_max < row.leaf < 0x80000000
        regs = (0, 0, 0, 0) if is_above else self._read(row.leaf, row.subleaf)
        self.sample.cpuid[row] = regs
        masked = tuple(value & mask for value, mask in zip(regs, row.mask, strict=True))
        if masked != row.expected:
            self._incorrect(row.leaf, row.subleaf, row.mask, row.expected)
        special = {
            (0xA, None): self._leaf_a,
            (0x15, None): self._leaf_15,
            (0x1F, 5): self._leaf_1f,
            (0x80000008, None): self._leaf_80000008,
        }.get((row.leaf, row.subleaf))
        if special:
            special(regs)

    def _incorrect(self, leaf: int, subleaf: int | None, mask: Masks, wanted: Masks) -> None:
        raise Refused(
            "TDX_INCORRECT_CPUID_VALUE",
            rcx=leaf | (NO_SUBLEAF if subleaf is None else subleaf) << 32,
            rdx=mask[0] | mask[1] << 32,
            r8=mask[2] | mask[3] << 32,
            r9=wanted[0] | wanted[1] << 32,
            r10=wanted[2] | wanted[3] << 32,
        )

    def _leaf_a(self, regs: Regs) -> None:
        if regs[0] & 0xFF < 5:
            self._incorrect(0xA, None, (0xF, 0, 0, 0), (5, 0, 0, 0))
        if regs[3] & 0x1F > 7:
            self._incorrect(0xA, None, (0, 0, 0, 0x1F), (0, 0, 0, 7))

    def _leaf_15(self, regs: Regs) -> None:
        if not regs[1]:
            raise Refused("TDX_CPUID_LEAF_NOT_SUPPORTED", 0x15)
        if not regs[0] or regs[2] * regs[1] // regs[0] < LEAST_TSC_HZ:
            raise Fatal("TSC frequency")

    def _leaf_80000008(self, regs: Regs) -> None:
        has_la57 = self._read(7, 0)[2] >> 16 & 1
        width = 57 if has_la57 else 48
        if regs[0] >> 8 & 0xFF != width:
            self._incorrect(0x80000008, None, (0xFF00, 0, 0, 0), (width << 8, 0, 0, 0))

    def _levels(self) -> Iterator[tuple[int, int]]:
        """Type and shift of each level of leaf 0x1F."""
        for subleaf in range(6):
            eax, _, ecx, _ = self._read(0x1F, subleaf)
            kind = ecx >> 8 & 0xFF
            if not kind:
                return
            yield kind, eax & 0x1F

    def _leaf_1f(self, _regs: Regs) -> None:
        kinds, shifts = [0], [0]
        for kind, shift in self._levels():
            if kind <= kinds[-1] or kind >= 6:
                raise Refused("TDX_CPUID_LEAF_1F_FORMAT_UNRECOGNIZED")
            kinds.append(kind)
            shifts.append(shift)
        if 2 not in kinds:
            raise Refused("TDX_CPUID_LEAF_NOT_SUPPORTED", 0)
        self.sample.package_shift = shifts[-1]
        sharing = self._read(4, 3)[0] >> 14 & 0xFFF
        if sharing.bit_length() != shifts[-1]:
            raise Refused("TDX_INVALID_WBINVD_SCOPE")

    # VMX

    def _vmx_msrs(self) -> None:
        for msr in VMX_MSRS:
            self._vmx_msr(msr)
        for control in self._platform.reference.nested_controls:
            self._control(control)
        cr0 = (self._msr(0x486) & ~CR0_PE_PG, self._msr(0x487))
        self._expect(not (cr0[0] | ~cr0[1]) & (CR0_NESTED_VARIABLE & ~CR0_PE_PG), 0x486)
        self._expect(not ~cr0[1] & (CR0_NESTED_VARIABLE | CR0_INIT), 0x486)

    def _vmx_msr(self, msr: int) -> None:
        controls = {row.msr: row for row in self._platform.reference.td_controls}
        if msr in controls:
            self._control(controls[msr])
            return
        value = self._msr(msr)
        rules = {
            0x480: (value >> 32 & 0x1FFF) <= 2048 and value >> 54 & 3 == 3,
            0x485: value & 0x200040E0 == 0x200040E0 and (value >> 16 & 0x1FF) >= 4,
            0x48C: not ~value & 0x10106334041,
            0x486: not value & ~(CR0_PE_PG | CR0_INIT),
            0x487: not ~value & CR0_INIT,
            0x488: not value & ~CR4_INIT,
            0x489: not ~value & CR4_INIT,
        }
        self._expect(rules[msr], msr)

    def _control(self, control: Control) -> None:
        value = self._msr(control.msr)
        if control.msr == PROCBASED3:
            self._expect(not ~value & (control.init | control.variable), control.msr)
            return
        zeros, ones = value & 0xFFFFFFFF, value >> 32
        init = self._procbased2_init(control.init, ones) if control.msr == 0x48B else control.init
        fits = (
            not zeros & ~(init | control.unknown)
            and not ~ones & init
            and not (zeros | ~ones) & control.variable
        )
        self._expect(fits, control.msr)

    def _procbased2_init(self, init: int, ones: int) -> int:
        """User wait and pause (26) follows WAITPKG, ENCLV exiting (28) the CPU."""
        waitpkg = self._read(7, 0)[2] >> 5 & 1
        init = init & ~(1 << 26) | waitpkg << 26
        return init & ~(~ones & 1 << 28)

    # Keys, memory, the rest

    def _key_msrs(self) -> None:
        plain = bool(self._platform.config.get("no_integrity"))
        wanted = 0b0101 if plain else 0b1010
        self._expect(bool(self._msr(0x982) & 1), 0x982)
        self._expect(bool(self._msr(0x981) & wanted), 0x981)
        self._expect(bool(self._msr(0x982) >> 48 & wanted), 0x982)
        partitioning = self._msr(MSR_KEYID_PARTITIONING)
        if (partitioning & 0xFFFFFFFF) + (partitioning >> 32) >= 2048:
            raise Refused("TDX_NUM_ACTIVATED_HKIDS_NOT_SUPPORTED", 0x800)
        blocks = self._msr(0x98)
        self._expect(self._msr(0x99) == blocks, 0x99)
        self.sample.keyids = KeyIds.of(partitioning, self.sample.msrs[MSR_TME_ACTIVATE])

    def _cmrs(self) -> None:
        keyids = self.sample.keyids
        start, last = 0, 0
        for base, size in self._platform.cmrs:
            if not size:
                continue
            end = base + size - 1
            is_fine = (
                not wraps(base, size)
                and keyids.is_plain(base)
                and not end & keyids.mask
                and end <= MAX_PA
                and not (base | size) % PAGE
                and base >= start
                and base >= last
            )
            if not is_fine:
                raise Refused("TDX_CMR_LIST_INVALID")
            start, last = base, end

    def _smrrs(self) -> None:
        mtrrcap = self._msr(0xFE)
        if not mtrrcap >> 11 & 1:
            raise Refused("TDX_SMRR_NOT_SUPPORTED")
        if not mtrrcap >> 14 & 1:
            raise Refused("TDX_SMRR_LOCK_NOT_SUPPORTED")
        has_second = mtrrcap >> 13 & 1 and not self._platform.config.get("skip_smrr2")
        pairs = [(0x1F2, 0x1F3), (0x1F6, 0x1F7)][: 2 if has_second else 1]
        smrrs = [(self._msr(base), self._msr(mask)) for base, mask in pairs]
        for index, (_, mask) in enumerate(smrrs):
            if not mask >> 10 & 1:
                raise Refused("TDX_SMRR_NOT_LOCKED", index)
        ranges = [self._smrr_range(index, *smrr) for index, smrr in enumerate(smrrs)]
        for index, smrr_range in enumerate(ranges):
            self._smrr_apart(index, smrr_range)

    def _smrr_range(self, index: int, base: int, mask: int) -> tuple[int, int]:
        if not mask >> 11 & 1:
            return 0, 0
        mask, base = mask & 0xFFFFF000, base & 0xFFFFF000
        size = (1 << 32) - mask
        if not mask or size & (size - 1) or base & (size - 1):
            raise Refused("TDX_INVALID_SMRR_CONFIGURATION", index)
        return base, size

    def _smrr_apart(self, index: int, smrr: tuple[int, int]) -> None:
        for number, cmr in enumerate(self._platform.cmrs):
            if smrr[1] and cmr[1] and overlap(smrr, cmr):
                raise Refused("TDX_SMRR_OVERLAPS_CMR", index | number << 8)

    def _build(self) -> None:
        self.sample.capabilities = self._platform.machine.seam_capabilities(self._lp)
        if self.sample.capabilities & CAPABILITIES_NEEDED != CAPABILITIES_NEEDED:
            raise Refused("TDX_INCOMPATIBLE_SEAM_CAPABILITIES")
        if self._platform.config["num_handoff_pages"] + 1 < HANDOFF_PAGES_NEEDED:
            raise Refused("TDX_SYS_INCOMPATIBLE_SIGSTRUCT")
        if self._platform.machine.rdrand(self._lp) is None:
            raise Refused("TDX_RND_NO_ENTROPY")


class LpInitChecks:
    """TDH.SYS.LP.INIT on one LP against the sample; gives its package."""

    def __init__(self, platform: Platform, lp: int, sample: Sample) -> None:
        self._platform = platform
        self._lp = lp
        self._sample = sample

    def run(self) -> int:
        machine = self._platform.machine
        if not machine.rdrand(self._lp):
            raise Refused("TDX_RND_NO_ENTROPY")
        if machine.seam_capabilities(self._lp) != self._sample.capabilities:
            raise Refused("TDX_INCOMPATIBLE_SEAM_CAPABILITIES")
        self._compare(0xCF, 0x10A, 0xBC, 0xBD)
        if self._platform.msr(self._lp, 0x1A0) >> 22 & 1:
            raise Refused("TDX_LIMIT_CPUID_MAXVAL_SET")
        package = self._cpuid()
        self._compare(0x3B)
        smrr2 = [msr for msr in (0x1F6, 0x1F7) if msr in self._sample.msrs]
        self._compare(0xFE, 0x1F2, 0x1F3, *smrr2)
        self._compare(*VMX_MSRS)
        self._compare(0x345, 0x981, 0x982, 0x87, 0x98, 0x99)
        return package

    def _compare(self, *msrs: int) -> None:
        for msr in msrs:
            if self._platform.msr(self._lp, msr) != self._sample.msrs[msr]:
                raise Refused("TDX_INCONSISTENT_MSR", msr)

    def _cpuid(self) -> int:
        for row, sampled in self._sample.cpuid.items():
            if self._sample.basic_max < row.leaf < 0x80000000:
                continue
            regs = self._platform.machine.cpuid(self._lp, row.leaf, row.subleaf or 0)
            if any((a ^ b) & mask for a, b, mask in zip(regs, sampled, row.same, strict=True)):
                self._inconsistent(row)
        x2apic_id = self._platform.machine.cpuid(self._lp, 0x1F, 0)[3]
        package = x2apic_id >> self._sample.package_shift
        if package >= MAX_PACKAGES:
            raise Refused("TDX_INVALID_PKG_ID", package)
        return package

    def _inconsistent(self, row: CpuidRow) -> None:
        raise Refused(
            "TDX_INCONSISTENT_CPUID_FIELD",
            rcx=row.leaf | (NO_SUBLEAF if row.subleaf is None else row.subleaf) << 32,
            rdx=row.same[0] | row.same[1] << 32,
            r8=row.same[2] | row.same[3] << 32,
        )
