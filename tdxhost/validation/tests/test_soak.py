# SPDX-License-Identifier: GPL-2.0-or-later
"""What holds for hours: metadata, answers to many readers, CPUs that are enabled anew."""

import random
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from tdxhost.device import Driver
from tdxhost.errors import Unsupported
from tdxhost.fields import FieldTable
from tdxhost.findings import Judge
from tdxhost.records import CpuState, ModuleStatus
from tdxhost.state import Outcome
from tdxhost.topology import pinned
from tdxhost.validation import (
    Option,
    Stage,
    Unit,
    at_least,
    could_not_run,
    duration,
    requirement,
)
from tdxhost.validation.metadata import Answers, answers, element_names, told
from tdxhost.validation.problems import none_of
from tdxhost.validation.reading import Order, begin, report_of, started

FOR = Option("how long, such as 10m or 8h", duration, 60.0)
#: How often a long test says how far it is: so often in all, and within these times.
SAYS, SOONEST_S, LATEST_S = 20, 10.0, 300.0
#: How long a reader may take to start, and to end when its time is over.
READER_S = 60.0
FIRMWARE = "The TDX module's answers have to stay: save the evidence, and ask its vendor."
DRIVER = "The driver has lost track: report it with 'tdxhost report'."


class Clock:
    """Tells when a test's time is over, and says now and then how far it is."""

    def __init__(self, seconds: float, says: Callable[[str], None]) -> None:
        self._begun = time.monotonic()
        self._said = self._begun
        self.until = self._begun + seconds
        self._says = says
        self._every = min(max(seconds / SAYS, SOONEST_S), LATEST_S)

    @property
    def left(self) -> float:
        """Seconds that are left; below 0 when it is over."""
        return self.until - time.monotonic()

    def goes_on(self, what: str, number: int) -> bool:
        """Whether there is time left; what and number are what was done so far."""
        now = time.monotonic()
        if now - self._said >= self._every:
            self._said = now
            self._says(f"{number} {what}, {max(0.0, self.left):.0f} s left")
        return now < self.until


@requirement(
    "soak.metadata",
    holds="no metadata field ever changes, on whichever CPU it is read, for as long as is told",
    source="TDX module ABI spec, TDH.SYS.RD: SYS fields are constants of the TDX module",
    needs=(Stage.ALL_CPUS, Stage.INITIALIZED),
    options={"for": FOR},
)
def test_metadata(
    *,
    driver: Driver,
    cpus: tuple[int, ...],
    fields: FieldTable,
    judge: Judge,
    options: Mapping[str, Any],
    rng: random.Random,
    progress: Callable[[str], None],
    measure: Callable[..., None],
) -> None:
    """Reads every field on CPUs in an order that is shuffled anew for each round."""
    clock = Clock(options["for"], progress)
    ids, names = fields.all_ids(), element_names(fields)
    order = _enabled(driver, cpus)
    first: Answers | None = None
    reads = 0
    while clock.goes_on("reads of all fields", reads):
        rng.shuffle(order)
        for cpu in order:
            with pinned(cpu):
                found = answers(driver.sys_rd(ids))
            first = first or found
            reads += 1
            none_of(_changed(cpu, first, found, names, judge), FIRMWARE)
            if clock.left <= 0:
                break
    measure("reads", Unit.COUNT, reads)


def _changed(
    cpu: int, first: Answers, found: Answers, names: list[str], judge: Judge
) -> Iterator[str]:
    """Fields that are not as at first."""
    if found == first:
        return
    for name, was, now in zip(names, first, found, strict=True):
        if was != now:
            yield (
                f"CPU {cpu}: {name} was {told(was, judge.reference.name_of)} at first, and is "
                f"{told(now, judge.reference.name_of)}"
            )


def _enabled(driver: Driver, cpus: tuple[int, ...]) -> list[int]:
    """CPUs to go over: those that are enabled and that this process may run on."""
    enabled = {one.cpu for one in driver.get_cpus() if one.state is CpuState.ENABLED}
    found = [cpu for cpu in cpus if cpu in enabled]
    if not found:
        could_not_run("none of the CPUs that this process may run on is enabled")
    return found


@requirement(
    "soak.readers",
    holds="processes that read everything on all CPUs, while ENABLE is asked again and again, see "
    "nothing move, and no counter go back",
    source="uapi/linux/tdxhost.h, GET_* and SYS_RD; kernel patch, tdx_enable(): once initialised, "
    "it answers at once",
    needs=Stage.INITIALIZED,
    options={
        "for": FOR,
        "readers": Option("how many processes read at a time", at_least(1), 4),
    },
)
def test_readers(
    *,
    driver: Driver,
    cpus: tuple[int, ...],
    judge: Judge,
    options: Mapping[str, Any],
    rng: random.Random,
    progress: Callable[[str], None],
    measure: Callable[..., None],
) -> None:
    """Readers are processes of their own; the time begins when all of them are ready."""
    on = tuple(_enabled(driver, cpus))
    orders = [Order(cpus=on, seed=f"{rng.getrandbits(64):x}") for _ in range(options["readers"])]
    asked = 0
    with started(orders, READER_S) as running:
        clock = Clock(options["for"], progress)
        for process in running:
            begin(process, clock.until)
        while clock.goes_on("times ENABLE, as readers read", asked):
            none_of(_not_at_once(driver, judge), DRIVER)
            asked += 1
        reports = [report_of(process, max(0.0, clock.left) + READER_S) for process in running]
    rounds = sum(report.rounds for report in reports)
    measure("enabled again", Unit.COUNT, asked)
    measure("rounds of readers", Unit.COUNT, rounds)
    none_of((one for report in reports for one in report.moved), DRIVER)
    if not rounds:
        could_not_run(f"no reader got to read within {options['for']:g} s: give it longer")


def _not_at_once(driver: Driver, judge: Judge) -> Iterator[str]:
    try:
        answer = driver.enable()
    except Unsupported:
        could_not_run("the kernel owns TDX here: the driver does not serve ENABLE")
    if answer.error or answer.module_status is not ModuleStatus.INITIALIZED:
        said = judge.explain(Outcome.of(answer)).message
        yield f"ENABLE was asked again, and answered {answer.module_status.label}: {said}"


@requirement(
    "soak.cpus",
    holds="a CPU that is enabled is so without a SEAMCALL, however often that is asked for",
    source="kernel patch, tdx_cpu_enable(): once for each CPU; uapi/linux/tdxhost.h, CPU_ENABLE",
    needs=(Stage.ALL_CPUS, Stage.INITIALIZED),
    options={"for": FOR},
)
def test_cpus(
    *,
    driver: Driver,
    cpus: tuple[int, ...],
    judge: Judge,
    options: Mapping[str, Any],
    rng: random.Random,
    progress: Callable[[str], None],
    measure: Callable[..., None],
) -> None:
    """Each answer is that of the one time that was, with WAS_DONE added."""
    clock = Clock(options["for"], progress)
    on = _enabled(driver, cpus)
    first = {one.cpu: one for one in driver.get_cpus()}
    generation = driver.get_status().generation
    times = 0
    while clock.goes_on("times a CPU enabled", times):
        cpu = rng.choice(on)
        with pinned(cpu):
            try:
                result = driver.cpu_enable()
            except Unsupported:
                could_not_run("the kernel owns TDX here: the driver does not serve CPU_ENABLE")
        times += 1
        if not result.was_done or replace(result, flags=first[cpu].flags) != first[cpu]:
            said = judge.explain(Outcome.of(result)).message if result.error else "done anew"
            none_of([f"CPU {cpu} was enabled, and enabling it again was {said}"], DRIVER)
    measure("enabled again", Unit.COUNT, times)
    if driver.get_status().generation != generation:
        none_of(["GET_STATUS tells of changes (generation), and there were none"], DRIVER)
