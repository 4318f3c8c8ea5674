# SPDX-License-Identifier: GPL-2.0-or-later
"""A simulated machine behind the seam ABI: memory, MSRs, CPUID, entropy, PCONFIG."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from .binding import ALL_ONES, CONSTANTS, DONE, Library, Module

PAGE = 4096
GIB = 1 << 30
MIB = 1 << 20

Regs = tuple[int, int, int, int]

# MSRs and CPUID leaves of a platform on which every check of the module passes.
HEALTHY_MSRS = {
    0x3B: 0x0,
    0x98: 0x10,
    0x99: 0x10,
    0xBC: 0x1,
    0xBD: 0x1,
    0xCF: 0x0,
    0xFE: 0xDD0A,
    0x10A: 0x12AFD6B,
    0x1A0: 0x850089,
    0x1F2: 0x88000006,
    0x1F3: 0xFF800C00,
    0x1F6: 0x0,
    0x1F7: 0x400,
    0x345: 0xB2C5,
    0x480: 0xD8040000000016,
    0x485: 0x7004C1E7,
    0x486: 0x80000021,
    0x487: 0xFFFFFFFF,
    0x488: 0x2000,
    0x489: 0x3FF77FF,
    0x48B: 0xDF7DBFFE00000000,
    0x48C: 0xF0106F361C1,
    0x48D: 0xFF00000016,
    0x48E: 0xFFFBFFFE04006172,
    0x48F: 0x5F3FFFFF00036DFB,
    0x490: 0x7EF3FF000011FB,
    0x492: 0xFF,
    0x981: 0x3F68000000F,
    0x982: 0xF001000000003,
}
HEALTHY_CPUID: dict[tuple[int, int | None], Regs] = {
    (0x0, None): (0x23, 0x756E6547, 0x6C65746E, 0x49656E69),
    (0x1, None): (0x806F8, 0x400800, 0x77FEBB17, 0x1FA9FBFF),
    (0x4, 0): (0x4121, 0x2C0003F, 0x3F, 0x0),
    (0x4, 1): (0x4022, 0x1C0003F, 0x3F, 0x0),
    (0x4, 2): (0x4043, 0x3C0003F, 0x7FF, 0x0),
    (0x4, 3): (0x3C063, 0x380003F, 0x1BFFF, 0x4),
    (0x6, None): (0xFCE77, 0x0, 0x0, 0x0),
    (0x7, 0): (0x2, 0xF39524C3, 0x99C15F42, 0xFC085418),
    (0x7, 1): (0x1C30, 0x0, 0x0, 0x0),
    (0x7, 2): (0x0, 0x0, 0x0, 0x3F),
    (0xA, None): (0x8300805, 0x0, 0xF, 0x8604),
    (0xD, 0): (0x602E7, 0x2B00, 0x2B00, 0x0),
    (0xD, 1): (0x1F, 0x0, 0xD900, 0x0),
    (0x14, 0): (0x1, 0x5F, 0x7, 0x0),
    (0x15, None): (0x2, 0xA0, 0x17D7840, 0x0),
    (0x1C, None): (0x4000000F, 0x7, 0x7, 0x0),
    (0x1F, 0): (0x1, 0x2, 0x100, 0x0),
    (0x1F, 1): (0x4, 0x4, 0x201, 0x0),
    (0x80000000, None): (0x80000008, 0x0, 0x0, 0x0),
    (0x80000001, None): (0x0, 0x0, 0x121, 0x2C100800),
    (0x80000006, None): (0x0, 0x0, 0x8007040, 0x0),
    (0x80000007, None): (0x0, 0x0, 0x0, 0x100),
    (0x80000008, None): (0x3934, 0x200, 0x0, 0x0),
}
# The package number is the x2APIC id above this many bits (CPUID 0x1F.1 EAX).
PACKAGE_SHIFT = 4


class Memory:
    """Sparse physical memory; what nobody wrote reads as zero."""

    def __init__(self) -> None:
        self._pages: dict[int, bytearray] = {}
        self.writes: list[tuple[int, int]] = []

    def pages(self) -> Iterator[tuple[int, bytearray]]:
        """Number and contents of the pages that were written."""
        return iter(self._pages.items())

    def read(self, pa: int, size: int) -> bytes:
        out = bytearray()
        while size:
            offset = pa % PAGE
            chunk = min(size, PAGE - offset)
            page = self._pages.get(pa // PAGE)
            out += page[offset : offset + chunk] if page else bytes(chunk)
            pa, size = pa + chunk, size - chunk
        return bytes(out)

    def write(self, pa: int, data: bytes) -> None:
        self.writes.append((pa, len(data)))
        done = 0
        while done < len(data):
            offset = (pa + done) % PAGE
            chunk = data[done : done + PAGE - offset]
            number = (pa + done) // PAGE
            if number in self._pages or chunk.count(0) < len(chunk):
                page = self._pages.setdefault(number, bytearray(PAGE))
                page[offset : offset + len(chunk)] = chunk
            done += len(chunk)


@dataclass
class Machine:
    """A platform of the seam ABI whose every answer a test can set."""

    lps: int = 8
    packages: int = 2
    lp_package: Sequence[int] = ()
    num_mktme_kids: int = 31
    num_tdx_priv_kids: int = 32
    keyid_bits: int = 6
    memory: Memory = field(default_factory=Memory)
    msrs: dict[int, int | None] = field(default_factory=lambda: dict(HEALTHY_MSRS))
    cpuids: dict[tuple[int, int | None], Regs] = field(default_factory=lambda: dict(HEALTHY_CPUID))
    lp_msrs: dict[tuple[int, int], int | None] = field(default_factory=dict)
    lp_cpuids: dict[tuple[int, int, int | None], Regs] = field(default_factory=dict)
    capabilities: int = 0x3F
    lp_capabilities: dict[int, int] = field(default_factory=dict)
    rdrand_failures: int = 0
    pconfig_result: int = 0
    pconfig_calls: list[tuple[int, int, int]] = field(default_factory=list)
    no_memory: tuple[int, int] = (0, 0)
    interrupts: int = 0
    on_hold: Callable[[int, int], None] | None = None
    on: dict[str, Callable[[], None]] = field(default_factory=dict)
    x2apic_ids: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.lp_package:
            self.lp_package = [lp * self.packages // self.lps for lp in range(self.lps)]
        self.msrs[0x87] = self.num_tdx_priv_kids << 32 | self.num_mktme_kids
        self.msrs[0x982] = HEALTHY_MSRS[0x982] | self.keyid_bits << 32
        for lp, package in enumerate(self.lp_package):
            index = list(self.lp_package[:lp]).count(package)
            self.x2apic_ids[lp] = package << PACKAGE_SHIFT | index

    def _reached(self, point: str) -> None:
        """Runs what a test wants to happen at a point, once."""
        action = self.on.pop(point, None)
        if action:
            action()

    def _is_memory(self, pa: int, size: int) -> bool:
        base, length = self.no_memory
        return not (pa < base + length and base < pa + size)

    def read_pa(self, pa: int, size: int) -> bytes | None:
        self._reached("map_pa")
        return self.memory.read(pa, size) if self._is_memory(pa, size) else None

    def write_pa(self, pa: int, data: bytes) -> bool:
        self._reached("map_pa")
        if not self._is_memory(pa, len(data)):
            return False
        self.memory.write(pa, data)
        return True

    def rdmsr(self, lp: int, msr: int) -> int | None:
        if (lp, msr) in self.lp_msrs:
            return self.lp_msrs[lp, msr]
        return self.msrs.get(msr)

    def cpuid(self, lp: int, leaf: int, subleaf: int) -> Regs:
        for key in ((lp, leaf, subleaf), (lp, leaf, None)):
            if key in self.lp_cpuids:
                return self.lp_cpuids[key]
        if (leaf, None) in self.cpuids:
            return self.cpuids[leaf, None]
        if leaf == 0x1F:
            eax, ebx, ecx, _ = self.cpuids.get((leaf, subleaf), (0, 0, subleaf, 0))
            return eax, ebx, ecx, self.x2apic_ids[lp]
        return self.cpuids.get((leaf, subleaf), (0, 0, 0, 0))

    def rdrand(self, lp: int) -> int | None:
        self._reached("rdrand")
        if self.rdrand_failures:
            self.rdrand_failures -= 1
            return None
        return 0x5EED0000 + lp

    def pconfig(self, lp: int, keyid: int, ctrl: int) -> int:
        self._reached("pconfig")
        self.pconfig_calls.append((lp, keyid, ctrl))
        return self.pconfig_result

    def seam_capabilities(self, lp: int) -> int:
        return self.lp_capabilities.get(lp, self.capabilities)

    def hold(self, lp: int, leaf: int) -> None:
        if self.on_hold:
            self.on_hold(lp, leaf)

    def interrupt_pending(self, lp: int) -> bool:
        if not self.interrupts:
            return False
        self.interrupts -= 1
        return True


DEFAULT_CMRS = ((MIB, 2 * GIB - MIB), (4 * GIB, 30 * GIB))


def config(machine: Machine, cmrs: Iterable[Sequence[int]] = DEFAULT_CMRS, **more: Any) -> Any:
    """struct seam_config of a machine, as module 1.5.01 unless told otherwise."""
    table = [{"base_pa": base, "bytes": size} for base, size in cmrs]
    fms = [0x806F8] * machine.packages
    return {
        "loaded": 1,
        "lps": machine.lps,
        "packages": machine.packages,
        "package_fms": fms + [0] * (CONSTANTS["SEAM_MAX_PACKAGES"] - len(fms)),
        "nr_cmrs": len(table),
        "cmrs": table,
        "seamrr_base_pa": 0xC0000000,
        "seamrr_bytes": 0x2000000,
        "build_date": 20240601,
        "build_num": 0x2A1,
        "major": 1,
        "minor": 5,
        "update": 1,
        "num_handoff_pages": 13,
        **more,
    }


# TDH.SYS.CONFIG's array of addresses, and the TDMR_INFO that it points to.
ARRAY_PA = 0x200000
TDMR_INFO_PA = 0x201000
TDMR_INFO_STRIDE = 512
FIRST_HKID = 32


@dataclass
class Tdmr:
    """TDMR_INFO: ranges are (base, size), reserved ones relative to the TDMR."""

    base: int
    size: int
    pamt_1g: tuple[int, int]
    pamt_2m: tuple[int, int]
    pamt_4k: tuple[int, int]
    reserved: list[tuple[int, int]] = field(default_factory=list)

    def pack(self) -> bytes:
        ranges = [(self.base, self.size), self.pamt_1g, self.pamt_2m, self.pamt_4k, *self.reserved]
        words = [word for pair in ranges for word in pair]
        return struct.pack(f"<{len(words)}Q", *words).ljust(TDMR_INFO_STRIDE, b"\0")


def write_tdmrs(memory: Memory, tdmrs: Sequence[Tdmr]) -> None:
    for i, tdmr in enumerate(tdmrs):
        memory.write(TDMR_INFO_PA + i * TDMR_INFO_STRIDE, tdmr.pack())
        memory.write(ARRAY_PA + 8 * i, (TDMR_INFO_PA + i * TDMR_INFO_STRIDE).to_bytes(8, "little"))


def pamt_sizes(size: int) -> tuple[int, int, int]:
    """Least sizes for a TDMR, 4K, 2M and 1G, in whole pages."""
    least = (size // page * 16 for page in (PAGE, 2 * MIB, GIB))
    sizes = [-(-bytes_ // PAGE) * PAGE for bytes_ in least]
    return sizes[0], sizes[1], sizes[2]


def layout(spans: Sequence[tuple[int, int]], pamt_base: int) -> list[Tdmr]:
    """TDMRs over spans of (base, size), their PAMTs one after the other at pamt_base."""
    tdmrs = []
    for base, size in spans:
        at = []
        for needed in pamt_sizes(size):
            at.append((pamt_base, needed))
            pamt_base += needed
        tdmrs.append(Tdmr(base, size, at[2], at[1], at[0]))
    return tdmrs


class Host:
    """A machine with its module, and the calls that a host makes."""

    def __init__(self, library: Library, machine: Machine | None = None, **more: Any) -> None:
        self.machine = machine or Machine()
        module = library.create(config(self.machine, **more), self.machine)
        if module is None:
            raise ValueError("seam_create() refused the configuration")
        self.module: Module = module
        self._library = library

    def seamcall(self, leaf: int, lp: int = 0, version: int = 0, **regs: int) -> dict[str, int]:
        """A SEAMCALL that completes: the registers after it."""
        result, out = self.module.call(lp, rax=leaf | version << 16, **regs)
        if result != DONE:
            raise AssertionError(f"leaf {leaf} on LP {lp} ended with {result}")
        return out

    def status(self, leaf: int, lp: int = 0, version: int = 0, **regs: int) -> tuple[str, int]:
        """Name and details of what a leaf answers."""
        rax = self.seamcall(leaf, lp, version, **regs)["rax"]
        return self._library.status_name(rax) or hex(rax), rax & 0xFFFFFFFF

    def ends_with(self, leaf: int, lp: int = 0, **regs: int) -> int:
        """How the SEAMCALL instruction ends."""
        return self.module.call(lp, rax=leaf, **regs)[0]

    @property
    def sys(self) -> int:
        return self.module.state()["sys"]

    def bring_up(self, tdmrs: Sequence[Tdmr]) -> None:
        """To SYS_READY with these TDMRs."""
        self.lp_init_all()
        assert self.config(tdmrs) == OK
        self.key_config_all()

    def config(
        self, tdmrs: Sequence[Tdmr], hkid: int = FIRST_HKID, lp: int = 0, **more: int
    ) -> tuple[str, int]:
        """TDH.SYS.CONFIG with the TDMRs written to memory."""
        write_tdmrs(self.machine.memory, tdmrs)
        return self.status(CONFIG, lp, **{"rcx": ARRAY_PA, "rdx": len(tdmrs), "r8": hkid, **more})

    def lp_init_all(self) -> None:
        assert self.status(INIT) == OK
        for lp in range(self.machine.lps):
            assert self.status(LP_INIT, lp) == OK

    def key_config_all(self) -> None:
        for package in range(self.machine.packages):
            assert self.status(KEY_CONFIG, self.lp_of(package)) == OK

    def lp_of(self, package: int) -> int:
        return list(self.machine.lp_package).index(package)


KEY_CONFIG, INFO, INIT, RD, LP_INIT, TDMR_INIT, RDALL = 31, 32, 33, 34, 35, 36, 37
LP_SHUTDOWN, CONFIG, SHUTDOWN, UPDATE, DISABLE = 44, 45, 52, 53, 69
SYS_DISABLE = 1 << 53  # of TDX_FEATURES0
OK = ("TDX_SUCCESS", 0)
RAX, RCX, RDX, R8, R9, R10 = 0, 1, 2, 8, 9, 10
NULL_ID = ALL_ONES
