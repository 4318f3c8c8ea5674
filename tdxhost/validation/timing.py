# SPDX-License-Identifier: GPL-2.0-or-later
"""How long bring-up took on each CPU and in all, against a plan's limits."""

from collections.abc import Iterable, Mapping, Sequence
from statistics import median_low

from tdxhost.records import CpuResult, CpuState, StepResult
from tdxhost.topology import format_cpu_list
from tdxhost.words import duration

#: Of many slow CPUs, those that a message has one by one.
MOST_TOLD = 20


def timed(cpus: Iterable[CpuResult]) -> dict[int, CpuResult]:
    """CPUs that were enabled by a call whose time is known, by number."""
    known = (cpu for cpu in cpus if cpu.state is CpuState.ENABLED and cpu.tried)
    return {cpu.cpu: cpu for cpu in known}


def slow_cpus(cpus: Mapping[int, CpuResult], limit_ns: int) -> list[str]:
    """CPUs that took longer than a limit, slowest first, in words; none where all kept it."""
    slow = [cpu for cpu in cpus.values() if cpu.duration_ns > limit_ns]
    if not slow:
        return []
    middle = median_low(cpu.duration_ns for cpu in cpus.values())
    told = f"{len(slow)} of {len(cpus)} CPUs took longer than {duration(limit_ns)} to be enabled"
    return [f"{told}; the median is {duration(middle)}", *_each(slow)]


def _each(slow: Sequence[CpuResult]) -> list[str]:
    ordered = sorted(slow, key=lambda cpu: (-cpu.duration_ns, cpu.cpu))
    lines = [f"{named(cpu)}: {duration(cpu.duration_ns)}" for cpu in ordered[:MOST_TOLD]]
    if rest := ordered[MOST_TOLD:]:
        lines.append(f"and CPUs {format_cpu_list(cpu.cpu for cpu in rest)}")
    return lines


def named(cpu: CpuResult) -> str:
    """A CPU with its package, and with TDH.SYS.INIT where it made that call for all."""
    package = "package not known" if cpu.package is None else f"package {cpu.package}"
    first = ", did the global initialisation" if cpu.did_global_init else ""
    return f"CPU {cpu.cpu} ({package}{first})"


def fastest_and_slowest(cpus: Mapping[int, CpuResult]) -> tuple[CpuResult, CpuResult] | None:
    """The ends of the spread, without the CPU that made TDH.SYS.INIT; None where no two are left.

    That CPU did more than the others, and can't be compared with them.
    """
    alike = [cpu for cpu in cpus.values() if not cpu.did_global_init]
    if len(alike) < 2:
        return None
    ordered = sorted(alike, key=lambda cpu: (cpu.duration_ns, cpu.cpu))
    return ordered[0], ordered[-1]


def busy_ns(cpus: Mapping[int, CpuResult], steps: Iterable[StepResult]) -> int:
    """The time in which a CPU was being enabled or a step ran.

    What lies between calls does not count, such as that between cpu-enable and enable. CPUs that
    were enabled later, as they came online, are no part of it.
    """
    ran = [(step.start_ns, step.start_ns + step.duration_ns) for step in steps if step.runs]
    if not ran:
        return 0
    end = max(until for _, until in ran)
    before = [cpu for cpu in cpus.values() if cpu.start_ns < end]
    ran += [(cpu.start_ns, cpu.start_ns + cpu.duration_ns) for cpu in before]
    return _covered(ran)


def _covered(intervals: Iterable[tuple[int, int]]) -> int:
    """The length of all intervals together, of what lies in several once."""
    total = reached = 0
    for begin, end in sorted(intervals):
        total += max(0, end - max(begin, reached))
        reached = max(reached, end)
    return total
