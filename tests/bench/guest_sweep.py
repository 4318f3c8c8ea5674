# SPDX-License-Identifier: GPL-2.0-or-later
"""A pinned sweep from Python, and going to the same CPUs alone: NAME NS, NS being of one CPU."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence

from tdxhost.bringup import enable_cpus
from tdxhost.device import Device

ROUNDS, STOPS = 15, 64


def least_ns(sweep: Callable[[Sequence[int]], None], stops: Sequence[int]) -> int:
    """Of some rounds: what else runs only adds."""
    least = 1 << 62
    for _ in range(ROUNDS):
        begun = time.monotonic_ns()
        sweep(stops)
        least = min(least, time.monotonic_ns() - begun)
    return least // len(stops)


def go(stops: Sequence[int]) -> None:
    """What the kernel does for a sweep, but for the driver's call."""
    for cpu in stops:
        os.sched_setaffinity(0, {cpu})


def enable(stops: Sequence[int]) -> None:
    """The sweep."""
    done = enable_cpus(driver, stops)
    assert not any(result.error for result in done)


cpus = sorted(os.sched_getaffinity(0))
around = cpus * -(-STOPS // len(cpus))
with Device() as driver:
    print("sweep", least_ns(enable, around))
os.sched_setaffinity(0, cpus)
print("pin", least_ns(go, around))
