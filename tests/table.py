# SPDX-License-Identifier: GPL-2.0-or-later
"""The table of scripts/test --all: kernel by area, from JUnit XML files that it is given.

Exits with 1 when a test failed, or when there is nothing to show.
"""

from __future__ import annotations

import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from xml.etree import ElementTree

from vtdx.vm import kernels

Cell = tuple[str, str]
Table = dict[Cell, Counter[str]]

NOTHING = "-"
AREAS = ("builds", "boot", "bring-up", "provider", "KVM", "DKMS", "virtual hosts")


def outcome(case: ElementTree.Element) -> str:
    """passed, failed or skipped."""
    if case.find("failure") is not None or case.find("error") is not None:
        return "failed"
    return "passed" if case.find("skipped") is None else "skipped"


def cases(file: Path) -> Iterator[tuple[Cell, str]]:
    """Kernel and area of each test that has them, and how it ended."""
    for case in ElementTree.parse(file).iter("testcase"):
        about = {part.get("name"): part.get("value") for part in case.iter("property")}
        if "kernel" in about:
            yield (str(about["kernel"]), str(about["area"])), outcome(case)


def count(files: Iterable[Path]) -> Table:
    """How many tests ended how, by kernel and area."""
    table: Table = defaultdict(Counter)
    for file in files:
        for cell, how in cases(file):
            table[cell][how] += 1
    return table


def said(counts: Counter[str]) -> str:
    """A cell: "12 passed", "1 failed, 11 passed"."""
    words = [f"{counts[how]} {how}" for how in ("failed", "passed", "skipped") if counts[how]]
    return ", ".join(words) or NOTHING


def lines(table: Table) -> list[str]:
    """The table as Markdown, kernels in their usual order."""
    areas = [area for area in AREAS if any(area == cell[1] for cell in table)]
    named = [name for name in kernels.releases() if any(name == cell[0] for cell in table)]
    rows = [["kernel", *areas], ["---"] * (len(areas) + 1)]
    rows += [[name, *(said(table[name, area]) for area in areas)] for name in named]
    return [f"| {' | '.join(row)} |" for row in rows]


def main(names: list[str]) -> int:
    """Print the table of these files."""
    table = count(Path(name) for name in names)
    print("\n".join(lines(table)))
    return 1 if not table or any(counts["failed"] for counts in table.values()) else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
