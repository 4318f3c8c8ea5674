# SPDX-License-Identifier: GPL-2.0-or-later
"""A lab's tests, for runs that are interrupted."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from tdxhost.device import Driver
from tdxhost.validation.requirement import requirement
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
