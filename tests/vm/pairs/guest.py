# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs plans in the virtual machine: tdxhost validate, without its start-up each time.

A JSON line in: "driver" (a file), "before" (a shell script), "plan" (its text, null to go on
with the last one). A JSON line out: "status", "stderr" and the run's "document", null where
there is none. With "leave" in the line, the driver goes, and the machine has a new boot id.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tdxhost.cli import validate_run  # noqa: F401 - what takes time to load
from tdxhost.cli.main import main
from tdxhost.validation.collect import find_tests

PLAN, OUT, ERR, BOOT = (Path(f"/tmp/{name}") for name in ("plan.yaml", "out", "err", "boot"))
BOOT_ID = "/proc/sys/kernel/random/boot_id"
RESULTS = Path("/tmp/results/result.json")


def serve(request: dict[str, Any]) -> dict[str, Any]:
    """Do what a line asks for."""
    if not request:
        return {}
    if "leave" in request:
        leave()
        return {}
    return run(request)


def leave() -> None:
    """Unload the driver, and have a boot id as after a reboot."""
    subprocess.run(["rmmod", "tdxhost"], check=True, capture_output=True)
    BOOT.write_text(f"{uuid.uuid4()}\n")
    subprocess.run(["mount", "--bind", str(BOOT), BOOT_ID], check=True, capture_output=True)


def run(request: dict[str, Any]) -> dict[str, Any]:
    """Run one plan."""
    subprocess.run(["insmod", request["driver"]], check=True, capture_output=True)
    subprocess.run(["sh", "-e", "-c", request["before"]], check=True, capture_output=True)
    words = ["--resume"]
    if request["plan"] is not None:
        PLAN.write_text(request["plan"])
        words = [str(PLAN), "--seed", "1"]
    child = os.fork()
    if child == 0:
        os._exit(validated(words))
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    document = json.loads(RESULTS.read_text()) if RESULTS.exists() else None
    return {"status": status, "stderr": ERR.read_text(), "document": document}


def validated(words: Sequence[str]) -> int:
    """tdxhost validate, with its output in files."""
    for fd, path in ((1, OUT), (2, ERR)):
        os.dup2(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC), fd)
    return main(["validate", *words, "--output", str(RESULTS.parent)])


if __name__ == "__main__":
    find_tests()
    for line in sys.stdin:
        print(json.dumps(serve(json.loads(line))), flush=True)
