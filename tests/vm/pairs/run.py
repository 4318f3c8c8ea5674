# SPDX-License-Identifier: GPL-2.0-or-later
"""Plays pairs: each in a machine of its own, which starts where Python is loaded already."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
from _pytest.mark import ParameterSet

from tests.vm.hosts import Boot
from tests.vm.pairs.pair import Pair
from vtdx.vm import build, kernels
from vtdx.vm.machine import Machine

CPUS = 4
SERVER = "/opt/pairs.py"
SESSION = "pairs"


def drivers_for(request: pytest.FixtureRequest) -> dict[str, Path]:
    """drivers() for those pairs of a module that this run of pytest has."""
    items = [item for item in request.session.items if isinstance(item, pytest.Function)]
    found = [item.callspec.params["pair"] for item in items if item.module is request.module]
    return drivers(pair for pair in found if isinstance(pair, Pair))


def drivers(pairs: Iterable[Pair]) -> dict[str, Path]:
    """The right driver and the wrong ones: path in the machine to file."""
    kernel = kernels.find(kernels.default())
    right = {Pair("right", "", ("a.b",), before="true").driver: build.driver(kernel)}
    return right | {
        pair.driver: build.module(kernel, "kmod", "tdxhost", edits=pair.edits)
        for pair in pairs
        if pair.edits
    }


def serving(machine: Machine) -> None:
    """Leaves the server in a snapshot."""
    machine.session(["python3", SERVER], name=SESSION).ask({})


class Bench:
    """Machines that pairs are played on; drivers are those of all pairs."""

    def __init__(self, boot: Boot, files: Mapping[str, Path]) -> None:
        self._boot = boot
        self._extra = {SERVER: Path(__file__).with_name("guest.py"), **files}

    def play(self, pair: Pair) -> dict[str, Any]:
        """Run the plan of a pair; what came of it."""
        options: dict[str, Any] = {"cpus": CPUS} if not pair.is_broken else {}
        with (
            self._boot(
                pair.platform,
                warm=True,
                prepare=serving,
                driver=False,
                extra=self._extra,
                faults=pair.faults,
                **options,
            ) as host,
            host.attach(SESSION) as session,
        ):
            request = {"driver": pair.driver, "before": pair.before, "plan": plan_of(pair)}
            answer: dict[str, Any] = session.ask(request, timeout=240)
            if pair.earlier:
                session.ask({"leave": True})
                host.control.reload()
                answer = session.ask({**request, "plan": None}, timeout=240)
            return answer


def plan_of(pair: Pair) -> str:
    """The plan of a pair; JSON is YAML."""
    return json.dumps(
        {
            "schema": "tdxhost-plan/1",
            "name": "pair",
            "about": "What makes a test fail.",
            "disturbs": True,
            **pair.plan,
            "boots": [
                {"name": name, "about": pair.why, "tests": list(steps)}
                for name, steps in (("earlier", pair.earlier), ("last", pair.steps))
                if steps
            ],
        }
    )


def check(pair: Pair, answer: Mapping[str, Any]) -> None:
    """The test has failed for the right reason, and nothing before it has."""
    assert answer["document"] is not None, answer["stderr"]
    *before, last = answer["document"]["tests"]
    assert [(test["id"], test["outcome"], test["message"]) for test in before] == [
        (test["id"], "passed", "") for test in before
    ], answer["stderr"]
    assert (last["id"], last["outcome"]) == (pair.test, "failed"), last
    assert re.search(pair.says, last["message"]), last["message"]
    assert answer["status"] == 1
    assert last["evidence"]["driver"], last
    assert last["evidence"]["snapshot"], last


def every(pairs: Mapping[str, tuple[Pair, ...]]) -> list[Pair]:
    """All pairs of a table."""
    return [pair for some in pairs.values() for pair in some]


def cases(pairs: Mapping[str, tuple[Pair, ...]]) -> list[ParameterSet]:
    """All pairs of a table, for parametrize; behind the first of a test they are slow."""
    return [
        pytest.param(pair, id=f"{test}-{pair.why}", marks=[pytest.mark.slow] if number else [])
        for test, some in pairs.items()
        for number, pair in enumerate(some)
    ]
