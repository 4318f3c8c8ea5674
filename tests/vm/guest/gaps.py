# SPDX-License-Identifier: GPL-2.0-or-later
"""Measures what a bring-up does to everything else on the machine.

Runs in the virtual machine. Starts ``tdxhost enable``; meanwhile a process on each CPU sleeps
for 10 ms again and again, and GET_STATUS is asked. Prints one JSON object: the exit code, the
longest time between two turns on each CPU, the longest GET_STATUS, and the steps it told.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import time
from multiprocessing.synchronize import Event

from tdxhost.device import Device

NAP_S = 0.01
ASK_S = 0.05


def measure(cpu: int, ready: Event, over: Event, found: dict[int, float]) -> None:
    """Naps on a CPU until it is over; the longest time from one turn to the next."""
    os.sched_setaffinity(0, {cpu})
    longest, last = 0.0, time.monotonic()
    ready.set()
    while not over.is_set():
        time.sleep(NAP_S)
        now = time.monotonic()
        longest, last = max(longest, now - last), now
    found[cpu] = longest


def follow(command: subprocess.Popen[bytes]) -> tuple[float, list[str]]:
    """Asks for the status until the command ends: the longest answer, the steps seen."""
    longest, steps = 0.0, []
    with Device() as device:
        while command.poll() is None:
            begin = time.monotonic()
            status = device.get_status()
            longest = max(longest, time.monotonic() - begin)
            if status.running and status.step.label not in steps:
                steps.append(status.step.label)
            time.sleep(ASK_S)
    return longest, steps


def main() -> None:
    """Measures one bring-up."""
    with multiprocessing.Manager() as manager:
        found = manager.dict()
        over = multiprocessing.Event()
        nappers = []
        for cpu in sorted(os.sched_getaffinity(0)):
            ready = multiprocessing.Event()
            napper = multiprocessing.Process(target=measure, args=(cpu, ready, over, found))
            napper.start()
            ready.wait()
            nappers.append(napper)
        command = subprocess.Popen(["tdxhost", "enable", "--format", "json"], stdout=-3)
        asked, steps = follow(command)
        over.set()
        for napper in nappers:
            napper.join()
        print(
            json.dumps(
                {
                    "status": command.wait(),
                    "gaps_s": dict(found),
                    "asked_s": asked,
                    "steps": steps,
                }
            )
        )


if __name__ == "__main__":
    main()
