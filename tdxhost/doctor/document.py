# SPDX-License-Identifier: GPL-2.0-or-later
"""The document of doctor."""

from dataclasses import asdict

from tdxhost.doctor.diagnosis import Diagnosis
from tdxhost.doctor.engine import Outcome, Result
from tdxhost.doctor.identity import Identity
from tdxhost.documents import SCHEMA, Document


def doctor_document(host: Identity, diagnosis: Diagnosis) -> Document:
    """The document of doctor; ids are permanent, words are for people and may change."""
    cause = diagnosis.cause
    return {
        "schema": SCHEMA,
        "host": asdict(host),
        "verdict": diagnosis.headline,
        "cause": cause.check.id if cause else None,
        "initialized": diagnosis.initialized,
        "counts": {outcome.value: len(diagnosis.of(outcome)) for outcome in Outcome},
        "checks": [_check_document(result) for result in diagnosis.results],
    }


def _check_document(result: Result) -> Document:
    check, found = result.check, result.found
    return {
        "id": check.id,
        "title": check.title,
        "area": check.area.value,
        "purpose": check.purpose.value,
        "scope": check.scope.value,
        "outcome": found.outcome.value,
        "cpus": sorted(found.cpus),
        "cause": result.cause if result.is_bad else None,
        "read": found.read,
        "expected": check.expected,
        "why": check.why,
        "fix": result.fix or None,
        "needs": list(check.needs),
    }
