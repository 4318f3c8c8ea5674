# SPDX-License-Identifier: GPL-2.0-or-later
"""What the kernel shows about TDX: the driver's sysfs attributes, and its log."""

import re
from collections.abc import Iterable
from dataclasses import replace

from tdxhost.errors import NotRead
from tdxhost.host import Host
from tdxhost.records import Memory

ATTRIBUTES = ("provider", "status", "module_version")

#: Linux 6.8 to 7.3, arch/x86/virt/vmx/tdx/tdx.c: after the TDX module was initialised.
PAMT_LINE = re.compile(r"virt/tdx: (\d+) KB allocated for PAMT")


def public_state(host: Host) -> dict[str, str]:
    """Reads the driver's sysfs attributes, which need no privilege; those there are."""
    found = {name: host.text_or(f"/sys/class/misc/tdxhost/{name}") for name in ATTRIBUTES}
    return {name: text for name, text in found.items() if text}


def log_or_nothing(host: Host) -> tuple[str, ...]:
    """The kernel's log; nothing where it can't be read."""
    try:
        return host.log()
    except NotRead:
        return ()


def pamt_bytes(lines: Iterable[str]) -> int | None:
    """What the kernel says that it has allocated for PAMTs; None where it does not."""
    found = [match for match in map(PAMT_LINE.search, lines) if match]
    return int(found[-1][1]) * 1024 if found else None


def complete(memory: Memory, host: Host) -> Memory:
    """Adds what the kernel's log says of PAMTs where the driver does not know."""
    if not memory.of_kernel:
        return memory
    return replace(memory, kernel_pamt_bytes=pamt_bytes(log_or_nothing(host)))
