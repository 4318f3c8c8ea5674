# SPDX-License-Identifier: GPL-2.0-or-later
"""What a report comes to, in one sentence."""

from tdxhost.doctor.diagnosis import Diagnosis
from tdxhost.doctor.engine import Outcome, Purpose
from tdxhost.errors import ExitCode
from tdxhost.findings import Verdict
from tdxhost.records import CpuState
from tdxhost.report.model import Headline
from tdxhost.state import State
from tdxhost.words import count

ENABLE = "Bring it up with: sudo tdxhost enable"


def headline(diagnosis: Diagnosis, state: State | None, verdict: Verdict | None) -> Headline:
    """The cause of a failure before its consequence, and both before what went well."""
    if cause := diagnosis.cause:
        return Headline(Outcome.FAIL, diagnosis.headline, cause.fix)
    if verdict and verdict.exit_code is not ExitCode.OK:
        found = verdict.findings[0]
        return Headline(Outcome.FAIL, found.message, " ".join((found.hint, *found.left)).strip())
    if state and diagnosis.initialized:
        return Headline(Outcome.PASS, initialized(state))
    return _not_up_yet(diagnosis, state)


def initialized(state: State) -> str:
    """Says that TDX is up, and where."""
    enabled = sum(cpu.state is CpuState.ENABLED for cpu in state.cpus)
    packages = len({cpu.package for cpu in state.cpus} - {None})
    where = f"{enabled} of {count(len(state.cpus), 'CPU')} enabled in {count(packages, 'package')}"
    return f"TDX is initialized: {where}"


def _not_up_yet(diagnosis: Diagnosis, state: State | None) -> Headline:
    """Nothing has failed, and TDX is not up; what may be in the way of that is told."""
    doubts = [one for one in diagnosis.of(Outcome.WARN) if one.check.purpose is Purpose.BRING_UP]
    if doubts:
        hint = f"{count(len(doubts), 'warning')}, the first: {doubts[0].cause}"
        return Headline(Outcome.WARN, diagnosis.headline, hint)
    if unmade := diagnosis.of(Outcome.NOT_CHECKED):
        hint = ENABLE if state else unmade[0].fix
        return Headline(Outcome.NOT_CHECKED, diagnosis.headline, hint)
    return Headline(Outcome.PASS, diagnosis.headline, ENABLE if state else "")
