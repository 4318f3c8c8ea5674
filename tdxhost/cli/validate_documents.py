# SPDX-License-Identifier: GPL-2.0-or-later
"""What tdxhost validate gives with --format json and yaml, beside the document of a run."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from tdxhost.documents import SCHEMA, Document
from tdxhost.validation.against import Comparison
from tdxhost.validation.plan import Boot, Plan
from tdxhost.validation.requirement import Requirement
from tdxhost.validation.result import Run

SCALARS = (str, int, float, bool, type(None))


def list_document(tests: Iterable[Requirement], plans: Iterable[Plan]) -> Document:
    """The document of --list."""
    return {
        "schema": SCHEMA,
        "tests": [_test(test) for test in sorted(tests, key=lambda test: test.id)],
        "plans": [_plan(plan) for plan in plans],
    }


def _test(test: Requirement) -> Document:
    return {
        "id": test.id,
        "holds": test.holds,
        "source": test.source,
        "needs": [stage.name.lower() for stage in sorted(test.needs)],
        "leaves": None if test.leaves is None else test.leaves.name.lower(),
        "options": [
            {"name": name, "help": option.help, "default": _plain(option.default)}
            for name, option in test.options.items()
        ],
        "reads": list(test.reads),
        "disturbs": test.disturbs or None,
        "timeout_s": test.timeout_s,
    }


def _plan(plan: Plan) -> Document:
    return {
        "name": plan.name,
        "about": plan.about,
        "file": plan.file,
        "disturbs": plan.disturbs,
        "boots": [_boot(boot) for boot in plan.boots],
    }


def _boot(boot: Boot) -> Document:
    tests = [{"id": item.test.id, "options": _options(item.options)} for item in boot.items]
    return {"name": boot.name, "about": boot.about, "tests": tests}


def _options(options: Mapping[str, Any]) -> Document:
    return {name: _plain(value) for name, value in options.items()}


def _plain(value: Any) -> Any:
    """An option as a document can have it; a lab's own may be anything."""
    return value if isinstance(value, SCALARS) else str(value)


def comparison_document(found: Comparison) -> Document:
    """What a run (here) has different from another one (there); null is not in that run."""
    return {
        "schema": SCHEMA,
        "here": _side(found.here),
        "there": _side(found.there),
        "host": [asdict(one) for one in found.facts],
        "tests": [asdict(one) for one in found.tests],
        "values": [asdict(one) | {"ratio": one.ratio} for one in found.values],
        "cpus": [asdict(one) for one in found.cpus],
    }


def _side(run: Run) -> Document:
    return {
        "run": run.id,
        "plan": run.plan["name"],
        "started_at": run.started_at,
        "outcome": str(run.outcome),
    }
