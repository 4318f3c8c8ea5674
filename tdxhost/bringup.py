# SPDX-License-Identifier: GPL-2.0-or-later
"""Drives the bring-up of TDX: the module as a whole, or CPU by CPU."""

import errno
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from tdxhost.device import Driver, Source
from tdxhost.errors import CpuUnavailable, ExitCode, NoEnabledCpu, TdxAbsent, Unsupported
from tdxhost.fields import FieldTable, Reading
from tdxhost.findings import ABOUT_MODULE, Finding, Judge, Verdict, combine
from tdxhost.records import Code, CpuResult, CpuState, EnableResult, Info, Status, Step, StepResult
from tdxhost.topology import Topology, allowed_cpus, check_usable, pinned


@dataclass(frozen=True, slots=True)
class State:
    """Where everything stands; enabled is what ENABLE answered, where it was asked."""

    info: Info
    status: Status
    cpus: tuple[CpuResult, ...]
    steps: tuple[StepResult, ...]
    enabled: EnableResult | None = None

    @property
    def module(self) -> EnableResult | Status:
        """What there is to say about tdx_enable()."""
        return self.enabled or self.status


def read_state(source: Source, enabled: EnableResult | None = None) -> State:
    """Reads everything and does nothing."""
    info = source.get_info()
    cpus, steps = source.get_cpus(), source.get_steps()
    return State(info, source.get_status(), cpus, steps, enabled)


def enable(driver: Driver, *, retry: bool = False) -> State:
    """Enables every online CPU and the TDX module; a host without TDX is no exception."""
    try:
        enabled = driver.enable(retry=retry)
    except TdxAbsent as error:
        state = read_state(driver)
        if state.info.code is Code.NONE:
            raise TdxAbsent(error.message, error.hint) from error
        return state
    return read_state(driver, enabled)


def judge_state(judge: Judge, state: State) -> Verdict:
    """Decides what a state comes to."""
    cpus = judge.cpus(state.cpus)
    return combine(judge.host(state.info), cpus, *_judge_module(judge, state, cpus))


def _judge_module(judge: Judge, state: State, cpus: Verdict) -> Iterator[Verdict]:
    """The verdicts on tdx_enable(), without what those on the CPUs say already."""
    module = state.module
    if module.code in (Code.EARLIER_FAILURE, Code.FINAL):
        # The answer says only that it failed before; the step still knows how.
        failed = [step for step in state.steps if step.error]
        if cpus.findings:
            failed = [step for step in failed if step.step is not Step.CPUS]
        yield Verdict(ExitCode.OK, tuple(judge.step(step) for step in failed))
    if cpus.findings and module.step is Step.CPUS and module.code not in ABOUT_MODULE:
        yield judge.missing(state.cpus)
    else:
        yield judge.module(module)


def choose_cpus(wanted: frozenset[int] | None, topology: Topology) -> list[int]:
    """The CPUs to enable: those wanted, else every online one of the caller's cpuset.

    CpuUnavailable names the first one that can't be run on, before anything was done.
    """
    online, allowed = topology.online(), allowed_cpus()
    if wanted is None:
        return sorted(online & allowed)
    check_usable(wanted, topology.present(), online, allowed)
    return sorted(wanted)


def enable_cpus(driver: Driver, cpus: Iterable[int]) -> Iterator[CpuResult]:
    """Enables each CPU by a call of its own made on it; the affinity is as before after."""
    for cpu in cpus:
        try:
            with pinned(cpu):
                result = driver.cpu_enable()
        except CpuUnavailable:
            yield _went_away(driver, cpu)
        else:
            yield result


def _went_away(driver: Driver, cpu: int) -> CpuResult:
    """Stands for a CPU that went offline after it was chosen."""
    for known in driver.get_cpus():
        if known.cpu == cpu:
            return replace(known, state=CpuState.FAILED, code=Code.CPU_OFFLINE, error=errno.ENODEV)
    raise CpuUnavailable(cpu, "went away")


@dataclass(frozen=True, slots=True)
class Metadata:
    """The TDX module's metadata, or why it could not be read."""

    readings: tuple[Reading, ...] = ()
    not_read: Finding | None = None


def read_metadata(source: Source, table: FieldTable) -> Metadata:
    """Reads every metadata field of the reference."""
    try:
        values = source.sys_rd(table.all_ids())
    except (NoEnabledCpu, TdxAbsent, Unsupported) as error:
        return Metadata(not_read=Finding(error.message, error.hint))
    return Metadata(tuple(table.readings(values)))
