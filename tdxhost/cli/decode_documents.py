# SPDX-License-Identifier: GPL-2.0-or-later
"""The documents of tdxhost decode.

As in documents.py: stable and versioned; registers are strings of 16 hex digits, null is
what is not known. Texts are for people and may change; ids (cause, kind, names) stay.
"""

from collections.abc import Sequence
from typing import Any

from tdxhost.decode import ANY_OF_PSEAMLDR, Explanation, Shown, show
from tdxhost.klog.diagnosis import Diagnosis, Finding
from tdxhost.msrs import Msr
from tdxhost.words import register

SCHEMA = "tdxhost/1"


def status_document(explained: Explanation) -> dict[str, Any]:
    """A status in words."""
    return {"schema": SCHEMA, "decoded": "status", **_status(explained)}


def log_document(diagnosis: Diagnosis) -> dict[str, Any]:
    """What a log shows."""
    verdict = diagnosis.verdict
    return {
        "schema": SCHEMA,
        "decoded": "log",
        "verdict": {"cause": verdict.cause, "kind": str(verdict.kind), "title": verdict.title},
        "failed": diagnosis.failed,
        "boots": diagnosis.boots,
        "left_out": diagnosis.left_out,
        "findings": [_finding(finding) for finding in diagnosis.findings],
    }


def msr_document(shown: Sequence[tuple[Msr, int]]) -> dict[str, Any]:
    """Values of MSRs, bit by bit."""
    return {
        "schema": SCHEMA,
        "decoded": "msrs",
        "msrs": [
            {
                "address": msr.address,
                "name": msr.name or None,
                "value": register(value),
                "compared": msr.compared,
                "fields": [_shown(row) for row in show(msr, value)],
                "wrong": len(msr.wrong(value)),
            }
            for msr, value in shown
        ],
    }


def _status(explained: Explanation) -> dict[str, Any]:
    meaning = explained.decoded.meaning
    leaf = None if explained.leaf == ANY_OF_PSEAMLDR else explained.leaf
    return {
        "status": register(explained.decoded.value),
        "status_name": meaning.name if meaning else None,
        "leaf": None if leaf is None else register(leaf),
        "leaf_name": explained.leaf_name or None,
        "failed": explained.is_error,
        "says": explained.says or None,
        "means": explained.meaning or None,
        "likely": explained.likely_cause or None,
        "todo": explained.what_to_do or None,
        "class_bits": explained.class_bits or None,
        "wanted": list(explained.wanted),
        "cpuid_bits": [
            {
                "register": bits.register,
                "high": bits.high,
                "low": bits.low,
                "name": bits.name or None,
                "wanted": bits.wanted,
                "found": bits.found,
            }
            for bits in explained.bits
        ],
        "fields": [_shown(row) for row in explained.shown],
        "hints": list(explained.hints),
        "notes": list(explained.notes),
    }


def _shown(row: Shown) -> dict[str, Any]:
    return {
        "bits": row.label,
        "name": row.name or None,
        "value": row.found,
        "wanted": row.wanted or None,
        "why": row.why or None,
    }


def _finding(finding: Finding) -> dict[str, Any]:
    return {
        "cause": finding.cause,
        "kind": str(finding.kind),
        "title": finding.title,
        "says": list(finding.says),
        "means": finding.means or None,
        "likely": list(finding.likely),
        "todo": list(finding.todo),
        "lines": [{"number": line.number, "text": line.text} for line in finding.lines],
        "seamcall": _status(finding.explanation) if finding.explanation else None,
    }
