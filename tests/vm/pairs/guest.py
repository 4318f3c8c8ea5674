# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs plans in the virtual machine: tdxhost validate, without its start-up each time.

A JSON line in: "driver" (a file), "before" (a shell script), "plan" (its text). A JSON line out:
"status", "stderr" and the run's "document", null where there is none.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tdxhost.cli import validate  # noqa: F401 - what takes time to load
from tdxhost.cli.main import main
from tdxhost.validation.collect import find_tests

PLAN, OUT, ERR = (Path(f"/tmp/{name}") for name in ("plan.yaml", "out", "err"))
RESULTS = Path("/tmp/results/result.json")


def serve(request: dict[str, Any]) -> dict[str, Any]:
    """Run one plan."""
    subprocess.run(["insmod", request["driver"]], check=True, capture_output=True)
    subprocess.run(["sh", "-e", "-c", request["before"]], check=True, capture_output=True)
    PLAN.write_text(request["plan"])
    child = os.fork()
    if child == 0:
        os._exit(validated())
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    document = json.loads(RESULTS.read_text()) if RESULTS.exists() else None
    return {"status": status, "stderr": ERR.read_text(), "document": document}


def validated() -> int:
    """tdxhost validate, with its output in files."""
    for fd, path in ((1, OUT), (2, ERR)):
        os.dup2(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC), fd)
    return main(["validate", str(PLAN), "--output", str(RESULTS.parent), "--seed", "1"])


if __name__ == "__main__":
    find_tests()
    for line in sys.stdin:
        print(json.dumps(serve(json.loads(line)) if line.strip() != "{}" else {}), flush=True)
