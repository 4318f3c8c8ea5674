# SPDX-License-Identifier: GPL-2.0-or-later
"""The program that makes the calls in the guest: building it, running it."""

from __future__ import annotations

import base64
import gzip
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.conftest import PROJECT
from tests.vm.calls.wire import Call, Outcome, outcomes
from tests.vm.hosts import Host

IN_GUEST = "/opt/calls"

_SOURCE = Path(__file__).parent
_FLAGS = "-static -O2 -std=gnu11 -D_GNU_SOURCE -Wall -Wextra -Werror -pthread"


def build(into: Path) -> Path:
    """The program, compiled."""
    sources = [str(path) for path in sorted(_SOURCE.glob("*.c"))]
    header = PROJECT / "kmod/include/uapi"
    # -static: the guest need not have the libraries of this machine.
    command = ["gcc", *_FLAGS.split(), f"-I{header}", "-o", str(into), *sources]
    subprocess.run(command, check=True)
    return into


def write(path: Path, calls: Sequence[Call]) -> Path:
    """A file of calls, for replay()."""
    path.write_bytes(b"".join(call.encoded() for call in calls))
    return path


def replay(host: Host, file: str, timeout: float) -> list[Outcome]:
    """Make the calls of a file in the guest."""
    # The port to the guest is slow and takes text.
    script = f"set -o pipefail; {IN_GUEST} replay {file} | gzip | base64 -w 0"
    result = host.run("bash", "-c", script, timeout=timeout)
    assert result.status == 0, result.stderr
    return list(outcomes(gzip.decompress(base64.b64decode(result.stdout))))
