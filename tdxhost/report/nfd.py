# SPDX-License-Identifier: GPL-2.0-or-later
"""A report as features of a Kubernetes node, for Node Feature Discovery's local source.

What a scheduler would select on, and no more. What is not known has no line, and so no label.
"""

import re
from collections.abc import Iterator

from tdxhost.doctor.diagnosis import Diagnosis
from tdxhost.doctor.engine import Area, Outcome, Purpose
from tdxhost.records import Info, ModuleStatus, RangeKind
from tdxhost.report.model import Report

#: NFD's own, which it would put before a bare name only for as long as it does so at all (its
#: feature gate DisableAutoPrefix).
NAMESPACE = "feature.node.kubernetes.io"
#: Kubernetes, "Labels and Selectors": length of a value, and what may be inside and at its ends.
LONGEST = 63
NOT_INSIDE = re.compile(r"[^A-Za-z0-9._-]")
NOT_AT_ENDS = "._-"
GIB = 1 << 30

Feature = tuple[str, str | int | bool]


def nfd(report: Report) -> str:
    """A file for features.d, a line for each feature."""
    return "".join(f"{NAMESPACE}/tdxhost.{name}={told(value)}\n" for name, value in _all(report))


def told(value: str | int | bool) -> str:
    """A value as Kubernetes takes it in a label; empty where nothing is left of it."""
    if isinstance(value, bool):
        return str(value).lower()
    text = NOT_INSIDE.sub("-", str(value)).lstrip(NOT_AT_ENDS)
    return text[:LONGEST].rstrip(NOT_AT_ENDS)


def _all(report: Report) -> Iterator[Feature]:
    yield "verdict", str(report.headline.level)
    if report.about.provider:
        yield "provider", report.about.provider
    state = report.state
    if state is None:
        return
    initialized = state.status.module_status is ModuleStatus.INITIALIZED
    yield "initialized", initialized
    kvm = _kvm(report.diagnosis) if initialized else False
    if kvm is not None:
        yield "kvm", kvm
    yield "cpus-enabled", state.status.cpus_enabled
    yield from _of_info(state.info)
    if tdx := state.memory.bytes_of(RangeKind.TDX):
        yield "memory-gib", tdx // GIB


def _kvm(diagnosis: Diagnosis) -> bool | None:
    """Whether KVM runs TDs here, now that TDX is up; None where that could not be looked at."""
    if any(one.check.purpose is Purpose.KVM for one in diagnosis.of(Outcome.FAIL)):
        return False
    outcomes = {one.outcome for one in diagnosis.results if one.check.area is Area.KVM}
    if outcomes - {Outcome.PASS, Outcome.NOT_CHECKED}:
        return False
    return None if Outcome.NOT_CHECKED in outcomes else True


def _of_info(info: Info) -> Iterator[Feature]:
    if info.has_keyids:
        yield "private-keyids", info.nr_keyids
    if info.module_version:
        yield "module-version", info.module_version
        # Gt and Lt of a node selector compare whole numbers alone.
        yield "module-version.major", info.module_major
        yield "module-version.minor", info.module_minor
        yield "module-version.update", info.module_update
