# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs benchmarks, and writes JSON, a table and pictures: scripts/bench FOLDER SECTION..."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from tests.bench.result import Section, markdown
from tests.bench.sections import SECTIONS
from vtdx.vm.errors import VmError


def main(output: Path, sections: Sequence[str]) -> int:
    """Runs the sections, all without any; 0, 1 where a goal is not met, 2 where one failed."""
    output.mkdir(parents=True, exist_ok=True)
    found: dict[str, Section] = {}
    for name in sections or SECTIONS:
        print(f"bench: {name} ...", file=sys.stderr, flush=True)
        try:
            found[name] = SECTIONS[name]()
        except VmError as error:
            print(f"bench: {name} could not be measured: {error}", file=sys.stderr)
            return 2
        # As it goes: a run takes a while, and may be interrupted.
        write(found, output)
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
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
