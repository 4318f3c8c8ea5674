# SPDX-License-Identifier: GPL-2.0-or-later
"""Platform files: what they say, what follows from it, and QEMU's view of them.

The format is in vtdx/README.md. What the plugin reads is the resolved form: one
file that stands alone, with explicit CMRs and faults.
"""

from __future__ import annotations

import configparser
import io
import re
from dataclasses import dataclass
from pathlib import Path

from vtdx.vm.errors import BadPlatform
from vtdx.vm.keyfile import (
    Config,
    Range,
    Reader,
    exists,
    inherited,
    number_in,
    parse_size,
    shipped,
    told,
)

__all__ = ["Platform", "Range", "load", "parse_size", "ram_by_node", "shipped", "told"]

_MIB = 1 << 20
_GIB = 1 << 30

# QEMU's q35 machine: RAM below 4 GiB ends here, unless all of it fits lower
# than the second number. QEMU hw/i386/pc_q35.c.
_Q35_LOW_RAM_END = 0x80000000
_Q35_ALL_LOW_LIMIT = 0xB0000000
_HIGH_RAM_BASE = 4 * _GIB


# What the plugin (plugin/platform.c) and QEMU's q35 and NUMA nodes go up to.
_MOST_SOCKETS = 8
_MOST_CPUS = 4096
_MOST_NODES = 128
_MOST_CMRS = 32

# CPUID leaf 0x80000008, EAX[7:0]: address bits of every processor with TDX.
_PHYS_BITS = 52

# CPUID leaves 0x80000002 to 0x80000004 (SDM vol. 2), of which QEMU takes no comma.
_BRAND = re.compile(r"[^,]{1,47}")

_VENDORS = ("GenuineIntel", "AuthenticAMD")

# Of 52 address bits KeyIDs take the upper ones; 46 are left on real machines.
_MOST_MEMORY = 1 << 46


@dataclass(frozen=True)
class System:
    """What SMBIOS tells of the machine; what is empty is QEMU's."""

    vendor: str
    product: str
    bios_version: str
    bios_date: str


@dataclass(frozen=True)
class Platform:
    """A virtual machine: what QEMU, the kernel's command line and the plugin need.

    ``nodes`` are sizes in bytes of the NUMA nodes, the last ``cpuless`` of which have
    no CPU, ``reserved`` the ranges that firmware keeps out of System RAM, ``text`` the
    resolved file, ``hardware`` what of it no running machine can change.
    """

    name: str
    summary: str
    system: System
    vendor: str
    brand: str
    family: int
    model: int
    stepping: int
    sockets: int
    cores: int
    threads: int
    phys_bits: int
    hypervisor: bool
    nodes: tuple[int, ...]
    cpuless: int
    reserved: tuple[Range, ...]
    cmrs: tuple[Range, ...]
    text: str
    hardware: str

    @property
    def cpus(self) -> int:
        """Logical processors."""
        return self.sockets * self.cores * self.threads

    @property
    def memory_bytes(self) -> int:
        """All memory."""
        return sum(self.nodes)


def ram_by_node(nodes: tuple[int, ...]) -> list[list[Range]]:
    """Where q35 puts the memory of each node: low memory, then from 4 GiB on."""
    total = sum(nodes)
    low_end = total if total < _Q35_ALL_LOW_LIMIT else _Q35_LOW_RAM_END
    placed: list[list[Range]] = []
    offset = 0
    for size in nodes:
        low = Range(offset, max(0, min(offset + size, low_end) - offset))
        high_from = max(offset, low_end)
        high = Range(_HIGH_RAM_BASE + high_from - low_end, max(0, offset + size - high_from))
        placed.append([part for part in (low, high) if part.size])
        offset += size
    return placed


def _derived_cmrs(nodes: tuple[int, ...]) -> list[Range]:
    """All memory above 1 MiB, cut at nodes."""
    cmrs = []
    for part in (part for parts in ram_by_node(nodes) for part in parts):
        base = max(part.base, _MIB)
        if part.end > base:
            cmrs.append(Range(base, part.end - base))
    return sorted(cmrs, key=lambda cmr: cmr.base)


def load(
    which: str,
    *,
    cpus: int | None = None,
    memory_bytes: int | None = None,
    faults: tuple[str, ...] = (),
) -> Platform:
    """The platform ``which`` (a shipped name or a file), changed as asked."""
    path = shipped().get(which, Path(which))
    if not exists(path):
        names = ", ".join(name for name in shipped() if not name.endswith("-base"))
        raise BadPlatform(f"No platform {told(which)}.", f"Name one of {names}, or a file.")
    config = inherited(path)
    reader = Reader("".join(c if c.isprintable() else "?" for c in path.stem), config)
    for section in ("platform", "cpu", "memory"):
        if not config.has_section(section):
            raise BadPlatform(f"Platform {reader.name}: section [{section}] is missing.")
    if cpus is not None:
        _set_cpus(reader, cpus)
    if memory_bytes is not None:
        _set_memory(reader, memory_bytes)
    _add_faults(reader, faults)
    return _finish(reader)


def _set_cpus(reader: Reader, cpus: int) -> None:
    cpu = reader.config["cpu"]
    sockets, threads = reader.number("cpu", "sockets", 1), reader.number("cpu", "threads", 1)
    each = sockets * threads
    if cpus < 1 or cpus % each:
        raise BadPlatform(
            f"Platform {reader.name} has {sockets} sockets with {threads} threads a core:"
            f" {cpus} CPUs can't be shared out evenly.",
            f"Ask for a multiple of {each}.",
        )
    cpu["cores"] = str(cpus // each)


def _set_memory(reader: Reader, memory_bytes: int) -> None:
    if reader.config.has_section("cmr") or reader.ranges("memory", "reserved"):
        raise BadPlatform(
            f"Platform {reader.name} has a memory map of its own, so its size can't be changed.",
            "Take another platform, or copy the file and edit it.",
        )
    nodes = _node_keys(reader)
    each = memory_bytes // len(nodes) // _MIB * _MIB
    if each < 64 * _MIB:
        raise BadPlatform(f"{memory_bytes} bytes are too little for {len(nodes)} nodes.")
    for key in nodes:
        reader.config["memory"][key] = str(each)


def _add_faults(reader: Reader, faults: tuple[str, ...]) -> None:
    if faults and not reader.config.has_section("faults"):
        reader.config.add_section("faults")
    first = max(map(int, reader.numbered("faults")), default=0) + 1
    for number, fault in enumerate(faults, first):
        if not fault.isprintable():
            raise BadPlatform(f"Fault {told(fault)} is not one line of text.")
        reader.config["faults"][str(number)] = fault


def _node_keys(reader: Reader) -> list[str]:
    keys = [key for key in reader.config["memory"] if key.startswith("node")]
    wanted = [f"node{number}" for number in range(len(keys))]
    if not keys or len(keys) > _MOST_NODES or sorted(keys) != sorted(wanted):
        raise reader.fail(
            "memory", "node0", f"nodes are numbered from 0 without a gap, at most {_MOST_NODES}"
        )
    return wanted


def _finish(reader: Reader) -> Platform:
    config = reader.config
    nodes = _nodes(reader)
    cmrs = _cmrs(reader, nodes)
    config.remove_section("cmr")
    config["cmr"] = {str(number): str(cmr) for number, cmr in enumerate(cmrs)}
    for number, size in enumerate(nodes):
        config["memory"][f"node{number}"] = str(size)
    if config.has_option("seam", "range"):
        config["seam"]["range"] = str(reader.one_range("seam", "range"))
    config["platform"]["name"] = reader.name
    sockets, cores, threads = _topology(reader)
    return Platform(
        name=reader.name,
        summary=config.get("platform", "summary", fallback=""),
        system=_system(reader),
        vendor=_vendor(reader),
        brand=_brand(reader),
        # CPUID leaf 1 has room for these (SDM vol. 2, CPUID).
        family=reader.number("cpu", "family", most=0xF + 0xFF),
        model=reader.number("cpu", "model", most=0xFF),
        stepping=reader.number("cpu", "stepping", most=0xF),
        sockets=sockets,
        cores=cores,
        threads=threads,
        phys_bits=_phys_bits(reader),
        hypervisor=_says_hypervisor(reader),
        nodes=nodes,
        cpuless=_cpuless(reader, nodes),
        reserved=reader.ranges("memory", "reserved"),
        cmrs=tuple(cmrs),
        text=_text(config),
        hardware=_hardware(config),
    )


def _system(reader: Reader) -> System:
    names = ("vendor", "product", "bios_version", "bios_date")
    return System(*(reader.config.get("system", name, fallback="") for name in names))


def _vendor(reader: Reader) -> str:
    vendor = reader.config.get("cpu", "vendor", fallback=_VENDORS[0])
    if vendor not in _VENDORS:
        raise reader.fail("cpu", "vendor", f"{told(vendor)} is not one of {', '.join(_VENDORS)}")
    return vendor


def _brand(reader: Reader) -> str:
    brand = reader.config.get("cpu", "brand", fallback="")
    if brand and not _BRAND.fullmatch(brand):
        raise reader.fail("cpu", "brand", f"{told(brand)} is not 1 to 47 characters, no comma")
    return brand


def _phys_bits(reader: Reader) -> int:
    """Physical address bits, which the TDX module and the guest see alike."""
    leaf = reader.config.get("cpuid", "0x80000008", fallback="").split()
    if not leaf:
        return _PHYS_BITS
    number = number_in(leaf[0])
    if number is None or not 36 <= number & 0xFF <= _PHYS_BITS:
        raise reader.fail(
            "cpuid", "0x80000008", f"{told(leaf[0])} does not begin with 36 to {_PHYS_BITS}"
        )
    return number & 0xFF


def _says_hypervisor(reader: Reader) -> bool:
    """Whether CPUID says that a hypervisor is there, as on no real machine."""
    if not reader.config.has_option("cpu", "hypervisor"):
        return False
    return bool(reader.number("cpu", "hypervisor", most=1))


def _cpuless(reader: Reader, nodes: tuple[int, ...]) -> int:
    """How many nodes, the last ones, have no CPU."""
    if not reader.config.has_option("memory", "cpuless"):
        return 0
    return reader.number("memory", "cpuless", most=len(nodes) - 1)


def _topology(reader: Reader) -> tuple[int, int, int]:
    """Sockets, cores of a socket, threads of a core."""
    sockets = reader.number("cpu", "sockets", 1, _MOST_SOCKETS)
    cores = reader.number("cpu", "cores", 1, _MOST_CPUS)
    threads = reader.number("cpu", "threads", 1, _MOST_CPUS)
    if sockets * cores * threads > _MOST_CPUS:
        raise reader.fail("cpu", "cores", f"makes more than {_MOST_CPUS} CPUs")
    return sockets, cores, threads


def _nodes(reader: Reader) -> tuple[int, ...]:
    """Sizes of the NUMA nodes."""
    keys = _node_keys(reader)
    nodes = tuple(reader.size("memory", key) for key in keys)
    for key, size in zip(keys, nodes, strict=True):
        if not size or size % _MIB:
            raise reader.fail("memory", key, f"{size} bytes are not a number of MiB")
    if sum(nodes) > _MOST_MEMORY:
        raise reader.fail("memory", keys[-1], f"makes more than {_MOST_MEMORY >> 40} TiB")
    return nodes


def _cmrs(reader: Reader, nodes: tuple[int, ...]) -> list[Range]:
    """The CMRs, in table order."""
    if not reader.config.has_section("cmr"):
        return _derived_cmrs(nodes)
    cmrs = [reader.one_range("cmr", key) for key in reader.numbered("cmr")]
    if len(cmrs) > _MOST_CMRS:
        raise reader.fail("cmr", str(_MOST_CMRS), f"there is room for {_MOST_CMRS} alone")
    return cmrs


def _hardware(config: configparser.ConfigParser) -> str:
    """The resolved file without names, faults and latencies."""
    hardware = Config()
    hardware.read_dict(config)
    for section in ("platform", "faults", "latency"):
        hardware.remove_section(section)
    return _text(hardware)


def _text(config: configparser.ConfigParser) -> str:
    out = io.StringIO()
    config.write(out)
    return out.getvalue()
