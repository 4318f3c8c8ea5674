# SPDX-License-Identifier: GPL-2.0-or-later
"""All checks of a host, and what they come to."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from tdxhost.doctor import firmware, kernel, kvm, memory, module, processor
from tdxhost.doctor.engine import Check, Look, Outcome, Purpose, Result, checks, examine
from tdxhost.doctor.facts import Facts
from tdxhost.doctor.msr_bits import look_at_msrs
from tdxhost.errors import ExitCode
from tdxhost.records import ModuleStatus
from tdxhost.words import count

AREAS = (processor, firmware, memory, kernel, module, kvm)


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What the checks found; initialized where TDX is up, whatever they say."""

    results: tuple[Result, ...]
    initialized: bool

    def of(self, *outcomes: Outcome) -> list[Result]:
        """The results of some outcomes, in order."""
        return [result for result in self.results if result.outcome in outcomes]

    @property
    def cause(self) -> Result | None:
        """The first check that failed, which is the one to begin with: bring-up goes first."""
        failures = self.of(Outcome.FAIL)
        bring_up = [it for it in failures if it.check.purpose is Purpose.BRING_UP]
        return next(iter(bring_up or failures), None)

    @property
    def headline(self) -> str:
        """The verdict in one sentence."""
        if cause := self.cause:
            return f"{self._begin(cause)} {cause.cause}"
        if self.initialized:
            return "TDX is up on this host"
        open_ones = len(self.of(Outcome.NOT_CHECKED))
        left = f"; {count(open_ones, 'check')} could not be made" if open_ones else ""
        return f"Nothing that was found is in the way of TDX on this host{left}"

    def _begin(self, cause: Result) -> str:
        match cause.check.purpose:
            case Purpose.KVM:
                return "TDX is no good for KVM:"
            case Purpose.ATTESTATION:
                return "TDX is no good for attestation:"
        return "TDX is up, but" if self.initialized else "TDX can't come up on this host:"

    @property
    def exit_code(self) -> ExitCode:
        """1 where a check failed."""
        return ExitCode.FAILED if self.cause else ExitCode.OK


def diagnose(facts: Facts, purposes: Sequence[Purpose] = tuple(Purpose)) -> Diagnosis:
    """Makes the checks for some purposes, all by default; changes nothing on the host."""
    asked = [check for check in checks() if check.purpose in purposes]
    known = {check.id for check in asked}
    results = examine(facts, [_with_known_needs(check, known) for check in asked], looks(asked))
    state = facts.state_or_none
    up = state is not None and state.module.module_status is ModuleStatus.INITIALIZED
    return Diagnosis(tuple(results), up)


def _with_known_needs(check: Check, known: set[str]) -> Check:
    return replace(check, needs=tuple(need for need in check.needs if need in known))


def looks(asked: Sequence[Check]) -> Mapping[str, Look]:
    """The function of each check; those about MSRs alone share one."""
    own = {id_: look for area in AREAS for id_, look in area.LOOKS.items()}
    shared = {check.id: partial(look_at_msrs, check) for check in asked if check.msrs}
    return shared | own
