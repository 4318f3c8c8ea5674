# SPDX-License-Identifier: GPL-2.0-or-later
"""What a report comes to, in one sentence."""

from collections.abc import Iterable, Sequence

from tdxhost.doctor.engine import Outcome, Purpose, Result
from tdxhost.errors import ExitCode
from tdxhost.findings import Verdict
from tdxhost.records import CpuState, ModuleStatus
from tdxhost.report.model import Headline
from tdxhost.state import State
from tdxhost.words import count

ENABLE = "Bring it up: sudo tdxhost enable"


def headline(results: Sequence[Result], state: State | None, verdict: Verdict | None) -> Headline:
    """The cause of a failure before its consequence, and both before what went well."""
    if worst := _first(results, Outcome.FAIL):
        return Headline(Outcome.FAIL, worst.cause, worst.fix)
    if verdict and verdict.exit_code is not ExitCode.OK:
        found = verdict.findings[0]
        return Headline(Outcome.FAIL, found.message, " ".join((found.hint, *found.left)).strip())
    if state and state.module.module_status is ModuleStatus.INITIALIZED:
        return Headline(Outcome.PASS, initialized(state))
    if doubt := _first(results, Outcome.WARN):
        return Headline(Outcome.WARN, doubt.cause, doubt.fix)
    return _nothing_in_the_way(results, state)


def _first(results: Iterable[Result], outcome: Outcome) -> Result | None:
    """The first check that bring-up needs and that came to this."""
    needed = (one for one in results if one.check.purpose is Purpose.BRING_UP)
    return next((one for one in needed if one.outcome is outcome), None)


def initialized(state: State) -> str:
    """Says that TDX is up, and where."""
    enabled = sum(cpu.state is CpuState.ENABLED for cpu in state.cpus)
    packages = len({cpu.package for cpu in state.cpus} - {None})
    where = f"{enabled} of {count(len(state.cpus), 'CPU')} enabled in {count(packages, 'package')}"
    return f"TDX is initialized: {where}"


def _nothing_in_the_way(results: Sequence[Result], state: State | None) -> Headline:
    blind = sum(one.outcome is Outcome.NOT_CHECKED for one in results)
    if blind or not results:
        left = f"{count(blind, 'check')} could not be made" if blind else "nothing was checked"
        return Headline(Outcome.NOT_CHECKED, f"Nothing found in the way of TDX, but {left}")
    hint = ENABLE if state else ""
    return Headline(Outcome.PASS, "Nothing is in the way of TDX; it is not initialized yet", hint)
