# SPDX-License-Identifier: GPL-2.0-or-later
"""A session that reads a metadata field, on one CPU or on all of them at once.

Each line asks for ``{"cpus": [0, 1], "reads": N}`` and gets how many reads each
CPU did with success, by its number.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from tdxhost.device import Device

# MAX_TDMRS; TDX module ABI spec, global metadata fields.
FIELD = 0x9100000100000008
BATCH = 16


def read(device: Device, reads: int, cpu: int) -> int:
    """Read the field that often from one CPU; how often it came."""
    os.sched_setaffinity(0, {cpu})
    good = 0
    for start in range(0, reads, BATCH):
        batch = [FIELD] * min(BATCH, reads - start)
        good += sum(value.error == 0 for value in device.sys_rd(batch))
    return good


def read_all(device: Device, cpus: Sequence[int], reads: int) -> dict[int, int]:
    """The same from many CPUs at once."""
    with ThreadPoolExecutor(len(cpus)) as pool:
        return dict(zip(cpus, pool.map(partial(read, device, reads), cpus), strict=True))


def main() -> None:
    """Answer until standard input ends; between two requests the driver may be unloaded."""
    for line in sys.stdin:
        request = json.loads(line)
        with Device() as device:
            answer = read_all(device, request["cpus"], request["reads"])
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
