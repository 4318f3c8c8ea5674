# SPDX-License-Identifier: GPL-2.0-or-later
"""What a log shows to be wrong: findings, and the verdict over all of them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cached_property
from typing import Any

from tdxhost.decode import Decoder, Explanation
from tdxhost.klog.lines import Event, Line, Log, numbers


class Kind(StrEnum):
    """Whether a finding is a failure, harmless, or only worth knowing."""

    FAILURE = "failure"
    BENIGN = "benign"
    CONTEXT = "context"


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that the log shows. cause is an id that stays the same; says are the facts."""

    cause: str
    kind: Kind
    title: str
    means: str = ""
    says: tuple[str, ...] = ()
    likely: tuple[str, ...] = ()
    todo: tuple[str, ...] = ()
    lines: tuple[Line, ...] = ()
    explanation: Explanation | None = None


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """All findings, that of the verdict first; left_out lines say what others say."""

    findings: tuple[Finding, ...]
    boots: int = 1
    left_out: int = 0

    @property
    def verdict(self) -> Finding:
        """The finding that decides."""
        return self.findings[0]

    @property
    def failed(self) -> bool:
        """Whether the log shows a failure."""
        return any(finding.kind is Kind.FAILURE for finding in self.findings)


#: The findings so far, by cause and (for SEAMCALLs) leaf and status.
Found = dict[tuple[object, ...], Finding]


@dataclass
class Facts:
    """What the rules look at."""

    log: Log
    decoder: Decoder

    @property
    def causes(self) -> Mapping[str, Any]:
        """What is known of each cause."""
        causes: Mapping[str, Any] = self.decoder.advice["causes"]
        return causes

    @cached_property
    def initialized(self) -> Event | None:
        """The line that says that TDX came up; None where a later one says that it did not."""
        outcomes = self.log.of("initialized", "init-failed")
        ups = [event for event in outcomes if event.id == "initialized"]
        return ups[0] if ups and outcomes[-1].id == "initialized" else None

    @cached_property
    def module(self) -> Event | None:
        """The last line with the TDX module's version."""
        versions = self.log.of("module-version")
        return versions[-1] if versions else None

    @property
    def minor(self) -> int | None:
        """Minor version of the TDX module; None where the log does not say."""
        return numbers(self.module, "minor")[0] if self.module else None

    @property
    def words(self) -> list[str]:
        """The kernel command line."""
        return [word for event in self.log.of("cmdline") for word in event.words["words"].split()]

    def finding(
        self, cause: str, lines: Iterable[Line], says: Iterable[str] = (), **told: Any
    ) -> Finding:
        """A finding with the texts of its cause."""
        row = self.causes[cause]
        return Finding(
            cause=cause,
            kind=Kind(row["kind"]),
            title=told.pop("title", row["title"]),
            means=told.pop("means", "") or row["means"],
            says=tuple(says),
            likely=told.pop("likely", ()) or tuple(row.get("likely", ())),
            todo=tuple(row["todo"]) or told.pop("todo", ()),
            lines=tuple(lines),
            explanation=told.pop("explanation", None),
        )


def add_finding(found: Found, finding: Finding) -> None:
    """Adds a finding; one that is there already gets its lines and facts."""
    status = finding.explanation.decoded.value if finding.explanation else None
    leaf = finding.explanation.leaf if finding.explanation else None
    same = [key for key in found if key[0] == finding.cause and status is None]
    key = same[0] if same else (finding.cause, leaf, status)
    if key not in found:
        found[key] = finding
        return
    before = found[key]
    lines = dict.fromkeys((*before.lines, *finding.lines))
    says = dict.fromkeys((*before.says, *finding.says))
    found[key] = replace(before, lines=tuple(lines), says=tuple(says))


def drop_findings(found: Found, *causes: str) -> list[Finding]:
    keys = [key for key in found if key[0] in causes]
    return [found.pop(key) for key in keys]


def has_finding(found: Found, *causes: str) -> bool:
    return any(key[0] in causes for key in found)


def any_failure(found: Found) -> bool:
    return any(finding.kind is Kind.FAILURE for finding in found.values())
