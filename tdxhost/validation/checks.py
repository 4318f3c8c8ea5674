# SPDX-License-Identifier: GPL-2.0-or-later
"""What tests of CPUs and of the driver assert: everything that is wrong, at once and in words."""

import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Self

from tdxhost.bringup import read_state
from tdxhost.device import Driver, Source
from tdxhost.findings import Finding, Judge
from tdxhost.leaves import leaf_name
from tdxhost.records import (
    Code,
    CpuResult,
    CpuState,
    EnableResult,
    Memory,
    ModuleStatus,
    Record,
    Status,
    Step,
    StepResult,
)
from tdxhost.state import Outcome
from tdxhost.topology import Topology
from tdxhost.validation.requirement import could_not_run
from tdxhost.wording import cpus_named

LP_INIT = "TDH.SYS.LP.INIT"
#: What it answers on a CPU that was enabled before the driver was loaded.
LP_INIT_DONE = "TDX_SYS_LP_INIT_DONE"

#: Most repeats while a CPU is enabled: 100 tries each of TDH.SYS.INIT and TDH.SYS.LP.INIT
#: (kmod/seamcall.c, passing).
MOST_RETRIES = 2 * 99


def by_cpus(problems: Iterable[tuple[int, str]]) -> Iterator[str]:
    """One sentence for all CPUs that have the same problem."""
    found: dict[str, list[int]] = {}
    for cpu, problem in problems:
        found.setdefault(problem, []).append(cpu)
    for problem, cpus in found.items():
        yield f"{cpus_named(sorted(set(cpus)))}: {problem}"


def in_words(finding: Finding) -> str:
    """A finding, and what to do about it."""
    return f"{finding.message}\n  {finding.hint}" if finding.hint else finding.message


def names(cpus: Iterable[int]) -> str:
    """CPUs as messages have them; there may be none."""
    known = sorted(cpus)
    return cpus_named(known) if known else "no CPU"


@dataclass(frozen=True, slots=True)
class Standing:
    """All that the driver tells of what was done, at one time."""

    status: Status
    cpus: tuple[CpuResult, ...]
    steps: tuple[StepResult, ...]
    memory: Memory

    @classmethod
    def of(cls, driver: Source) -> Self:
        """Reads it."""
        return cls(driver.get_status(), driver.get_cpus(), driver.get_steps(), driver.get_memory())

    def changes(self, after: "Standing") -> Iterator[str]:
        """What is not as it was; System RAM is the kernel's, and may come and go."""
        for change in record_changes(self.status, after.status):
            yield f"GET_STATUS: {change}"
        yield from by_cpus(cpu_changes(self.cpus, after.cpus))
        for old, new in zip(self.steps, after.steps, strict=True):
            for change in record_changes(old, new):
                yield f"step {old.step.label}: {change}"
        if self.memory.pamt_bytes != after.memory.pamt_bytes:
            yield f"PAMTs took {self.memory.pamt_bytes} B and take {after.memory.pamt_bytes} B"


def record_changes(old: Record, new: Record, but: Collection[str] = ()) -> Iterator[str]:
    """Members of a record that changed."""
    for member in fields(old):
        was, now = getattr(old, member.name), getattr(new, member.name)
        if member.name not in but and was != now:
            yield f"{member.name} was {_told(was)} and is {_told(now)}"


def _told(value: object) -> str:
    return str(getattr(value, "label", value))


def cpu_changes(
    old: Iterable[CpuResult], new: Iterable[CpuResult], but: Collection[str] = ()
) -> Iterator[tuple[int, str]]:
    """CPUs whose results changed, and how."""
    known = {cpu.cpu: cpu for cpu in new}
    for before in old:
        if before.cpu not in known:
            yield before.cpu, "the driver has no result of it any more"
            continue
        for change in record_changes(before, known[before.cpu], but):
            yield before.cpu, change


def results_of(driver: Source) -> dict[int, CpuResult]:
    """GET_CPUS, by CPU."""
    return {cpu.cpu: cpu for cpu in driver.get_cpus()}


def enabled_cpus(driver: Source) -> list[int]:
    """CPUs that are online and enabled."""
    return [cpu.cpu for cpu in driver.get_cpus() if cpu.state is CpuState.ENABLED]


def everywhere(cpus: Sequence[int], topology: Topology) -> tuple[int, ...]:
    """Online CPUs; ends the test where this process may not run on all of them."""
    out = topology.online() - set(cpus)
    if out:
        could_not_run(
            f"this process may not run on {names(out)}: start tdxhost outside of that cpuset"
        )
    return tuple(cpus)


def why_failed(result: CpuResult, judge: Judge) -> str:
    """What a CPU that failed came to, in words."""
    return in_words(judge.explain(Outcome.of(result)))


def enabled_badly(
    results: Iterable[CpuResult], judge: Judge, *, fresh: bool = True
) -> Iterator[tuple[int, str]]:
    """What is wrong with CPUs that should be enabled; fresh: for the first time in this boot."""
    now = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    for result in results:
        if result.error or result.state is not CpuState.ENABLED:
            yield result.cpu, why_failed(result, judge)
            continue
        for problem in (*_outcome(result), *_answer(result, judge, fresh), *_times(result, now)):
            yield result.cpu, problem


def _outcome(result: CpuResult) -> Iterator[str]:
    if result.code is not Code.NONE:
        yield f"it is enabled, and the driver's finding is {result.code.label}"
    if result.trap:
        yield f"it is enabled, and a fault is told: vector {result.trap}"
    if result.retries > MOST_RETRIES:
        yield f"SEAMCALLs were repeated {result.retries} times, above the bound of {MOST_RETRIES}"
    if result.package is None:
        yield "it is enabled, and the driver does not know its package"


def _answer(result: CpuResult, judge: Judge, fresh: bool) -> Iterator[str]:
    """What the TDX module answered; not known where the kernel made the SEAMCALLs."""
    if result.by_kernel:
        return
    if leaf_name(result.leaf) != LP_INIT:
        yield f"{LP_INIT} has to be its last SEAMCALL, and {leaf_name(result.leaf)} is"
    status = judge.decode(Outcome.of(result))
    if fresh and result.was_done:
        yield (
            f"it was enabled before ({status.name}): an earlier kernel or driver has used the TDX "
            "module in this boot, so reboot"
        )
    elif result.seam_status and not (result.was_done and status.name == LP_INIT_DONE):
        yield f"it is enabled, and {LP_INIT} answered {status.label}"
    left = [name for name in OUTPUTS if getattr(result, name)]
    if left:
        yield f"{LP_INIT} succeeded, and has to leave 0 in {', '.join(left).upper()}"


#: TDX module ABI spec, TDH.SYS.LP.INIT: 0 unless CPUID differs; the driver puts 0 in the others.
OUTPUTS = ("rcx", "rdx", "r8", "r9", "r10", "r11")


def _times(result: CpuResult, now: int) -> Iterator[str]:
    if not result.tried:
        if not result.by_kernel:
            yield "it is enabled, and the driver does not know when that was done"
        return
    if not result.duration_ns:
        yield "enabling it took no time at all"
    if result.start_ns + result.duration_ns > now:
        yield "enabling it ended in the future (CLOCK_MONOTONIC)"


def same_answers(answers: Iterable[CpuResult], driver: Source) -> Iterator[tuple[int, str]]:
    """Where what a call answered is not what GET_CPUS tells."""
    known = results_of(driver)
    for answer in answers:
        for change in record_changes(answer, known[answer.cpu]):
            yield answer.cpu, f"the call's answer is not GET_CPUS's: {change}"


def miscounted(driver: Source, topology: Topology) -> Iterator[str]:
    """Where the counts of GET_STATUS are not those of the CPUs."""
    status, cpus, online = driver.get_status(), driver.get_cpus(), len(topology.online())
    enabled = [cpu for cpu in cpus if cpu.state is CpuState.ENABLED or _stays_enabled(cpu)]
    failed = [cpu for cpu in cpus if cpu.state is CpuState.FAILED]
    for name, counted, there in (
        ("cpus_online", status.cpus_online, online),
        ("cpus_enabled", status.cpus_enabled, len(enabled)),
        ("cpus_failed", status.cpus_failed, len(failed)),
    ):
        if counted != there:
            yield f"GET_STATUS: {name} is {counted}, and there are {there}"


def _stays_enabled(cpu: CpuResult) -> bool:
    return cpu.state is CpuState.OFFLINE and cpu.was_enabled


def initializers(results: Iterable[CpuResult]) -> Iterator[str]:
    """What is wrong with who did the global initialisation, TDH.SYS.INIT, of all results."""
    known = [result for result in results if result.tried and not result.by_kernel]
    did = [result.cpu for result in known if result.did_global_init]
    enabled = [result for result in known if not result.error]
    if len(did) > 1:
        yield f"one CPU does the global initialisation (TDH.SYS.INIT), and here {names(did)} did"
    elif enabled and not did and not any(result.was_done for result in enabled):
        yield "no CPU did the global initialisation (TDH.SYS.INIT), and nothing was done before"


def not_initialized(driver: Driver, answer: EnableResult, judge: Judge) -> Iterator[str]:
    """What is wrong where ENABLE should have succeeded: why it did not, or what it tells."""
    if answer.error or answer.module_status is not ModuleStatus.INITIALIZED:
        verdict = judge.state(read_state(driver, answer))
        yield from (in_words(finding) for finding in verdict.findings)
        yield f"ENABLE ended at step {answer.step.label}: {answer.code.label}"
        return
    last = driver.get_steps()[-1].step
    if answer.step is not last:
        yield f"ENABLE has to end at step {last.label}, and ended at {answer.step.label}"
    if answer.code is not Code.NONE or answer.trap or answer.leaf or answer.seam_status:
        yield f"ENABLE succeeded, and its answer tells of a failure: {answer.code.label}"


def touched_steps(steps: Iterable[StepResult], beyond: Step) -> Iterator[str]:
    """Steps behind one that should not have been begun."""
    for step in steps:
        if step.step > beyond and step.runs:
            yield f"step {step.step.label} was begun, and {beyond.label} comes before it"
