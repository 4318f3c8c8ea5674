# SPDX-License-Identifier: GPL-2.0-or-later
"""CPUs of this host: lists such as 0-3,8, what is online, and pinning."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from tdxhost.errors import BadData, CpuUnavailable, NotRead, Usage
from tdxhost.host import Host, LiveHost

#: Largest NR_CPUS of an x86 kernel (CONFIG_MAXSMP).
NR_CPUS = 8192
#: More than any CPU number has, few enough to be told.
MOST_DIGITS = 20
#: Of a text that can't be read, the characters that a message repeats.
MOST_TOLD = 60


def parse_cpu_list(text: str) -> frozenset[int]:
    """Reads a list in the kernel's format, such as 0-3,8; ValueError says what is wrong."""
    cpus: set[int] = set()
    for part in text.strip().split(","):
        first, dash, last = part.strip().partition("-")
        if not _is_number(first) or (dash and not _is_number(last)):
            raise ValueError(f"{_told(part.strip())} is neither a CPU nor a range of CPUs")
        low, high = int(first), int(last) if dash else int(first)
        if high < low:
            raise ValueError(f"the range {low}-{high} runs backwards")
        if high >= NR_CPUS:
            raise ValueError(f"there is no CPU {high}: kernels stop at {NR_CPUS - 1}")
        cpus.update(range(low, high + 1))
    return frozenset(cpus)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= MOST_DIGITS


def _told(text: str) -> str:
    """A text as a message repeats it: quoted, printable, not too long."""
    return repr(text if len(text) <= MOST_TOLD else f"{text[:MOST_TOLD]}...")


def format_cpu_list(cpus: Iterable[int]) -> str:
    """Writes CPUs in the kernel's format; parse_cpu_list() reads it back."""
    runs: list[list[int]] = []
    for cpu in sorted(set(cpus)):
        if runs and cpu == runs[-1][1] + 1:
            runs[-1][1] = cpu
        else:
            runs.append([cpu, cpu])
    return ",".join(str(low) if low == high else f"{low}-{high}" for low, high in runs)


@dataclass(frozen=True, slots=True)
class Topology:
    """CPUs as sysfs of a host shows them."""

    host: Host = field(default_factory=LiveHost)

    def online(self) -> frozenset[int]:
        """CPUs that are online."""
        return self._read("online")

    def present(self) -> frozenset[int]:
        """CPUs that are there, online or not."""
        return self._read("present")

    def _read(self, name: str) -> frozenset[int]:
        path = f"/sys/devices/system/cpu/{name}"
        try:
            text = self.host.text(path)
            return parse_cpu_list(text) if text else frozenset()
        except NotRead as error:
            raise BadData(path, "CPU list", error.reason) from error
        except ValueError as error:
            raise BadData(path, "CPU list", str(error)) from error


def allowed_cpus() -> frozenset[int]:
    """CPUs of the caller's cpuset that are online.

    The kernel cuts a wish for every CPU down to the cpuset (sched_setaffinity(2)), so this
    holds for cgroups of both versions; the affinity that taskset set does not count.
    """
    with affinity_kept():
        os.sched_setaffinity(0, range(NR_CPUS))
        return frozenset(os.sched_getaffinity(0))


@contextmanager
def affinity_kept() -> Iterator[None]:
    """Restores the caller's affinity at the end, whatever happened."""
    before = os.sched_getaffinity(0)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def pinned(cpu: int) -> Iterator[None]:
    """Runs the body on cpu; CpuUnavailable when the kernel does not let the caller there."""
    with affinity_kept():
        go_to(cpu)
        yield


def go_to(cpu: int) -> None:
    """Runs on cpu from here on; CpuUnavailable when the kernel does not let the caller there."""
    try:
        os.sched_setaffinity(0, {cpu})
    except OSError as error:
        raise CpuUnavailable(cpu, f"can't be run on: {error.strerror}") from error


def check_usable(
    cpus: Iterable[int], present: frozenset[int], online: frozenset[int], allowed: frozenset[int]
) -> None:
    """Raises CpuUnavailable for the first CPU that can't be run on, and says why."""
    for cpu in sorted(cpus):
        if cpu not in present:
            raise CpuUnavailable(
                cpu, "does not exist", f"This host has CPUs {format_cpu_list(present)}."
            )
        if cpu not in online:
            raise CpuUnavailable(
                cpu,
                "is offline",
                f"Bring it online: echo 1 > /sys/devices/system/cpu/cpu{cpu}/online",
            )
        if cpu not in allowed:
            raise CpuUnavailable(
                cpu,
                "is outside the caller's cpuset",
                f"The cpuset allows CPUs {format_cpu_list(allowed)}; run it from another cgroup.",
            )


def cpus_or_usage(text: str) -> frozenset[int]:
    """parse_cpu_list() for what a person typed; Usage when it can't be read."""
    try:
        return parse_cpu_list(text)
    except ValueError as error:
        raise Usage(f"CPU list {_told(text)}: {error}", "Write it like 0-3,8.") from error
