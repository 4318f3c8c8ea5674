# SPDX-License-Identifier: GPL-2.0-or-later
"""The program that races in the guest: building it, running it, its report."""

from __future__ import annotations

import subprocess
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.conftest import PROJECT
from tests.vm.hosts import Host

IN_GUEST = "/opt/races"

# The program itself ends when nothing moves; this is for one that is slow.
_SECONDS = 300.0

_SOURCE = Path(__file__).parent
_FLAGS = (
    "-static",
    "-O2",
    "-std=gnu11",
    "-D_GNU_SOURCE",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-pthread",
)


@dataclass(frozen=True)
class Report:
    """What the callers did and were told; ``codes`` are TDXHOST_CODE_* of results."""

    calls: Counter[str]
    codes: Counter[int]
    errnos: Counter[int]
    counts: dict[str, int]

    def __getitem__(self, name: str) -> int:
        return self.counts[name]


def build(into: Path) -> Path:
    """The program, made to run without any library of the guest's."""
    sources = [str(path) for path in sorted(_SOURCE.glob("*.c"))]
    header = PROJECT / "kmod/include/uapi"
    command = ["gcc", *_FLAGS, f"-I{header}", "-o", str(into), *sources]
    subprocess.run(command, check=True)
    return into


def run(host: Host, command: str, **options: int | str) -> Report:
    """Race in the guest; fails with what a caller found wrong."""
    words = [f"{name}={value}" for name, value in options.items()]
    result = host.run(IN_GUEST, command, *words, timeout=_SECONDS)
    assert result.status == 0, (words, result.stderr)
    # pytest shows it where a test fails: the seed is in it.
    print(result.stdout, end="")
    return _report(result.json())


def _report(document: dict[str, Any]) -> Report:
    calls = Counter(document.pop("calls"))
    codes = Counter({int(code): count for code, count in document.pop("codes").items()})
    errnos = Counter({int(errno): count for errno, count in document.pop("errnos").items()})
    return Report(calls, codes, errnos, document)
