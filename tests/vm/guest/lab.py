# SPDX-License-Identifier: GPL-2.0-or-later
"""A lab's tests, for runs that are interrupted."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from tdxhost.device import Driver
from tdxhost.fields import FieldTable
from tdxhost.findings import Judge
from tdxhost.host import Host
from tdxhost.report.model import Report
from tdxhost.topology import Topology
from tdxhost.validation.plan import Limits, Machine
from tdxhost.validation.requirement import requirement
from tdxhost.validation.result import Outcome, TestResult, Unit
from tdxhost.validation.session import Opener
from tdxhost.validation.stage import ANY, BEFORE_CONFIG, Stage

#: While it is there, lab.waits goes on.
WAIT = Path("/run/lab-wait")
#: It is there while lab.waits runs.
RUNS = Path("/run/lab-runs")

SOURCE = "The lab's own."


@requirement("lab.looks", holds="The driver answers.", source=SOURCE, needs=ANY)
def test_looks(driver: Driver) -> None:
    assert driver.get_status().cpus_online > 0


@requirement(
    "lab.cpus",
    holds="Every CPU is enabled.",
    source=SOURCE,
    needs=Stage.UNTOUCHED,
    leaves=Stage.ALL_CPUS,
)
def test_cpus(driver: Driver) -> None:
    driver.cpus_enable()
    status = driver.get_status()
    assert status.cpus_enabled == status.cpus_online


@requirement("lab.fixtures", holds="Fixtures are what they say.", source=SOURCE, needs=ANY)
def test_fixtures(
    *,
    driver: Driver,
    open_driver: Opener,
    host: Host,
    topology: Topology,
    cpus: tuple[int, ...],
    pin: Callable[[int], AbstractContextManager[None]],
    snapshot: Callable[[], Report],
    options: Mapping[str, Any],
    machine: Machine,
    limits: Limits,
    rng: random.Random,
    measure: Callable[..., None],
    earlier: Callable[[str], list[TestResult]],
    judge: Judge,
    fields: FieldTable,
) -> None:
    with open_driver() as other:
        assert other.get_status() == driver.get_status()
    assert "vendor_id" in host.text("/proc/cpuinfo")
    assert set(cpus) == topology.online()
    with pin(cpus[-1]):
        assert os.sched_getaffinity(0) == {cpus[-1]}
    taken = snapshot().state
    assert taken is not None
    assert taken.status == driver.get_status()
    assert (options, machine, limits) == ({}, Machine(), Limits())
    measure("random", Unit.COUNT, rng.randrange(1000))
    assert [one.outcome for one in earlier("lab.looks")] == [Outcome.PASSED]
    assert judge.reference.name_of(0) == "TDX_SUCCESS"
    assert fields.all_ids()


@requirement("lab.waits", holds="It takes its time.", source=SOURCE, needs=ANY)
def test_waits(progress: Callable[[str], None]) -> None:
    while WAIT.exists():
        RUNS.touch()
        progress("waiting")
        time.sleep(0.1)


@requirement("lab.crashes", holds="The machine survives it.", source=SOURCE, needs=ANY)
def test_crashes() -> None:
    Path("/proc/sysrq-trigger").write_text("b", encoding="ascii")
    time.sleep(60)


@requirement(
    "lab.enable",
    holds="The TDX module is initialised.",
    source=SOURCE,
    needs=BEFORE_CONFIG,
    leaves=Stage.INITIALIZED,
)
def test_enable(driver: Driver) -> None:
    driver.enable()
    assert driver.get_status().cpus_failed == 0
