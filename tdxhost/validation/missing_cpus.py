# SPDX-License-Identifier: GPL-2.0-or-later
"""ENABLE while CPUs are missing: what the driver has to answer, and to leave alone."""

import errno
from collections.abc import Iterator, Sequence

from tdxhost.abi import lib
from tdxhost.device import Driver, Source
from tdxhost.records import Code, EnableResult, ModuleStatus, RangeKind, Status, Step
from tdxhost.validation.calls import Calls
from tdxhost.validation.checks import Standing, by_cpus, cpu_changes, names, touched_steps

#: Names of errnos that have two on Linux.
EXPECTED = {errno.EOPNOTSUPP: "EOPNOTSUPP"}


def errno_name(number: int) -> str:
    """An errno by name; 0 is a call that was served."""
    return EXPECTED.get(number) or errno.errorcode.get(number, str(number)) if number else "served"


def enable_alone(calls: Calls, status: Status) -> EnableResult:
    """ENABLE of the module without CPUs; after a failure, once more."""
    failed = status.module_status is ModuleStatus.ERROR
    return calls.enable(lib.TDXHOST_ENABLE_RETRY if failed else 0)


def missing_badly_told(answer: EnableResult, off: Sequence[int]) -> Iterator[str]:
    """What is wrong with the answer to an ENABLE for which CPUs are missing."""
    if answer.module_status is not ModuleStatus.ERROR or answer.step is not Step.CPUS:
        yield (
            f"ENABLE has to fail at step cpus, with {names(off)} not enabled; it ended at step "
            f"{answer.step.label}, and the TDX module is {answer.module_status.label}"
        )
        return
    if answer.code is not Code.CPU_NOT_ENABLED:
        yield f"the finding has to be cpu_not_enabled, and is {answer.code.label}"
    if answer.error != errno.ENXIO:
        yield f"error has to be ENXIO, and is {errno_name(answer.error)}"
    if answer.cpu not in off:
        named = "no CPU" if answer.cpu is None else f"CPU {answer.cpu}"
        yield f"it names {named}, and of the online CPUs {names(off)} are not enabled"
    if answer.trap or answer.leaf or answer.seam_status:
        yield "it tells of a SEAMCALL, and for this none is made"


def holds_memory(driver: Source) -> Iterator[str]:
    """What is wrong with memory where nothing may be held; not known where it is the kernel's."""
    status, memory = driver.get_status(), driver.get_memory()
    for where, held in (("GET_STATUS", status.pamt_bytes), ("GET_MEMORY", memory.pamt_bytes)):
        if held:
            yield f"{where}: {held} B are held for PAMTs, and nothing may be"
    laid_out = memory.of_kind(RangeKind.TDMR, RangeKind.PAMT_4K, RangeKind.PAMT_2M)
    if laid_out:
        yield f"GET_MEMORY: there are {len(laid_out)} TDMRs and PAMTs, and may be none"


def refused_again(calls: Calls, first: EnableResult) -> Iterator[str]:
    """What is wrong with a plain ENABLE after one that failed: it is left alone."""
    again = calls.enable()
    if again.code is not Code.EARLIER_FAILURE or again.error != errno.EINVAL:
        yield (
            f"ENABLE without RETRY after a failure has to answer earlier_failure (EINVAL), and "
            f"answers {again.code.label} ({errno_name(again.error)})"
        )
    if (again.module_status, again.step, again.cpu) != (ModuleStatus.ERROR, first.step, first.cpu):
        yield (
            f"it has to repeat where ENABLE failed (step {first.step.label}, CPU {first.cpu}), "
            f"and tells of step {again.step.label}, CPU {again.cpu}"
        )


def enable_refused(driver: Driver, calls: Calls, off: Sequence[int]) -> Iterator[str]:
    """What is wrong where ENABLE without CPUS has to be refused; off: CPUs that are missing."""
    before = Standing.of(driver)
    answer = enable_alone(calls, before.status)
    yield from missing_badly_told(answer, off)
    after = Standing.of(driver)
    yield from by_cpus(cpu_changes(before.cpus, after.cpus))
    yield from touched_steps(after.steps, Step.CPUS)
    yield from holds_memory(driver)
    (step,) = (step for step in after.steps if step.step is Step.CPUS)
    if step.seamcalls or step.leaf or step.seam_status:
        yield f"step cpus made {step.seamcalls} SEAMCALLs, and nobody had asked it to"
    yield from refused_again(calls, answer)
    yield from after.changes(Standing.of(driver))
