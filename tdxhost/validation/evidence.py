# SPDX-License-Identifier: GPL-2.0-or-later
"""What a failure is defended with: read at once, while it is still there."""

from collections.abc import Iterator
from dataclasses import replace

from tdxhost.bringup import read_state
from tdxhost.doctor.engine import Outcome as CheckOutcome
from tdxhost.documents import module_of
from tdxhost.errors import TdxHostError
from tdxhost.findings import Judge
from tdxhost.leaves import leaf_name
from tdxhost.records import Code, CpuResult, StepResult
from tdxhost.report.bundle import bundle
from tdxhost.report.collect import take
from tdxhost.report.output import replace_file
from tdxhost.state import Outcome, State
from tdxhost.validation.result import Evidence, FailedCall
from tdxhost.validation.session import Session
from tdxhost.words import register

REGISTERS = ("rcx", "rdx", "r8", "r9", "r10", "r11")
#: Of a log that floods, the lines that are kept: the first tell the cause.
MOST_LINES = 400


def gather(session: Session, details: str, log: tuple[str, ...]) -> Evidence:
    """All there is about a failure just now; what can't be had is left out, and said in details."""
    evidence = Evidence(details=details, log=log[:MOST_LINES])
    try:
        with session.open_driver() as driver:
            state = read_state(driver)
        evidence = replace(
            evidence,
            driver=_driver(session.judge, state),
            calls=tuple(failed_calls(session.judge, state)),
        )
        return _with_snapshot(evidence, session)
    except TdxHostError as error:
        return replace(evidence, details=f"{details}\nNot all evidence could be had: {error}")


def _driver(judge: Judge, state: State) -> dict[str, object]:
    status = state.status
    return {
        **module_of(judge, state),
        "cpus_online": status.cpus_online,
        "cpus_enabled": status.cpus_enabled,
        "cpus_failed": status.cpus_failed,
    }


def failed_calls(judge: Judge, state: State) -> Iterator[FailedCall]:
    """SEAMCALLs that have failed, of CPUs and of steps, decoded."""
    for cpu in state.cpus:
        if cpu.error and cpu.code is Code.SEAMCALL:
            yield _call(judge, f"CPU {cpu.cpu}", cpu)
    for step in state.steps:
        if step.error and step.code is Code.SEAMCALL:
            where = f"step {step.step.label}"
            yield _call(judge, where if step.cpu is None else f"{where}, CPU {step.cpu}", step)


def _call(judge: Judge, where: str, result: CpuResult | StepResult) -> FailedCall:
    decoded = judge.decode(Outcome.of(result))
    return FailedCall(
        where=where,
        leaf=leaf_name(result.leaf),
        status=register(result.seam_status),
        name=decoded.name,
        says=decoded.says,
        hint=decoded.what_to_do,
        registers={name: register(getattr(result, name)) for name in REGISTERS},
    )


def _with_snapshot(evidence: Evidence, session: Session) -> Evidence:
    """Adds a bundle in the run's folder, and what doctor says of it."""
    report, recording = take(session.host, session.open_driver, session.judge)
    name = f"{session.current + 1:03}-{session.item.test.id}.tar.gz"
    replace_file(session.journal.folder / name, bundle(report, recording))
    bad = [
        result
        for outcome in (CheckOutcome.FAIL, CheckOutcome.WARN)
        for result in report.diagnosis.of(outcome)
    ]
    says = tuple(f"{result.outcome.upper()} {result.check.id}: {result.cause}" for result in bad)
    return replace(evidence, snapshot=name, diagnosis=(report.diagnosis.headline, *says))
