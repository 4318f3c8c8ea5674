# SPDX-License-Identifier: GPL-2.0-or-later
"""What the kernel shows about TDX: the driver's sysfs attributes, and its log."""

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

ATTRIBUTES = ("provider", "status", "module_version")

KERNEL_LOG = Path("/dev/kmsg")

#: Linux 6.8 to 7.3, arch/x86/virt/vmx/tdx/tdx.c: after the TDX module was initialised.
PAMT_LINE = re.compile(r"virt/tdx: (\d+) KB allocated for PAMT")

#: One read gives one record, and none is longer (Linux kernel/printk/printk.c).
RECORD_BYTES = 8192


def public_state(root: Path = Path("/")) -> dict[str, str]:
    """Reads the driver's sysfs attributes, which need no privilege; those there are."""
    found: dict[str, str] = {}
    for name in ATTRIBUTES:
        try:
            text = (root / "sys/class/misc/tdxhost" / name).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError):
            continue
        if text:
            found[name] = text
    return found


def log_lines(path: Path = KERNEL_LOG) -> Iterator[str]:
    """The kernel's log as far as it is kept, without prefixes; nothing where it can't be read."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return
    try:
        for record in _records(fd):
            yield record.partition(";")[2].partition("\n")[0]
    finally:
        os.close(fd)


def _records(fd: int) -> Iterator[str]:
    while True:
        try:
            record = os.read(fd, RECORD_BYTES)
        except BrokenPipeError:  # overwritten meanwhile; the next read goes on behind
            continue
        except OSError:  # EAGAIN: that was the last
            return
        if not record:
            return
        yield record.decode("utf-8", errors="replace")


def pamt_bytes(lines: Iterable[str]) -> int | None:
    """What the kernel says that it has allocated for PAMTs; None where it does not."""
    found = [match for match in map(PAMT_LINE.search, lines) if match]
    return int(found[-1][1]) * 1024 if found else None
