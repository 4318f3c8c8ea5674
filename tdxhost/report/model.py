# SPDX-License-Identifier: GPL-2.0-or-later
"""What a report holds."""

from collections.abc import Mapping
from dataclasses import dataclass

from tdxhost.bringup import Metadata
from tdxhost.doctor.diagnosis import Diagnosis
from tdxhost.doctor.engine import Outcome
from tdxhost.doctor.facts import MsrReading, Region
from tdxhost.doctor.identity import Identity
from tdxhost.errors import TdxHostError
from tdxhost.fields import FieldTable
from tdxhost.findings import Judge, Verdict
from tdxhost.klog.diagnosis import Finding
from tdxhost.msrs import MsrTable
from tdxhost.report.about import About
from tdxhost.report.grid import Thread
from tdxhost.state import State


@dataclass(frozen=True, slots=True)
class Headline:
    """What it comes to, in one sentence, and what to do next; both without full stop or empty."""

    level: Outcome
    text: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Unread:
    """Something that could not be looked at, why, and what to do about it."""

    what: str
    reason: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Kernel:
    """The kernel as it was built and started, as far as it bears on TDX.

    modules has the parameters of modules, as kvm_intel.tdx, findings what the log shows.
    """

    options: Mapping[str, str]
    parameters: tuple[str, ...]
    modules: Mapping[str, str]
    log: tuple[str, ...]
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class Tables:
    """The reference that a report is put in words with."""

    fields: FieldTable
    msrs: MsrTable
    judge: Judge


@dataclass(frozen=True, slots=True)
class Report:
    """Everything; state and verdict are None where the driver could not be asked.

    refusal is why it could not.
    """

    taken_at: str
    tdxhost: str
    headline: Headline
    about: About
    threads: tuple[Thread, ...]
    identity: Identity
    diagnosis: Diagnosis
    state: State | None
    verdict: Verdict | None
    refusal: TdxHostError | None
    metadata: Metadata
    msrs: tuple[MsrReading, ...]
    regions: tuple[Region, ...]
    logged_cmrs: tuple[Region, ...]
    kernel: Kernel
    unread: tuple[Unread, ...]
    tables: Tables
