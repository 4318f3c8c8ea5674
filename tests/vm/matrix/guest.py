# SPDX-License-Identifier: GPL-2.0-or-later
"""Makes requests to the driver inside the virtual machine, and reads all that it shows.

A JSON line in, a JSON line out. Everything here is the driver's own word; what
it should be is not known here.
"""

from __future__ import annotations

import ctypes
import dataclasses
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

from tdxhost.device import Device
from tdxhost.records import RangeKind, Record

DRIVER = "/usr/lib/vtdx/tdxhost.ko"
# System calls of x86-64 that Python has no name for.
DELETE_MODULE, FINIT_MODULE = 176, 313
PAMTS = (RangeKind.PAMT_4K, RangeKind.PAMT_2M, RangeKind.PAMT_1G)
PAGE_BYTES = 4096
HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")
RCU_EXPEDITED = Path("/sys/kernel/rcu_expedited")
# Memory that is free, or the kernel's to take back; the rest is somebody's.
FREE = ("MemFree", "Buffers", "Cached", "SReclaimable")

libc = ctypes.CDLL(None, use_errno=True)


class KernelLog:
    """What the kernel has logged since it was asked last."""

    def __init__(self) -> None:
        self._fd = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)
        os.lseek(self._fd, 0, os.SEEK_END)

    def lines(self) -> list[tuple[int, str]]:
        """Level and text of every new line; OSError when some were lost."""
        lines: list[tuple[int, str]] = []
        while True:
            try:
                record = os.read(self._fd, 8192).decode(errors="replace")
            except BlockingIOError:
                return lines
            head, _, text = record.partition(";")
            lines.append((int(head.split(",")[0]) & 7, text.splitlines()[0]))


class Guest:
    """The driver, and what it shows after each request."""

    def __init__(self) -> None:
        self.log = KernelLog()

    def serve(self, request: dict[str, Any]) -> dict[str, Any]:
        """One request: load or unload the driver, make calls, or look around."""
        if request["op"] == "calls":
            return {"views": self.calls(request["calls"], request["caller"])}
        if request["op"] == "load":
            return {"errno": load(), "lines": self.log.lines()}
        if request["op"] == "unload":
            return {"errno": unload(), "lines": self.log.lines()}
        return {"free": free_bytes(), "tainted": tainted(), "lines": self.log.lines()}

    def calls(self, calls: list[str], caller: int) -> list[dict[str, Any]]:
        """Calls one after the other; what each answered, and what there is to see then."""
        with Device() as device:
            return [self._view(device, call, caller) for call in calls]

    def _view(self, device: Device, call: str, caller: int) -> dict[str, Any]:
        answer = make(device, call, caller)
        memory = device.get_memory()
        return {
            "answer": members(answer),
            "status": members(device.get_status()),
            "cpus": [members(cpu) for cpu in device.get_cpus()],
            "steps": [members(step) for step in device.get_steps()],
            "pamt_ranges": sum(pamt.bytes for pamt in memory.of_kind(*PAMTS)),
            "pamt_bytes": memory.pamt_bytes,
            "lines": self.log.lines(),
        }


def members(record: Record) -> dict[str, Any]:
    """A record as JSON has it; dataclasses.asdict() would copy every number."""
    return {field.name: getattr(record, field.name) for field in dataclasses.fields(record)}


def make(device: Device, call: str, caller: int) -> Any:
    """cpu:N is CPU_ENABLE on CPU N; enable and retry are ENABLE, from CPU ``caller``."""
    name, _, cpu = call.partition(":")
    os.sched_setaffinity(0, {int(cpu) if name == "cpu" else caller})
    if name == "cpu":
        return device.cpu_enable()
    return device.enable(retry=name == "retry")


def load() -> int:
    """Load the driver; an errno."""
    fd = os.open(DRIVER, os.O_RDONLY)
    try:
        return errno_of(libc.syscall(FINIT_MODULE, fd, b"", 0))
    finally:
        os.close(fd)


def unload() -> int:
    """Unload the driver; an errno."""
    return errno_of(libc.syscall(DELETE_MODULE, b"tdxhost", os.O_NONBLOCK))


def errno_of(result: int) -> int:
    """What a system call came to."""
    return ctypes.get_errno() if result else 0


def tainted() -> int:
    """The kernel's own note of what went wrong in it."""
    return int(Path("/proc/sys/kernel/tainted").read_text(encoding="ascii"))


def free_bytes() -> int:
    """Memory that nobody holds: what MemFree leaves out lies on lists of the CPUs."""
    meminfo = Path("/proc/meminfo").read_text(encoding="ascii")
    found = dict(re.findall(r"^(\w+): +(\d+) kB", meminfo, re.MULTILINE))
    zones = Path("/proc/zoneinfo").read_text(encoding="ascii")
    on_lists = sum(map(int, re.findall(r"^ +count: +(\d+)", zones, re.MULTILINE)))
    return (sum(int(found[name]) for name in FREE) << 10) + on_lists * PAGE_BYTES


def main() -> None:
    """Serve requests until there are no more."""
    # Free memory is looked at: nothing is to make huge pages of small ones meanwhile.
    HUGE_PAGES.write_text("never", encoding="ascii")
    # Loading and unloading wait for RCU, and there are hundreds of both.
    RCU_EXPEDITED.write_text("1", encoding="ascii")
    guest = Guest()
    for line in sys.stdin:
        print(json.dumps(guest.serve(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
