# SPDX-License-Identifier: GPL-2.0-or-later
"""The machine: able in doctor's eyes, and the one that the plan is for."""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager

from tdxhost.device import Driver
from tdxhost.doctor.diagnosis import diagnose
from tdxhost.doctor.engine import Area, Outcome, Purpose, Result
from tdxhost.doctor.facts import Facts
from tdxhost.host import Host
from tdxhost.recording import Recorder
from tdxhost.validation import could_not_run, requirement
from tdxhost.validation.fit import fit
from tdxhost.validation.plan import Machine

OpenDriver = Callable[[], AbstractContextManager[Driver]]

#: Areas that can be looked at before the TDX module was called, by root.
NEEDED = (Area.PROCESSOR, Area.FIRMWARE)


@requirement(
    "machine.able",
    holds="no check of tdxhost doctor for bring-up fails",
    source="TDX module ABI spec, TDH.SYS.INIT and TDH.SYS.LP.INIT: what they check; "
    "Linux arch/x86/virt/vmx/tdx/tdx.c: what keeps TDX off; tdxhost doctor -v",
)
def test_able(host: Host, open_driver: OpenDriver) -> None:
    """Doctor's checks fail nowhere, and those of processor and firmware could be made."""
    diagnosis = diagnose(Facts(Recorder(host), open_driver), (Purpose.BRING_UP,))
    if failing := diagnosis.of(Outcome.FAIL):
        raise AssertionError("\n".join(map(_told, failing)))
    left = [it for it in diagnosis.of(Outcome.NOT_CHECKED) if it.check.area in NEEDED]
    if left:
        could_not_run(f"checks could not be made: {_reasons(left)}")


def _told(result: Result) -> str:
    return f"{result.check.id}: {result.cause}; {result.found.read}\n  {result.fix}"


def _reasons(results: Iterable[Result]) -> str:
    told = (
        f"{it.check.id}: {it.found.read}" + (f" ({it.fix})" if it.fix else "") for it in results
    )
    return "; ".join(told)


@requirement(
    "machine.matches",
    holds="packages, CPUs, KeyIDs, TDX module and memory are those that the plan states",
    source="the plan, machine",
    reads=("machine",),
)
def test_matches(host: Host, open_driver: OpenDriver, machine: Machine) -> None:
    """All differences are told at once."""
    found = fit(machine, Facts(host, open_driver))
    if found.differences:
        todo = "Run the plan on a machine that it is for, or change its machine."
        raise AssertionError("\n".join((*found.differences, *found.unknown, todo)))
    if found.unknown:
        could_not_run("; ".join(found.unknown))
