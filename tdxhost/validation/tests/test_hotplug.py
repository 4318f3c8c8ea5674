# SPDX-License-Identifier: GPL-2.0-or-later
"""CPUs that go offline and come back around bring-up, and suspends that have to be refused.

All of it disturbs the machine, and all of it is undone whatever happens.
"""

import errno
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from tdxhost.device import Driver
from tdxhost.findings import Judge
from tdxhost.host import Host
from tdxhost.records import CpuResult, CpuState, Provider, Status
from tdxhost.state import Outcome
from tdxhost.topology import format_cpu_list, pinned
from tdxhost.validation import (
    Option,
    Stage,
    at_least,
    could_not_run,
    not_applicable,
    requirement,
)
from tdxhost.validation.problems import none_of
from tdxhost.validation.reading import said
from tdxhost.validation.undo import POWER, offline, put, removable, suspends_are_tests, written

TAKES_CPUS = "takes CPUs offline, and brings them back"
HOW_MANY = {"cpus": Option("how many CPUs, one after another, drawn at random", at_least(1), 1)}
HOTPLUG = "Linux 7.3 arch/x86/virt/vmx/tdx/tdx.c, CPU hotplug"
LP_STAYS = f"TDX module ABI spec, TDH.SYS.LP.INIT: once for an LP; {HOTPLUG}"
DRIVER = "The driver has lost track of a CPU: report it with 'tdxhost report'."
NO_HOTPLUG = "the kernel takes none of the CPUs {} offline (no cpuN/online in sysfs)"

Told = dict[int, CpuResult]
#: Members of a CPU's result.
NAMES = tuple(member.name for member in fields(CpuResult))


@requirement(
    "hotplug.before",
    holds="a CPU that was offline and has come back before anything is enabled can be enabled",
    source=LP_STAYS,
    needs=Stage.UNTOUCHED,
    leaves=Stage.SOME_CPUS,
    disturbs=TAKES_CPUS,
)
def test_before(
    *, driver: Driver, host: Host, cpus: tuple[int, ...], rng: random.Random, judge: Judge
) -> None:
    """Nothing happens to the CPU meanwhile, and TDH.SYS.LP.INIT succeeds on it afterwards."""
    (cpu,) = _chosen(host, cpus, rng, 1)
    before, status = told(driver), driver.get_status()
    problems = list(while_away(driver, [cpu]))
    problems += changes(before, told(driver), [cpu])
    problems += counts(status, driver.get_status())
    with pinned(cpu):
        result = driver.cpu_enable()
    if result.state is not CpuState.ENABLED:
        problems.append(f"CPU {cpu} can't be enabled any more: {why(result, judge)}")
    none_of(problems, DRIVER)


@requirement(
    "hotplug.during",
    holds="an enabled CPU that was offline and has come back is still enabled, before ENABLE",
    source=LP_STAYS,
    needs=Stage.ALL_CPUS,
    options=HOW_MANY,
    disturbs=TAKES_CPUS,
)
def test_during(
    *,
    driver: Driver,
    host: Host,
    cpus: tuple[int, ...],
    rng: random.Random,
    options: Mapping[str, Any],
    progress: Callable[[str], None],
) -> None:
    """TDH.SYS.LP.INIT is made on no CPU a second time."""
    for cpu in _chosen(host, cpus, rng, options["cpus"]):
        progress(f"CPU {cpu} offline and back")
        none_of(come_and_go(driver, [cpu]), DRIVER)


@requirement(
    "hotplug.after",
    holds="with TDX initialised, CPUs go and come back enabled, also the last one of a package",
    source=f"{LP_STAYS}; TDH.SYS.KEY.CONFIG: a package needs a CPU until its key is configured",
    needs=Stage.INITIALIZED,
    options=HOW_MANY,
    disturbs=f"{TAKES_CPUS}, a whole package at a time",
    timeout_s=900.0,
)
def test_after(
    *,
    driver: Driver,
    host: Host,
    cpus: tuple[int, ...],
    rng: random.Random,
    options: Mapping[str, Any],
    progress: Callable[[str], None],
) -> None:
    """No SEAMCALL fails, and the TDX module stays as it is."""
    steps = driver.get_steps()
    for cpu in _chosen(host, cpus, rng, options["cpus"]):
        progress(f"CPU {cpu} offline and back")
        none_of(come_and_go(driver, [cpu]), DRIVER)
    package = _package_without_boot_cpu(driver, host)
    if package:
        progress(f"CPUs {format_cpu_list(package)}, all of a package, offline and back")
        none_of(come_and_go(driver, package), DRIVER)
    if driver.get_steps() != steps:
        none_of(["steps of tdx_enable() have run, although nobody asked for them"], DRIVER)


def _chosen(host: Host, cpus: Sequence[int], rng: random.Random, number: int) -> list[int]:
    """CPUs to take offline, as many as there are at most."""
    can = removable(host, cpus)
    if not can:
        could_not_run(NO_HOTPLUG.format(format_cpu_list(cpus)))
    return rng.sample(can, min(number, len(can)))


def _package_without_boot_cpu(driver: Driver, host: Host) -> list[int]:
    """All online CPUs of the last package that can be taken offline whole; empty without one."""
    by_package: dict[int | None, list[int]] = {}
    for one in driver.get_cpus():
        if one.state is not CpuState.OFFLINE:
            by_package.setdefault(one.package, []).append(one.cpu)
    whole = [cpus for cpus in by_package.values() if removable(host, cpus) == cpus]
    return whole[-1] if whole else []


def told(driver: Driver) -> Told:
    """What GET_CPUS tells, by CPU."""
    return {one.cpu: one for one in driver.get_cpus()}


def come_and_go(driver: Driver, cpus: Sequence[int]) -> Iterator[str]:
    """What goes wrong when enabled CPUs go offline and come back."""
    before, status = told(driver), driver.get_status()
    yield from while_away(driver, cpus)
    yield from changes(before, told(driver), cpus)
    yield from counts(status, driver.get_status())
    if driver.get_info().provider is not Provider.OBSERVER:
        yield from _enabled_anew(driver, before, cpus)


def _enabled_anew(driver: Driver, before: Told, cpus: Sequence[int]) -> Iterator[str]:
    """CPUs for which enabling them again is not as if nothing had been."""
    for cpu in cpus:
        with pinned(cpu):
            again = driver.cpu_enable()
        if not again.was_done or replace(again, flags=before[cpu].flags) != before[cpu]:
            yield f"CPU {cpu} was not enabled any more: enabling it was {again.state.label}"


def while_away(driver: Driver, cpus: Sequence[int]) -> Iterator[str]:
    """What is wrong while CPUs are offline; enabled ones count as enabled meanwhile."""
    before = driver.get_status()
    with offline(cpus):
        away, status = told(driver), driver.get_status()
    for cpu in cpus:
        if away[cpu].state is not CpuState.OFFLINE:
            yield f"CPU {cpu} was offline, and GET_CPUS said {away[cpu].state.label}"
    yield from counts(before, status, len(cpus))


def counts(before: Status, after: Status, away: int = 0) -> Iterator[str]:
    """How GET_STATUS counts and stands otherwise than it should, with so many CPUs away."""
    wanted = {
        "cpus_online": before.cpus_online - away,
        "cpus_enabled": before.cpus_enabled,
        "cpus_failed": before.cpus_failed,
        "module_status": before.module_status,
        "pamt_bytes": before.pamt_bytes,
    }
    for name, value in wanted.items():
        found = getattr(after, name)
        if found != value:
            when = "while they were offline" if away else "once they were back"
            yield f"GET_STATUS: {name} was {said(found)} {when}, not {said(value)}"


def changes(before: Told, after: Told, cpus: Sequence[int]) -> Iterator[str]:
    """CPUs of which GET_CPUS tells something else than before they went."""
    for cpu in cpus:
        if before[cpu] != after[cpu]:
            members = [
                (getattr(before[cpu], name), getattr(after[cpu], name), name) for name in NAMES
            ]
            moved = [f"{name} was {said(a)} and is {said(b)}" for a, b, name in members if a != b]
            yield f"CPU {cpu} is not as it was before it went offline: {', '.join(moved)}"


def why(result: CpuResult, judge: Judge) -> str:
    """What enabling a CPU came to, in words."""
    return judge.explain(Outcome.of(result)).message


#: What is asked of /sys/power/state, and how far it goes where it is not refused: of a suspend the
#: driver's device hears first, of hibernation the driver as a whole, before tasks are frozen.
DEPTHS = {"mem": "devices", "disk": "freezer"}


@requirement(
    "power.refused",
    holds="suspend to RAM and hibernation are refused with EBUSY once a CPU is enabled",
    source="Linux 7.3 arch/x86/virt/vmx/tdx/tdx.c, tdx_init(): S3 and S4 lose the TDX module",
    needs=(Stage.SOME_CPUS, Stage.ALL_CPUS, Stage.INITIALIZED),
    disturbs="asks for suspend and hibernation, cut short; where they are not refused, tasks are "
    "frozen and devices suspended for a moment",
)
def test_refused(driver: Driver, host: Host, progress: Callable[[str], None]) -> None:
    """Each of them is asked for as a test, which the kernel ends before the machine sleeps."""
    before = driver.get_status()
    asked = _sleeps(host)
    if not asked:
        not_applicable("this kernel has neither suspend to RAM nor hibernation: nothing to refuse")
    problems: list[str] = []
    for state, changed in asked.items():
        progress(f"asks for {state}")
        with suspends_are_tests(host, DEPTHS[state]), written(*changed):
            problems += _not_refused(host, state)
    after = driver.get_status()
    if after != before:
        problems.append(f"GET_STATUS was {before} before, and is {after} afterwards")
    none_of(problems, "The driver lets TDX be lost: it has to refuse what powers the CPUs down.")


def _sleeps(host: Host) -> dict[str, list[tuple[Path, str]]]:
    """States of /sys/power/state that take the TDX module's memory, and what to set before."""
    offered = host.text_or(f"{POWER}/state").split()
    found: dict[str, list[tuple[Path, str]]] = {}
    if "mem" in offered and "deep" in host.text_or(f"{POWER}/mem_sleep"):
        found["mem"] = [(POWER / "mem_sleep", "deep")]
    if "disk" in offered:
        found["disk"] = []
    return found


def _not_refused(host: Host, state: str) -> Iterator[str]:
    lines = set(host.log())
    try:
        put(POWER / "state", state)
    except OSError as error:
        if error.errno != errno.EBUSY:
            yield f"{state} is refused with {errno.errorcode.get(error.errno or 0)}, not EBUSY"
        elif not any(
            "tdxhost" in line and "refused" in line for line in host.log() if line not in lines
        ):
            yield f"{state} is refused, and not by tdxhost: its log has no line that says so"
    else:
        yield f"{state} was not refused"
