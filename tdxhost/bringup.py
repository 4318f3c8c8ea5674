# SPDX-License-Identifier: GPL-2.0-or-later
"""Drives the bring-up of TDX: the module as a whole, or CPU by CPU."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tdxhost.device import Driver, Source
from tdxhost.errors import (
    CpuUnavailable,
    KernelOwnsTdx,
    NoEnabledCpu,
    OptionUnsupported,
    TdxAbsent,
    Unsupported,
)
from tdxhost.findings import Finding
from tdxhost.records import Code, CpuResult, CpuState, EnableResult, Provider
from tdxhost.state import State
from tdxhost.topology import Topology, affinity_kept, allowed_cpus, check_usable, go_to

if TYPE_CHECKING:
    from tdxhost.fields import FieldTable, Reading

OTHER_VERSION = "Build and load the driver of this package's version."

#: Why a provider has fewer options than the driver.
LACKING = {
    Provider.KERNEL: "The kernel initialises TDX on this host, and takes all of its memory.",
}


def read_state(source: Source, enabled: EnableResult | None = None) -> State:
    """Reads everything and does nothing."""
    info = source.get_info()
    cpus, steps, memory = source.get_cpus(), source.get_steps(), source.get_memory()
    return State(info, source.get_status(), cpus, steps, memory, enabled)


def enable(driver: Driver, *, retry: bool = False, skip_non_cmr: bool = False) -> State:
    """Enables every online CPU and the TDX module; a host without TDX is no exception.

    OptionUnsupported, before anything is started, where the driver lacks what an option needs.
    """
    info = driver.get_info()
    if info.provider is Provider.OBSERVER:
        raise KernelOwnsTdx("ENABLE")
    for wanted, there, option in (
        (retry, info.can_retry, "--retry"),
        (skip_non_cmr, info.can_skip_non_cmr, "--skip-non-cmr"),
    ):
        if wanted and not there:
            raise OptionUnsupported(option, LACKING.get(info.provider, OTHER_VERSION))
    try:
        enabled = driver.enable(retry=retry, skip_non_cmr=skip_non_cmr)
    except TdxAbsent as error:
        state = read_state(driver)
        if state.info.code is Code.NONE:
            raise TdxAbsent(error.message, error.hint) from error
        return state
    return read_state(driver, enabled)


def _owner(driver: Source, error: Unsupported) -> Unsupported:
    """Says who owns TDX where that is why the driver does not serve a command."""
    observing = driver.get_info().provider is Provider.OBSERVER
    return KernelOwnsTdx(error.command) if observing else error


def choose_cpus(wanted: frozenset[int] | None, topology: Topology) -> list[int]:
    """The CPUs to enable: those wanted, else every online one of the caller's cpuset.

    CpuUnavailable names the first one that can't be run on, before anything was done.
    """
    online, allowed = topology.online(), allowed_cpus()
    if wanted is None:
        return sorted(online & allowed)
    check_usable(wanted, topology.present(), online, allowed)
    return sorted(wanted)


def enable_cpus(driver: Driver, cpus: Sequence[int]) -> tuple[CpuResult, ...]:
    """Enables each CPU by a call of its own made on it; the affinity is as before at the end."""
    try:
        with affinity_kept():
            results = driver.cpu_enable_each(cpus, go_to)
    except Unsupported as error:
        raise _owner(driver, error) from error
    return tuple(
        _went_away(driver, cpu) if result is None else result
        for cpu, result in zip(cpus, results, strict=True)
    )


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
