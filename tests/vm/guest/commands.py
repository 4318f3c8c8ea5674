# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs tdxhost commands in the virtual machine without their start-up, which takes seconds there.

A JSON line in, one out: {"begin": words} starts a command, {"signal": number} sends it one,
{"end": true} waits for it and answers with its "status", "stdout" and "stderr".
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from tdxhost.cli import enable, validate  # noqa: F401 - what takes time to load
from tdxhost.cli.main import main
from tdxhost.validation.collect import find_tests

FILES = {1: Path("/tmp/stdout"), 2: Path("/tmp/stderr")}


def begin(words: list[str]) -> int:
    """A child that runs a command, with its output in files."""
    child = os.fork()
    if child:
        return child
    for fd, path in FILES.items():
        os.dup2(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC), fd)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    status = main(words)
    sys.stdout.flush()
    os._exit(status)


def ended(child: int) -> dict[str, Any]:
    """Waits for a command; how it ended."""
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    out, err = (path.read_text(encoding="utf-8") for path in FILES.values())
    return {"status": status, "stdout": out, "stderr": err}


def serve() -> None:
    """Does what is asked for, until nothing is asked any more."""
    child = 0
    for line in sys.stdin:
        request, answer = json.loads(line), {}
        if "begin" in request:
            child = begin(request["begin"])
        if "signal" in request:
            os.kill(child, request["signal"])
        if "end" in request:
            answer = ended(child)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    find_tests()
    serve()
