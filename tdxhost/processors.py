# SPDX-License-Identifier: GPL-2.0-or-later
"""Processors that firmware enabled, and what keeps Linux from using them.

The TDX module counts every one of them (TDH.SYS.CONFIG), whether Linux has brought it up or not.
"""

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from tdxhost.errors import NotRead
from tdxhost.host import Host
from tdxhost.records import CpuResult, CpuState

#: ACPI 6.5, 5.2.12: the table's header, then the local APIC's address and flags.
MADT_HEADER_BYTES = 44
#: Type to where APIC id and flags are: Processor Local APIC, Processor Local x2APIC.
MADT_PROCESSORS = {0: struct.Struct("<3xBI"), 9: struct.Struct("<4xII")}
MADT_ENABLED = 0x1

#: Kernel parameters that leave processors without a CPU number; Linux, kernel-parameters.txt.
LIMITS = ("nr_cpus=", "possible_cpus=", "disable_cpu_apicid=", "nosmp", "maxcpus=0")


@dataclass(frozen=True, slots=True)
class Processors:
    """What a host says of its processors.

    apic_ids are those that firmware enabled, None where they can't be read; smt is how Linux
    treats hyperthreads ("on", "off", "forceoff", ...), limits the kernel parameters that leave
    processors out.
    """

    apic_ids: frozenset[int] | None = None
    smt: str = ""
    limits: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Missing:
    """Processors that the TDX module waits for.

    cpus were never enabled, those in offline are not even online; apic_ids have no CPU number,
    None where firmware's list is not known.
    """

    cpus: tuple[int, ...]
    offline: tuple[int, ...]
    apic_ids: tuple[int, ...] | None


#: Where nothing is known but what the driver says.
UNKNOWN = Processors()


def read_processors(host: Host) -> Processors:
    """Reads what there is; ACPI's table is root's alone to read."""
    smt = host.text_or("/sys/devices/system/cpu/smt/control")
    words = host.text_or("/proc/cmdline").split()
    limits = tuple(word for word in words if word.startswith(LIMITS))
    return Processors(_apic_ids(host), smt, limits)


def _apic_ids(host: Host) -> frozenset[int] | None:
    try:
        table = host.data("/sys/firmware/acpi/tables/APIC")
    except NotRead:
        return None
    return frozenset(enabled_apic_ids(table)) or None


def enabled_apic_ids(table: bytes) -> Iterator[int]:
    """APIC ids of the processors that an MADT has as enabled; a damaged rest is passed over."""
    at = MADT_HEADER_BYTES
    while at + 2 <= len(table):
        kind, length = table[at], table[at + 1]
        entry = table[at : at + length]
        layout = MADT_PROCESSORS.get(kind)
        if length < 2 or len(entry) < length:
            return
        if layout and length >= layout.size:
            apic_id, flags = layout.unpack_from(entry)
            if flags & MADT_ENABLED:
                yield apic_id
        at += length


def missing(cpus: Iterable[CpuResult], processors: Processors) -> Missing:
    """Finds the processors that the TDX module was never told of; cpus are all present ones."""
    known = tuple(cpus)
    never = [cpu for cpu in known if cpu.state is not CpuState.ENABLED and not cpu.was_enabled]
    offline = tuple(cpu.cpu for cpu in never if cpu.state is CpuState.OFFLINE)
    apic_ids = processors.apic_ids
    if apic_ids is not None:
        apic_ids -= {cpu.apic_id for cpu in known}
    unnumbered = None if apic_ids is None else tuple(sorted(apic_ids))
    return Missing(tuple(cpu.cpu for cpu in never), offline, unnumbered)
