# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs in the guest: ENABLE's time as its caller sees it, and that of each step, in ns."""

from __future__ import annotations

import json
import time

from tdxhost.device import Device

with Device() as driver:
    begun = time.monotonic_ns()
    answer = driver.enable()
    took = time.monotonic_ns() - begun
    assert answer.error == 0, answer
    steps = {step.step.label: step.duration_ns for step in driver.get_steps() if step.runs}
print(json.dumps({"ioctl": took, **steps}))
