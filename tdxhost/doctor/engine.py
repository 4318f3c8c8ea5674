# SPDX-License-Identifier: GPL-2.0-or-later
"""Checks: what one says of itself, what it found, and in which order they are made."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from tdxhost.errors import NotRead, TdxHostError, Why
from tdxhost.reference import load

if TYPE_CHECKING:
    from tdxhost.doctor.facts import Facts


class Outcome(StrEnum):
    """What a check came to; skipped is one below a check that did not pass."""

    PASS = "pass"
    WARN = "warn"
    FAIL = "fail"
    NOT_APPLICABLE = "not_applicable"
    NOT_CHECKED = "not_checked"
    SKIPPED = "skipped"


class Purpose(StrEnum):
    """What a host needs it for."""

    BRING_UP = "bring-up"
    KVM = "kvm"
    ATTESTATION = "attestation"


class Scope(StrEnum):
    """What a check is about."""

    THREAD = "thread"
    CORE = "core"
    PACKAGE = "package"
    HOST = "host"


class Area(StrEnum):
    """Where something has to change, in the order in which that is looked at."""

    PROCESSOR = "processor"
    FIRMWARE = "firmware"
    MEMORY = "memory"
    KERNEL = "kernel"
    MODULE = "module"
    KVM = "kvm"


@dataclass(frozen=True, slots=True)
class Check:
    """What data/checks.yaml says of a check; the id is permanent.

    fails is the cause as the first line of a report has it, needs are the ids of the checks
    that have to pass before this one makes sense.
    """

    id: str
    title: str
    purpose: Purpose
    scope: Scope
    expected: str
    why: str
    fails: str
    fix: str
    needs: tuple[str, ...] = ()
    msrs: tuple[int, ...] = ()
    bits: tuple[str, ...] = ()
    severity: Outcome = Outcome.FAIL

    @property
    def area(self) -> Area:
        """The area that the id begins with."""
        return Area(self.id.partition(".")[0])

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> "Check":
        """Reads a row of data/checks.yaml."""
        told = dict(row)
        return cls(
            purpose=Purpose(told.pop("purpose", Purpose.BRING_UP)),
            scope=Scope(told.pop("scope", Scope.HOST)),
            severity=Outcome(told.pop("severity", Outcome.FAIL)),
            needs=tuple(told.pop("needs", ())),
            msrs=tuple(told.pop("msrs", ())),
            bits=tuple(map(str, told.pop("bits", ()))),
            **told,
        )


@dataclass(frozen=True, slots=True)
class Found:
    """What a check found: read is what was read where, cpus those that it is about.

    fails and fix are there where they are more exact than what the check says of itself.
    """

    outcome: Outcome
    read: str
    cpus: frozenset[int] = frozenset()
    fails: str = ""
    fix: str = ""


def passed(read: str) -> Found:
    """All is as it has to be."""
    return Found(Outcome.PASS, read)


def failed(read: str, cpus: Iterable[int] = (), *, fails: str = "", fix: str = "") -> Found:
    """It is not; how bad that is the check's severity says."""
    return Found(Outcome.FAIL, read, frozenset(cpus), fails, fix)


def warned(read: str, cpus: Iterable[int] = (), *, fails: str = "", fix: str = "") -> Found:
    """It may be in the way."""
    return Found(Outcome.WARN, read, frozenset(cpus), fails, fix)


def not_applicable(read: str) -> Found:
    """The check is about something that this host does not have."""
    return Found(Outcome.NOT_APPLICABLE, read)


def not_checked(read: str, fix: str = "") -> Found:
    """It could not be looked at; read says why."""
    return Found(Outcome.NOT_CHECKED, read, fix=fix)


@dataclass(frozen=True, slots=True)
class Result:
    """A check, and what it found."""

    check: Check
    found: Found

    @property
    def outcome(self) -> Outcome:
        """What it came to."""
        return self.found.outcome

    @property
    def is_bad(self) -> bool:
        """Whether something has to change, or may have to."""
        return self.outcome in (Outcome.FAIL, Outcome.WARN)

    @property
    def cause(self) -> str:
        """What is wrong, as a sentence without its full stop."""
        return self.found.fails or self.check.fails

    @property
    def fix(self) -> str:
        """What to do; empty where there is nothing to."""
        if self.is_bad:
            return self.found.fix or self.check.fix
        return self.found.fix


Look = Callable[["Facts"], Found]


def checks() -> tuple[Check, ...]:
    """All checks, in the order in which they are made."""
    return tuple(map(Check.of, load("checks")["checks"]))


def examine(facts: "Facts", known: Sequence[Check], looks: Mapping[str, Look]) -> list[Result]:
    """Makes the checks; one whose needs did not pass is skipped."""
    results: dict[str, Result] = {}
    for check in known:
        stopped = [need for need in check.needs if _stops(results[need])]
        found = _skip(stopped) if stopped else _look(looks[check.id], facts, check)
        results[check.id] = Result(check, found)
    return list(results.values())


def _stops(result: Result) -> bool:
    """Whether checks below it make no sense; one that could not be made stops nothing."""
    return result.outcome in (Outcome.FAIL, Outcome.SKIPPED, Outcome.NOT_APPLICABLE)


def _skip(stopped: list[str]) -> Found:
    return Found(Outcome.SKIPPED, f"not looked at: {stopped[0]} did not pass")


def _look(look: Look, facts: "Facts", check: Check) -> Found:
    try:
        found = look(facts)
    except NotRead as error:
        return _not_read(error)
    except TdxHostError as error:
        return not_checked(error.message, error.hint)
    if found.outcome is Outcome.FAIL and check.severity is Outcome.WARN:
        return Found(Outcome.WARN, found.read, found.cpus, found.fails, found.fix)
    return found


def _not_read(error: NotRead) -> Found:
    if error.why is Why.DENIED:
        return not_checked(f"{error.what}: needs root", error.hint)
    return not_checked(error.message, error.hint)
