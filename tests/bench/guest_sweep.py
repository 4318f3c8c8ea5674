# SPDX-License-Identifier: GPL-2.0-or-later
"""A pinned sweep from Python, and going to the same CPUs alone: NAME NS, NS being of one CPU."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Sequence

from tdxhost.bringup import enable_cpus
from tdxhost.device import Device

ROUNDS, STOPS = 40, 64


def go(stops: Sequence[int]) -> None:
    """What the kernel does for a sweep, but for the driver's call."""
    for cpu in stops:
        os.sched_setaffinity(0, {cpu})


def enable(stops: Sequence[int]) -> None:
    """The sweep."""
    done = enable_cpus(driver, stops)
    assert not any(result.error for result in done)


def ns_of(sweep: Callable[[Sequence[int]], None], stops: Sequence[int]) -> float:
    """ns for each stop, once."""
    begun = time.monotonic_ns()
    sweep(stops)
    return (time.monotonic_ns() - begun) / len(stops)


cpus = sorted(os.sched_getaffinity(0))
around = cpus * -(-STOPS // len(cpus))
with Device() as driver:
    # In turn: a machine is faster at one time than at another.
    rounds = [(ns_of(go, around), ns_of(enable, around)) for _ in range(ROUNDS)]
for name, found in zip(("pin", "sweep"), zip(*rounds, strict=True), strict=True):
    print(name, round(statistics.median(found)))
