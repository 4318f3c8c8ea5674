# SPDX-License-Identifier: GPL-2.0-or-later
"""CPUs enabled one by one or together, in any order, once and again; and what is told of them."""

import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

from tdxhost.bringup import enable_cpus
from tdxhost.device import Driver
from tdxhost.findings import Judge
from tdxhost.host import Host
from tdxhost.processors import read_processors
from tdxhost.records import CpuResult, CpuState, Provider
from tdxhost.topology import Topology, format_cpu_list
from tdxhost.validation import (
    Option,
    Stage,
    Unit,
    could_not_run,
    not_applicable,
    one_of,
    requirement,
)
from tdxhost.validation.calls import Calls
from tdxhost.validation.checks import (
    Standing,
    by_cpus,
    enabled_badly,
    enabled_cpus,
    everywhere,
    initializers,
    miscounted,
    names,
    record_changes,
    results_of,
    same_answers,
)
from tdxhost.validation.problems import none_of
from tdxhost.validation.result import TestResult

ABI = "kmod/include/uapi/linux/tdxhost.h"
MODULE_SPEC = "TDX module ABI spec"
LP_INIT_ONCE = f"{MODULE_SPEC}, TDH.SYS.LP.INIT: once on each logical processor"

SYSFS = "/sys/devices/system/cpu"

#: What is measured of each CPU that must not depend on when its turn came.
ORDERLESS = ("package", "apic_id", "node", "state")
#: Stands for None in a measurement.
NONE = -1


def packages_of(host: Host, cpus: Iterable[int]) -> dict[int, list[int]]:
    """CPUs by physical package, as the kernel has them."""
    found: dict[int, list[int]] = {}
    for cpu in cpus:
        package = int(host.text(f"{SYSFS}/cpu{cpu}/topology/physical_package_id"))
        found.setdefault(package, []).append(cpu)
    return found


def node_of(host: Host, cpu: int) -> int | None:
    """The NUMA node of a CPU, as the kernel has it; None for none."""
    nodes = [name for name in host.names(f"{SYSFS}/cpu{cpu}") if name.startswith("node")]
    return int(nodes[0].removeprefix("node")) if nodes else None


def apic_ids_of(host: Host) -> dict[int, int]:
    """APIC id of each online CPU, as the kernel has it."""
    found: dict[int, int] = {}
    cpu = 0
    for line in host.text("/proc/cpuinfo").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "processor":
            cpu = int(value)
        elif name.strip() == "apicid":
            found[cpu] = int(value)
    return found


def half_of(packages: Mapping[int, Sequence[int]], rng: random.Random) -> list[int]:
    """Half of the CPUs of each package, at least one, and never all CPUs there are."""
    chosen = [
        cpu for cpus in packages.values() for cpu in rng.sample(list(cpus), max(1, len(cpus) // 2))
    ]
    if len(chosen) == sum(map(len, packages.values())):
        chosen.pop()
    return sorted(chosen)


def measure_cpus(
    measure: Callable[..., None], results: Mapping[int, CpuResult], cpus: Iterable[int]
) -> None:
    """Keeps how long each CPU took, and what it came to."""
    made = [results[cpu] for cpu in sorted(cpus)]
    measure("lp_init", Unit.NS, by_cpu={cpu.cpu: cpu.duration_ns for cpu in made if cpu.tried})
    if not any(cpu.by_kernel for cpu in made):
        measure("retries", Unit.COUNT, by_cpu={cpu.cpu: cpu.retries for cpu in made})
    for name in ORDERLESS:
        by_cpu = {cpu.cpu: _orderless(cpu, name) for cpu in made}
        measure(name, Unit.STATE, by_cpu=by_cpu)


def _orderless(cpu: CpuResult, name: str) -> int:
    value = getattr(cpu, name)
    return NONE if value is None else int(value)


def enabled_well(
    driver: Driver, answers: Sequence[CpuResult], judge: Judge, *, fresh: bool
) -> Iterator[str]:
    """What is wrong with CPUs that were just enabled, in the calls' answers and in GET_CPUS."""
    yield from by_cpus(enabled_badly(answers, judge, fresh=fresh))
    yield from by_cpus(same_answers(answers, driver))
    yield from initializers(driver.get_cpus())


@requirement(
    "cpus.partial",
    holds="Half of the CPUs of each package are enabled, each by a call of its own, and the other "
    "half is not touched.",
    source=f"{ABI}, CPU_ENABLE; {LP_INIT_ONCE}",
    needs=Stage.UNTOUCHED,
    leaves=Stage.SOME_CPUS,
)
def test_partial(
    *,
    driver: Driver,
    host: Host,
    topology: Topology,
    cpus: tuple[int, ...],
    judge: Judge,
    rng: random.Random,
    measure: Callable[..., None],
    progress: Callable[[str], None],
) -> None:
    if len(topology.online()) < 2:
        not_applicable("this host has one CPU online, and half of it is none")
    before = Standing.of(driver)
    chosen = half_of(packages_of(host, cpus), rng)
    progress(f"enabling {names(chosen)}")
    answers = enable_cpus(driver, chosen)
    results = results_of(driver)
    measure_cpus(measure, results, chosen)
    none_of(
        [
            *enabled_well(driver, answers, judge, fresh=True),
            *by_cpus(_others_touched(before.cpus, results, chosen)),
            *_some_counted(driver, before, chosen),
            *miscounted(driver, topology),
        ]
    )


def _others_touched(
    before: Iterable[CpuResult], results: Mapping[int, CpuResult], chosen: Sequence[int]
) -> Iterator[tuple[int, str]]:
    for old in before:
        if old.cpu in chosen:
            continue
        changed = list(record_changes(old, results[old.cpu]))
        if changed:
            yield old.cpu, f"nobody enabled it, and its result changed: {', '.join(changed)}"


def _some_counted(driver: Driver, before: Standing, chosen: Sequence[int]) -> Iterator[str]:
    """What is wrong with GET_STATUS after CPUs, and nothing else, were enabled."""
    status = driver.get_status()
    grown = status.cpus_enabled - before.status.cpus_enabled
    enabled = set(chosen) & set(enabled_cpus(driver))
    if grown != len(enabled):
        yield f"{len(enabled)} CPUs were enabled, and GET_STATUS counts {grown} more"
    if status.generation <= before.status.generation:
        yield "CPUs were enabled, and GET_STATUS's generation has not grown"
    counts = ("cpus_enabled", "cpus_failed", "cpus_online", "generation")
    for change in record_changes(before.status, status, but=counts):
        yield f"only CPUs were enabled, and GET_STATUS's {change}"


@requirement(
    "cpus.rest",
    holds="The CPUs that are left are enabled later, those that were are left alone, and the "
    "global initialisation is not done twice.",
    source=f"{ABI}, CPU_ENABLE; {LP_INIT_ONCE}; TDH.SYS.INIT: once",
    needs=Stage.SOME_CPUS,
    leaves=Stage.ALL_CPUS,
)
def test_rest(
    driver: Driver,
    topology: Topology,
    cpus: tuple[int, ...],
    judge: Judge,
    measure: Callable[..., None],
) -> None:
    done = enabled_cpus(driver)
    left = sorted(set(everywhere(cpus, topology)) - set(done))
    before = driver.get_cpus()
    answers = enable_cpus(driver, left)
    results = results_of(driver)
    measure_cpus(measure, results, left)
    # A driver that was loaded anew does not know of CPUs that an earlier one has enabled.
    again = {answer.cpu for answer in answers if answer.was_done}
    first = [answer for answer in answers if answer.cpu not in again]
    anew = not any(cpu.did_global_init for cpu in before)
    none_of(
        [
            *enabled_well(driver, answers, judge, fresh=not anew),
            *by_cpus(_others_touched(before, results, left)),
            *_second_init(first, done),
            *miscounted(driver, topology),
        ]
    )


def _second_init(answers: Iterable[CpuResult], done: Sequence[int]) -> Iterator[str]:
    again = [answer.cpu for answer in answers if answer.did_global_init]
    if again and done:
        yield (
            f"{names(again)}: TDH.SYS.INIT succeeded once more, and {names(done)} had been enabled "
            "before, which takes it"
        )


@requirement(
    "cpus.enable",
    holds="Every online CPU is enabled: all at once, or one after another in any order.",
    source=f"{ABI}, CPU_ENABLE and CPUS_ENABLE; {LP_INIT_ONCE}, in any order",
    needs=Stage.UNTOUCHED,
    leaves=Stage.ALL_CPUS,
    options={
        "order": Option(
            help="at-once (one call for all), forwards, backwards or shuffled (one call for each)",
            parse=one_of("at-once", "forwards", "backwards", "shuffled"),
            default="at-once",
        )
    },
)
def test_enable(
    *,
    driver: Driver,
    topology: Topology,
    cpus: tuple[int, ...],
    judge: Judge,
    rng: random.Random,
    options: Mapping[str, Any],
    measure: Callable[..., None],
    progress: Callable[[str], None],
) -> None:
    before = Standing.of(driver)
    if options["order"] == "at-once":
        order: list[int] = []
        with Calls() as calls:
            answers = calls.cpus_enable()
    else:
        order = in_order(everywhere(cpus, topology), options["order"], rng)
        progress(f"in this order: {', '.join(map(str, order))}")
        answers = enable_cpus(driver, order)
    results = results_of(driver)
    measure_cpus(measure, results, [answer.cpu for answer in answers])
    none_of(
        [
            *_left_out(answers, topology),
            *enabled_well(driver, answers, judge, fresh=True),
            *_one_after_another(answers, order),
            *_some_counted(driver, before, [answer.cpu for answer in answers]),
            *miscounted(driver, topology),
        ]
    )


def in_order(cpus: Sequence[int], order: str, rng: random.Random) -> list[int]:
    """CPUs in the order that an option names."""
    if order == "shuffled":
        return rng.sample(cpus, len(cpus))
    return sorted(cpus, reverse=order == "backwards")


def _left_out(answers: Iterable[CpuResult], topology: Topology) -> Iterator[str]:
    answered = {answer.cpu for answer in answers}
    if missing := topology.online() - answered:
        yield f"{names(missing)}: online, and there is no result"


def _one_after_another(answers: Sequence[CpuResult], order: Sequence[int]) -> Iterator[str]:
    """What is wrong with times, and with who came first, where CPUs took turns."""
    if not order or any(answer.error for answer in answers):
        return
    for one, other in pairwise(answers):
        if one.start_ns + one.duration_ns > other.start_ns:
            yield f"CPU {other.cpu} was begun before CPU {one.cpu}, whose turn it was, had ended"
    first = [cpu.cpu for cpu in answers if cpu.did_global_init]
    if first and first != [order[0]]:
        yield (
            f"CPU {order[0]} was the first to be enabled, and {names(first)} did the global "
            "initialisation"
        )


@requirement(
    "cpus.again",
    holds="A CPU that is enabled can be enabled again, which does nothing and answers what is "
    "known.",
    source=f"{ABI}, TDXHOST_CPU_WAS_DONE; {LP_INIT_ONCE}",
    needs=(Stage.SOME_CPUS, Stage.ALL_CPUS, Stage.INITIALIZED, Stage.STUCK),
)
def test_again(driver: Driver, cpus: tuple[int, ...]) -> None:
    if driver.get_info().provider is Provider.OBSERVER:
        not_applicable("the kernel enables CPUs by itself on this host, and takes no orders")
    before = Standing.of(driver)
    enabled = sorted(set(enabled_cpus(driver)) & set(cpus))
    if not enabled:
        could_not_run("no CPU is enabled that this process may run on")
    one_by_one = enable_cpus(driver, enabled)
    with Calls() as calls:
        together = calls.cpus_enable(enabled)
    none_of(
        [
            *by_cpus(_again_badly(before.cpus, one_by_one)),
            *by_cpus(_again_badly(before.cpus, together)),
            *before.changes(Standing.of(driver)),
        ]
    )


def _again_badly(
    before: Iterable[CpuResult], answers: Iterable[CpuResult]
) -> Iterator[tuple[int, str]]:
    known = {cpu.cpu: cpu for cpu in before}
    for answer in answers:
        if not answer.was_done:
            yield answer.cpu, "it was enabled, and enabling it again does not say that (WAS_DONE)"
        # WAS_DONE stands in the answer, and in what is kept only where it was so from the start.
        for change in record_changes(known[answer.cpu], answer, but=("flags",)):
            yield answer.cpu, f"it was enabled again, and {change}"


@requirement(
    "cpus.sane",
    holds="What is told of every CPU makes sense: who and where it is as Linux has it, that "
    "TDH.SYS.LP.INIT succeeded, on one of them after TDH.SYS.INIT, and when; counts agree.",
    source=f"{ABI}, struct tdxhost_cpu_result; {LP_INIT_ONCE}; ACPI MADT",
    needs=(Stage.ALL_CPUS, Stage.INITIALIZED, Stage.STUCK),
)
def test_sane(
    driver: Driver, host: Host, topology: Topology, judge: Judge, measure: Callable[..., None]
) -> None:
    results = results_of(driver)
    online = sorted(topology.online())
    made = [results[cpu] for cpu in online if cpu in results]
    measure_cpus(measure, results, [cpu.cpu for cpu in made])
    none_of(
        [
            *_listed(driver, topology),
            *by_cpus(enabled_badly(made, judge, fresh=False)),
            *initializers(results.values()),
            *by_cpus(_misplaced(made, host)),
            *_ids_shared(results.values()),
            *by_cpus(_unknown_to_firmware(made, host)),
            *_packages_miscounted(driver, host, topology),
            *miscounted(driver, topology),
        ]
    )


def _listed(driver: Driver, topology: Topology) -> Iterator[str]:
    """What is wrong with which CPUs GET_CPUS lists."""
    listed = [cpu.cpu for cpu in driver.get_cpus()]
    present, online = topology.present(), topology.online()
    if listed != sorted(present):
        yield (
            f"GET_CPUS has to list CPUs {format_cpu_list(present)} (present), ascending, and lists "
            f"{', '.join(map(str, listed))}"
        )
    if driver.get_info().nr_cpus != len(present):
        yield f"GET_INFO: nr_cpus is {driver.get_info().nr_cpus}, and {len(present)} are present"
    for cpu in driver.get_cpus():
        if (cpu.state is CpuState.OFFLINE) == (cpu.cpu in online):
            there = "online" if cpu.cpu in online else "offline"
            yield f"CPU {cpu.cpu} is {there} in sysfs, and {cpu.state.label} in GET_CPUS"


def _misplaced(results: Iterable[CpuResult], host: Host) -> Iterator[tuple[int, str]]:
    """Where package, APIC id or node are not the kernel's."""
    apic_ids = apic_ids_of(host)
    for cpu in results:
        (package,) = packages_of(host, [cpu.cpu])
        node = node_of(host, cpu.cpu)
        for name, told, there in (
            ("package", cpu.package, package),
            ("apic_id", cpu.apic_id, apic_ids.get(cpu.cpu)),
            # A kernel without NUMA has no node in sysfs, and puts everything on node 0.
            ("node", cpu.node, cpu.node if node is None else node),
        ):
            if told != there:
                yield cpu.cpu, f"{name} is {told} in GET_CPUS, and {there} in /proc and /sys"


def _ids_shared(results: Iterable[CpuResult]) -> Iterator[str]:
    by_id: dict[int, list[int]] = {}
    for cpu in results:
        by_id.setdefault(cpu.apic_id, []).append(cpu.cpu)
    for apic_id, cpus in by_id.items():
        if len(cpus) > 1:
            yield f"{names(cpus)}: they have the same APIC id, {apic_id}"


def _unknown_to_firmware(results: Iterable[CpuResult], host: Host) -> Iterator[tuple[int, str]]:
    known = read_processors(host).apic_ids
    for cpu in results:
        if known is not None and cpu.apic_id not in known:
            yield cpu.cpu, "its APIC id is not in ACPI's list of processors that are enabled (MADT)"


def _packages_miscounted(driver: Driver, host: Host, topology: Topology) -> Iterator[str]:
    there = set(packages_of(host, topology.online()))
    # One whose CPUs are all offline has no folder in sysfs, and the driver may know it.
    there |= {cpu.package for cpu in driver.get_cpus() if cpu.package is not None}
    counted = driver.get_info().nr_packages
    if counted != len(there):
        yield f"GET_INFO: nr_packages is {counted}, and there are {len(there)}"


@requirement(
    "cpus.orders-agree",
    holds="Whatever the order in which CPUs were enabled in the boots of this run, each came to "
    "the same.",
    source=f"{LP_INIT_ONCE}, in any order",
)
def test_orders_agree(earlier: Callable[[str], list[TestResult]]) -> None:
    ran = [result for result in earlier("cpus.enable") if result.measured]
    if len({result.options["order"] for result in ran}) < 2:
        could_not_run(
            "this takes CPUs that were enabled in two orders at least: let two boots of the plan "
            "have cpus.enable, with different orders"
        )
    first, *others = ran
    none_of(
        problem
        for other in others
        for name in ORDERLESS
        for problem in by_cpus(_disagreeing(name, first, other))
    )


def _disagreeing(name: str, one: TestResult, other: TestResult) -> Iterator[tuple[int, str]]:
    was, now = _by_cpu(one, name), _by_cpu(other, name)
    for cpu in sorted(set(was) | set(now)):
        if was.get(cpu) != now.get(cpu):
            yield (
                cpu,
                f"{name} was {_worded(name, was.get(cpu))} in boot {one.boot} "
                f"({one.options['order']}), and {_worded(name, now.get(cpu))} in boot "
                f"{other.boot} ({other.options['order']})",
            )


def _by_cpu(result: TestResult, name: str) -> Mapping[int, int]:
    return next((dict(one.by_cpu) for one in result.measured if one.name == name), {})


def _worded(name: str, value: int | None) -> str:
    if value is None:
        return "not known"
    if name == "state":
        return CpuState(value).label
    return str(value)
