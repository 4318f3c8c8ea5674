# SPDX-License-Identifier: GPL-2.0-or-later
"""Callers on every CPU, let go together: one does the work, and all are told the same."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from tdxhost.abi import lib
from tdxhost.device import Driver
from tdxhost.fields import FieldTable
from tdxhost.findings import Judge
from tdxhost.records import CpuResult, EnableResult, ModuleStatus, Provider, StepResult
from tdxhost.topology import Topology
from tdxhost.validation import Option, Stage, Unit, duration, requirement
from tdxhost.validation.callers import at_once
from tdxhost.validation.calls import Calls, Question
from tdxhost.validation.checks import (
    Standing,
    by_cpus,
    enabled_badly,
    enabled_cpus,
    everywhere,
    initializers,
    miscounted,
    not_initialized,
    record_changes,
    results_of,
)
from tdxhost.validation.problems import none_of
from tdxhost.validation.stage import BEFORE_CONFIG

ABI = "kmod/include/uapi/linux/tdxhost.h"

#: Callers of CPU_ENABLE on each CPU, and of CPUS_ENABLE beside them.
CALLERS_EACH = 2
CALLERS_FOR_ALL = 2
Work = Callable[[], tuple[CpuResult, ...]]

#: Callers of ENABLE at most: the more there are, the longer they take to start.
MOST_CALLERS = 64
#: Readers at most, for they share one interpreter; and the metadata fields that each reads.
MOST_READERS = 32
SOME_FIELDS = 16
#: The calls that read, but for SYS_RD, which takes an enabled CPU.
READING = ("GET_INFO", "GET_STATUS", "GET_CPUS", "GET_STEPS", "GET_MEMORY")


def spread(cpus: Sequence[int], most: int) -> list[int]:
    """Some of the CPUs, from all over them."""
    step = max(1, -(-len(cpus) // most))
    return list(cpus[::step])


@requirement(
    "race.cpus",
    holds="Callers on every CPU at once, and some that ask for all CPUs: each CPU is enabled by "
    "one of them, one does the global initialisation, and none is turned away.",
    source=f"{ABI}, CPU_ENABLE and CPUS_ENABLE; TDX module ABI spec, TDH.SYS.INIT: once; "
    "TDH.SYS.LP.INIT: on all CPUs at a time, and TDX_SYS_BUSY",
    needs=Stage.UNTOUCHED,
    leaves=Stage.ALL_CPUS,
)
def test_cpus(
    driver: Driver,
    topology: Topology,
    cpus: tuple[int, ...],
    judge: Judge,
    measure: Callable[..., None],
) -> None:
    every = everywhere(cpus, topology)
    with Calls() as calls:
        works: list[tuple[int, Work]] = [(cpu, partial(one_cpu, driver)) for cpu in every]
        works *= CALLERS_EACH
        works += [(cpu, calls.cpus_enable) for cpu in every[-CALLERS_FOR_ALL:]]
        answers = [result for told in at_once(works) for result in told]
    results = results_of(driver)
    made = [results[cpu] for cpu in every]
    measure("lp_init", Unit.NS, by_cpu={cpu.cpu: cpu.duration_ns for cpu in made if cpu.tried})
    measure("overlapping", Unit.COUNT, overlapping(made))
    none_of(
        [
            *by_cpus(enabled_badly(made, judge)),
            *initializers(results.values()),
            *by_cpus(told_badly(answers, results)),
            *miscounted(driver, topology),
        ]
    )


def one_cpu(driver: Driver) -> tuple[CpuResult, ...]:
    """CPU_ENABLE, as the calls for more CPUs answer."""
    return (driver.cpu_enable(),)


def overlapping(results: Iterable[CpuResult]) -> int:
    """How many CPUs were being enabled at the same time, at most."""
    times = [
        event
        for cpu in results
        for event in ((cpu.start_ns, 1), (cpu.start_ns + cpu.duration_ns, -1))
    ]
    now = most = 0
    for _, change in sorted(times):
        now += change
        most = max(most, now)
    return most


def told_badly(
    answers: Iterable[CpuResult], results: Mapping[int, CpuResult]
) -> Iterator[tuple[int, str]]:
    """What is wrong with what callers were told: one enabled the CPU, others found it so."""
    firsts: dict[int, int] = dict.fromkeys((answer.cpu for answer in answers), 0)
    for answer in answers:
        firsts[answer.cpu] += not answer.was_done
        for change in record_changes(results[answer.cpu], answer, but=("flags",)):
            yield answer.cpu, f"a caller was told something else than GET_CPUS tells: {change}"
    for cpu, count in firsts.items():
        if count != 1 and not results[cpu].was_done:
            yield cpu, f"one caller has to have enabled it, and {count} were told that they did"


@requirement(
    "race.enable",
    holds="Many callers of ENABLE at once: one attempt is made, it succeeds, and all are told the "
    "same.",
    source=f"{ABI}, ENABLE; Linux tdx_enable(), which many may call at once",
    needs=BEFORE_CONFIG,
    leaves=Stage.INITIALIZED,
    timeout_s=1800,
)
def test_enable(
    driver: Driver,
    topology: Topology,
    cpus: tuple[int, ...],
    judge: Judge,
    measure: Callable[..., None],
) -> None:
    before = Standing.of(driver)
    flags = lib.TDXHOST_ENABLE_CPUS
    if before.status.module_status is ModuleStatus.ERROR:
        flags |= lib.TDXHOST_ENABLE_RETRY
    some = spread(cpus, MOST_CALLERS // 2)
    with Calls() as calls:
        answers = at_once([(cpu, lambda: calls.enable(flags)) for cpu in [*some, *some]])
    measure("callers", Unit.COUNT, len(answers))
    none_of([*told_differently(answers), *not_initialized(driver, answers[0], judge)])
    none_of(
        [
            *ran_twice(before.steps, driver.get_steps()),
            *initializers(driver.get_cpus()),
            *miscounted(driver, topology),
        ]
    )
    if driver.get_status().running:
        raise AssertionError("GET_STATUS: a caller is inside tdx_enable(), and all have returned")


def told_differently(answers: Sequence[EnableResult]) -> Iterator[str]:
    """Where callers of one attempt were told different things."""
    counted: dict[EnableResult, int] = {}
    for answer in answers:
        counted[answer] = counted.get(answer, 0) + 1
    if len(counted) > 1:
        yield "callers of ENABLE were told different things: " + "; ".join(
            f"{count} of {len(answers)} {_answer(answer)}" for answer, count in counted.items()
        )


def _answer(answer: EnableResult) -> str:
    step, code = answer.step.label, answer.code.label
    return f"{answer.module_status.label} at step {step}, {code}, error {answer.error}"


def ran_twice(before: Iterable[StepResult], after: Iterable[StepResult]) -> Iterator[str]:
    """Steps that ran more than once since."""
    for old, new in zip(before, after, strict=True):
        if new.runs > old.runs + 1:
            yield f"step {new.step.label} ran {new.runs - old.runs} times for callers at once"


@dataclass
class Readings:
    """What one reader has seen: how often it read everything, and what was not as before."""

    rounds: int = 0
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Watch:
    """What readers do until a time of the monotonic clock, and once in any case.

    first has the answers from before; on CPUs in enabled a reader also asks for what is done
    already, to enable the CPU, and with flags the TDX module.
    """

    calls: Calls
    driver: Driver
    first: Mapping[str, bytes]
    ids: Sequence[int]
    enabled: frozenset[int]
    enables: bool
    end: float

    def run(self, cpu: int) -> Readings:
        """Reads on a CPU, which the caller is pinned to, up to the first thing that is wrong."""
        seen = Readings()
        questions = self.questions()
        while not seen.problems and (not seen.rounds or time.monotonic() < self.end):
            seen.problems += self._asked(questions, cpu)
            if cpu in self.enabled:
                seen.problems += self._asked_again()
            seen.rounds += 1
        return seen

    def questions(self) -> list[Question]:
        """Every call that reads, with room of its own."""
        found = [Question.of(self.calls, command) for command in READING]
        return [*found, Question.of_fields(self.ids)] if self.ids else found

    def _asked(self, questions: Iterable[Question], cpu: int) -> Iterator[str]:
        for question in questions:
            answer = question.ask(self.calls)
            if answer != self.first[question.command]:
                yield f"{question.command} was answered in different ways, and nothing had changed"
            by = question.answered_by
            if by is not None and cpu in self.enabled and by != cpu:
                yield f"{question.command} was served by CPU {by}, and the caller's is enabled"

    def _asked_again(self) -> Iterator[str]:
        if not self.driver.cpu_enable().was_done:
            yield "CPU_ENABLE did something once more on a CPU that is enabled"
        if self.enables:
            answer = self.calls.enable()
            if answer.error or answer.module_status is not ModuleStatus.INITIALIZED:
                yield f"ENABLE of an initialised TDX module answered {_answer(answer)}"


@requirement(
    "race.readers",
    holds="Many read everything that the driver tells, on many CPUs at once, while others ask for "
    "what is done already: nobody waits for ever, and all are told the same.",
    source=f"{ABI}, GET_STATUS, GET_CPUS, GET_STEPS, GET_MEMORY, SYS_RD",
    options={"for": Option(help="how long", parse=duration, default=2.0)},
)
def test_readers(
    driver: Driver,
    cpus: tuple[int, ...],
    fields: FieldTable,
    options: Mapping[str, Any],
    measure: Callable[..., None],
) -> None:
    before = Standing.of(driver)
    acts = driver.get_info().provider is not Provider.OBSERVER
    enabled = frozenset(enabled_cpus(driver))
    ids = fields.all_ids()[:SOME_FIELDS] if enabled else []
    with Calls() as calls:
        watch = Watch(
            calls=calls,
            driver=driver,
            first={},
            ids=ids,
            enabled=enabled if acts else frozenset(),
            enables=before.status.module_status is ModuleStatus.INITIALIZED,
            end=time.monotonic() + options["for"],
        )
        watch = replace(watch, first={one.command: one.ask(calls) for one in watch.questions()})
        readers = spread(cpus, MOST_READERS)
        seen = at_once([(cpu, partial(watch.run, cpu)) for cpu in readers])
    rounds = {cpu: one.rounds for cpu, one in zip(readers, seen, strict=True)}
    measure("rounds", Unit.COUNT, by_cpu=rounds)
    wrong = ((cpu, said) for cpu, one in zip(readers, seen, strict=True) for said in one.problems)
    none_of([*by_cpus(wrong), *before.changes(Standing.of(driver))])
