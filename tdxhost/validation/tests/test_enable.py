# SPDX-License-Identifier: GPL-2.0-or-later
"""tdx_enable(): refused while CPUs are missing, done once, and what its steps tell."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise

from tdxhost.abi import lib
from tdxhost.device import Driver
from tdxhost.findings import Judge
from tdxhost.leaves import leaf_name
from tdxhost.records import (
    Code,
    CpuResult,
    EnableResult,
    ModuleStatus,
    Provider,
    RangeKind,
    Status,
    Step,
    StepResult,
)
from tdxhost.status import ERROR_BIT
from tdxhost.topology import Topology
from tdxhost.validation import Stage, Unit, could_not_run, not_applicable, requirement
from tdxhost.validation.calls import Calls
from tdxhost.validation.checks import (
    Standing,
    by_cpus,
    enabled_badly,
    enabled_cpus,
    initializers,
    miscounted,
    names,
    not_initialized,
    results_of,
)
from tdxhost.validation.missing_cpus import enable_refused
from tdxhost.validation.problems import none_of
from tdxhost.validation.stage import BEFORE_CONFIG

ABI = "kmod/include/uapi/linux/tdxhost.h"
MODULE_SPEC = "TDX module ABI spec"
PATCH = "Linux tdx_enable()"

GIB = 1 << 30

#: The SEAMCALL that each step ends with; TDX module ABI spec, platform initialisation.
LEAVES = {
    Step.MODULE_INFO: "TDH.SYS.RD",
    Step.CONFIG: "TDH.SYS.CONFIG",
    Step.KEY_CONFIG: "TDH.SYS.KEY.CONFIG",
    Step.TDMR_INIT: "TDH.SYS.TDMR.INIT",
}
#: Steps that need no SEAMCALL.
SILENT = frozenset(
    {Step.PLATFORM, Step.MEMORY, Step.TDMR_LAYOUT, Step.PAMT_ALLOC, Step.CACHE_FLUSH}
)
#: From these on the TDX module takes no more CPUs.
CLOSING = (Step.CONFIG, Step.KERNEL)

#: Every way to ask for what is done already.
AGAIN = {
    "ENABLE": 0,
    "ENABLE with CPUS": lib.TDXHOST_ENABLE_CPUS,
    "ENABLE with RETRY": lib.TDXHOST_ENABLE_RETRY,
    "ENABLE with CPUS and RETRY": lib.TDXHOST_ENABLE_CPUS | lib.TDXHOST_ENABLE_RETRY,
}


def no_order_taken(driver: Driver) -> None:
    """Ends the test where the kernel initialises TDX by itself."""
    if driver.get_info().provider is Provider.OBSERVER:
        not_applicable("the kernel initialises TDX by itself on this host, and takes no orders")


@requirement(
    "enable.names-missing",
    holds="With some CPUs enabled, ENABLE without CPUS is refused at step cpus, names a CPU that "
    "is really not enabled, and holds no memory; after that it is left alone.",
    source=f"{ABI}, struct tdxhost_enable, TDXHOST_CODE_CPU_NOT_ENABLED; {PATCH}",
    needs=Stage.SOME_CPUS,
)
def test_names_missing(driver: Driver, topology: Topology) -> None:
    missing = sorted(topology.online() - set(enabled_cpus(driver)))
    with Calls() as calls:
        none_of(enable_refused(driver, calls, missing))


@requirement(
    "enable.all",
    holds="ENABLE enables every online CPU that is not enabled, and initialises the TDX module.",
    source=f"{ABI}, struct tdxhost_enable; {PATCH}; {MODULE_SPEC}, platform initialisation",
    needs=BEFORE_CONFIG,
    leaves=Stage.INITIALIZED,
    timeout_s=1800,
)
def test_all(
    driver: Driver, topology: Topology, judge: Judge, measure: Callable[..., None]
) -> None:
    before = Standing.of(driver)
    failed = before.status.module_status is ModuleStatus.ERROR
    answer = driver.enable(retry=failed)
    measure_steps(measure, driver)
    none_of(not_initialized(driver, answer, judge))
    anew = by_cpus(_enabled_anew(before.cpus, results_of(driver)))
    none_of([*stands_badly(driver, topology, judge), *anew])


def measure_steps(measure: Callable[..., None], driver: Driver) -> None:
    """Keeps how long each step took in its last run, all of them, and the memory they took."""
    steps = [step for step in driver.get_steps() if step.runs]
    for step in steps:
        measure(f"step_{step.step.label}", Unit.NS, step.duration_ns)
    measure("total", Unit.NS, sum(step.duration_ns for step in steps))
    results = [cpu for cpu in driver.get_cpus() if cpu.tried]
    measure("lp_init", Unit.NS, by_cpu={cpu.cpu: cpu.duration_ns for cpu in results})
    held = driver.get_status().pamt_bytes
    if held is not None:
        measure("pamt", Unit.BYTES, held)


def stands_badly(driver: Driver, topology: Topology, judge: Judge) -> Iterator[str]:
    """What is wrong with what is told of an initialised TDX module and its CPUs."""
    status, results = driver.get_status(), results_of(driver)
    yield from status_badly(status, driver)
    online = topology.online()
    if missing := online - results.keys():
        yield f"GET_CPUS: no result for {names(missing)}"
    made = [result for cpu, result in results.items() if cpu in online]
    yield from by_cpus(enabled_badly(made, judge, fresh=False))
    yield from initializers(results.values())
    yield from miscounted(driver, topology)
    if not driver.get_info().has_module:
        yield "GET_INFO: the TDX module is initialised, and its version is not known"


def status_badly(status: Status, driver: Driver) -> Iterator[str]:
    """What is wrong with GET_STATUS once the TDX module is initialised."""
    if status.module_status is not ModuleStatus.INITIALIZED:
        yield f"GET_STATUS: the TDX module is {status.module_status.label}"
    for name in ("running", "error", "trap", "leaf", "seam_status"):
        if getattr(status, name):
            yield f"GET_STATUS: {name} has to be 0 now, and is {getattr(status, name)}"
    if status.code is not Code.NONE or status.cpu is not None:
        yield f"GET_STATUS still tells of a failure: {status.code.label}, CPU {status.cpu}"
    memory = driver.get_memory()
    if memory.pamt_bytes != status.pamt_bytes:
        yield (
            f"GET_STATUS tells of {status.pamt_bytes} B for PAMTs, and GET_MEMORY of "
            f"{memory.pamt_bytes}"
        )
    if status.pamt_bytes == 0:
        yield "the TDX module is initialised, and no memory is held for PAMTs"


def _enabled_anew(
    before: Iterable[CpuResult], results: dict[int, CpuResult]
) -> Iterator[tuple[int, str]]:
    for old in before:
        if old.was_enabled and results[old.cpu] != old:
            yield old.cpu, "it was enabled before, and ENABLE has changed its result"


@requirement(
    "enable.twice",
    holds="Once the TDX module is initialised, ENABLE answers so at once, whatever its flags, and "
    "nothing is done: no step runs, no state changes.",
    source=f"{ABI}, struct tdxhost_enable; {PATCH}: 0 where it is initialised already",
    needs=Stage.INITIALIZED,
)
def test_twice(driver: Driver, measure: Callable[..., None]) -> None:
    no_order_taken(driver)
    before = Standing.of(driver)
    problems: list[str] = []
    took_ns = 0
    with Calls() as calls:
        for what, flags in AGAIN.items():
            begun = time.monotonic_ns()
            answer = calls.enable(flags)
            took_ns = max(took_ns, time.monotonic_ns() - begun)
            problems += answered_badly(what, answer, before.steps[-1].step)
            problems += [f"{what}: {said}" for said in before.changes(Standing.of(driver))]
    measure("again", Unit.NS, took_ns)
    none_of(problems)


def answered_badly(what: str, answer: EnableResult, last: Step) -> Iterator[str]:
    """What is wrong with the answer to an ENABLE of an initialised TDX module."""
    if answer.module_status is not ModuleStatus.INITIALIZED or answer.error:
        yield (
            f"{what} has to answer initialized, and answers {answer.module_status.label}, "
            f"{answer.code.label}"
        )
    elif answer.step is not last or answer.code is not Code.NONE or answer.cpu is not None:
        yield (
            f"{what} has to answer with step {last.label} and no finding, and answers "
            f"{answer.step.label}, {answer.code.label}"
        )


@requirement(
    "enable.steps",
    holds="What is told of the steps makes sense: each ran to its end, after the one before it, "
    "with the SEAMCALLs that the TDX module's initialisation takes.",
    source=f"{ABI}, struct tdxhost_step_result; {MODULE_SPEC}, platform initialisation; {PATCH}",
    needs=Stage.INITIALIZED,
)
def test_steps(driver: Driver, judge: Judge) -> None:
    no_order_taken(driver)
    steps = driver.get_steps()
    if not any(step.runs for step in steps):
        could_not_run("this driver was loaded after the TDX module was initialised: reboot")
    own = driver.get_info().provider is Provider.DIRECT
    none_of(
        [
            *_order(steps),
            *(said for step in steps for said in _step(step)),
            *(said for step in steps if not step.by_kernel for said in _calls(step, judge)),
            *_cpus_in_time(steps, driver.get_cpus()),
            *(_amounts(driver, steps) if own else ()),
        ]
    )


def _order(steps: Sequence[StepResult]) -> Iterator[str]:
    """What is wrong with which steps there are, and when they ran."""
    numbers = [step.step for step in steps]
    if numbers != sorted(set(numbers)):
        yield f"GET_STEPS: out of order: {', '.join(step.label for step in numbers)}"
    for one, other in pairwise(steps):
        if one.start_ns + one.duration_ns > other.start_ns:
            yield f"step {other.step.label} began before step {one.step.label} had ended"
    last = steps[-1]
    if last.start_ns + last.duration_ns > time.clock_gettime_ns(time.CLOCK_MONOTONIC):
        yield f"step {last.step.label} ended in the future (CLOCK_MONOTONIC)"


def _step(step: StepResult) -> Iterator[str]:
    """What is wrong with a step that has succeeded."""
    where = f"step {step.step.label}"
    if not step.runs:
        yield f"{where} never ran, and the TDX module is initialised"
        return
    if step.error or step.code is not Code.NONE or step.trap or step.cpu is not None:
        yield f"{where} tells of a failure, and the TDX module is initialised: {step.code.label}"
    if step.final:
        yield f"{where} can't succeed any more, it says, and the TDX module is initialised"
    if not step.start_ns or not step.duration_ns:
        yield f"{where} took no time at all"
    if step.retries > step.seamcalls:
        yield f"{where} repeated {step.retries} of {step.seamcalls} SEAMCALLs"


def _calls(step: StepResult, judge: Judge) -> Iterator[str]:
    """What is wrong with the SEAMCALLs of a step that the driver has made itself."""
    where = f"step {step.step.label}"
    if step.step in SILENT and (step.seamcalls or step.leaf or step.seam_status):
        yield f"{where} needs no SEAMCALL, and made {step.seamcalls} ({leaf_name(step.leaf)})"
    wanted = LEAVES.get(step.step)
    if not wanted:
        return
    if leaf_name(step.leaf) != wanted or not step.seamcalls:
        yield (
            f"{where} has to end with {wanted}, and ended with {leaf_name(step.leaf)} after "
            f"{step.seamcalls} SEAMCALLs"
        )
    if step.seam_status & ERROR_BIT:
        yield f"{where} succeeded, and the TDX module answered {_status(step, judge)}"


def _status(step: StepResult, judge: Judge) -> str:
    return judge.reference.decode(step.seam_status, step.leaf).label


def _cpus_in_time(steps: Iterable[StepResult], cpus: Iterable[CpuResult]) -> Iterator[str]:
    """CPUs that were enabled too late: TDH.SYS.LP.INIT comes before TDH.SYS.CONFIG."""
    (closing,) = (step for step in steps if step.step in CLOSING)
    late = [
        cpu.cpu
        for cpu in cpus
        if cpu.was_enabled and cpu.start_ns + cpu.duration_ns > closing.start_ns
    ]
    if late:
        yield f"{names(late)}: enabled after step {closing.step.label} had begun"


def _amounts(driver: Driver, steps: Iterable[StepResult]) -> Iterator[str]:
    """What is wrong with how many SEAMCALLs steps took, where each ran once."""
    made = {step.step: step.seamcalls - step.retries for step in steps if step.runs == 1}
    packages, memory = driver.get_info().nr_packages, driver.get_memory()
    tdmrs = len(memory.of_kind(RangeKind.TDMR))
    if made.get(Step.CONFIG, 1) != 1:
        yield f"step config takes one TDH.SYS.CONFIG, and made {made[Step.CONFIG]}"
    if made.get(Step.KEY_CONFIG, packages) != packages:
        yield (
            f"step key_config takes one TDH.SYS.KEY.CONFIG on each of {packages} packages, and "
            f"made {made[Step.KEY_CONFIG]}"
        )
    if made.get(Step.TDMR_INIT, tdmrs) < tdmrs:
        yield f"step tdmr_init made {made[Step.TDMR_INIT]} SEAMCALLs for {tdmrs} TDMRs"
    status, gib = driver.get_status(), memory.bytes_of(RangeKind.TDMR) // GIB
    if (status.progress, status.progress_total) != (gib, gib):
        yield (
            f"GET_STATUS: {status.progress} of {status.progress_total} GiB of TDMRs are "
            f"initialised, and there are {gib} GiB"
        )
    yield from _cpu_calls(driver, steps)


def _cpu_calls(driver: Driver, steps: Iterable[StepResult]) -> Iterator[str]:
    """Step cpus takes one SEAMCALL for each CPU that it enables, and one for TDH.SYS.INIT."""
    (step,) = (step for step in steps if step.step is Step.CPUS)
    end = step.start_ns + step.duration_ns
    here = [cpu for cpu in driver.get_cpus() if step.start_ns <= cpu.start_ns <= end]
    made = step.seamcalls - step.retries
    if not len(here) <= made <= len(here) + 1:
        yield f"step cpus made {made} SEAMCALLs and enabled {len(here)} CPUs"
