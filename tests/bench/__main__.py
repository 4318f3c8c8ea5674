# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs benchmarks, and writes JSON, a table and pictures: scripts/bench."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from tests.bench.result import Section, markdown
from tests.bench.sections import SECTIONS

DESCRIPTION = """\
Measures how fast bring-up is: on virtual Xeons, as ratios of things in the same run. Writes
bench.json, bench.md and pictures, and ends with 1 where a goal is not met."""


def main(words: Sequence[str]) -> int:
    """Runs what was asked for; the exit code."""
    parser = argparse.ArgumentParser(prog="scripts/bench", description=DESCRIPTION)
    parser.add_argument(
        "section", nargs="*", help=f"what to measure (default: all): {', '.join(SECTIONS)}"
    )
    parser.add_argument(
        "--output", type=Path, default=Path("bench"), help="folder for results (default: bench)"
    )
    given = parser.parse_args(words)
    if unknown := [name for name in given.section if name not in SECTIONS]:
        parser.error(f"no section {unknown[0]}: there are {', '.join(SECTIONS)}")
    given.output.mkdir(parents=True, exist_ok=True)
    found: dict[str, Section] = {}
    for name in given.section or SECTIONS:
        print(f"bench: {name} ...", file=sys.stderr, flush=True)
        found[name] = SECTIONS[name]()
        # As it goes: a run takes a while, and may be interrupted.
        write(found, given.output)
    print(markdown(list(found.values())), end="")
    return 0 if all(check.met for one in found.values() for check in one.checks) else 1


def write(found: dict[str, Section], folder: Path) -> None:
    """All that there is so far."""
    document = {name: asdict(section) for name, section in found.items()}
    (folder / "bench.json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    (folder / "bench.md").write_text(markdown(list(found.values())), encoding="utf-8")
    for section in found.values():
        for picture in section.pictures:
            (folder / f"{picture.name}.svg").write_text(picture.svg(), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
